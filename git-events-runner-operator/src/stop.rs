//! When the process is asked to end.

use tokio::{
    signal::unix::{SignalKind, signal as unix_signal},
    sync::watch,
};

/// Turns true when the process is asked to end.
pub fn signal() -> anyhow::Result<watch::Receiver<bool>> {
    let (mut interrupt, mut terminate) = (unix_signal(SignalKind::interrupt())?, unix_signal(SignalKind::terminate())?);
    let (sender, receiver) = watch::channel(false);
    tokio::spawn(async move {
        tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
        sender.send_replace(true);
        sender.closed().await;
    });
    Ok(receiver)
}

/// Waits until it turns true.
pub async fn requested(stop: &mut watch::Receiver<bool>) {
    // An error is the end of what would ask: the process ends already.
    let _ = stop.wait_for(|stop| *stop).await;
}
