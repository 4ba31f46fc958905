use std::collections::BTreeSet;

use jiff::Timestamp;

use crate::{CommitId, Since, SourceState, Trigger, TriggerState};

/// Checks the contract of [`Trigger`], on a policy that is made anew by each call, for evaluations at each of these instants, of which
/// everything up to each earlier one was handled.
///
/// Give instants around those at which the policy fires.
pub fn trigger<T: Trigger>(new: impl Fn() -> T, instants: &[Timestamp]) {
    let policy = new();
    let names: BTreeSet<_> = policy.plan().sources.iter().map(|source| source.name.clone()).collect();
    for state in states(&policy) {
        for handled in instants {
            for now in instants.iter().filter(|now| *now >= handled) {
                for fresh in [false, true] {
                    let since = Since { handled: *handled, fresh };
                    let due = policy.due(&state, since, *now);
                    let context = format!("handled up to {handled}, fresh: {fresh}, now {now}: {due:?}");
                    assert_eq!(policy.due(&state, since, *now), due, "the same arguments give the same answer: {context}");
                    assert_eq!(new().due(&state, since, *now), due, "and so does another policy of the same plan: {context}");
                    assert!(due.firing.is_none_or(|firing| firing > *handled), "no firing is handled twice: {context}");
                    assert!(due.firing.is_none_or(|firing| firing <= *now), "no firing comes before its time: {context}");
                    assert!(due.next.is_none_or(|next| next > *now), "what is next is not now: {context}");
                    assert!(due.check.is_subset(&names), "only sources of the plan are checked: {context}");
                }
            }
        }
    }
}

/// A trigger that has seen nothing yet, and one that has seen all its sources.
fn states(policy: &impl Trigger) -> [TriggerState; 2] {
    let plan = policy.plan();
    let seen = |name: &str| SourceState { commit: Some(CommitId::digest_of(name)), ..SourceState::new(plan.watch.reference.clone()) };
    let sources = plan.sources.iter().map(|source| (source.name.clone(), seen(&source.name))).collect();
    [TriggerState::default(), TriggerState { sources, ..TriggerState::default() }]
}
