//! A supervisor whose runs are checked out of what their description says, for tests of local runs without Git.
//!
//! The description is an object: `files` by path, each executable; `waits_for` a file, which has to appear before the checkout ends;
//! `tells` a file that is created when the checkout begins; `fails` with a message; `away` a file, without which the server
//! is away in the middle, and the file is created.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, sync::Arc, time::Duration};

use async_trait::async_trait;
use git_events_runner_core::{Cause, Checkout, Reason, Retry, Revision, SourceError, process};
use jiff::Timestamp;
use serde_json::Value;

struct Described(Value);

#[async_trait]
impl Checkout for Described {
    async fn checkout(&self, revision: &Revision, into: &Path) -> Result<(), SourceError> {
        let failed = |message: String| SourceError::new(Reason::ProtocolError, Retry::Backoff, message);
        if let Some(path) = self.0["tells"].as_str() {
            fs::write(path, "").map_err(|error| failed(error.to_string()))?;
        }
        if let Some(path) = self.0["waits_for"].as_str() {
            while !Path::new(path).exists() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        if let Some(path) = self.0["away"].as_str().filter(|path| !Path::new(path).exists()) {
            [Path::new(path), &into.join("half")]
                .iter()
                .try_for_each(|file| fs::write(file, ""))
                .map_err(|error| failed(error.to_string()))?;
            return Err(SourceError::new(Reason::Unreachable, Retry::Backoff, "the host is away"));
        }
        if let Some(message) = self.0["fails"].as_str() {
            return Err(failed(message.to_owned()));
        }
        let commit = [("COMMIT".to_owned(), Value::from(revision.commit.to_string()))];
        for (path, text) in self.0["files"].as_object().cloned().unwrap_or_default().into_iter().chain(commit) {
            let file = into.join(path);
            let write = || {
                fs::create_dir_all(file.parent().unwrap_or(into))?;
                fs::write(&file, text.as_str().unwrap_or_default())?;
                fs::set_permissions(&file, fs::Permissions::from_mode(0o755))
            };
            write().map_err(|error| failed(error.to_string()))?;
        }
        Ok(())
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Cause> {
    let folder = std::env::args_os().nth(1).ok_or("the folder of a run is missing")?;
    let connect = |described| Ok(Arc::new(Described(described)) as Arc<dyn Checkout>);
    process::supervise(folder.as_ref(), std::env::vars_os(), Timestamp::now, connect).await
}
