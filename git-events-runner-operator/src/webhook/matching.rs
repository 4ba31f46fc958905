//! What a forge's webhook has to do with the sources of a trigger. Pure.

use std::collections::BTreeSet;

use git_events_runner_core::{CommitId, ObjectRef, Plan, Reference, Watch, crd, git::RepoUri};

use super::payload::{Forge, Moved, Said, event_name};

/// Where a source is, as far as that is known. Strangers have nobody ask: a trigger may have hundreds of sources.
type Place = Box<dyn Fn(&ObjectRef) -> Option<RepoUri> + Send + Sync>;

/// What a trigger listens to.
pub struct Listening {
    pub forge: Forge,
    /// The events that count, each as [`event_name`] has it.
    events: BTreeSet<String>,
    sources: Vec<ObjectRef>,
    place: Place,
    watch: Watch,
    /// Whether each request starts the action, changed or not.
    always: bool,
}

/// What there is to look at.
#[derive(Debug, PartialEq, Eq)]
pub struct Look {
    pub sources: BTreeSet<String>,
    /// The commit that they are to show.
    pub commit: Option<CommitId>,
}

impl Listening {
    /// None: the trigger takes any body. `place` answers where a source is.
    pub fn new(webhook: &crd::Webhook, plan: &Plan, place: impl Fn(&ObjectRef) -> Option<RepoUri> + Send + Sync + 'static) -> Option<Self> {
        let forge = Forge::of(webhook.auth_config.as_ref()?.auth_type)?;
        let events = webhook.events.as_ref();
        let events =
            events.map_or_else(|| ["push", "tag"].map(str::to_owned).into(), |events| events.iter().map(|e| event_name(e)).collect());
        let (sources, watch) = (plan.sources.clone(), plan.watch.clone());
        Some(Self { forge, events, sources, place: Box::new(place), watch, always: !plan.on_change_only })
    }

    /// Which of these sources are to be looked at, or why there is nothing to do. What cannot be read of a webhook is no reason against it.
    pub fn matching(&self, said: &Said, sources: &BTreeSet<String>) -> Result<Look, &'static str> {
        if matches!(said.event.as_deref(), Some("ping" | "diagnostics:ping")) {
            return Err("it is a ping");
        }
        let moved = self.moved(said)?;
        let (mut matching, mut is_certain) = (BTreeSet::new(), true);
        for source in self.sources.iter().filter(|source| sources.contains(&source.name)) {
            let place = (self.place)(source).filter(|place| place.host().is_some() && !said.repository.is_empty());
            is_certain &= place.is_some();
            if place.is_none_or(|place| said.repository.iter().any(|named| named.is_same_repository(&place))) {
                matching.insert(source.name.clone());
            }
        }
        if matching.is_empty() {
            return Err("it is about another repository than the source's repoUri");
        }
        // A source of another repository would be looked at in vain until it shows the commit, and so would one that shows the same for ever.
        let may_show_it = (is_certain || matching.len() == 1) && !matches!(self.watch.reference, Reference::Commit(_));
        let commit = moved.and_then(|moved| moved.commit).filter(|_| may_show_it);
        Ok(Look { sources: matching, commit })
    }

    /// The branch or tag that has moved, and that is watched. None: that is not known.
    fn moved<'a>(&self, said: &'a Said) -> Result<Option<&'a Moved>, &'static str> {
        let own = said.event.as_deref();
        let Some(all) = &said.moved else {
            let is_wanted = own.is_none_or(|own| self.wants(own) || stands_for(own).iter().any(|kind| self.wants(kind)));
            return if is_wanted { Ok(None) } else { Err("the trigger does not listen to this event") };
        };
        // GitHub and Gitea have one name for both, which stands for branches here.
        let by_own_name = own.is_some_and(|own| own != "push" && self.wants(own));
        let mut why = "what has moved is neither a branch nor a tag that is watched";
        for moved in all.iter().filter(|moved| self.is_watched(&moved.reference)) {
            if !by_own_name && !self.wants(kind(&moved.reference)) {
                why = "the trigger does not listen to this event";
            } else if moved.is_deleted {
                why = "what is watched was deleted";
            } else if !self.is_watched_file_among(moved) {
                why = "no file that is watched has changed";
            } else {
                return Ok(Some(moved));
            }
        }
        Err(why)
    }

    /// A commit never moves: any push will do.
    fn is_watched(&self, reference: &Reference) -> bool {
        matches!(self.watch.reference, Reference::Commit(_)) || self.watch.reference == *reference
    }

    fn wants(&self, event: &str) -> bool {
        self.events.contains(event)
    }

    fn is_watched_file_among(&self, moved: &Moved) -> bool {
        match &moved.files {
            // What a forced push has taken away is not listed. One that runs on change sees it by looking.
            Some(files) if self.always || !files.may_be_forced => self.watch.is_any_watched(files.paths.iter().map(String::as_str)),
            _ => true,
        }
    }
}

fn kind(moved: &Reference) -> &'static str {
    if matches!(moved, Reference::Tag(_)) { "tag" } else { "push" }
}

/// What an event of a forge may be to a trigger.
fn stands_for(event: &str) -> &'static [&'static str] {
    match event {
        "push" | "repo:push" | "repo:refs_changed" => &["push", "tag"],
        "tag_push" => &["tag"],
        _ => &[],
    }
}

#[cfg(test)]
mod tests;
