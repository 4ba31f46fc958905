//! Shakes the engine at random, and checks what must hold through all of it.
//!
//! Two evaluators work on one trigger at once. Every call of a port gives way to the other evaluator, and an evaluator is dropped between
//! any two calls, which is what a crash after a write is. Meanwhile branches move, requests come, sources and actions fail, and runs end,
//! expire and vanish.

mod nothing_lost {
    pub mod turns;
    pub mod world;
}

use git_events_runner_core::{ConcurrencyPolicy, OnFirstCheck};
use nothing_lost::world::{Setting, Step, World};
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 20_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_lost_and_nothing_runs_twice(setting in any_setting(), steps in prop::collection::vec(any_step(), 1..150)) {
        let mut world = World::new(setting);
        for step in steps {
            world.take(&step);
            world.check_always();
        }
        world.come_to_rest();
        world.check_at_rest();
    }

    /// The same with fewer things that happen, so that those that happen meet more often: a push and a request while a look goes on.
    #[test]
    fn no_request_is_lost_to_a_look_that_goes_on(steps in prop::collection::vec(any_step_around_a_look(), 1..60)) {
        let mut world = World::new(Setting {
            on_change_only: true,
            concurrency: ConcurrencyPolicy::Allow,
            on_first_check: OnFirstCheck::Run,
            slots: usize::MAX,
            fires: false,
            ends_with_a_crash: false,
        });
        for step in steps {
            world.take(&step);
        }
        world.come_to_rest();
        world.check_at_rest();
    }
}

fn any_step_around_a_look() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => (0..2_usize, 0..4_u8).prop_map(|(source, content)| Step::Push { source, content }),
        2 => (0..2_usize).prop_map(|source| Step::Request { sources: vec![source], always: false, hint: None }),
        2 => Just(Step::See),
        2 => Just(Step::Evaluate { evaluator: 0 }),
        6 => (1..5_u8).prop_map(|calls| Step::GoOn { evaluator: 0, calls }),
    ]
}

fn any_setting() -> impl Strategy<Value = Setting> {
    use ConcurrencyPolicy as Policy;
    let policy = prop_oneof![2 => Just(Policy::Allow), 1 => Just(Policy::Forbid), 1 => Just(Policy::Replace)];
    let first = prop_oneof![3 => Just(OnFirstCheck::Run), 1 => Just(OnFirstCheck::Record)];
    let slots = prop_oneof![1 => Just(1_usize), 3 => Just(usize::MAX)];
    (prop::bool::weighted(0.7), policy, first, slots, any::<bool>(), any::<bool>()).prop_map(
        |(on_change_only, concurrency, on_first_check, slots, fires, ends_with_a_crash)| Setting {
            on_change_only,
            concurrency,
            on_first_check,
            slots,
            fires,
            ends_with_a_crash,
        },
    )
}

fn any_step() -> impl Strategy<Value = Step> {
    let sources = prop::sample::subsequence(vec![0_usize, 1], 1..=2);
    prop_oneof![
        6 => (0..2_usize, 0..4_u8).prop_map(|(source, content)| Step::Push { source, content }),
        1 => (0..2_usize).prop_map(|source| Step::DeleteBranch { source }),
        6 => (sources, any::<bool>(), prop::option::weighted(0.3, 0..4_u8))
            .prop_map(|(sources, always, hint)| Step::Request { sources, always, hint }),
        10 => Just(Step::See),
        10 => (0..2_usize).prop_map(|evaluator| Step::Evaluate { evaluator }),
        4 => (0..2_usize).prop_map(|evaluator| Step::Settle { evaluator }),
        3 => (0..2_usize).prop_map(|evaluator| Step::ReleaseWaiting { evaluator }),
        40 => (0..2_usize, 1..12_u8).prop_map(|(evaluator, calls)| Step::GoOn { evaluator, calls }),
        5 => (0..2_usize).prop_map(|evaluator| Step::Crash { evaluator }),
        6 => prop_oneof![3 => 1..20_u8, 1 => 60..120_u8].prop_map(|seconds| Step::Wait { seconds }),
        5 => (0..16_usize, any::<bool>()).prop_map(|(run, well)| Step::Finish { run, well }),
        3 => (0..16_usize).prop_map(|run| Step::DeleteRun { run }),
        2 => (0..2_usize, any::<bool>()).prop_map(|(source, failing)| Step::SourceFails { source, failing }),
        2 => any::<bool>().prop_map(|failing| Step::ActionFails { failing }),
    ]
}
