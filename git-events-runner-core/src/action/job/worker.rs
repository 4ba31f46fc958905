//! The container that runs the action.

use k8s_openapi::api::core::v1::{Container, EnvVar, VolumeMount};

use super::build::{Blueprint, literal};
use crate::environment;

/// Git is to work in a folder that another user has written, where the worker has Git.
const SAFE_DIRECTORY: [(&str, &str); 3] = [("GIT_CONFIG_COUNT", "1"), ("GIT_CONFIG_KEY_0", "safe.directory"), ("GIT_CONFIG_VALUE_0", "*")];

pub fn container(of: &Blueprint<'_>) -> Container {
    let config = &of.config.containers.worker;
    let workdir = of.workdir().to_owned();
    Container {
        name: config.name.clone(),
        image: Some(of.action.action_image.as_ref().unwrap_or(&config.image).clone()),
        command: of.action.command.clone(),
        args: of.action.args.clone(),
        working_dir: Some(workdir.clone()),
        env: Some(variables(of)),
        env_from: (!of.action.env_from.is_empty()).then(|| of.action.env_from.clone()),
        resources: of.action.resources.clone(),
        security_context: of.action.security_context.clone(),
        volume_mounts: Some(vec![VolumeMount {
            name: of.config.workdir.volume_name.clone(),
            mount_path: workdir,
            ..VolumeMount::default()
        }]),
        ..Container::default()
    }
}

/// Ours, which win, then the action's own, which may so refer to ours.
fn variables(of: &Blueprint<'_>) -> Vec<EnvVar> {
    let prefix = &of.config.containers.worker.variables_prefix;
    let told = environment(of.run, of.workdir(), &of.origin.source_uri, of.origin.overridden.as_ref());
    let prefixed = told.iter().filter(|_| !prefix.is_empty()).map(|(name, value)| (format!("{prefix}{name}"), value));
    let ours = prefixed.chain(told.iter().map(|(name, value)| ((*name).to_owned(), value)));
    let mut variables: Vec<_> = ours.map(|(name, value)| EnvVar { name, value: Some(literal(value)), value_from: None }).collect();
    let is_there = |variables: &[EnvVar], name: &str| variables.iter().any(|variable| variable.name == name);
    if !SAFE_DIRECTORY.iter().any(|(name, _)| is_there(&of.action.env, name)) {
        let safe = SAFE_DIRECTORY.map(|(name, value)| EnvVar { name: name.to_owned(), value: Some(value.to_owned()), value_from: None });
        variables.extend(safe);
    }
    let own: Vec<_> = of.action.env.iter().filter(|own| !is_there(&variables, &own.name)).cloned().collect();
    variables.extend(own);
    variables
}
