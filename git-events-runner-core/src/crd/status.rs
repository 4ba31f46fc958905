use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::schema;
use crate::{
    FilesDigest, LastRun, NotACommitId, PendingRequest, Reference, RequestId, RunRef, RunResult, SourceState, TriggerState, WaitingRun,
};

/// What the operator knows of a trigger. A check that finds nothing new writes nothing here.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct TriggerStatus {
    /// Running: a Job of this trigger is unfinished. WrongConfig: the specification cannot be used, and the conditions say why. Idle: neither.
    #[serde(default)]
    pub state: State,
    /// When the action was last started. "Never" is what an earlier operator wrote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_run: Option<String>,
    /// How the run that was last heard of has ended, or how far it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::optional_run_result")]
    pub last_result: Option<RunResult>,
    /// What was last acted on, by the name of the source.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub checked_sources: BTreeMap<String, CheckedSource>,
    /// Ready: the trigger works. Reconciling: it is being brought up to date. Stalled: it cannot work before somebody changes something.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// The generation of the specification that the status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The path to which webhooks are to be sent. `{source}` in it stands for the name of one of several sources.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook_path: Option<String>,
    /// Requests that are accepted and not yet acted on, by their id; at most 100.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::pending")]
    pub pending: BTreeMap<RequestId, PendingRequest>,
    /// Runs that are recorded and wait for their turn, by the name of their Job; at most 16.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::waiting")]
    pub waiting: BTreeMap<String, WaitingRun>,
    /// The number of the first run of a source that is new.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub first_sequence: Option<i64>,
    /// The text of the annotation git-events-runner.rs/requested-at that was last acted on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_handled_request: Option<String>,
}

/// The state of a trigger in one word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub enum State {
    /// Nothing runs.
    #[default]
    Idle,
    /// A Job is unfinished.
    Running,
    /// The specification cannot be used.
    WrongConfig,
}

/// What was last acted on at one source.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(inline)]
pub struct CheckedSource {
    /// The commit last acted on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commit_hash: Option<String>,
    /// A digest of that commit's files that match the trigger's patterns.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file_hash: Option<String>,
    /// A digest of the patterns that fileHash was made by; with it and without fileHash, no file matched.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pattern_hash: Option<String>,
    /// When commitHash was last written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub changed: Option<String>,
    /// What was watched.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::watched")]
    pub reference: Option<Reference>,
    /// The commit that was acted on before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub previous_commit: Option<String>,
    /// How many runs of this source there were.
    #[schemars(range(min = 0))]
    pub sequence: i64,
    /// The latest instant of the schedule that a run has served.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_firing: Option<String>,
    /// The last run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_job: Option<LastJob>,
}

/// The last run of a source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct LastJob {
    /// Name of the Job.
    pub name: String,
    /// Which Job of that name.
    pub uid: String,
    /// How it ended, or how far it is.
    #[schemars(schema_with = "schema::run_result")]
    pub result: RunResult,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished: Option<String>,
}

/// A status holds something that the operator never writes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("status.{path}: {message}")]
pub struct InvalidStatus {
    path: String,
    message: String,
}

impl TriggerStatus {
    /// What the engine remembers of a trigger that watches this reference now.
    ///
    /// A status of the earlier operator has no `reference`, and its `fileHash` no `patternHash`: what it has seen counts as seen here, and
    /// its files as not known.
    ///
    /// # Errors
    ///
    /// When somebody has written something else than a commit or a time where one should be.
    pub fn state(&self, watched: &Reference) -> Result<TriggerState, InvalidStatus> {
        let source = |(name, checked): (&String, &CheckedSource)| {
            let state = checked.state(watched).map_err(|(field, message)| invalid(format!("checkedSources.{name}.{field}"), message))?;
            Ok((name.clone(), state))
        };
        let first_sequence = self.first_sequence.unwrap_or_default();
        Ok(TriggerState {
            first_sequence: first_sequence.try_into().map_err(|_negative| invalid("firstSequence", "must not be negative"))?,
            sources: self.checked_sources.iter().map(source).collect::<Result<_, InvalidStatus>>()?,
            pending: self.pending.clone(),
            waiting: self.waiting.clone(),
            last_run: match self.last_run.as_deref() {
                None | Some("Never") => None,
                Some(time) => Some(time.parse().map_err(|error| invalid("lastRun", error))?),
            },
            last_handled_request: self.last_handled_request.clone(),
        })
    }

