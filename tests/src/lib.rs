//! Real servers for the tests of git-events-runner, and its own programs.

mod app_server;
mod canary;
pub mod cluster;
mod files;
mod forge;
mod git_daemon;
mod git_repo;
mod git_server;
mod http;
mod images;
mod number;
mod operator;
mod program;
mod proxy;
mod random;
mod server_process;
mod ssh_server;
mod wait;

pub use app_server::{APP, AppBehaviour, AppServer, INSTALLATION};
pub use canary::{Canaries, ProcessWatch};
pub use files::files;
pub use forge::Forge;
pub use git_daemon::GitDaemon;
pub use git_repo::GitRepo;
pub use git_server::{Auth, GitServer, LoggedRequest, Options};
pub use http::{Answer, free_port, post_and, send, send_to};
pub use images::Images;
pub use number::number;
pub use operator::Operator;
pub use program::Program;
pub use proxy::ProxyServer;
pub use random::Random;
pub use ssh_server::{SshKey, SshServer, hashed};
pub use wait::{wait_for, wait_within};
