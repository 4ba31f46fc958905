//! Leadership by one Lease: of all replicas, one works at a time.
//!
//! No clock is compared with that of another machine. The holder renews the Lease, and counts from the start of the last request that
//! succeeded how long it may go on without: its duration, less the grace. The others count from when they last saw the Lease change, which
//! is later, for all of its duration. Every write names the version of the Lease that it has read, so of several one succeeds.

use std::{pin::pin, time::Duration};

use anyhow::Context as _;
use futures_util::StreamExt as _;
use jiff::Timestamp;
use k8s_openapi::{api::coordination::v1::Lease, apimachinery::pkg::apis::meta::v1::MicroTime};
use kube::{
    Api, Client, Error, ResourceExt as _,
    api::{ObjectMeta, PostParams},
    runtime::{WatchStreamExt as _, watcher::watch_object},
};
use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until, timeout, timeout_at},
};
use tracing::{debug, info, warn};

use crate::stop;

#[cfg(test)]
mod tests;

/// The annotation of the Lease with the instant up to which all firings of schedules are handled.
pub const HANDLED_UNTIL: &str = "git-events-runner.rs/handled-until";

/// How long to wait after a request that failed.
const RETRY: Duration = Duration::from_secs(1);

/// Which Lease, and for whom.
#[derive(Clone, Debug)]
pub struct LeaseConfig {
    /// The namespace of the Lease.
    pub namespace: String,
    /// The name of the Lease.
    pub name: String,
    /// Whose Lease it is: unique per process.
    pub identity: String,
    /// For how long the others leave a holder alone that they do not hear of, in whole seconds.
    pub duration: Duration,
    /// How much sooner a holder that cannot renew stops; less than the duration.
    pub grace: Duration,
}

/// What a new leader takes over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leadership {
    /// Up to when its predecessors have handled all firings of schedules; None when there was none.
    pub handled_until: Option<Timestamp>,
}

/// Works whenever this process is the leader, until it is asked to stop or the work ends, whose result is the answer. Then the Lease is
/// released, and another leads at once.
///
/// `work` is dropped when leadership is lost; whatever it has started must end with it. `handled` is asked with each renewal up to when all
/// firings are handled, given the time; as long as the work does not know yet, it answers None, and what was inherited stands.
pub async fn lead<H, W, F>(client: Client, config: LeaseConfig, mut stop: watch::Receiver<bool>, handled: H, work: W) -> anyhow::Result<()>
where
    H: Fn(Timestamp) -> Option<Timestamp> + Send + Sync,
    W: Fn(Leadership) -> F + Send + Sync,
    F: Future<Output = anyhow::Result<()>> + Send,
{
    let candidate = Candidate { leases: Api::namespaced(client, &config.namespace), config, handled };
    loop {
        let (leadership, until) = tokio::select! {
            biased;
            () = stop::requested(&mut stop) => {
                // It may have been won in this instant.
                candidate.release(false).await;
                return Ok(());
            }
            won = candidate.campaign() => won,
        };
        info!(handled_until = leadership.handled_until.map(tracing::field::display), "leading");
        let ended = tokio::select! {
            biased;
            () = stop::requested(&mut stop) => Ok(()),
            why = candidate.keep(until) => {
                warn!("no longer leading: {why}");
                continue;
            }
            ended = work(leadership) => ended,
        };
        candidate.release(true).await;
        return ended;
    }
}

struct Candidate<H> {
    leases: Api<Lease>,
    config: LeaseConfig,
    handled: H,
}

/// What is known of another holder.
struct Rival {
    /// The version of the Lease that was seen last.
    version: Option<String>,
    /// When it has stopped for sure, if no other version is seen before.
    gone: Instant,
}

impl<H: Fn(Timestamp) -> Option<Timestamp> + Send + Sync> Candidate<H> {
    /// Waits until the Lease is to be had, and takes it. The answer is what is taken over, and when to stop if it is not renewed before.
    async fn campaign(&self) -> (Leadership, Instant) {
        let mut seen = pin!(watch_object(self.leases.clone(), &self.config.name).default_backoff());
        let mut rival = Rival { version: None, gone: Instant::now() };
        loop {
            tokio::select! {
                Some(seen) = seen.next() => match seen {
                    Ok(lease) => rival.see(lease.as_ref(), &self.config),
                    // It is tried again, and what is not seen is read before the Lease is taken.
                    Err(error) => debug!("the Lease cannot be watched: {error}"),
                },
                () = sleep_until(rival.gone) => match self.claim(&mut rival).await {
                    Ok(Some(won)) => return won,
                    Ok(None) => {}
                    Err(error) => {
                        warn!("the Lease {} cannot be taken: {error}", self.config.name);
                        rival.gone = Instant::now() + RETRY;
                    }
                }
            }
        }
    }

