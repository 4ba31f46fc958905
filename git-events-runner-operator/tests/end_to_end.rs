//! All of it, as in a cluster of users': the images of this tree on a real kubelet, installed by helm, Git servers beside it. Nothing enforces a
//! NetworkPolicy here, and there is no DNS: repositories are named by address.
#![expect(clippy::unwrap_used, reason = "what a test cannot set up fails it")]

#[path = "end_to_end/cloner.rs"]
mod cloner;
#[path = "end_to_end/fixture.rs"]
mod fixture;
#[path = "end_to_end/images.rs"]
mod images;
#[path = "end_to_end/overview.rs"]
mod overview;
#[path = "end_to_end/release.rs"]
mod release;
#[path = "end_to_end/replace.rs"]
mod replace;
#[path = "end_to_end/rolling.rs"]
mod rolling;
#[path = "end_to_end/sources.rs"]
mod sources;
#[path = "end_to_end/workers.rs"]
mod workers;
