//! The kinds that are read, and how each is checked.

use std::cell::OnceCell;

use k8s_openapi::{
    ByteString,
    api::core::v1::{ConfigMap, Secret},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::CustomResourceExt;
use kube_cel::{CompiledSchema, ErrorKind, ValidationErrors, Validator, compile_schema};
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
const LOCAL: &str = concat!(
    r"self.startsWith('file:///') || self.matches('^/[^\\x00-\\x1f\\x7f]*$') || ",
    r"self.matches('^[^-:/\\x00-\\x1f\\x7f][^:/\\x00-\\x1f\\x7f]*(/[^\\x00-\\x1f\\x7f]*)?$')",
);

pub struct Kinds {
    mode: Mode,
    kinds: [Kind; 8],
    rules: Validator,
}

pub struct Kind {
    pub name: &'static str,
    pub namespaced: bool,
    api_version: &'static str,
    make_schema: fn(Mode) -> Value,
    /// Made when it is first used: to make all of them takes a while.
    schema: OnceCell<(Value, CompiledSchema)>,
    parse: Parse,
}

impl Kinds {
    pub fn new(mode: Mode) -> Self {
        let kinds = [
            custom("GitRepo", true, definition::<crd::GitRepo>, |value| parse(value, Object::GitRepo)),
            custom("ClusterGitRepo", false, definition::<crd::ClusterGitRepo>, |value| parse(value, Object::ClusterGitRepo)),
            custom("ScheduleTrigger", true, definition::<crd::ScheduleTrigger>, |value| parse(value, Object::ScheduleTrigger)),
            custom("WebhookTrigger", true, definition::<crd::WebhookTrigger>, |value| parse(value, Object::WebhookTrigger)),
            custom("Action", true, definition::<crd::Action>, |value| parse(value, Object::Action)),
            custom("ClusterAction", false, definition::<crd::ClusterAction>, |value| parse(value, Object::ClusterAction)),
            core("Secret", |_| inlined::<Secret>(), secret),
            core("ConfigMap", |_| inlined::<ConfigMap>(), |value| parse(value, Object::ConfigMap)),
        ];
        Self { mode, kinds, rules: Validator::new() }
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
        let (schema, compiled) = self.schema.get_or_init(|| {
            let schema = (self.make_schema)(kinds.mode);
            let compiled = compile_schema(&schema);
            (schema, compiled)
        });
        let (mut value, mut wrong) = schema::walk(schema, root);
        if let Err(errors) = kinds.rules.validate_compiled(compiled, &value, None) {
            add_errors_of_rules(errors, root, &mut wrong);
        }
        checks::metadata(self.namespaced, root, &value, &mut wrong);
        if wrong.is_empty() {
            if let Some(namespace) = &id.namespace {
                value["metadata"]["namespace"] = namespace.clone().into();
            }
            match (self.parse)(value) {
                Ok(object) => {
                    checks::object(&object, kinds.mode, root, &mut wrong);
                    return (wrong.is_empty().then_some(object), wrong);
                }
                // The message of serde may hold a value.
                Err(_) => wrong.push(Wrong { place: root.place(), field: String::new(), message: format!("is not a {}", self.name) }),
            }
        }
        wrong.sort_by_key(|wrong| (wrong.place.line, wrong.place.column));
        (None, wrong)
    }
}

/// What the rules of a schema find. What they say of a field that has not the shape of the schema is left out.
fn add_errors_of_rules(errors: ValidationErrors, root: &Node, wrong: &mut Vec<Wrong>) {
    let shape = wrong.len();
    for error in errors {
        let field = error.field_path;
        let within_wrong = wrong[..shape].iter().any(|wrong| field.starts_with(&wrong.field));
        if !within_wrong && (shape == 0 || error.kind == ErrorKind::ValidationFailure) {
            wrong.push(Wrong { place: root.place_of(&field), field, message: error.message });
        }
    }
}

type Parse = fn(Value) -> serde_json::Result<Object>;

fn custom(name: &'static str, namespaced: bool, make_schema: fn(Mode) -> Value, parse: Parse) -> Kind {
    Kind { name, namespaced, api_version: "git-events-runner.rs/v1alpha1", make_schema, schema: OnceCell::new(), parse }
}

fn core(name: &'static str, make_schema: fn(Mode) -> Value, parse: Parse) -> Kind {
    Kind { name, namespaced: true, api_version: "v1", make_schema, schema: OnceCell::new(), parse }
}

/// The schema of one of our kinds, with that of its metadata.
fn definition<T: CustomResourceExt>(mode: Mode) -> Value {
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
    schema
}

/// The schema of one of Kubernetes' own types.
fn inlined<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::openapi3().with(|settings| settings.inline_subschemas = true);
    settings.into_generator().into_root_schema_for::<T>().to_value()
}

fn parse<T: DeserializeOwned>(value: Value, object: fn(Box<T>) -> Object) -> serde_json::Result<Object> {
    serde_json::from_value(value).map(Box::new).map(object)
}

fn secret(value: Value) -> serde_json::Result<Object> {
    let mut secret: Secret = serde_json::from_value(value)?;
    let texts = secret.string_data.clone().unwrap_or_default();
    let bytes = texts.into_iter().map(|(key, text)| (key, ByteString(text.into_bytes())));
    secret.data.get_or_insert_default().extend(bytes);
    Ok(Object::Secret(Box::new(secret)))
}
