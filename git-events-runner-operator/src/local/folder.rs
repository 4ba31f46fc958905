//! Reads the manifests of a folder.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use git_events_runner_core::crd;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use serde::de::DeserializeOwned;

pub enum Object {
    GitRepo(crd::GitRepo),
    ClusterGitRepo(crd::ClusterGitRepo),
    ScheduleTrigger(crd::ScheduleTrigger),
    WebhookTrigger(crd::WebhookTrigger),
    Action(crd::Action),
    ClusterAction(crd::ClusterAction),
    Secret(Secret),
    ConfigMap(ConfigMap),
}

pub fn read(folder: &Path) -> anyhow::Result<Vec<(PathBuf, Object)>> {
    let mut objects = vec![];
    let mut files: Vec<_> =
        std::fs::read_dir(folder).with_context(|| folder.display().to_string())?.map(|f| f.map(|f| f.path())).collect::<Result<_, _>>()?;
    files.sort();
    for file in files.into_iter().filter(|f| f.extension().is_some_and(|e| e == "yaml" || e == "yml")) {
        let text = std::fs::read_to_string(&file)?;
        for document in serde_saphyr::from_multiple::<serde_json::Value>(&text)? {
            let mut document = document;
            if document["metadata"]["namespace"].is_null() && !document["kind"].as_str().unwrap_or_default().starts_with("Cluster") {
                document["metadata"]["namespace"] = "default".into();
            }
            let kind = document["kind"].as_str().unwrap_or_default().to_owned();
            fn to<T: DeserializeOwned>(v: serde_json::Value) -> anyhow::Result<T> {
                Ok(serde_json::from_value(v)?)
            }
            let object = match kind.as_str() {
                "GitRepo" => Object::GitRepo(to(document)?),
                "ClusterGitRepo" => Object::ClusterGitRepo(to(document)?),
                "ScheduleTrigger" => Object::ScheduleTrigger(to(document)?),
                "WebhookTrigger" => Object::WebhookTrigger(to(document)?),
                "Action" => Object::Action(to(document)?),
                "ClusterAction" => Object::ClusterAction(to(document)?),
                "Secret" => Object::Secret(to(document)?),
                "ConfigMap" => Object::ConfigMap(to(document)?),
                other => anyhow::bail!("{other}"),
            };
            objects.push((file.clone(), object));
        }
    }
    Ok(objects)
}
