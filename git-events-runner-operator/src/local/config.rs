//! The runtime config of local mode, from the manifests.

use git_events_runner_core::{
    crd,
    validate::{self, Document, Object},
};

/// The runtime config, and what is wrong with the ConfigMaps of its name, but for what the validator has found. Without one that can
/// be used, it has its defaults.
pub fn runtime_config(documents: &[Document]) -> (crd::RuntimeConfig, Vec<String>) {
    let mut maps = documents.iter().filter(|document| document.id.kind == "ConfigMap" && document.id.name == crd::RUNTIME_CONFIG_NAME);
    let Some(first) = maps.next() else { return Default::default() };
    let mistake = |document: &Document, message: &str| format!("{}:{}: {}: {message}", document.file, document.line, document.id);
    let there_is_one = format!("there is a runtime config already, in {}:{}", first.file, first.line);
    let mut mistakes: Vec<_> = maps.map(|other| mistake(other, &there_is_one)).collect();
    let config = read(first).unwrap_or_else(|message| {
        mistakes.push(mistake(first, &message));
        crd::RuntimeConfig::default()
    });
    (config, mistakes)
}

fn read(document: &Document) -> Result<crd::RuntimeConfig, String> {
    match &document.object {
        Some(Object::ConfigMap(map)) => validate::runtime_config(map),
        _ => Ok(crd::RuntimeConfig::default()),
    }
}
