use std::{
    thread,
    time::{Duration, Instant},
};

/// Waits until something is there; after thirty seconds it fails, saying what was waited for.
pub fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> anyhow::Result<T> {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        if let Some(found) = look() {
            return Ok(found);
        }
        anyhow::ensure!(Instant::now() < deadline, "{what}: not within thirty seconds");
        thread::sleep(Duration::from_millis(5));
    }
}
