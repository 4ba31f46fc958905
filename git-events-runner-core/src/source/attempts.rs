use std::time::{Duration, Instant};

use crate::{Reason, SourceError};

/// How soon it is tried again for the first time.
const FIRST_WAIT: Duration = Duration::from_secs(1);

/// When a checkout that has failed is tried again: for some time, and only if it may work in a moment.
#[derive(Clone, Copy, Debug)]
pub struct Attempts {
    /// When it has failed for the first time.
    failed: Option<Instant>,
    next: Duration,
    try_for: Duration,
}

impl Attempts {
    /// The last attempt begins within this time after the first has failed.
    pub fn new(try_for: Duration) -> Self {
        Self { failed: None, next: FIRST_WAIT, try_for }
    }

    /// How long to wait before it is tried again: a second at first, twice as long each time, and at least as long as the server asks for.
    /// None: the time is over, or it is not the network's or the server's fault, so that it does not pass by itself.
    pub fn again(&mut self, error: &SourceError) -> Option<Duration> {
        let wait = error.retry().wait(self.next);
        self.next = self.next.saturating_mul(2);
        let may_pass = matches!(error.reason(), Reason::Unreachable | Reason::RateLimited | Reason::Timeout);
        let now = Instant::now();
        let failed = *self.failed.get_or_insert(now);
        let is_in_time = now.duration_since(failed).saturating_add(wait) <= self.try_for;
        (may_pass && is_in_time).then_some(wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Retry;

    fn error(reason: Reason, retry: Retry) -> SourceError {
        SourceError::new(reason, retry, "away")
    }

    #[test]
    fn what_may_pass_is_tried_again_later_each_time_until_the_time_is_over() {
        let away = error(Reason::Unreachable, Retry::Backoff);
        let mut attempts = Attempts::new(Duration::from_secs(10));
        let waits: Vec<_> = (0..5).map(|_| attempts.again(&away).map(|wait| wait.as_secs())).collect();
        assert_eq!(waits, [Some(1), Some(2), Some(4), Some(8), None]);
        assert_eq!(Attempts::new(Duration::ZERO).again(&away), None);
    }

    #[test]
    fn how_long_the_first_attempt_took_does_not_count() {
        let mut attempts = Attempts::new(FIRST_WAIT);
        assert_eq!(attempts.again(&error(Reason::Unreachable, Retry::Backoff)), Some(FIRST_WAIT));
    }

    #[test]
    fn it_waits_for_as_long_as_the_server_asks() {
        let busy = error(Reason::RateLimited, Retry::After(Duration::from_secs(5)));
        assert_eq!(Attempts::new(Duration::from_secs(10)).again(&busy), Some(Duration::from_secs(5)));
        assert_eq!(Attempts::new(Duration::from_secs(4)).again(&busy), None);
    }

    #[test]
    fn what_does_not_pass_is_not_tried_again() {
        let refused = error(Reason::AuthenticationFailed, Retry::Backoff);
        assert_eq!(Attempts::new(Duration::from_secs(10)).again(&refused), None);
    }
}
