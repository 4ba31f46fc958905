//! Real servers for the tests of git-events-runner, and its own programs.

pub mod cluster;
mod git_repo;
mod git_server;
mod http;
mod operator;
mod program;
mod proxy;
mod random;
mod wait;

pub use git_repo::GitRepo;
pub use git_server::{Auth, GitServer, LoggedRequest, Options};
pub use http::{Answer, free_port, send};
pub use operator::Operator;
pub use program::Program;
pub use proxy::ProxyServer;
pub use random::Random;
pub use wait::wait_for;
