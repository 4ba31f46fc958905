//! The operator: every replica serves the utility port, and one of them leads.

use std::process::ExitCode;

use anyhow::Context as _;
use tokio::{sync::watch, task::JoinSet};
use tracing::info;

use crate::{
    args, client,
    events::Events,
    http,
    leader::{self, LeaseConfig},
    log,
    metrics::Metrics,
    runtime_config::Follower,
    stop,
    utility::{self, Pulse},
};

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
        config_map_name,
        leader_lease_name,
        leader_lease_duration,
        leader_lease_grace,
        metrics_prefix,
        watch_namespaces,
        log: _,
    } = args;
    let mut stop = stop::signal()?;
    let (metrics, pulse, ready) = (Metrics::new(&metrics_prefix), Pulse::new(), watch::Sender::new(false));
    let utility = http::bind(&http::everywhere(utility_port), "the utility port", "--utility-port").await?;
    let mut tasks = JoinSet::new();
    let routes = utility::routes(pulse.clone(), ready.subscribe(), metrics.clone());
    let serving = tokio::spawn(http::serve(utility, routes, stop.clone()));

    // Every write ends before another may lead.
    let client = client::connect(leader_lease_grace * 3 / 4).await?;
    let (namespace, identity) = (client::own_namespace(&client), client::own_identity());
    let (events, publisher) = Events::new(client.clone(), identity.clone());
    tasks.spawn(publisher.publish());
    let follower = tokio::select! {
        follower = Follower::start(client.clone(), &namespace, &config_map_name, metrics.config_failures.clone()) => follower,
        () = stop::requested(&mut stop) => return Ok(ExitCode::SUCCESS),
    };
    let config = follower.config();
    ready.send_replace(true);
    let lease = LeaseConfig { namespace, name: leader_lease_name, identity, duration: leader_lease_duration, grace: leader_lease_grace };
    let led = tokio::select! {
        led = leader::lead(client.clone(), lease, stop, Some, |_leadership| async {
            let _leading = metrics.leading();
            std::future::pending().await
        }) => led,
        followed = follower.follow() => followed,
        never = pulse.beat() => match never {},
    };
    serving.await.context("the utility port panicked")?;
    led?;
    info!("ended");
    Ok(ExitCode::SUCCESS)
}
