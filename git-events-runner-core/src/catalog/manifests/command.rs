use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::api::core::v1::{EnvFromSource, EnvVar};

use super::{Manifests, seconds};
use crate::{CatalogError, ObjectRef, catalog::values, crd, process::CommandLine};

impl Manifests {
    /// How long a run of an action may take.
    pub(super) fn deadline(&self, job: &crd::ActionJob) -> Duration {
        seconds(job.active_deadline_seconds.unwrap_or(self.content.config.action.active_deadline_seconds))
    }

    /// What an action starts, for a trigger of a namespace.
    pub(super) fn command_line(&self, namespace: &str, id: &ObjectRef, job: &crd::ActionJob) -> Result<CommandLine, CatalogError> {
        let argv: Vec<_> = [&job.command, &job.args].into_iter().flatten().flatten().cloned().collect();
        if argv.is_empty() {
            let message = "it has neither command nor args: without a cluster there is no image that could start by itself".to_owned();
            return Err(CatalogError::Invalid { object: id.clone(), message });
        }
        let prefix = self.content.config.action.containers.worker.variables_prefix.clone();
        let environment = self.environment(namespace, job).map_err(|message| CatalogError::Invalid { object: id.clone(), message })?;
        Ok(CommandLine { argv, environment, prefix, deadline: Some(self.deadline(job)) })
    }

    fn environment(&self, namespace: &str, job: &crd::ActionJob) -> Result<Vec<(String, String)>, String> {
        let mut variables = BTreeMap::new();
        for (index, from) in job.env_from.iter().enumerate() {
            let values = self.all_of(namespace, from).map_err(|wrong| format!("actionJob.envFrom[{index}]: {wrong}"))?;
            variables.extend(values);
        }
        for (index, variable) in job.env.iter().enumerate() {
            let value = self.value(namespace, variable).map_err(|wrong| format!("actionJob.env[{index}]: {wrong}"))?;
            variables.extend(value.map(|value| (variable.name.clone(), value)));
        }
        Ok(variables.into_iter().collect())
    }

    fn all_of(&self, namespace: &str, from: &EnvFromSource) -> Result<Vec<(String, String)>, String> {
        let secret = from.secret_ref.as_ref().map(|secret| (&self.content.secrets, "Secret", &secret.name, secret.optional));
        let map = from.config_map_ref.as_ref().map(|map| (&self.content.config_maps, "ConfigMap", &map.name, map.optional));
        let (among, kind, name, optional) = secret.or(map).ok_or("names neither a Secret nor a ConfigMap")?;
        let prefix = from.prefix.as_deref().unwrap_or_default();
        match values::find(among, kind, namespace, name) {
            Ok(values) => Ok(values.texts().map(|(key, value)| (format!("{prefix}{key}"), value.to_owned())).collect()),
            Err(_) if optional == Some(true) => Ok(vec![]),
            Err(missing) => Err(missing),
        }
    }

    fn value(&self, namespace: &str, variable: &EnvVar) -> Result<Option<String>, String> {
        let Some(from) = &variable.value_from else { return Ok(Some(variable.value.clone().unwrap_or_default())) };
        let secret = from.secret_key_ref.as_ref().map(|key| (&self.content.secrets, "Secret", &key.name, &key.key, key.optional));
        let map = from.config_map_key_ref.as_ref().map(|key| (&self.content.config_maps, "ConfigMap", &key.name, &key.key, key.optional));
        let named = secret.or(map).ok_or("only secretKeyRef and configMapKeyRef have a meaning without a cluster")?;
        let (among, kind, name, key, optional) = named;
        let text = values::text_if_there(among, kind, namespace, (name, key), optional == Some(true))?;
        Ok(text.map(str::to_owned))
    }
}
