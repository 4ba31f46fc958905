//! Real servers for the tests of git-events-runner.

pub mod cluster;
mod git_repo;
mod git_server;
mod local_mode;
mod random;
mod wait;

pub use git_repo::GitRepo;
pub use git_server::{Auth, GitServer, LoggedRequest, Options};
pub use local_mode::{Answer, LocalMode, free_port, send};
pub use random::Random;
pub use wait::wait_for;
