use std::{fs, path::Path};

use anyhow::Context as _;
use serde_json::Value;

/// A write that the API server has answered, from its audit log, but for trials that write nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// `create`, `update`, `patch`, `delete`, `deletecollection`.
    pub verb: String,
    pub resource: String,
    pub subresource: Option<String>,
    pub namespace: Option<String>,
    pub name: Option<String>,
    /// A ServiceAccount's is `system:serviceaccount:{namespace}:{name}`.
    pub user: String,
    pub code: u16,
}

/// All writes and reads that are logged, in the order of their answers. The log has a line before the answer is complete: who has the answer finds the write.
pub(super) fn read(folder: &Path) -> anyhow::Result<Vec<Write>> {
    let log = fs::read_to_string(folder.join("audit.jsonl")).context("the audit log cannot be read")?;
    // The last line may be only half there.
    let whole = log.rfind('\n').map_or("", |end| &log[..end]);
    whole
        .lines()
        .map(|line| write(line).with_context(|| format!("not a line of an audit log: {line}")))
        .filter_map(Result::transpose)
        .collect()
}

/// What a line tells of, unless it is a request that is about no resource, or a trial.
fn write(line: &str) -> anyhow::Result<Option<Write>> {
    let event: Value = serde_json::from_str(line)?;
    let text = |pointer: &str| event.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
    let Some(resource) = text("/objectRef/resource") else { return Ok(None) };
    if text("/requestURI").is_some_and(|uri| uri.contains("dryRun=")) {
        return Ok(None);
    }
    Ok(Some(Write {
        verb: text("/verb").context("no verb")?,
        resource,
        subresource: text("/objectRef/subresource"),
        namespace: text("/objectRef/namespace"),
        name: text("/objectRef/name"),
        user: text("/user/username").context("no user")?,
        code: event.pointer("/responseStatus/code").and_then(Value::as_u64).context("no code")?.try_into()?,
    }))
}
