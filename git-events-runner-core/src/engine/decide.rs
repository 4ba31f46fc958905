use std::collections::{BTreeMap, BTreeSet};

use jiff::{Timestamp, ToSpan as _};

use crate::{
    Due, FilesDigest, ObjectRef, Observation, OnFirstCheck, PendingRequest, Plan, RequestId, RunKey, RunRequest, SourceState, TriggerId,
    TriggerState,
};

/// For how long a commit that a request speaks of may stay invisible, in seconds.
const VISIBLE_WITHIN: i64 = 30;

/// Why to look at a source.
#[derive(Debug, Default)]
pub struct Causes<'a> {
    /// The firing of the schedule that is due, or was held.
    pub firing: Option<Timestamp>,
    /// What is pending for this source, but for the held firing.
    pub requests: Vec<(&'a RequestId, &'a PendingRequest)>,
}

/// What was seen of a source.
pub struct Seen {
    pub now: Observation,
    /// The files of the commit last acted on, by the patterns of today.
    pub last_files: Option<FilesDigest>,
}

/// What to do about a source.
#[derive(Debug)]
pub enum Decision {
    Nothing {
        served: Vec<RequestId>,
        awaited: bool,
    },
    Baseline {
        state: Box<SourceState>,
        served: Vec<RequestId>,
        awaited: bool,
    },
    Run {
        request: Box<RunRequest>,
        /// There is more to run than this.
        more: bool,
    },
}

/// What there is reason to look at, by the source's name.
pub fn causes<'a>(plan: &Plan, state: &'a TriggerState, due: &Due, retried: &BTreeSet<String>) -> BTreeMap<String, Causes<'a>> {
    let mut causes = BTreeMap::<String, Causes<'a>>::new();
    for source in &plan.sources {
        let name = &source.name;
        if let Some(firing) = due.firing
            && !has_run_for(plan, state, name, firing)
        {
            causes.entry(name.clone()).or_default().firing = Some(firing);
        }
        if due.check.contains(name) || retried.contains(name) {
            causes.entry(name.clone()).or_default();
        }
    }
    for (id, request) in state.pending.iter().filter(|_| due.requests) {
        for name in request.sources.iter().filter(|name| plan.source(name).is_some()) {
            if *id != RequestId::scheduled() {
                causes.entry(name.clone()).or_default().requests.push((id, request));
            } else if !is_too_late(request, due) && !has_run_for(plan, state, name, request.received_at) {
                let firing = &mut causes.entry(name.clone()).or_default().firing;
                *firing = (*firing).max(Some(request.received_at));
            }
        }
    }
    causes
}

/// Whether a firing that always runs has had its run of this source.
pub fn has_run_for(plan: &Plan, state: &TriggerState, source: &str, firing: Timestamp) -> bool {
    !plan.on_change_only && state.sources.get(source).and_then(|source| source.last_firing) >= Some(firing)
}

/// True for a held firing that must not start any more.
pub fn is_too_late(held: &PendingRequest, due: &Due) -> bool {
    due.not_before.is_some_and(|not_before| held.received_at < not_before)
}

/// True when the files digest that is kept was made by other patterns than the new one.
pub fn patterns_changed(state: &SourceState, seen: &Observation) -> bool {
    let patterns = |digest: &Option<FilesDigest>| digest.as_ref().map(|digest| digest.patterns.clone());
    seen.files.is_some() && !state.commit.is_some_and(|last| seen.is_at(last)) && patterns(&state.files) != patterns(&seen.files)
}

