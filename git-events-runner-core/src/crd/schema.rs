//! Parts of schemas that no derive can write, and patterns that several kinds share.

use std::collections::BTreeMap;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool};
use schemars::{Schema, SchemaGenerator, json_schema};

/// A name of an object: a DNS subdomain.
pub const NAME: &str = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$";

/// A namespace: a DNS label.
pub const NAMESPACE: &str = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$";

/// A key in a Secret.
pub const SECRET_KEY: &str = "^[-._a-zA-Z0-9]+$";

/// A container image, as far as the API server should look at it: no space, no leading `-`.
pub const IMAGE: &str = r"^[^-\s]\S*$";

/// What the API server takes for a URI of a repository. Local mode takes local paths instead.
pub const REPO_URI: &str = concat!(
    r"self.matches('^(https?|ssh|git)://([A-Za-z0-9_][^@/\\x00-\\x20\\x7f]*@)?([A-Za-z0-9_][A-Za-z0-9._-]*|\\[[0-9A-Fa-f:.]+\\])",
    r"(:[0-9]{1,5})?(/[^?#\\x00-\\x20\\x7f]*)?$') || ",
    r"self.matches('^[A-Za-z0-9_][A-Za-z0-9._-]*@[A-Za-z0-9_][A-Za-z0-9._-]*:[^-\\x00-\\x20\\x7f][^\\x00-\\x20\\x7f]*$')",
);

/// Credentials do not belong into a URI, but for the user of ssh, who is part of the address.
pub const NO_CREDENTIALS: &str = "!self.matches('^(https?|git)://[^/]*@') && !self.matches('^ssh://[^/@]*:[^/]*@')";

/// What looks like a pattern of cron.
pub const CRON: &str = "self.matches('^(TZ=[A-Za-z0-9_+/-]+ +)?(@[a-z]+|[-0-9A-Za-z*?,/#]+( +[-0-9A-Za-z*?,/#]+){4,6}) *$')";

/// What a branch or tag may be called: Git's own rules, no control characters of Unicode, and a short name.
pub const REF_NAME: &str = concat!(
    r"self.matches('^[^-/.\\x00-\\x20\\x7f-\\x9f~^:?*\\[\\\\][^\\x00-\\x20\\x7f-\\x9f~^:?*\\[\\\\]*$') && ",
    "!self.contains('..') && !self.contains('//') && !self.contains('/.') && !self.contains('@{') && ",
    "!self.endsWith('/') && !self.endsWith('.') && !self.endsWith('.lock') && self != '@'",
);

/// Which namespaces may use an object of the cluster, by their labels.
pub fn namespace_selector(_: &mut SchemaGenerator) -> Schema {
    let value = json_schema!({ "type": "string", "maxLength": 63, "pattern": "^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$" });
    json_schema!({
        "type": "object",
        "nullable": true,
        "x-kubernetes-map-type": "atomic",
        "properties": {
            "matchLabels": {
                "description": "Labels that a namespace must have, with exactly these values.",
                "type": "object", "nullable": true, "maxProperties": 64, "additionalProperties": value,
            },
            "matchExpressions": {
                "description": "Conditions that a namespace's labels must meet, all of them.",
                "type": "array", "nullable": true, "maxItems": 64,
                "items": {
                    "type": "object",
                    "required": ["key", "operator"],
                    "properties": {
                        "key": { "description": "The label.", "type": "string", "minLength": 1, "maxLength": 317 },
                        "operator": {
                            "description": "How the label's value relates to `values`.",
                            "type": "string", "enum": ["In", "NotIn", "Exists", "DoesNotExist"],
                        },
                        "values": {
                            "description": "Values of the label: at least one for In and NotIn, none for Exists and DoesNotExist.",
                            "type": "array", "nullable": true, "maxItems": 64, "items": value,
                        },
                    },
                    "x-kubernetes-validations": [{
                        "rule": "self.operator in ['In', 'NotIn'] ? has(self.values) && self.values.size() > 0 \
                                 : !has(self.values) || self.values.size() == 0",
                        "message": "In and NotIn need values, Exists and DoesNotExist take none",
                        "fieldPath": ".values",
                    }],
                },
            },
        },
    })
}

