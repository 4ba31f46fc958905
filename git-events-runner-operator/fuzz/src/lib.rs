//! What of the operator reads what strangers send to webhooks. The operator is no library: these are its files.

#[path = "../../src/webhook/fuzzing.rs"]
pub mod fuzzing;
#[path = "../../src/webhook/matching.rs"]
pub mod matching;
#[path = "../../src/webhook/payload.rs"]
pub mod payload;
#[path = "../../src/webhook/proof.rs"]
pub mod proof;