/// Decides about one source. Pure.
pub fn decide(
    id: &TriggerId,
    plan: &Plan,
    source: &ObjectRef,
    state: &TriggerState,
    seen: &Seen,
    causes: &Causes<'_>,
    now: Timestamp,
) -> Decision {
    let sequence = state.next_sequence(&source.name);
    let state = state.sources.get(&source.name);
    let same_place = state.filter(|state| state.reference == plan.watch.reference);
    let last = same_place.and_then(|state| state.commit);
    let shows = |request: &PendingRequest| request.commit.is_some_and(|commit| seen.now.is_at(commit));
    let shown = causes.requests.iter().map(|(_, request)| request).filter(|request| shows(request));
    let shown_until = shown.map(|request| request.received_at).max();
    // The commits of requests that came before it are older than what is shown.
    let is_awaited = |request: &PendingRequest| may_come(request, now) && !shows(request) && Some(request.received_at) >= shown_until;
    let (awaiting, ready): (Vec<_>, Vec<_>) = causes.requests.iter().partition(|(_, request)| is_awaited(request));
    let served_by_looking = || ready.iter().map(|(id, _)| (*id).clone()).collect();
    let changed = match (same_place, last) {
        (None, _) => plan.on_first_check == OnFirstCheck::Run,
        (Some(_), None) => true,
        (Some(_), Some(last)) => !seen.now.is_at(last) && files_changed(seen),
    };
    let scheduled = RequestId::scheduled();
    let firing = causes.firing.map(|firing| (firing, &scheduled));
    let requests = ready.iter().map(|(id, request)| ((request.received_at, *id), request.always));
    let reasons = requests.chain(firing.map(|firing| (firing, false)));
    let (mut always, looks): (Vec<_>, Vec<_>) = reasons.partition(|(_, always)| *always || !plan.on_change_only);
    always.sort_unstable();

    // What is shown may be older than what a request that always runs is to run for.
    let waits_to_run = awaiting.iter().any(|(_, request)| request.always || !plan.on_change_only);
    if always.is_empty() && (waits_to_run || !changed) {
        return if same_place.is_none() && !waits_to_run {
            let state = Box::new(observed_state(state, sequence, plan, seen));
            Decision::Baseline { state, served: served_by_looking(), awaited: !awaiting.is_empty() }
        } else {
            Decision::Nothing { served: served_by_looking(), awaited: !awaiting.is_empty() }
        };
    }
    let owed_to = always.first().map(|((_, id), _)| (*id).clone());
    let served: Vec<_> = always.first().into_iter().chain(&looks).map(|(reason, _)| *reason).collect();
    let request = RunRequest {
        key: RunKey { trigger: id.clone(), source: source.clone(), reference: plan.watch.reference.clone(), sequence },
        action: plan.action.clone(),
        commit: seen.now.commit,
        previous: last,
        files: seen.now.files.clone(),
        instant: served.iter().map(|(instant, _)| *instant).min().unwrap_or(now),
        registered_at: now,
        firing: served.iter().find(|(_, id)| **id == scheduled).map(|(firing, _)| *firing),
        requests: served.iter().filter(|(_, id)| **id != scheduled).map(|(_, id)| (*id).clone()).collect(),
        owed_to,
        concurrency: plan.concurrency,
    };
    Decision::Run { request: Box::new(request), more: always.len() > 1 || !awaiting.is_empty() }
}

/// The state of a source at which something was seen and nothing was run.
fn observed_state(before: Option<&SourceState>, sequence: u64, plan: &Plan, seen: &Seen) -> SourceState {
    SourceState {
        reference: plan.watch.reference.clone(),
        commit: Some(seen.now.commit),
        files: seen.now.files.clone(),
        previous: None,
        // A run at the place that was watched before, if it is undone, must not roll this back.
        sequence: sequence + u64::from(before.is_some()),
        last_firing: before.and_then(|before| before.last_firing),
        last_run: before.and_then(|before| before.last_run.clone()),
    }
}

/// Without patterns every new commit counts; with patterns one whose matching files differ, or that has none at all.
fn files_changed(seen: &Seen) -> bool {
    match (&seen.now.files, &seen.last_files) {
        (Some(now), Some(last)) => now.files.is_none() || now != last,
        _ => true,
    }
}

/// Whether the commit that a request speaks of may come yet.
fn may_come(request: &PendingRequest, now: Timestamp) -> bool {
    request.commit.is_some() && now < request.received_at.saturating_add(VISIBLE_WITHIN.seconds()).unwrap_or(Timestamp::MAX)
}
