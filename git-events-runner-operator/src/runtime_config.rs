//! The runtime config, from its ConfigMap, as it changes.

use std::sync::Arc;

use futures_util::{StreamExt as _, stream::BoxStream};
use git_events_runner_core::{crd::RuntimeConfig, validate};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api, Client,
    runtime::{
        WatchStreamExt as _,
        watcher::{self, watch_object},
    },
};
use prometheus_client::metrics::counter::Counter;
use tokio::sync::watch;
use tracing::{error, info, warn};

#[cfg(test)]
mod tests;

/// Follows the ConfigMap with the runtime config.
pub struct Follower {
    /// For people.
    name: String,
    maps: BoxStream<'static, watcher::Result<Option<ConfigMap>>>,
    config: watch::Sender<Arc<RuntimeConfig>>,
    failures: Counter,
}

impl Follower {
    /// Reads the ConfigMap, and waits for as long as that takes. `failures` counts the configs that cannot be used.
    pub async fn start(client: Client, namespace: &str, name: &str, failures: Counter) -> Self {
        let maps = watch_object(Api::namespaced(client, namespace), name).default_backoff().boxed();
        let mut follower = Self { name: format!("{namespace}/{name}"), maps, config: watch::Sender::default(), failures };
        follower.read().await;
        follower
    }

    /// The config, now and at any later time. Without a ConfigMap, it has its defaults.
    pub fn config(&self) -> watch::Receiver<Arc<RuntimeConfig>> {
        self.config.subscribe()
    }

    /// Takes over every change, for ever. One that cannot be used is told, and the last good one stays.
    pub async fn follow(mut self) -> anyhow::Result<()> {
        while self.read().await {}
        anyhow::bail!("the ConfigMap {} is no longer watched, which must not be", self.name)
    }

    /// Waits for the next version of the ConfigMap; false when there cannot be one.
    async fn read(&mut self) -> bool {
        loop {
            match self.maps.next().await {
                Some(Ok(map)) => {
                    self.take(map.as_ref());
                    return true;
                }
                Some(Err(error)) => warn!("the ConfigMap {} cannot be read: {error}", self.name),
                None => return false,
            }
        }
    }

    fn take(&self, map: Option<&ConfigMap>) {
        let config = match map.map(validate::runtime_config) {
            Some(Ok(config)) => config,
            Some(Err(message)) => {
                self.failures.inc();
                error!("ConfigMap {}: {message}; the last runtime config that could be used stays", self.name);
                return;
            }
            None => {
                info!("there is no ConfigMap {}: the runtime config has its defaults", self.name);
                RuntimeConfig::default()
            }
        };
        let has_changed = self.config.send_if_modified(|current| {
            let has_changed = **current != config;
            if has_changed {
                *current = Arc::new(config);
            }
            has_changed
        });
        if has_changed {
            info!("the runtime config of ConfigMap {} is in use", self.name);
        }
    }
}