    /// Takes over what the engine remembers, and leaves everything else as it is. A source whose commit is another one now has `changed` now.
    ///
    /// `state` follows, but a specification that cannot be used stays so. `last_result` is that of a run that is new, else of one of which
    /// the result is another one now; of several the last by the name of the source.
    pub fn set_state(&mut self, state: &TriggerState, now: Timestamp) {
        let before = std::mem::take(&mut self.checked_sources);
        for (name, source) in &state.sources {
            let mut checked = CheckedSource::from(source);
            let same = before.get(name).filter(|before| before.commit_hash == checked.commit_hash);
            checked.changed = same.map_or_else(|| Some(now.to_string()), |before| before.changed.clone());
            self.checked_sources.insert(name.clone(), checked);
        }
        self.last_result = self.last_result_after(&before);
        self.first_sequence = (state.first_sequence > 0).then(|| i64::try_from(state.first_sequence).unwrap_or(i64::MAX));
        self.pending.clone_from(&state.pending);
        self.waiting.clone_from(&state.waiting);
        if let Some(last_run) = state.last_run {
            self.last_run = Some(last_run.to_string());
        }
        self.last_handled_request.clone_from(&state.last_handled_request);
        if self.state != State::WrongConfig {
            self.state = self.usable_state();
        }
    }

    /// Running or idle: what `state` is, unless the specification cannot be used.
    pub fn usable_state(&self) -> State {
        let last_jobs = self.checked_sources.values().filter_map(|source| source.last_job.as_ref());
        let is_unfinished = !self.waiting.is_empty() || last_jobs.into_iter().any(|last| !last.result.is_finished());
        if is_unfinished { State::Running } else { State::Idle }
    }

    fn last_result_after(&self, before: &BTreeMap<String, CheckedSource>) -> Option<RunResult> {
        let last_jobs = self.checked_sources.iter().filter_map(|(name, now)| {
            let before = before.get(name).and_then(|before| before.last_job.as_ref());
            Some((before, now.last_job.as_ref()?))
        });
        let news = last_jobs.filter(|(before, now)| *before != Some(now));
        let latest = news.max_by_key(|(before, now)| before.is_none_or(|before| before.uid != now.uid));
        latest.map(|(_, now)| now.result).or(self.last_result)
    }
}

fn invalid(path: impl Into<String>, message: impl ToString) -> InvalidStatus {
    InvalidStatus { path: path.into(), message: message.to_string() }
}

impl CheckedSource {
    fn state(&self, watched: &Reference) -> Result<SourceState, (&'static str, String)> {
        let commit = |field, id: &Option<String>| {
            id.as_ref().map(|id| id.parse()).transpose().map_err(|error: NotACommitId| (field, error.to_string()))
        };
        let time = |field, time: &Option<String>| {
            time.as_ref().map(|time| time.parse()).transpose().map_err(|error: jiff::Error| (field, error.to_string()))
        };
        let files = self.pattern_hash.clone().map(|patterns| FilesDigest { patterns, files: self.file_hash.clone() });
        let last_run = match &self.last_job {
            None => None,
            Some(job) => Some(LastRun {
                run: RunRef { name: job.name.clone(), uid: job.uid.clone() },
                result: job.result,
                finished: time("lastJob.finished", &job.finished)?,
            }),
        };
        Ok(SourceState {
            reference: self.reference.as_ref().unwrap_or(watched).clone(),
            commit: commit("commitHash", &self.commit_hash)?,
            files,
            previous: commit("previousCommit", &self.previous_commit)?,
            sequence: self.sequence.try_into().map_err(|_negative| ("sequence", "must not be negative".to_owned()))?,
            last_firing: time("lastFiring", &self.last_firing)?,
            last_run,
        })
    }
}

impl From<&SourceState> for CheckedSource {
    fn from(state: &SourceState) -> Self {
        Self {
            commit_hash: state.commit.map(|id| id.to_string()),
            file_hash: state.files.as_ref().and_then(|files| files.files.clone()),
            pattern_hash: state.files.as_ref().map(|files| files.patterns.clone()),
            changed: None,
            reference: Some(state.reference.clone()),
            previous_commit: state.previous.map(|id| id.to_string()),
            sequence: i64::try_from(state.sequence).unwrap_or(i64::MAX),
            last_firing: state.last_firing.map(|time| time.to_string()),
            last_job: state.last_run.as_ref().map(|last| LastJob {
                name: last.run.name.clone(),
                uid: last.run.uid.clone(),
                result: last.result,
                finished: last.finished.map(|time| time.to_string()),
            }),
        }
    }
}
