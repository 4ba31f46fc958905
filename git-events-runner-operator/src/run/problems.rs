//! What is wrong with a trigger, and which part of it is news.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
};

use git_events_runner_core::{Plan, Reason, Retry, engine::Failure};

use super::conditions::{Health, Level, Word};
use crate::events::Happening;

/// Something that does not work.
#[derive(Clone, Debug, PartialEq)]
pub struct Problem {
    pub reason: Reason,
    pub is_for_good: bool,
    pub message: String,
}

/// Problems by the source that they are about, or the trigger as a whole.
type Places = BTreeMap<Option<String>, Problem>;

/// What is wrong with a trigger, or keeps it waiting.
#[derive(Default)]
pub struct Problems {
    /// It cannot be evaluated.
    pub whole: Option<Problem>,
    /// What it names is not there, or cannot be used.
    pub missing: Places,
    /// Its sources could not be served.
    pub sources: BTreeMap<String, Problem>,
    pub held: BTreeSet<String>,
    pub expired: bool,
    told: Places,
}

impl Problem {
    pub fn of(failure: &Failure) -> Self {
        Self { reason: failure.reason(), is_for_good: failure.retry() == Retry::Never, message: failure.to_string() }
    }

    fn message(&self, of: Option<&str>) -> String {
        of.map_or_else(|| self.message.clone(), |source| format!("{source}: {}", self.message))
    }

    fn health(&self, of: Option<&str>) -> Health {
        let level = if self.is_for_good { Level::Stalled } else { Level::Retrying };
        Health::new(level, self.reason, self.message(of))
    }
}

impl Problems {
    /// None, but for a run that has waited too long, if there was one.
    pub fn new(expired: bool) -> Self {
        Self { expired, ..Self::default() }
    }

    /// Whether all that is wrong is that something is not there, and may be still to come.
    pub fn may_pass(&self) -> bool {
        let mut all = self.all().peekable();
        all.peek().is_some() && all.all(|(_, problem)| matches!(problem.reason, Reason::NotFound | Reason::SecretNotFound))
    }

    /// How the trigger is: as its worst part is.
    pub fn health(&self, plan: &Plan) -> Health {
        let problems = self.all().map(|(place, problem)| problem.health(place));
        let expired = self.expired.then(|| {
            let message =
                "the last run has waited too long for its turn, and was given up: see jobWaitingTimeoutSeconds and maxRunningJobs";
            Health::new(Level::Retrying, Word::Expired, message)
        });
        let worst = problems.chain(expired).reduce(|worst, other| if other.level > worst.level { other } else { worst });
        worst.unwrap_or_else(|| {
            if plan.suspend {
                return Health::ready(Word::Suspended, "it is suspended: nothing fires, and nothing is forgotten");
            }
            let sources = if plan.sources.len() == 1 { "1 source is".to_owned() } else { format!("{} sources are", plan.sources.len()) };
            Health::ready(Word::Watching, format!("{sources} watched"))
        })
    }

    /// What is wrong since this was asked last, and what is right again.
    pub fn news(&mut self) -> Vec<Happening> {
        let mut now = Places::new();
        for (place, problem) in self.all() {
            // What is the same at several places is told once.
            if !is_among(&now, problem) {
                now.entry(place.map(str::to_owned)).or_insert_with(|| problem.clone());
            }
        }
        let before = mem::replace(&mut self.told, now);
        let failing = self
            .told
            .iter()
            .filter(|(_, problem)| !is_among(&before, problem))
            .map(|(place, problem)| Happening::Failing { reason: problem.reason, message: problem.message(place.as_deref()) });
        let is_over = |place: &Option<String>, problem: &Problem| !self.told.contains_key(place) && !is_among(&self.told, problem);
        let recovered = before.iter().filter(|(place, problem)| is_over(place, problem)).map(|(place, _)| {
            Happening::Recovered(place.as_ref().map_or_else(|| "it works again".to_owned(), |source| format!("{source} works again")))
        });
        failing.chain(recovered).collect()
    }

    fn all(&self) -> impl Iterator<Item = (Option<&str>, &Problem)> {
        let whole = self.whole.iter().map(|problem| (None, problem));
        let missing = self.missing.iter().map(|(place, problem)| (place.as_deref(), problem));
        let sources = self.sources.iter().map(|(source, problem)| (Some(source.as_str()), problem));
        whole.chain(missing).chain(sources)
    }
}

fn is_among(places: &Places, problem: &Problem) -> bool {
    places.values().any(|known| known == problem)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(message: &str) -> Problem {
        Problem { reason: Reason::NotFound, is_for_good: false, message: message.to_owned() }
    }

    fn told(problems: &mut Problems) -> Vec<String> {
        let text = |happening| match happening {
            Happening::Failing { message, .. } | Happening::Recovered(message) => message,
            other => format!("{other:?}"),
        };
        problems.news().into_iter().map(text).collect()
    }

    #[test]
    fn a_problem_is_told_once_and_its_end_as_well() {
        let mut problems = Problems::default();
        problems.sources.insert("app".into(), problem("away"));
        assert_eq!(told(&mut problems), ["app: away"]);
        assert!(told(&mut problems).is_empty());
        problems.sources.insert("app".into(), problem("closed"));
        assert_eq!(told(&mut problems), ["app: closed"], "another one is not the end of the first");
        problems.sources.clear();
        assert_eq!(told(&mut problems), ["app works again"]);
        assert!(told(&mut problems).is_empty());
    }

    #[test]
    fn what_is_not_there_may_come_and_nothing_else_passes() {
        let mut problems = Problems::default();
        assert!(!problems.may_pass());
        problems.missing.insert(None, problem("there is no Action"));
        assert!(problems.may_pass());
        problems.sources.insert("app".into(), Problem { reason: Reason::Unreachable, ..problem("away") });
        assert!(!problems.may_pass());
    }

    #[test]
    fn the_same_problem_at_several_places_is_one() {
        let mut problems = Problems::default();
        problems.missing.insert(None, problem("there is no Action"));
        assert_eq!(told(&mut problems), ["there is no Action"]);
        for source in ["a", "b"] {
            problems.sources.insert(source.into(), problem("there is no Action"));
        }
        assert!(told(&mut problems).is_empty());
        problems.missing.clear();
        assert!(told(&mut problems).is_empty(), "it is not over");
        problems.sources.clear();
        assert_eq!(told(&mut problems), ["a works again"]);
    }
}