    /// Takes the Lease, if nobody has it.
    async fn claim(&self, rival: &mut Rival) -> kube::Result<Option<(Leadership, Instant)>> {
        let lease = self.read().await?;
        rival.see(lease.as_ref(), &self.config);
        if Instant::now() < rival.gone {
            return Ok(None);
        }
        let lease = lease.unwrap_or_else(|| Lease {
            metadata: ObjectMeta { name: Some(self.config.name.clone()), ..ObjectMeta::default() },
            spec: None,
        });
        let handled_until = handled_until(&lease);
        match self.hold(lease, handled_until).await {
            Ok(until) => Ok(Some((Leadership { handled_until }, until))),
            Err(Error::Api(status)) if status.is_conflict() || status.is_already_exists() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Renews the Lease until it is lost, at `until` at the latest, and answers why.
    async fn keep(&self, mut until: Instant) -> String {
        let period = (self.config.duration - self.config.grace) / 5;
        let mut pause = period;
        loop {
            let renewed = async {
                sleep(pause).await;
                let renewed = timeout(period.max(RETRY), self.renew()).await.context("the API server does not answer")?;
                anyhow::Ok(renewed?)
            };
            match timeout_at(until, renewed).await {
                Ok(Ok(Some(renewed))) => (until, pause) = (renewed, period),
                Ok(Ok(None)) => return format!("the Lease {} is somebody else's", self.config.name),
                Ok(Err(error)) => {
                    warn!("the Lease {} cannot be renewed: {error:#}", self.config.name);
                    pause = period.min(RETRY);
                }
                Err(_elapsed) => return format!("the Lease {} could not be renewed in time", self.config.name),
            }
        }
    }

    /// Renews the Lease; None when it is another's or gone.
    async fn renew(&self) -> kube::Result<Option<Instant>> {
        match self.read().await? {
            Some(lease) if holder(&lease) == Some(&self.config.identity) => {
                let handled = (self.handled)(Timestamp::now());
                Ok(Some(self.hold(lease, handled).await?))
            }
            _ => Ok(None),
        }
    }

    async fn read(&self) -> kube::Result<Option<Lease>> {
        self.leases.get_opt(&self.config.name).await
    }

    /// Writes that this process holds the Lease from now on, and answers when it has to stop if it is not renewed before.
    async fn hold(&self, mut lease: Lease, handled: Option<Timestamp>) -> kube::Result<Instant> {
        let until = Instant::now() + self.config.duration - self.config.grace;
        set_handled(&mut lease, handled);
        let (now, is_new) = (MicroTime(Timestamp::now()), holder(&lease) != Some(&self.config.identity));
        let spec = lease.spec.get_or_insert_default();
        if is_new {
            spec.holder_identity = Some(self.config.identity.clone());
            spec.acquire_time = Some(now.clone());
            spec.lease_transitions = Some(spec.lease_transitions.map_or(0, |transitions| transitions.saturating_add(1)));
        }
        spec.lease_duration_seconds = i32::try_from(self.config.duration.as_secs()).ok();
        spec.renew_time = Some(now);
        let post = PostParams::default();
        match &lease.metadata.resource_version {
            None => self.leases.create(&post, &lease).await?,
            Some(_) => self.leases.replace(&self.config.name, &post, &lease).await?,
        };
        Ok(until)
    }

    /// Gives up the Lease, if this process has it.
    async fn release(&self, has_led: bool) {
        let released = async {
            loop {
                match self.clear(has_led).await {
                    // A request that was given up a moment ago has arrived in between.
                    Err(Error::Api(status)) if status.is_conflict() => {}
                    cleared => return Ok(cleared?),
                }
            }
        };
        let released = timeout(self.config.grace, released).await.context("the API server does not answer").flatten();
        if let Err(error) = released {
            warn!("the Lease {} cannot be released, and the next leader waits until it expires: {error:#}", self.config.name);
        }
    }

    /// Takes this process off the Lease, if it is on it.
    async fn clear(&self, has_led: bool) -> kube::Result<()> {
        let Some(mut lease) = self.read().await? else { return Ok(()) };
        if holder(&lease) != Some(&self.config.identity) {
            return Ok(());
        }
        let now = Timestamp::now();
        set_handled(&mut lease, if has_led { (self.handled)(now) } else { None });
        let spec = lease.spec.get_or_insert_default();
        spec.holder_identity = None;
        spec.renew_time = Some(MicroTime(now));
        self.leases.replace(&self.config.name, &PostParams::default(), &lease).await?;
        info!("the Lease {} is released", self.config.name);
        Ok(())
    }
}

impl Rival {
    /// Takes notice of the Lease as it is.
    fn see(&mut self, lease: Option<&Lease>, config: &LeaseConfig) {
        // The holder of a Lease that somebody has deleted may go on until it is to be renewed.
        let Some(lease) = lease else { return };
        if lease.metadata.resource_version == self.version {
            return;
        }
        self.version.clone_from(&lease.metadata.resource_version);
        let is_free = holder(lease).is_none_or(|holder| *holder == config.identity);
        self.gone = Instant::now() + if is_free { Duration::ZERO } else { duration(lease).unwrap_or(config.duration) };
    }
}

fn holder(lease: &Lease) -> Option<&String> {
    lease.spec.as_ref()?.holder_identity.as_ref().filter(|holder| !holder.is_empty())
}

fn duration(lease: &Lease) -> Option<Duration> {
    let seconds = lease.spec.as_ref()?.lease_duration_seconds?;
    u64::try_from(seconds).ok().map(Duration::from_secs)
}

/// Up to when all firings are handled; where no holder has said so, it was until it renewed the Lease last.
fn handled_until(lease: &Lease) -> Option<Timestamp> {
    let said = lease.annotations().get(HANDLED_UNTIL).and_then(|instant| instant.parse().ok());
    said.or_else(|| Some(lease.spec.as_ref()?.renew_time.as_ref()?.0))
}

fn set_handled(lease: &mut Lease, handled: Option<Timestamp>) {
    if let Some(handled) = handled {
        lease.annotations_mut().insert(HANDLED_UNTIL.to_owned(), handled.to_string());
    }
}
