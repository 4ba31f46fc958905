//! All triggers and their last runs, for people: `git-events-runner status`, and the page of the utility port.

use std::time::Duration;

use git_events_runner_core::{RunResult, Scope, Since, TriggerState, crd};
use jiff::Timestamp;
use kube::{Api, Client, ResourceExt as _, api::ListParams};

use crate::{
    args, client,
    run::{Guarded, TriggerKind},
    stdout,
};

pub mod page;

#[cfg(test)]
mod tests;

/// How long the API server may take for an answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// How many objects are asked for at once.
const AT_ONCE: u32 = 500;

/// What stands above the columns.
const HEADINGS: [&str; 10] = ["NAMESPACE", "TRIGGER", "READY", "REASON", "SOURCE", "COMMIT", "JOB", "RESULT", "FINISHED", "NEXT"];

/// What stands where there is nothing to tell.
const NOTHING: &str = "-";

/// One source of a trigger: what was last acted on, and when it is looked at again.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Line([String; HEADINGS.len()]);

/// Prints a table.
pub fn run(args: args::Status) -> anyhow::Result<()> {
    let args::Status { namespace, all_namespaces } = args;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let client = client::connect(ANSWER_WITHIN).await?;
        let namespace = namespace.unwrap_or_else(|| client.default_namespace().to_owned());
        let scope = if all_namespaces { Scope::All } else { Scope::Namespaces(vec![namespace.clone()]) };
        let lines = lines(&client, &scope).await.map_err(|error| anyhow::anyhow!("the triggers cannot be listed: {error}"))?;
        if lines.is_empty() {
            let place = if all_namespaces { "the cluster".to_owned() } else { format!("the namespace {namespace}") };
            return stdout::print(&format!("there are no triggers in {place}\n"));
        }
        stdout::print(&table(&lines))
    })
}

/// All of them in order: by namespace, trigger and source.
async fn lines(client: &Client, scope: &Scope) -> kube::Result<Vec<Line>> {
    let mut lines = vec![];
    add(scope.apis::<Guarded<crd::ScheduleTrigger>>(client), &mut lines).await?;
    add(scope.apis::<Guarded<crd::WebhookTrigger>>(client), &mut lines).await?;
    lines.sort();
    Ok(lines)
}

async fn add<K: TriggerKind>(apis: Vec<Api<Guarded<K>>>, lines: &mut Vec<Line>) -> kube::Result<()> {
    for api in apis {
        let mut params = ListParams::default().limit(AT_ONCE);
        loop {
            let found = api.list(&params).await?;
            let now = Timestamp::now();
            lines.extend(found.items.iter().flat_map(|trigger| of_trigger(trigger, now)));
            match found.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => params = params.continue_token(&token),
                None => break,
            }
        }
    }
    Ok(())
}

fn of_trigger<K: TriggerKind>(trigger: &Guarded<K>, now: Timestamp) -> Vec<Line> {
    let namespace = trigger.namespace().unwrap_or_default();
    let name = format!("{}/{}", K::KIND.to_lowercase(), trigger.name_any());
    let nothing = || NOTHING.to_owned();
    let Ok(readable) = &trigger.0 else {
        let [ready, reason] = ["False", "InvalidSpec"].map(str::to_owned);
        return vec![Line([namespace, name, ready, reason, nothing(), nothing(), nothing(), nothing(), nothing(), nothing()])];
    };
    let status = readable.status().cloned().unwrap_or_default();
    let ready = status.conditions.iter().find(|condition| condition.type_ == "Ready");
    let [is_ready, reason] = ready.map_or_else(|| [nothing(), nothing()], |ready| [ready.status.clone(), ready.reason.clone()]);
    let next = next(readable, &status, now);
    let of_source = |source: &String| {
        let checked = status.checked_sources.get(source);
        let commit = checked.and_then(|checked| checked.commit_hash.as_ref()).map(|commit| commit.chars().take(10).collect());
        let last = checked.and_then(|checked| checked.last_job.as_ref());
        let finished = last.and_then(|last| last.finished.as_ref()?.parse::<Timestamp>().ok());
        Line([
            namespace.clone(),
            name.clone(),
            is_ready.clone(),
            reason.clone(),
            source.clone(),
            commit.unwrap_or_else(nothing),
            last.map_or_else(nothing, |last| last.name.clone()),
            last.map_or_else(nothing, |last| in_a_word(last.result)),
            finished.map_or_else(nothing, |finished| format!("{} ago", roughly(now.duration_since(finished)))),
            next.map_or_else(nothing, |next| format!("in {}", roughly(next.duration_since(now)))),
        ])
    };
    readable.spec().sources.names.iter().map(of_source).collect()
}

/// When it looks again by itself: it is computed and not stored, since that would be a write at every check.
fn next<K: TriggerKind>(trigger: &K, status: &crd::TriggerStatus, now: Timestamp) -> Option<Timestamp> {
    let policy = trigger.policy().ok()?;
    let state = status.state(&policy.plan().watch.reference).unwrap_or_else(|_| TriggerState::default());
    policy.due(&state, Since { handled: now, fresh: false }, now).next.filter(|_| !policy.plan().suspend)
}

fn in_a_word(result: RunResult) -> String {
    format!("{result:?}")
}

/// The two largest parts of a time, as in `3h 20m`.
fn roughly(time: jiff::SignedDuration) -> String {
    let seconds = Duration::from_secs(u64::try_from(time.as_secs()).unwrap_or_default());
    humantime::format_duration(seconds).to_string().split(' ').take(2).collect::<Vec<_>>().join(" ")
}

/// Columns that are as wide as what is in them.
fn table(lines: &[Line]) -> String {
    let headings = HEADINGS.map(str::to_owned);
    let rows = || std::iter::once(&headings).chain(lines.iter().map(|Line(cells)| cells));
    let width = |column: usize| rows().map(|cells| cells[column].chars().count()).max().unwrap_or_default();
    let widths: Vec<_> = (0..HEADINGS.len()).map(width).collect();
    let mut table = String::new();
    for cells in rows() {
        let padded: String = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}   ")).collect();
        table += padded.trim_end();
        table.push('\n');
    }
    table
}
