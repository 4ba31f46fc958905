//! How many requests are taken in a time.

use std::{
    collections::HashMap,
    hash::Hash,
    str::FromStr,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use git_events_runner_core::TriggerId;
use tokio::time::Instant;

/// How many keys are known before those are forgotten of which no request counts any more; some hundred bytes each.
const MANY: usize = 10_000;

/// So many requests at once, and as many again in each period, evenly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    burst: u32,
    period: Duration,
}

impl FromStr for Rate {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts = text.split_once('/').and_then(|(burst, seconds)| Some((burst.parse().ok()?, seconds.parse().ok()?)));
        match parts {
            Some((burst @ 1..=1_000_000, seconds @ 1..=86_400)) => Ok(Self { burst, period: Duration::from_secs(seconds) }),
            _ => Err("write it as BURST/SECONDS, such as 30/60: up to 1000000 requests, up to 86400 seconds"),
        }
    }
}

/// A token bucket for each key.
pub struct RateLimit<K> {
    rate: Rate,
    /// When a bucket will be full again.
    full_at: Mutex<HashMap<K, Instant>>,
}

impl<K: Eq + Hash> RateLimit<K> {
    pub fn new(rate: Rate) -> Self {
        Self { rate, full_at: Mutex::default() }
    }

    /// Counts a request, unless there were too many: then it answers how long to wait.
    pub fn take(&self, key: K) -> Result<(), Duration> {
        let (now, each) = (Instant::now(), self.rate.period / self.rate.burst);
        let mut full_at = self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        if full_at.len() >= MANY {
            full_at.retain(|_, full_at| *full_at > now);
        }
        let before = full_at.get(&key).copied().unwrap_or(now).max(now);
        let after = before + each;
        match (after - now).checked_sub(self.rate.period) {
            Some(wait) if !wait.is_zero() => Err(wait),
            _ => {
                full_at.insert(key, after);
                Ok(())
            }
        }
    }
}

/// The limits of webhook requests; those that are None limit nothing.
#[derive(Default)]
pub struct RateLimits {
    pub global: Option<RateLimit<()>>,
    pub trigger: Option<RateLimit<TriggerId>>,
    pub source: Option<RateLimit<(TriggerId, String)>>,
}

impl RateLimits {
    pub fn new(global: Option<Rate>, trigger: Option<Rate>, source: Option<Rate>) -> Self {
        Self { global: global.map(RateLimit::new), trigger: trigger.map(RateLimit::new), source: source.map(RateLimit::new) }
    }

    /// Counts a request, whatever it is for.
    pub fn take(&self) -> Result<(), Duration> {
        self.global.as_ref().map_or(Ok(()), |limit| limit.take(()))
    }

    /// Counts a request to a trigger that there is, and to one of its sources if it names one. What a source has too many of does not count
    /// at the trigger: its other sources would miss it.
    pub fn take_for(&self, trigger: &TriggerId, source: Option<&str>) -> Result<(), Duration> {
        if let Some((limit, source)) = self.source.as_ref().zip(source) {
            limit.take((trigger.clone(), source.to_owned()))?;
        }
        self.trigger.as_ref().map_or(Ok(()), |limit| limit.take(trigger.clone()))
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[test]
    fn a_rate_is_a_burst_and_seconds() {
        assert_eq!("30/60".parse(), Ok(Rate { burst: 30, period: Duration::from_secs(60) }));
        for wrong in ["", "30", "30/", "/60", "0/1", "1/0", "-1/1", "1/1.5", "1/86401", "1000001/1", "1/1/1", "x/y"] {
            wrong.parse::<Rate>().expect_err(wrong);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_is_taken_and_then_as_many_as_come_back() {
        let limit = RateLimit::new("3/60".parse().unwrap());
        for _ in 0..3 {
            assert_eq!(limit.take("a"), Ok(()));
        }
        assert_eq!(limit.take("a"), Err(Duration::from_secs(20)));
        assert_eq!(limit.take("b"), Ok(()), "each key has its own");
        advance(Duration::from_secs(19)).await;
        assert_eq!(limit.take("a"), Err(Duration::from_secs(1)), "what is refused does not count");
        advance(Duration::from_secs(1)).await;
        assert_eq!(limit.take("a"), Ok(()));
        assert!(limit.take("a").is_err());
        advance(Duration::from_secs(3600)).await;
        for _ in 0..3 {
            assert_eq!(limit.take("a"), Ok(()), "no more is saved up than a burst");
        }
        assert!(limit.take("a").is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn too_many_requests_for_a_source_leave_the_others_of_its_trigger_alone() {
        let limits = RateLimits::new(None, "10/60".parse().ok(), "2/60".parse().ok());
        let trigger = TriggerId { kind: "WebhookTrigger".into(), namespace: "ns".into(), name: "t".into(), uid: "1".into() };
        let taken = (0..20).filter(|_| limits.take_for(&trigger, Some("a")).is_ok()).count();
        assert_eq!((taken, limits.take_for(&trigger, Some("b"))), (2, Ok(())));
    }

    #[tokio::test(start_paused = true)]
    async fn keys_that_come_no_more_are_forgotten() {
        let limit = RateLimit::new("1/1".parse().unwrap());
        for key in 0..3 * MANY {
            limit.take(key).unwrap();
            advance(Duration::from_millis(1)).await;
        }
        assert!(limit.full_at.lock().unwrap().len() <= MANY);
    }
}
