//! Walks a structural schema over YAML, as an API server does: types and limits, unknown fields, defaults.

use std::collections::BTreeSet;

use k8s_openapi::ByteString;
use regex::Regex;
use serde_json::{Map, Value};

use super::yaml::{Node, Place, Yaml};

/// Something that is wrong.
pub struct Wrong {
    pub place: Place,
    pub field: String,
    pub message: String,
}

/// Answers the value with defaults applied, and what is wrong with it. Null counts as absent.
pub fn walk(schema: &Value, root: &Node) -> (Value, Vec<Wrong>) {
    let mut walk = Walk { wrong: vec![] };
    let mut value = walk.value(schema, root, "");
    apply_defaults(schema, &mut value);
    (value, walk.wrong)
}

struct Walk {
    wrong: Vec<Wrong>,
}

impl Walk {
    fn wrong(&mut self, place: Place, field: &str, message: impl Into<String>) {
        self.wrong.push(Wrong { place, field: field.to_owned(), message: message.into() });
    }

    fn value(&mut self, schema: &Value, node: &Node, path: &str) -> Value {
        let (place, int_or_string) = (node.place(), schema["x-kubernetes-int-or-string"] == true);
        let value = match (schema["type"].as_str(), node.yaml()) {
            (Some("object"), Yaml::Map(_)) => self.object(schema, node, path),
            (Some("array"), Yaml::List(items)) => self.array(schema, items, place, path),
            (Some("string"), Yaml::Text(text)) => {
                self.string(schema, text, place, path);
                text.clone().into()
            }
            (_, Yaml::Text(text)) if int_or_string => text.clone().into(),
            (_, Yaml::Number(number)) if int_or_string && !number.is_f64() => number.clone().into(),
            (Some("integer"), Yaml::Number(number)) if !number.is_f64() => self.number(schema, number, place, path),
            (Some("number"), Yaml::Number(number)) => self.number(schema, number, place, path),
            (Some("boolean"), Yaml::Bool(value)) => (*value).into(),
            (expected, found) => {
                let expected = expected.unwrap_or("integer or string");
                self.wrong(place, path, format!("must be {}, not {}", article(expected), described(found)));
                Value::Null
            }
        };
        if let Some(allowed) = schema["enum"].as_array().filter(|allowed| !value.is_null() && !allowed.contains(&value)) {
            let allowed: Vec<_> = allowed.iter().map(|value| value.to_string().replace('"', "")).collect();
            let close = value.as_str().and_then(|text| closest(text, allowed.iter().map(String::as_str)));
            self.wrong(place, path, format!("must be one of {}{}", allowed.join(", "), did_you_mean(close)));
        }
        value
    }

