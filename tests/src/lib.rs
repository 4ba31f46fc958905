//! Real servers for the tests of git-events-runner.

mod git_repo;
mod git_server;
mod wait;

pub use git_repo::GitRepo;
pub use git_server::{Auth, GitServer, LoggedRequest, Options};
pub use wait::wait_for;
