//! How much is asked of one host at a time, and for how long one that does not answer is left alone.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

use super::{Repository, client::lock, error, uri::Reach};
use crate::{Reason, Retry, SourceError};

/// How many checks of one host are in flight. Each is a small request: with a tenth of a second for one, that is some 300 a second.
const AT_A_TIME: usize = 32;

/// How many repositories of a host must have failed in a row, before that is taken for the host's own failure and not theirs.
const MANY: usize = 5;

/// How long a host that fails is left alone at first.
const SHORTEST: Duration = Duration::from_secs(1);

/// And at most: this is how long a host that is back may be missed.
const LONGEST: Duration = Duration::from_secs(60);

/// How many hosts are known, before those that nobody asks are forgotten; some hundred bytes each.
const MAX_HOSTS: usize = 1000;

/// The hosts that are asked.
#[derive(Default)]
pub(super) struct Hosts(Mutex<HashMap<String, Arc<Host>>>);

struct Host {
    turns: Arc<Semaphore>,
    failing: Mutex<Failing>,
    /// Until when those with the same credentials, by a digest of these, ask no more: one of them was told so.
    limited: Mutex<HashMap<[u8; 32], Instant>>,
}

#[derive(Default)]
struct Failing {
    /// The repositories that failed since the host has answered for the last time.
    repositories: BTreeSet<String>,
    /// How often it was found that the host does not answer.
    times: u32,
    not_before: Option<Instant>,
}

/// The right to ask a host once.
pub(super) struct Turn {
    host: Arc<Host>,
    repository: String,
    credentials: [u8; 32],
    /// It finds out whether a host that failed is back, and nobody else is let in before that.
    finds_out: bool,
    _permit: OwnedSemaphorePermit,
}

impl Hosts {
    /// Waits for a turn to ask the host of a repository. None if it is on this machine.
    ///
    /// # Errors
    ///
    /// The host has not answered lately, or has asked for fewer requests, so that it is not asked now.
    pub(super) async fn turn(&self, repository: &Repository) -> Result<Option<Turn>, SourceError> {
        let Some(name) = host_of(repository) else { return Ok(None) };
        let host = {
            let mut hosts = lock(&self.0);
            if hosts.len() >= MAX_HOSTS {
                hosts.retain(|_, host| Arc::strong_count(host) > 1);
            }
            Arc::clone(hosts.entry(name.clone()).or_insert_with(|| Arc::new(Host::new())))
        };
        let permit = Arc::clone(&host.turns).acquire_owned().await.expect("it is never closed");
        // After the wait, in which it may have failed.
        let credentials = repository.credentials.digest();
        host.see_that_more_may_be_asked(&name, &credentials)?;
        let finds_out = host.begin(&name, repository.timeout)?;
        Ok(Some(Turn { host, repository: repository.uri.to_string(), credentials, finds_out, _permit: permit }))
    }
}

impl Host {
    fn new() -> Self {
        Self { turns: Arc::new(Semaphore::new(AT_A_TIME)), failing: Mutex::default(), limited: Mutex::default() }
    }

    fn see_that_more_may_be_asked(&self, name: &str, credentials: &[u8; 32]) -> Result<(), SourceError> {
        let now = Instant::now();
        let Some(until) = lock(&self.limited).get(credentials).copied().filter(|until| *until > now) else { return Ok(()) };
        let message = format!("{name} has asked for fewer requests, so this check was left out: it is tried again within a minute");
        Err(SourceError::new(Reason::RateLimited, Retry::After(until - now), message))
    }

    /// Of those whose time has come again, only one asks, of which this is true: the others hear of it.
    fn begin(&self, name: &str, timeout: Duration) -> Result<bool, SourceError> {
        let mut failing = lock(&self.failing);
        let (Some(not_before), now) = (failing.not_before, Instant::now()) else { return Ok(false) };
        if now >= not_before {
            failing.not_before = Some(now + timeout.min(LONGEST));
            return Ok(true);
        }
        let message = format!("{name} has not answered lately, so this check was left out: it is tried again within a minute");
        Err(SourceError::new(Reason::Unreachable, Retry::After(not_before - now), message))
    }
}

