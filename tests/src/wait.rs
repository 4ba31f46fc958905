use std::{
    thread,
    time::{Duration, Instant},
};

/// Waits until something is there; after two minutes it fails, saying what was waited for.
pub fn wait_for<T>(what: &str, look: impl FnMut() -> Option<T>) -> anyhow::Result<T> {
    wait_within(Duration::from_secs(120), what, look)
}

/// The same with another time within which it must be there.
pub fn wait_within<T>(within: Duration, what: &str, mut look: impl FnMut() -> Option<T>) -> anyhow::Result<T> {
    let deadline = Instant::now() + within;
    loop {
        if let Some(found) = look() {
            return Ok(found);
        }
        anyhow::ensure!(Instant::now() < deadline, "{what}: not within {within:?}");
        thread::sleep(Duration::from_millis(5));
    }
}