    fn object(&mut self, schema: &Value, node: &Node, path: &str) -> Value {
        let empty = Map::new();
        let properties = schema["properties"].as_object().unwrap_or(&empty);
        let mut object = Map::new();
        for (key, value) in node.map() {
            let (name, field) = (key.as_str(), child(path, key.as_str()));
            let property = properties.get(name).or_else(|| schema.get("additionalProperties").filter(|values| values.is_object()));
            match property {
                Some(_) if matches!(value.yaml(), Yaml::Null) => {}
                Some(property) => {
                    object.insert(name.to_owned(), self.value(property, value, &field));
                }
                None => {
                    let close = closest(name, properties.keys().map(String::as_str));
                    self.wrong(key.place(), &field, format!("there is no such field{}", did_you_mean(close)));
                }
            }
        }
        for required in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            if !object.contains_key(required) && properties.get(required).is_none_or(|property| property.get("default").is_none()) {
                let field = child(path, required);
                self.wrong(node.place(), &field, "must be there");
            }
        }
        self.limits(schema, ("minProperties", "maxProperties"), object.len(), "fields", node.place(), path);
        Value::Object(object)
    }

    fn array(&mut self, schema: &Value, items: &[Node], place: Place, path: &str) -> Value {
        self.limits(schema, ("minItems", "maxItems"), items.len(), "items", place, path);
        let values: Vec<_> =
            items.iter().enumerate().map(|(index, item)| self.value(&schema["items"], item, &format!("{path}[{index}]"))).collect();
        let keys = match schema["x-kubernetes-list-type"].as_str() {
            Some("set") => Some(vec![]),
            Some("map") => schema["x-kubernetes-list-map-keys"].as_array().cloned(),
            _ => None,
        };
        let identity = |value: &Value, keys: &[Value]| match keys {
            [] => value.to_string(),
            keys => keys.iter().filter_map(Value::as_str).map(|key| value[key].to_string()).collect(),
        };
        let mut seen = BTreeSet::new();
        for (index, value) in values.iter().enumerate() {
            if keys.as_ref().is_some_and(|keys| !seen.insert(identity(value, keys))) {
                self.wrong(items[index].place(), &format!("{path}[{index}]"), "is there twice");
            }
        }
        Value::Array(values)
    }

    fn string(&mut self, schema: &Value, text: &str, place: Place, path: &str) {
        self.limits(schema, ("minLength", "maxLength"), text.chars().count(), "characters", place, path);
        if let Some(pattern) = schema["pattern"].as_str() {
            match Regex::new(pattern) {
                Ok(pattern) if pattern.is_match(text) => {}
                _ => self.wrong(place, path, format!("must match {pattern}")),
            }
        }
        let readable = match schema["format"].as_str() {
            Some("byte") => serde_json::from_value::<ByteString>(text.into()).is_ok(),
            Some("date-time") => text.parse::<jiff::Timestamp>().is_ok(),
            _ => true,
        };
        if !readable {
            let expected = if schema["format"] == "byte" { "base64" } else { "a time such as 2026-01-31T12:00:00Z" };
            self.wrong(place, path, format!("must be {expected}"));
        }
    }

    fn number(&mut self, schema: &Value, number: &serde_json::Number, place: Place, path: &str) -> Value {
        let value = number.as_f64().unwrap_or(f64::NAN);
        if let Some(minimum) = schema["minimum"].as_f64().filter(|minimum| value < *minimum) {
            self.wrong(place, path, format!("must be at least {minimum}"));
        }
        if let Some(maximum) = schema["maximum"].as_f64().filter(|maximum| value > *maximum) {
            self.wrong(place, path, format!("must be at most {maximum}"));
        }
        let fits = match schema["format"].as_str() {
            Some("int32") => number.as_i64().is_some_and(|value| i32::try_from(value).is_ok()),
            Some("int64") => number.as_i64().is_some(),
            _ => true,
        };
        if !fits {
            self.wrong(place, path, "is too large");
        }
        number.clone().into()
    }

    fn limits(&mut self, schema: &Value, names: (&str, &str), count: usize, of: &str, place: Place, path: &str) {
        let limit = |name| schema.get(name).and_then(Value::as_u64).and_then(|limit| usize::try_from(limit).ok());
        if let Some(least) = limit(names.0).filter(|least| count < *least) {
            self.wrong(place, path, format!("must have at least {least} {of}"));
        }
        if let Some(most) = limit(names.1).filter(|most| count > *most) {
            self.wrong(place, path, format!("must have at most {most} {of}"));
        }
    }
}

fn apply_defaults(schema: &Value, value: &mut Value) {
    match value {
        Value::Object(object) => {
            for (name, property) in schema["properties"].as_object().into_iter().flatten() {
                if let Some(default) = property.get("default").filter(|_| !object.contains_key(name)) {
                    object.insert(name.clone(), default.clone());
                }
            }
            for (name, value) in object.iter_mut() {
                apply_defaults(schema["properties"].get(name).unwrap_or(&schema["additionalProperties"]), value);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| apply_defaults(&schema["items"], item)),
        _ => {}
    }
}

/// The path of a field of an object.
fn child(path: &str, name: &str) -> String {
    let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'));
    match (path, plain) {
        ("", _) => name.to_owned(),
        (path, true) => format!("{path}.{name}"),
        (path, false) => format!("{path}[{name}]"),
    }
}

fn article(kind: &str) -> String {
    match kind {
        "array" => "a list".to_owned(),
        "object" => "an object".to_owned(),
        "boolean" => "true or false".to_owned(),
        "integer" | "integer or string" => format!("an {kind}"),
        kind => format!("a {kind}"),
    }
}

fn described(value: &Yaml) -> &'static str {
    match value {
        Yaml::Null => "null",
        Yaml::Bool(_) => "a boolean (quote it if it is meant as a string)",
        Yaml::Number(_) => "a number (quote it if it is meant as a string)",
        Yaml::Text(_) => "a string",
        Yaml::List(_) => "a list",
        Yaml::Map(_) => "an object",
    }
}

/// What somebody may have meant.
fn closest<'a>(written: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let distance = |known: &str| strsim::osa_distance(&written.to_lowercase(), &known.to_lowercase());
    known
        .map(|known| (distance(known), known))
        .filter(|(distance, known)| *distance <= known.len().div_ceil(3))
        .min()
        .map(|(_, known)| known)
}

fn did_you_mean(close: Option<&str>) -> String {
    close.map_or(String::new(), |close| format!("; did you mean {close}?"))
}