impl Turn {
    /// Remembers how it went.
    pub(super) fn end<T>(mut self, answer: &Result<T, SourceError>) {
        self.finds_out = false;
        let now = Instant::now();
        // How long the server asks to be left alone.
        let rest = match answer.as_ref().map_err(SourceError::retry) {
            Err(Retry::After(rest)) => rest.min(LONGEST),
            _ => Duration::ZERO,
        };
        if answer.as_ref().is_err_and(|error| error.reason() == Reason::RateLimited) {
            let mut limited = lock(&self.host.limited);
            limited.retain(|_, until| *until > now);
            limited.insert(self.credentials, now + rest);
        }
        let mut failing = lock(&self.host.failing);
        let is_silent = |error: &SourceError| matches!(error.reason(), Reason::Unreachable | Reason::Timeout) && !error::is_cut_off(error);
        let is_silent = answer.as_ref().is_err_and(is_silent);
        if !is_silent {
            *failing = Failing::default();
            return;
        }
        if failing.repositories.len() < MANY {
            failing.repositories.insert(std::mem::take(&mut self.repository));
        }
        if failing.repositories.len() >= MANY {
            let wait = SHORTEST.saturating_mul(1 << failing.times.min(6)).min(LONGEST);
            failing.times += 1;
            failing.not_before = Some(now + wait.max(rest));
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if self.finds_out {
            lock(&self.host.failing).not_before = Some(Instant::now());
        }
    }
}

/// What tells hosts apart; one that is reached through a proxy is another.
fn host_of(repository: &Repository) -> Option<String> {
    let host = match repository.uri.reach() {
        Reach::Http(url) => url.origin().ascii_serialization(),
        Reach::Ssh(remote) => format!("ssh://{}:{}", remote.host, remote.port),
        Reach::Git(remote) => format!("git://{}:{}", remote.host, remote.port),
        Reach::Local => return None,
    };
    Some(match &repository.proxy {
        Some(proxy) => format!("{host} (through the proxy {})", proxy.url),
        None => host,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::git::{Credentials, RepoUri};

    fn repository(number: usize) -> Repository {
        Repository::new(RepoUri::parse(&format!("https://example.com/{number}")).unwrap())
    }

    async fn take(hosts: &Hosts, number: usize) -> Result<Turn, SourceError> {
        hosts.turn(&repository(number)).await.map(|turn| turn.expect("it is not on this machine"))
    }

    async fn fail(hosts: &Hosts, number: usize) {
        take(hosts, number).await.expect("it is asked").end::<()>(&Err(SourceError::new(Reason::Timeout, Retry::Backoff, "silent")));
    }

    async fn succeed(hosts: &Hosts, number: usize) {
        take(hosts, number).await.expect("it is asked").end(&Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_host_of_which_many_repositories_fail_is_left_alone_for_longer_each_time() {
        let hosts = Hosts::default();
        for number in 0..MANY {
            fail(&hosts, number).await;
        }
        for wait in [1, 2, 4, 8, 16, 32, 60, 60] {
            let error = take(&hosts, 0).await.err().expect("it is left alone");
            assert_eq!(error.retry(), Retry::After(Duration::from_secs(wait)), "{error}");
            tokio::time::advance(Duration::from_secs(wait)).await;
            let only = take(&hosts, 0).await.expect("its time has come");
            assert!(take(&hosts, 1).await.is_err(), "one is enough to find out");
            only.end::<()>(&Err(SourceError::new(Reason::Unreachable, Retry::Backoff, "refused")));
        }
        tokio::time::advance(LONGEST).await;
        succeed(&hosts, 0).await;
        succeed(&hosts, 1).await;
    }

    #[tokio::test(start_paused = true)]
    async fn one_repository_that_fails_does_not_hold_up_others() {
        let hosts = Hosts::default();
        for _ in 0..100 {
            fail(&hosts, 0).await;
        }
        for number in 0..100 {
            fail(&hosts, number).await;
            succeed(&hosts, 100).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_about_a_repository_is_an_answer_of_its_host() {
        let hosts = Hosts::default();
        for number in 0..100 {
            let refused = SourceError::new(Reason::AuthenticationFailed, Retry::Backoff, "no");
            for answer in [refused, error::cut_off(&repository(number))] {
                take(&hosts, number).await.expect("it is asked").end::<()>(&Err(answer));
            }
        }
        succeed(&hosts, 0).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_host_that_asks_for_fewer_requests_gets_none_with_the_same_credentials_for_so_long() {
        let (hosts, other) = (Hosts::default(), Credentials::Token { token: "other".into() });
        let other = Repository { credentials: other, ..repository(0) };
        for (asked, wait) in [(7, 7), (3600, 60)] {
            let limited = SourceError::new(Reason::RateLimited, Retry::After(Duration::from_secs(asked)), "slow down");
            take(&hosts, 0).await.expect("it is asked").end::<()>(&Err(limited));
            hosts.turn(&other).await.expect("others may ask").expect("it is a host").end(&Ok(()));
            let error = take(&hosts, 1).await.err().expect("it is left alone");
            assert_eq!((error.reason(), error.retry()), (Reason::RateLimited, Retry::After(Duration::from_secs(wait))), "{error}");
            tokio::time::advance(Duration::from_secs(wait)).await;
            succeed(&hosts, 1).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_host_that_fails_is_left_alone_for_as_long_as_it_asks() {
        let hosts = Hosts::default();
        for number in 0..MANY {
            let busy = SourceError::new(Reason::Unreachable, Retry::After(Duration::from_secs(20)), "busy");
            take(&hosts, number).await.expect("it is asked").end::<()>(&Err(busy));
        }
        let error = take(&hosts, 0).await.err().expect("it is left alone");
        assert_eq!(error.retry(), Retry::After(Duration::from_secs(20)), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_asks_and_gives_up_does_not_close_a_host_for_good() {
        let hosts = Hosts::default();
        for number in 0..MANY {
            fail(&hosts, number).await;
        }
        tokio::time::advance(SHORTEST).await;
        drop(take(&hosts, 0).await.expect("its time has come"));
        let slow = Repository { timeout: Duration::from_secs(3600), ..repository(0) };
        let _slow = hosts.turn(&slow).await.expect("the next one may look at once");
        assert!(take(&hosts, 1).await.is_err());
        tokio::time::advance(LONGEST).await;
        succeed(&hosts, 1).await;
    }

    #[tokio::test(start_paused = true)]
    async fn so_many_ask_a_host_at_a_time_and_hosts_do_not_wait_for_each_other() {
        let hosts = Hosts::default();
        let mut turns = vec![];
        for number in 0..AT_A_TIME {
            turns.push(take(&hosts, number).await.expect("there is room"));
        }
        let mut next = Box::pin(take(&hosts, AT_A_TIME));
        assert!(futures_util::poll!(&mut next).is_pending());
        let other = Repository::new(RepoUri::parse("https://example.org/0").unwrap());
        assert!(hosts.turn(&other).await.is_ok());
        turns.pop();
        assert!(next.await.is_ok());
    }

    #[tokio::test]
    async fn hosts_that_nobody_asks_are_forgotten() {
        let hosts = Hosts::default();
        for number in 0..3 * MAX_HOSTS {
            let repository = Repository::new(RepoUri::parse(&format!("https://{number}.example.com/a")).unwrap());
            drop(hosts.turn(&repository).await.unwrap());
        }
        assert!(lock(&hosts.0).len() <= MAX_HOSTS);
    }
}
