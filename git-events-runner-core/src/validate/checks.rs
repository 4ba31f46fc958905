//! What no schema of a kind says: the API server's rules for metadata, and the controllers' own for one object.

use std::{collections::BTreeMap, path::Path, sync::LazyLock};

use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt as _;
use regex::Regex;
use serde_json::Value;

use super::{Mode, Object, schema::Wrong, yaml::Node};
use crate::{
    crd::{self, InvalidSpec, Repository, RuntimeConfig},
    source::git::RepoUri,
};

static NAME: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$").ok());
static LABEL_NAME: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$").ok());

fn is(pattern: &LazyLock<Option<Regex>>, text: &str) -> bool {
    pattern.as_ref().is_some_and(|pattern| pattern.is_match(text))
}

/// Collects what is wrong with one object.
struct Found<'a> {
    root: &'a Node,
    wrong: &'a mut Vec<Wrong>,
}

impl Found<'_> {
    fn wrong(&mut self, field: &str, message: impl ToString) {
        self.wrong.push(Wrong { place: self.root.place_of(field), field: field.to_owned(), message: message.to_string() });
    }
}

/// Names, labels and annotations.
pub fn metadata(namespaced: bool, root: &Node, object: &Value, wrong: &mut Vec<Wrong>) {
    let (metadata, mut found) = (&object["metadata"], Found { root, wrong });
    if let Some(name) = metadata["name"].as_str().filter(|name| name.len() > 253 || !is(&NAME, name)) {
        let _ = name;
        found.wrong("metadata.name", "must be at most 253 lower case letters, digits, `-` and `.`, with a letter or digit at both ends");
    }
    if let Some(namespace) = metadata["namespace"].as_str() {
        if !namespaced {
            found.wrong("metadata.namespace", "must not be there: this kind belongs to no namespace");
        } else if namespace.len() > 63 || namespace.contains('.') || !is(&NAME, namespace) {
            found.wrong("metadata.namespace", "must be at most 63 lower case letters, digits and `-`, with a letter or digit at both ends");
        }
    }
    for part in ["labels", "annotations"] {
        for (key, value) in metadata[part].as_object().into_iter().flatten() {
            let field = format!("metadata.{part}");
            let (prefix, name) = key.rsplit_once('/').map_or((None, key.as_str()), |(prefix, name)| (Some(prefix), name));
            let is_key = prefix.is_none_or(|prefix| prefix.len() <= 253 && is(&NAME, prefix)) && name.len() <= 63 && is(&LABEL_NAME, name);
            if !is_key {
                found.wrong(&field, format!("`{}` is no name of a label or annotation", key.escape_debug()));
            }
            let value = value.as_str().unwrap_or_default();
            if part == "labels" && !value.is_empty() && (value.len() > 63 || !is(&LABEL_NAME, value)) {
                found.wrong(&field, format!("the value of {key} must be at most 63 letters, digits, `-`, `_` and `.`"));
            }
        }
    }
}

/// What the controllers check of one object.
pub fn object(object: &Object, mode: Mode, root: &Node, wrong: &mut Vec<Wrong>) {
    let mut found = Found { root, wrong };
    match object {
        Object::GitRepo(repo) => {
            repository(&repo.spec.repository, mode, &mut found);
            let own = repo.namespace();
            for (path, secret) in repo.spec.repository.secrets() {
                if secret.namespace.is_some() && secret.namespace != own {
                    found.wrong(&format!("spec.{path}.namespace"), "a GitRepo reads Secrets of its own namespace only");
                }
            }
        }
        Object::ClusterGitRepo(repo) => repository(&repo.spec.repository, mode, &mut found),
        Object::ScheduleTrigger(trigger) => policy(trigger.policy(trigger.id()), &mut found),
        Object::WebhookTrigger(trigger) => policy(trigger.policy(trigger.id()), &mut found),
        Object::ConfigMap(map) => config(map, &mut found),
        Object::Secret(secret) => keys("data", secret.data.as_ref(), &mut found),
        Object::Action(_) | Object::ClusterAction(_) => {}
    }
}

fn repository(repository: &Repository, mode: Mode, found: &mut Found<'_>) {
    let uri = match mode {
        Mode::Cluster => RepoUri::parse(&repository.repo_uri),
        // Wherever the folder is, the form of the URI is the same.
        Mode::Local => RepoUri::parse_with_local(&repository.repo_uri, Path::new("/")),
    };
    if let Err(error) = uri {
        found.wrong("spec.repoUri", error);
    }
    if let Err(error) = repository.timeout.get() {
        found.wrong("spec.timeout", error);
    }
}

fn policy<T>(policy: Result<T, InvalidSpec>, found: &mut Found<'_>) {
    if let Err(InvalidSpec { path, message }) = policy {
        found.wrong(&format!("spec.{path}"), message);
    }
}

fn config(map: &ConfigMap, found: &mut Found<'_>) {
    keys("data", map.data.as_ref(), found);
    keys("binaryData", map.binary_data.as_ref(), found);
    if let Some(Err(message)) = config_text(map).map(parse_config) {
        found.wrong(&format!("data.{}", crd::RUNTIME_CONFIG_KEY), message);
    }
}

/// The runtime config that a ConfigMap holds.
///
/// # Errors
///
/// What is wrong: the key, and within its text the line and field.
pub fn runtime_config(map: &ConfigMap) -> Result<RuntimeConfig, String> {
    let key = crd::RUNTIME_CONFIG_KEY;
    let text = config_text(map).ok_or_else(|| format!("data: has no key {key}"))?;
    parse_config(text).map_err(|message| format!("data.{key}: {message}"))
}

fn config_text(map: &ConfigMap) -> Option<&str> {
    map.data.as_ref()?.get(crd::RUNTIME_CONFIG_KEY).map(String::as_str)
}

fn parse_config(text: &str) -> Result<RuntimeConfig, String> {
    let config: RuntimeConfig = serde_saphyr::from_str(text).map_err(|error| error.without_snippet().to_string())?;
    config.check().map_err(|error| error.to_string())?;
    Ok(config)
}

/// The keys of a Secret or ConfigMap.
fn keys<T>(field: &str, data: Option<&BTreeMap<String, T>>, found: &mut Found<'_>) {
    let is_key = |key: &str| {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        (1..=253).contains(&key.len()) && key.chars().all(allowed) && key != "." && !key.starts_with("..")
    };
    for key in data.into_iter().flat_map(BTreeMap::keys).filter(|key| !is_key(key)) {
        found.wrong(field, format!("`{}` must be at most 253 letters, digits, `-`, `_` and `.`", key.escape_debug()));
    }
}
