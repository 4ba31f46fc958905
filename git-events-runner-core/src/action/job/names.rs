//! What tells our Jobs from others, and one from another.

use sha2::{Digest as _, Sha256};

use crate::short_hash;

/// What writes our fields, as the API server knows it.
pub const FIELD_MANAGER: &str = "git-events-runner";

/// The label of all Jobs of ours; its value is [`FIELD_MANAGER`].
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";

/// The label with the kind of the trigger.
pub const TRIGGER_KIND: &str = "git-events-runner.rs/trigger-kind";
/// The label with the name of the trigger, made a value by [`label_value`].
pub const TRIGGER_NAME: &str = "git-events-runner.rs/trigger-name";
/// The label with the uid of the trigger.
pub const TRIGGER_UID: &str = "git-events-runner.rs/trigger-uid";
/// The label with the kind of the source.
pub const SOURCE_KIND: &str = "git-events-runner.rs/source-kind";
/// The label with the name of the source, made a value by [`label_value`].
pub const SOURCE_NAME: &str = "git-events-runner.rs/source-name";
/// The label with the kind of the action.
pub const ACTION_KIND: &str = "git-events-runner.rs/action-kind";
/// The label with the name of the action, made a value by [`label_value`].
pub const ACTION_NAME: &str = "git-events-runner.rs/action-name";

/// The label of Jobs of which nobody has seen the end. It keeps the lists of them short, and that is all: whether a Job is unfinished is in its
/// own status.
pub const SLOT: &str = "git-events-runner.rs/slot";
/// The value of the label [`SLOT`] of a Job that has not begun.
pub const SLOT_AWAITED: &str = "awaited";
/// The value of the label [`SLOT`] of a Job that counts among those that may run at a time.
pub const SLOT_TAKEN: &str = "taken";
/// The value of the label [`SLOT`] of a Job that Kueue counts.
pub const SLOT_OF_KUEUE: &str = "kueue";

/// The label by which Kueue knows the Jobs that it is to start. A Job gets it when it begins.
pub const KUEUE_QUEUE: &str = "kueue.x-k8s.io/queue-name";

/// The annotation with the whole [`RunRequest`](crate::RunRequest), as JSON.
pub const RUN: &str = "git-events-runner.rs/run";

/// The finalizer of a Job that has not begun. The write that lets it begin takes it off.
pub const REGISTERED: &str = "git-events-runner.rs/registered";

/// What all keys of ours begin with.
pub const PREFIX: &str = "git-events-runner.rs/";

/// A name as the value of a label: itself, or if it is too long, cut, with a hash of the whole.
pub fn label_value(name: &str) -> String {
    const LONGEST: usize = 63;
    if name.len() <= LONGEST {
        return name.to_owned();
    }
    let cut: String = name.chars().take(52).collect();
    format!("{}-{}", cut.trim_end_matches(['-', '.']), short_hash(Sha256::new_with_prefix(name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_too_long_for_a_label_is_cut_and_stays_unique() {
        assert_eq!(label_value("app.example"), "app.example");
        assert_eq!(label_value(&"a".repeat(63)), "a".repeat(63));
        let long = format!("{}.{}", "a".repeat(51), "b".repeat(201));
        let other = format!("{}.{}", "a".repeat(51), "c".repeat(201));
        assert_eq!(label_value(&long).len(), 62);
        assert!(label_value(&long).starts_with(&format!("{}-", "a".repeat(51))));
        assert_ne!(label_value(&long), label_value(&other));
    }
}
