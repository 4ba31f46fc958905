//! The kinds that are read, and how each is checked.

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::CustomResourceExt;
use kube_cel::{CompiledSchema, ErrorKind, Validator, compile_schema};
use schemars::{JsonSchema, generate::SchemaSettings};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{
    Mode, Object, checks,
    schema::{self, Wrong},
    yaml::Node,
};
use crate::{ObjectRef, crd};

/// What local mode takes for a repository, in addition to what the API server takes.
const LOCAL: &str = r"self.startsWith('file:///') || (!self.contains(':') && self.matches('^[^-\\x00-\\x1f\\x7f][^\\x00-\\x1f\\x7f]*$'))";

pub struct Kinds {
    kinds: Vec<Kind>,
    rules: Validator,
}

pub struct Kind {
    pub name: &'static str,
    pub namespaced: bool,
    api_version: &'static str,
    schema: Value,
    compiled: CompiledSchema,
    parse: fn(Value) -> serde_json::Result<Object>,
}

impl Kinds {
    pub fn new(mode: Mode) -> Self {
        let mut kinds = vec![
            custom::<crd::GitRepo>("GitRepo", true, mode, |value| parse(value, Object::GitRepo)),
            custom::<crd::ClusterGitRepo>("ClusterGitRepo", false, mode, |value| parse(value, Object::ClusterGitRepo)),
            custom::<crd::ScheduleTrigger>("ScheduleTrigger", true, mode, |value| parse(value, Object::ScheduleTrigger)),
            custom::<crd::WebhookTrigger>("WebhookTrigger", true, mode, |value| parse(value, Object::WebhookTrigger)),
            custom::<crd::Action>("Action", true, mode, |value| parse(value, Object::Action)),
            custom::<crd::ClusterAction>("ClusterAction", false, mode, |value| parse(value, Object::ClusterAction)),
        ];
        kinds.push(kind("Secret", true, "v1", inlined::<Secret>(), |value| {
            let mut secret: Secret = serde_json::from_value(value)?;
            let texts = secret.string_data.clone().unwrap_or_default();
            let bytes = texts.into_iter().map(|(key, text)| (key, k8s_openapi::ByteString(text.into_bytes())));
            secret.data.get_or_insert_default().extend(bytes);
            Ok(Object::Secret(Box::new(secret)))
        }));
        kinds.push(kind("ConfigMap", true, "v1", inlined::<ConfigMap>(), |value| parse(value, Object::ConfigMap)));
        Self { kinds, rules: Validator::new() }
    }

    /// The kind of an object; otherwise which field is wrong, and why.
    pub fn of(&self, root: &Node) -> Result<&Kind, (&'static str, String)> {
        let known = || self.kinds.iter().map(|kind| kind.name).collect::<Vec<_>>().join(", ");
        let Some(name) = root.text("kind") else { return Err(("kind", format!("must be one of {}", known()))) };
        let Some(kind) = self.kinds.iter().find(|kind| kind.name == name) else {
            return Err(("kind", format!("`{}` is not read here, only {}", name.escape_debug(), known())));
        };
        match root.text("apiVersion") {
            Some(version) if version == kind.api_version => Ok(kind),
            _ => Err(("apiVersion", format!("must be {} for a {name}", kind.api_version))),
        }
    }
}

impl Kind {
    /// The object, if nothing is wrong with it, and what is wrong with it otherwise.
    pub fn read(&self, kinds: &Kinds, root: &Node, id: &ObjectRef) -> (Option<Object>, Vec<Wrong>) {
        let (mut value, mut wrong) = schema::walk(&self.schema, root);
        self.check_rules(kinds, root, &value, &mut wrong);
        checks::metadata(self.namespaced, root, &value, &mut wrong);
        if wrong.is_empty() {
            if let Some(namespace) = &id.namespace {
                value["metadata"]["namespace"] = namespace.clone().into();
            }
            match (self.parse)(value) {
                Ok(object) => {
                    checks::object(&object, root, &mut wrong);
                    return (wrong.is_empty().then_some(object), wrong);
                }
                // The message of serde may hold a value.
                Err(_) => wrong.push(Wrong { place: root.place(), field: String::new(), message: format!("is not a {}", self.name) }),
            }
        }
        wrong.sort_by_key(|wrong| (wrong.place.line, wrong.place.column));
        (None, wrong)
    }

    /// The rules of the schema that span fields. What they would say of a field that is wrong already is left out.
    fn check_rules(&self, kinds: &Kinds, root: &Node, value: &Value, wrong: &mut Vec<Wrong>) {
        let Err(errors) = kinds.rules.validate_compiled(&self.compiled, value, None) else { return };
        let shape_is_wrong = !wrong.is_empty();
        for error in errors {
            let field = error.field_path.clone();
            let known = |wrong: &&Wrong| field.starts_with(&wrong.field) || wrong.field.starts_with(&field);
            if shape_is_wrong && (error.kind != ErrorKind::ValidationFailure || wrong.iter().any(|wrong| known(&wrong))) {
                continue;
            }
            wrong.push(Wrong { place: root.place_of(&field), field, message: error.message });
        }
    }
}

fn custom<T: CustomResourceExt>(name: &'static str, namespaced: bool, mode: Mode, parse: fn(Value) -> serde_json::Result<Object>) -> Kind {
    let definition = serde_json::to_value(T::crd()).unwrap_or_default();
    let mut schema = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone();
    schema["properties"]["apiVersion"] = json!({ "type": "string" });
    schema["properties"]["kind"] = json!({ "type": "string" });
    schema["properties"]["metadata"] = inlined::<ObjectMeta>();
    if let Some(uri) = schema.pointer_mut("/properties/spec/properties/repoUri").filter(|_| mode == Mode::Local) {
        let rules = uri["x-kubernetes-validations"].as_array_mut();
        if let Some(form) = rules.and_then(|rules| rules.first_mut()) {
            form["rule"] = format!("{} || {LOCAL}", form["rule"].as_str().unwrap_or_default()).into();
            form["message"] = "must be a path, file:///path, an https://, http://, ssh:// or git:// URI, or git@host:path".into();
        }
    }
    kind(name, namespaced, "git-events-runner.rs/v1alpha1", schema, parse)
}

fn kind(
    name: &'static str,
    namespaced: bool,
    api_version: &'static str,
    schema: Value,
    parse: fn(Value) -> serde_json::Result<Object>,
) -> Kind {
    let compiled = compile_schema(&schema);
    Kind { name, namespaced, api_version, schema, compiled, parse }
}

/// The schema of one of Kubernetes' own types.
fn inlined<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::openapi3().with(|settings| settings.inline_subschemas = true);
    settings.into_generator().into_root_schema_for::<T>().to_value()
}

fn parse<T: DeserializeOwned>(value: Value, object: fn(Box<T>) -> Object) -> serde_json::Result<Object> {
    serde_json::from_value(value).map(Box::new).map(object)
}
