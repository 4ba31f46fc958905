//! What must hold of all that was seen, once quiet.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, ensure};
use git_events_runner_core::{CommitId, RunRef, RunRequest};
use jiff::SignedDuration;

use super::{
    evidence::{Evidence, Seen},
    world::{Kind, World, repo_name},
};

/// The duration of the Lease.
const LEASE: SignedDuration = SignedDuration::from_secs(4);

impl Evidence {
    /// Checks everything, and prints how much it was.
    pub fn verdict(&self, world: &World) -> Result<()> {
        let seen = self.seen();
        seen.nothing_has_run_twice()?;
        seen.only_what_was_recorded_has_begun()?;
        seen.all_that_was_recorded_has_begun()?;
        seen.runs_on_change_are_of_changes(world)?;
        let requests = seen.each_request_is_on_one_run_of_each_source(world)?;
        let leaders = seen.one_led_at_a_time()?;
        let early =
            |(uid, deleted): &(&String, &Option<u64>)| deleted.is_some_and(|deleted| seen.recorded_at(uid).is_none_or(|at| at > deleted));
        println!(
            "{} Jobs registered, {} begun, {} deleted by hand, {} of them before they were recorded; {requests} requests; {leaders} leaders",
            seen.registered.len(),
            seen.begun.len(),
            seen.deleted.len(),
            seen.deleted.iter().filter(early).count(),
        );
        Ok(())
    }
}

impl Seen {
    fn nothing_has_run_twice(&self) -> Result<()> {
        let mut keys = BTreeMap::new();
        for (run, request) in self.runs() {
            let other = keys.insert(&request.key, run);
            ensure!(other.is_none(), "{run} has begun twice, as {other:?} and {run:?}");
        }
        let mut names = BTreeSet::new();
        for run in self.pods.values() {
            ensure!(names.insert(&run.name), "{run} has two Pods");
            ensure!(self.begun.contains_key(&run.uid), "{run:?} has a Pod, and has not begun");
        }
        for (run, _) in self.runs() {
            ensure!(names.contains(&run.name), "{run} has begun, and has no Pod");
        }
        Ok(())
    }

    /// The state names a run before it begins, so that whoever comes after a crash knows of it.
    fn only_what_was_recorded_has_begun(&self) -> Result<()> {
        for (run, _) in self.runs() {
            let recorded = self.recorded.get(run).with_context(|| format!("{run:?} has begun, and no state has ever named it"))?;
            let begun = self.begun[&run.uid];
            ensure!(*recorded < begun, "{run} has begun before it was recorded: {recorded}, {begun}");
        }
        Ok(())
    }

    /// What a finished check has seen as new is recorded; so is what requests have asked for.
    fn all_that_was_recorded_has_begun(&self) -> Result<()> {
        for run in self.recorded.keys().filter(|run| !self.deleted.contains_key(&run.uid)) {
            ensure!(self.begun.contains_key(&run.uid), "{run:?} was recorded, and has not begun");
        }
        for (uid, _) in self.deleted.iter().filter(|(_, at)| at.is_some()) {
            ensure!(!self.begun.contains_key(uid), "{:?} was deleted, and has begun", self.registered.get(uid));
        }
        Ok(())
    }

    fn runs_on_change_are_of_changes(&self, world: &World) -> Result<()> {
        for trigger in world.triggers.iter().filter(|trigger| trigger.kind != Kind::Always) {
            for source in &trigger.sources {
                let (trigger, name) = (&trigger.name, repo_name(*source));
                let is_of = |run: &RunRequest| run.key.trigger.name == *trigger && run.key.source.name == name;
                let runs = self.registered.iter().filter(|(_, (_, run))| is_of(run));
                let mut in_order: Vec<_> = runs.map(|(uid, (_, run))| (uid, run)).collect();
                in_order.sort_by_key(|(_, run)| run.key.sequence);
                let last = self.each_follows_another_commit(&in_order)?;
                let tip = world.tip(*source);
                ensure!(last == Some(tip), "the last run of {trigger} for {name} is of {last:?}, and its tip is {tip}");
            }
        }
        Ok(())
    }

    /// Each run of a source that has begun is of another commit than the one that was acted on before: by the last run that has begun, or
    /// by one after that, before somebody has deleted it. Answers the commit of the last one.
    fn each_follows_another_commit(&self, in_order: &[(&String, &RunRequest)]) -> Result<Option<CommitId>> {
        let (mut last, mut acted_on) = (None, BTreeSet::from([None]));
        for (uid, run) in in_order {
            if self.begun.contains_key(*uid) {
                let RunRequest { key, commit, previous, .. } = run;
                ensure!(
                    acted_on.contains(previous),
                    "{} follows {previous:?}, and after {last:?} only {acted_on:?} was acted on",
                    key.name()
                );
                ensure!(*previous != Some(*commit), "{} has run for {commit} again", key.name());
                last = Some(*commit);
                acted_on = BTreeSet::from([last]);
            } else if self.deleted.contains_key(*uid) {
                acted_on.insert(Some(run.commit));
            }
        }
        Ok(last)
    }

    /// Answers how many requests were accepted.
    fn each_request_is_on_one_run_of_each_source(&self, world: &World) -> Result<usize> {
        let mut runs = BTreeMap::<_, usize>::new();
        for (_, run) in self.runs().filter(|(_, run)| run.key.trigger.name.starts_with("always")) {
            for request in &run.requests {
                *runs.entry((request.to_string(), run.key.source.name.clone())).or_default() += 1;
            }
        }
        let twice: Vec<_> = runs.iter().filter(|(_, runs)| **runs > 1).collect();
        ensure!(twice.is_empty(), "requests are on several runs of a source: {twice:?}");
        let accepted = world.accepted.lock().unwrap();
        for (name, id) in accepted.iter() {
            let trigger = world.triggers.iter().find(|trigger| trigger.name == *name).context("no such trigger")?;
            for source in &trigger.sources {
                let on = (id.clone(), repo_name(*source));
                ensure!(runs.contains_key(&on), "request {id} to {name} was accepted, and is on no run of {}", on.1);
            }
        }
        Ok(accepted.len())
    }

    /// Answers how many have led. Each has released the Lease, or not renewed it for all its duration, before the next one took it.
    fn one_led_at_a_time(&self) -> Result<usize> {
        for pair in self.leaders.windows(2) {
            let [(Some(before), Some(renewed)), (Some(after), Some(taken))] = pair else { continue };
            let expired = taken.duration_since(*renewed) >= LEASE;
            ensure!(before == after || expired, "{after} has taken the Lease of {before} at {taken}, which was renewed at {renewed}");
        }
        let leaders: BTreeSet<_> = self.leaders.iter().filter_map(|(leader, _)| leader.as_ref()).collect();
        Ok(leaders.len())
    }

    /// The runs that have begun.
    fn runs(&self) -> impl Iterator<Item = &(RunRef, RunRequest)> {
        self.begun.keys().map(|uid| &self.registered[uid])
    }

    fn recorded_at(&self, uid: &str) -> Option<u64> {
        self.recorded.iter().find(|(run, _)| run.uid == uid).map(|(_, at)| *at)
    }
}
