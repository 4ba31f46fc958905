//! The operator on a real Kubernetes, whose node is simulated: Jobs run and complete, and nothing is in their containers.
#![expect(clippy::unwrap_used, reason = "what a test cannot set up fails it")]

mod operator {
    mod deletion;
    mod documentation;
    mod fixture;
    mod health;
    mod idle;
    mod manifests;
    mod namespaces;
    mod overrides;
    mod policies;
    mod runs;
    mod slots;
    mod typical_flow;
    mod waiting;
}
