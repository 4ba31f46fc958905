//! `git-events-runner-cloner` against real servers: what it writes, what it says, and how it ends.

#![expect(clippy::unwrap_used, reason = "what a test cannot set up fails it")]

mod cloner {
    mod ends;
    mod fixture;
    mod job;
    mod large;
    mod places;
    mod submodules;
    mod works;
}
