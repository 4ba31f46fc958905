//! What the engine promises, one rule a test, on the backends in memory.

mod engine {
    mod changes;
    mod concurrency;
    #[cfg(feature = "mock")]
    mod crashes;
    mod failures;
    mod fixture;
    mod plans;
    mod requests;
    mod waiting;
}
