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

use crate::utility::Ready;

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
    /// Reads the ConfigMap, and waits for as long as that takes: also for a config that can be used, as there is no last good one. `ready` tells
    /// why it waits, and `failures` counts the configs that cannot be used.
    pub async fn start(client: Client, namespace: &str, name: &str, failures: Counter, ready: &watch::Sender<Ready>) -> Self {
        let maps = watch_object(Api::namespaced(client, namespace), name).default_backoff().boxed();
        let mut follower = Self { name: format!("{namespace}/{name}"), maps, config: watch::Sender::default(), failures };
        while let Some(Err(why)) = follower.read().await {
            error!("{why}; nothing is done before there is a runtime config that can be used");
            ready.send_replace(Ready::No(format!("not ready: {why}")));
        }
        ready.send_replace(Ready::default());
        follower
    }

    /// The config, now and at any later time. Without a ConfigMap, it has its defaults.
    pub fn config(&self) -> watch::Receiver<Arc<RuntimeConfig>> {
        self.config.subscribe()
    }

    /// Takes over every change, for ever. One that cannot be used is told, and the last good one stays.
    pub async fn follow(mut self) -> anyhow::Result<()> {
        while let Some(read) = self.read().await {
            if let Err(why) = read {
                error!("{why}; the last runtime config that could be used stays");
            }
        }
        anyhow::bail!("the ConfigMap {} is no longer watched, which must not be", self.name)
    }

    /// Waits for the next version of the ConfigMap, and answers why it cannot be used; None when there cannot be one.
    async fn read(&mut self) -> Option<Result<(), String>> {
        loop {
            match self.maps.next().await? {
                Ok(map) => return Some(self.take(map.as_ref())),
                Err(error) => warn!("the ConfigMap {} cannot be read: {error}", self.name),
            }
        }
    }

    fn take(&self, map: Option<&ConfigMap>) -> Result<(), String> {
        let config = match map.map(validate::runtime_config) {
            Some(Ok(config)) => config,
            Some(Err(message)) => {
                self.failures.inc();
                return Err(format!("ConfigMap {}: {message}", self.name));
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
        Ok(())
    }
}