/// What was watched. It is not checked again here: rules in the values of a map would cost more than the API server grants.
pub fn watched(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "nullable": true,
        "properties": {
            "branch": { "description": "Name of the branch.", "type": "string" },
            "tag": { "description": "Name of the tag.", "type": "string" },
            "commit": { "description": "Id of the commit.", "type": "string" },
        },
    })
}

/// Requests that are accepted and not yet acted on.
pub fn pending(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": crate::state::MOST_PENDING,
        "additionalProperties": {
            "type": "object",
            "required": ["sources", "receivedAt", "always"],
            "properties": {
                "sources": {
                    "description": "The sources that are still to be checked for this request.",
                    "type": "array", "items": { "type": "string" }, "x-kubernetes-list-type": "atomic",
                },
                "receivedAt": { "description": "When the request came.", "type": "string" },
                "commit": { "description": "The commit that the request speaks of, as a hint.", "type": "string", "nullable": true },
                "always": {
                    "description": "True: the action starts once for this request, changed or not. False: it is a reason to look.",
                    "type": "boolean",
                },
            },
        },
    })
}

/// Runs that are recorded and not yet known to have begun.
pub fn waiting(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": crate::MAX_WAITING,
        "additionalProperties": {
            "type": "object",
            "required": ["uid", "source", "sequence", "instant", "since"],
            "properties": {
                "uid": { "description": "Which Job of that name may be released.", "type": "string" },
                "source": { "description": "The source that fired.", "type": "string" },
                "sequence": { "description": "The number of the run.", "type": "integer", "format": "int64", "minimum": 0 },
                "instant": { "description": "What it waits since in the order of all runs.", "type": "string" },
                "since": { "description": "When it was recorded.", "type": "string" },
                "previous": { "description": "The commit to go back to if it never begins.", "type": "string", "nullable": true },
                "follows": { "description": "The run that was for that commit.", "type": "string", "nullable": true },
                "owedTo": { "description": "The request that it runs for even if nothing has changed.", "type": "string", "nullable": true },
            },
        },
    })
}

pub fn run_result(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "enum": ["Waiting", "Running", "Succeeded", "Failed", "Expired", "Deleted"] })
}

pub fn optional_run_result(generator: &mut SchemaGenerator) -> Schema {
    let mut schema = run_result(generator);
    schema.insert("nullable".to_owned(), true.into());
    schema
}

/// Joins the lines of descriptions, which break where the source does, and would in `kubectl explain` too.
pub fn join_lines(schema: &mut JSONSchemaProps) {
    if let Some(description) = &mut schema.description {
        *description = joined(description);
    }
    schema.properties.iter_mut().flat_map(BTreeMap::values_mut).for_each(join_lines);
    match &mut schema.items {
        Some(JSONSchemaPropsOrArray::Schema(items)) => join_lines(items),
        Some(JSONSchemaPropsOrArray::Schemas(items)) => items.iter_mut().for_each(join_lines),
        None => {}
    }
    if let Some(JSONSchemaPropsOrBool::Schema(values)) = &mut schema.additional_properties {
        join_lines(values);
    }
}

/// A text with each paragraph on a line of its own. What looks like a list or an example stays as it is.
fn joined(text: &str) -> String {
    let mut joined = String::with_capacity(text.len());
    for line in text.split('\n') {
        let goes_on =
            line.starts_with(|first: char| first.is_ascii_alphabetic() || first == '`') && !joined.is_empty() && !joined.ends_with('\n');
        if goes_on {
            joined.push(' ');
        } else if !joined.is_empty() {
            joined.push('\n');
        }
        joined.push_str(line);
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::joined;

    #[test]
    fn paragraphs_are_joined_and_lists_are_not() {
        let text = "One\nline of\n`code`.\n\nAnother:\n- a\n  list\n- of two";
        assert_eq!(joined(text), "One line of `code`.\n\nAnother:\n- a\n  list\n- of two");
    }
}
