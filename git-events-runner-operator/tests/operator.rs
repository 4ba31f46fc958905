//! The operator on a real Kubernetes, whose node is simulated: Jobs run and complete, and nothing is in their containers.
#![expect(clippy::unwrap_used, clippy::panic, reason = "what a test cannot set up fails it")]
#![expect(clippy::future_not_send, reason = "each test has a thread of its own")]

mod operator {
    mod broken;
    mod by_hand;
    mod canary;
    mod crowd;
    mod deletion;
    mod documentation;
    mod fixture;
    mod forge;
    mod health;
    mod idle;
    mod killed;
    mod load;
    mod malformed;
    mod manifests;
    mod namespaces;
    mod overrides;
    mod patterns;
    mod policies;
    mod runs;
    mod slots;
    mod strangers;
    mod taking_over;
    mod tls;
    mod together;
    mod typical_flow;
    mod utility;
    mod waiting;
    mod webhooks;
}
