//! What subcommands print.

use std::io::{ErrorKind, Write as _};

use anyhow::Context as _;
use serde::Serialize;

/// A value as YAML, with the keys of every object in order.
pub fn yaml(value: &impl Serialize) -> anyhow::Result<String> {
    // By way of a JSON value, whose keys are in order.
    let value = serde_json::to_value(value).context("it is no JSON")?;
    let options = serde_saphyr::ser_options! { prefer_block_scalars: false };
    serde_saphyr::to_string_with_options(&value, options).context("it is no YAML")
}

/// Prints. It is no error that nobody reads to the end: `crds | head` has seen enough.
pub fn print(text: &str) -> anyhow::Result<()> {
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => written.context("it cannot be printed"),
    }
}
