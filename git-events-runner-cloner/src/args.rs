//! The command line.

use std::{path::PathBuf, time::Duration};

use clap::{
    Parser, ValueEnum,
    builder::{PossibleValue, TypedValueParser},
    value_parser,
};
use git_events_runner_core::{
    CommitId, Reference, Revision,
    cloner::{arguments, auth},
};

use crate::exit::Failure;

/// Checks one commit of a Git repository out into a folder.
///
/// Credentials come from files, and are sent to the host of the repository only. Everybody may read and change what is written.
#[derive(Parser)]
#[command(name = "git-events-runner-cloner", version, after_help = crate::exit::HELP)]
pub struct Cli {
    /// The repository, without credentials: https://, http://, ssh://, git:// or user@host:path
    #[arg(long = arguments::REPO_URI, value_name = "URI")]
    pub repo_uri: String,
    /// The commit, as 40 hexadecimal digits
    #[arg(long = arguments::COMMIT, value_name = "ID")]
    pub commit: CommitId,
    /// The folder to write to; it is made if it is not there
    #[arg(long = arguments::DESTINATION, value_name = "DIR")]
    pub destination: PathBuf,
    /// Remove what is in the folder already; without this it has to be empty
    #[arg(long = arguments::EMPTY_DESTINATION)]
    pub empty_destination: bool,
    /// What the commit was seen at: old servers give a commit only to those who name this
    #[arg(long = arguments::REFERENCE_TYPE, value_name = "TYPE", requires = "reference_name")]
    pub reference_type: Option<ReferenceType>,
    /// The short name of that branch or tag, such as `main`
    #[arg(long = arguments::REFERENCE_NAME, value_name = "NAME", requires = "reference_type")]
    pub reference_name: Option<String>,
    /// Leave the folder .git, as that of a clone with the commit checked out
    #[arg(long = arguments::PRESERVE_GIT_FOLDER)]
    pub preserve_git_folder: bool,
    /// How many commits of the history the folder .git has; 0: all
    #[arg(long = arguments::DEPTH, value_name = "N", default_value_t = 1)]
    pub depth: u32,
    /// Check submodules out as well
    #[arg(long = arguments::SUBMODULES)]
    pub submodules: bool,
    /// The folder with the files of the credentials: `username` and `password`, `token`, or `ssh-privatekey`, and `passphrase` and
    /// `known_hosts` if there are any; `proxy-username` and `proxy-password` for the proxy
    #[arg(long = arguments::CREDENTIALS, value_name = "DIR")]
    pub credentials: Option<PathBuf>,
    /// Which of the credentials are shown to the server
    #[arg(long = arguments::AUTH, value_name = "TYPE", requires = "credentials")]
    pub auth: Option<Auth>,
    /// Certificates, as PEM, that are trusted besides those of the system
    #[arg(long = arguments::CA_FILE, value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
    /// Accept any certificate: anybody on the way can then answer in the server's place
    #[arg(long = arguments::NO_VERIFY_SSL)]
    pub no_verify_ssl: bool,
    /// Accept any key of an SSH host: anybody on the way can then answer in the server's place
    #[arg(long = arguments::INSECURE_IGNORE_HOST_KEY)]
    pub insecure_ignore_host_key: bool,
    /// Host keys that are trusted besides those in the file `known_hosts`, in the same form
    #[arg(long = arguments::KNOWN_HOSTS, value_name = "LINES")]
    pub known_hosts: Option<String>,
    /// The proxy, without credentials: http://, https:// or socks5://
    #[arg(long = arguments::PROXY, value_name = "URL")]
    pub proxy: Option<String>,
    /// For how many seconds the server may be silent
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = seconds(1))]
    pub timeout: Duration,
    /// For how many seconds after the first failure to try again, later each time, when the server cannot be reached, is not able to answer,
    /// breaks off, or is silent; 0: once only
    #[arg(long, value_name = "SECONDS", default_value = "120", value_parser = seconds(0))]
    pub try_for: Duration,
    /// The file that an error is written to, if it is there: where Kubernetes looks for why a container has ended
    #[arg(long, value_name = "FILE", default_value = "/dev/termination-log")]
    pub termination_log: PathBuf,
    /// Say more
    #[arg(long = arguments::DEBUG)]
    pub debug: bool,
}

/// The kinds of references.
#[derive(Clone, Copy, ValueEnum)]
pub enum ReferenceType {
    Branch,
    Tag,
    Commit,
}

/// The kinds of credentials.
#[derive(Clone, Copy)]
pub enum Auth {
    Basic,
    Token,
    Ssh,
}

impl ValueEnum for Auth {
    fn value_variants<'a>() -> &'a [Self] {
        &[Self::Basic, Self::Token, Self::Ssh]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(match self {
            Self::Basic => auth::BASIC,
            Self::Token => auth::TOKEN,
            Self::Ssh => auth::SSH,
        }))
    }
}

fn seconds(least: u64) -> impl TypedValueParser<Value = Duration> {
    value_parser!(u64).range(least..=86_400).map(Duration::from_secs)
}

impl Cli {
    /// What is checked out.
    pub fn revision(&self) -> Result<Revision, Failure> {
        let reference = match (self.reference_type, &self.reference_name) {
            (Some(ReferenceType::Branch), Some(name)) => Reference::Branch(name.clone()),
            (Some(ReferenceType::Tag), Some(name)) => Reference::Tag(name.clone()),
            (Some(ReferenceType::Commit), Some(name)) if *name != self.commit.to_string() => {
                return Err(Failure::usage(format!("--{}: a commit's name is the one that is checked out", arguments::REFERENCE_NAME)));
            }
            _ => Reference::Commit(self.commit),
        };
        Ok(Revision { reference, commit: self.commit })
    }
}
