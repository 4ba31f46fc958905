//! The operator: webhooks and the utility port on every replica, and controllers on the one that leads.

use std::{process::ExitCode, sync::Arc};

use anyhow::Context as _;
use git_events_runner_core::{AllowedHosts, CatalogStores, KubeCatalog, KubeStore, Scope, git::GitClient, job::Jobs};
use tokio::sync::{broadcast, watch};
use tracing::info;
use warp::Filter as _;

use crate::{
    args, client,
    events::Events,
    http,
    leader::{self, LeaseConfig},
    log,
    metrics::Metrics,
    overview::page::Page,
    rate_limit::RateLimits,
    runtime_config::Follower,
    stop, tls,
    utility::{self, Pulse, Ready},
    webhook,
};

mod actions;
mod conditions;
mod controller;
mod firings;
mod hooks;
mod jobs;
mod leading;
mod problems;
mod sources;
mod status;
mod triggers;
mod turns;

pub use controller::Guarded;
use firings::Firings;
use hooks::ClusterHooks;
use leading::Leader;
pub use triggers::TriggerKind;

/// How many changes of what triggers name may be untold to the leader's controllers. If there are more, all triggers are looked at again.
const CHANGES: usize = 4096;

pub fn run(args: args::Run) -> anyhow::Result<ExitCode> {
    args.check()?;
    log::start(&args.log)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("no threads can be started")?;
    runtime.block_on(serve(args))
}

async fn serve(args: args::Run) -> anyhow::Result<ExitCode> {
    let args::Run {
        webhooks_port,
        utility_port,
        webhooks_parallelism,
        schedule_parallelism,
        secrets_cache_time,
        source_clone_folder,
        config_map_name,
        leader_lease_name,
        leader_lease_duration: duration,
        leader_lease_grace: grace,
        metrics_prefix,
        watch_namespaces,
        hooks_rrl_global,
        hooks_rrl_trigger,
        hooks_rrl_source,
        tls_cert_path,
        tls_key_path,
        tls_secret_name,
        tls_secret_namespace,
        allowed_hosts,
        log: _,
    } = args;
    let allowed_hosts = AllowedHosts::new(allowed_hosts.iter().map(String::as_str)).context("--allowed-hosts")?;
    if source_clone_folder.is_some() {
        tracing::info!("--source-clone-folder is of no use: nothing is cloned to be checked, so that no folder is needed");
    }
    let mut stop = stop::signal()?;
    let (metrics, pulse, ready) = (Metrics::new(&metrics_prefix), Pulse::new(), watch::Sender::<Ready>::default());
    let utility = http::bind(&http::everywhere(utility_port), "the utility port", "--utility-port").await?;
    let webhooks = http::bind(&http::everywhere(webhooks_port), "webhooks", "--webhooks-port").await?;
    let cluster = watch::Sender::new(None);
    let utility_routes = utility::routes(pulse.clone(), ready.subscribe(), metrics.clone(), Page::new(cluster.subscribe()));
    let utility = tokio::spawn(http::serve(utility, None, utility_routes, stop.clone()));

    // Every write ends before another may lead.
    let client = client::connect(grace * 3 / 4).await?;
    let (namespace, identity) = (client::own_namespace(&client), client::own_identity());
    let scope = if watch_namespaces.is_empty() { Scope::All } else { Scope::Namespaces(watch_namespaces.into_iter().collect()) };
    cluster.send_replace(Some((client.clone(), scope.clone())));
    let follower = tokio::select! {
        follower = Follower::start(client.clone(), &namespace, &config_map_name, metrics.config_failures.clone(), &ready) => follower,
        () = stop::requested(&mut stop) => return Ok(ExitCode::SUCCESS),
        // It lives while the API server is away, however long that takes.
        never = pulse.beat() => match never {},
    };
    let (config, firings) = (follower.config(), Arc::<Firings>::default());
    let (events, publisher) = Events::new(client.clone(), identity.clone());
    let jobs = Jobs::new(client.clone(), scope.clone(), config.clone());
    let changes = broadcast::Sender::new(CHANGES);
    let tell = changes.clone();
    // Nobody listens while this replica does not lead.
    let (stores, catalog_watches) = CatalogStores::watch(&client, &scope, move |changed| drop(tell.send(changed)));
    let catalog = KubeCatalog::new(client.clone(), stores, jobs, GitClient::default(), allowed_hosts, secrets_cache_time);
    let (triggers, trigger_watches) = controller::objects(scope.apis(&client));
    let hooks = Arc::new(ClusterHooks::new(triggers.clone(), catalog.clone(), config.clone()));
    let measure = warp::log::custom({
        let metrics = metrics.clone();
        move |answer| metrics.answered(answer.status().as_u16(), answer.elapsed())
    });
    let limits = Arc::new(RateLimits::new(hooks_rrl_global, hooks_rrl_trigger, hooks_rrl_source));
    let inbox = Arc::new(KubeStore::new(client.clone()));
    let hooks = webhook::routes(hooks, inbox, limits, webhooks_parallelism.get()).with(measure);
    let files = tls_cert_path.zip(tls_key_path).map(|(certificate, key)| tls::Place::Files { certificate, key });
    let secret =
        tls_secret_name.map(|name| tls::Place::secret(client.clone(), tls_secret_namespace.as_deref().unwrap_or(&namespace), name));
    let certificate = files.or(secret);
    let lease = LeaseConfig { namespace: namespace.clone(), name: leader_lease_name, identity, duration, grace };
    let (parallelism, firings_too) = (u16::try_from(schedule_parallelism.get()).unwrap_or(u16::MAX), Arc::clone(&firings));
    let leader =
        Arc::new(Leader { client: client.clone(), scope, namespace, parallelism, config, catalog, changes, firings, events, metrics });

    let answer = async {
        // Before that, triggers that are there would be told not to be, and some forges never come back after that.
        let mut stopped = stop.clone();
        let prepared = async {
            triggers.are_known().await;
            match certificate {
                Some(place) => Some(tls::follow(place).await),
                None => None,
            }
        };
        let tls = tokio::select! { tls = prepared => tls, () = stop::requested(&mut stopped) => return };
        ready.send_replace(Ready::Yes);
        http::serve(webhooks, tls, hooks, stop.clone()).await;
    };
    let lead = leader::lead(client, lease, stop.clone(), |now| firings_too.handled(now), |leadership| leader.lead(leadership));
    tokio::select! {
        ((), led) = async { tokio::join!(answer, lead) } => led?,
        followed = follower.follow() => followed?,
        never = pulse.beat() => match never {},
        ((), (), ()) = async { tokio::join!(catalog_watches, trigger_watches.run(), publisher.publish()) } => {}
    }
    utility.await.context("the utility port panicked")?;
    info!("ended");
    Ok(ExitCode::SUCCESS)
}
