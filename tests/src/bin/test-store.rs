//! Writes to a store of files without end, to be killed meanwhile. Each number it prints is of a write that was answered.

use std::io::{self, Write as _};

use anyhow::Context as _;
use git_events_runner_core::{Change, FileStore, FireRequest, Inbox as _, PendingRequest, StateStore as _, TriggerId};
use jiff::Timestamp;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let folder = std::env::args_os().nth(1).context("the folder is missing")?;
    let store = FileStore::open(folder.into())?;
    let id = TriggerId { kind: "ScheduleTrigger".into(), namespace: "default".into(), name: "app".into(), uid: "1".into() };
    store.add(&id, 1, Timestamp::UNIX_EPOCH).await?;
    let before = store.load(&id).await?.state.last_handled_request;
    let first: u64 = before.map_or(Ok(0), |number| number.parse())?;
    for number in first + 1.. {
        let request = FireRequest {
            id: format!("request-{number}").parse()?,
            request: PendingRequest { sources: ["a".into()].into(), received_at: Timestamp::UNIX_EPOCH, commit: None, always: true },
        };
        store.request(&id, &request).await?;
        let loaded = store.load(&id).await?;
        let served = loaded.state.pending.keys().map(|id| (id.clone(), ["a".into()].into())).collect();
        let change = Change { served, last_handled_request: Some(number.to_string()), ..Change::default() };
        store.record(&id, &loaded.version, &change).await?;
        writeln!(io::stdout(), "{number}")?;
    }
    Ok(())
}
