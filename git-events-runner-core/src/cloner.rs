//! What a Job says to `git-events-runner-cloner`. The Job is made with the names that are here, and the cloner reads its command line by the
//! same ones.
//!
//! What others have named is always the second half of one argument, so that it is never taken for a flag.
//!
//! | argument | |
//! | --- | --- |
//! | `--repo-uri=URI` | the repository, without credentials |
//! | `--reference-type=branch\|tag\|commit`, `--reference-name=NAME` | where the commit was seen: a short name, or the commit itself |
//! | `--commit=ID` | what is checked out, exactly |
//! | `--destination=DIR` | where to; everybody may write what is put there |
//! | `--empty-destination` | what is there already is removed |
//! | `--depth=N` | how many commits of the history come with `--preserve-git-folder`; 0: all |
//! | `--submodules`, `--preserve-git-folder`, `--debug` | |
//! | `--credentials=DIR` | where the [`files`] are that the rest speaks of |
//! | `--auth=basic\|token\|ssh` | how to authenticate |
//! | `--ca-file=PATH` | certificates of authorities to trust in addition to the system's |
//! | `--no-verify-ssl`, `--insecure-ignore-host-key` | |
//! | `--known-hosts=LINES` | host keys to trust in addition to those in the file |
//! | `--proxy=URL` | the proxy, without credentials |

#![expect(missing_docs, reason = "the table says what each of the names is")]

/// The names of the arguments, without the `--` before them.
pub mod arguments {
    pub const REPO_URI: &str = "repo-uri";
    pub const REFERENCE_TYPE: &str = "reference-type";
    pub const REFERENCE_NAME: &str = "reference-name";
    pub const COMMIT: &str = "commit";
    pub const DESTINATION: &str = "destination";
    pub const EMPTY_DESTINATION: &str = "empty-destination";
    pub const DEPTH: &str = "depth";
    pub const SUBMODULES: &str = "submodules";
    pub const PRESERVE_GIT_FOLDER: &str = "preserve-git-folder";
    pub const DEBUG: &str = "debug";
    pub const CREDENTIALS: &str = "credentials";
    pub const AUTH: &str = "auth";
    pub const CA_FILE: &str = "ca-file";
    pub const NO_VERIFY_SSL: &str = "no-verify-ssl";
    pub const INSECURE_IGNORE_HOST_KEY: &str = "insecure-ignore-host-key";
    pub const KNOWN_HOSTS: &str = "known-hosts";
    pub const PROXY: &str = "proxy";
}

/// The values of `--auth`.
pub mod auth {
    pub const BASIC: &str = "basic";
    pub const TOKEN: &str = "token";
    pub const SSH: &str = "ssh";
}

/// The names of the files with credentials, in the folder [`FOLDER`](files::FOLDER).
pub mod files {
    /// Where a Job has them.
    pub const FOLDER: &str = "/git-credentials";
    /// `basic`: the user.
    pub const USERNAME: &str = "username";
    /// `basic`: the password.
    pub const PASSWORD: &str = "password";
    /// `token`: the value of the header Authorization.
    pub const TOKEN: &str = "token";
    /// `ssh`: the private key.
    pub const PRIVATE_KEY: &str = "ssh-privatekey";
    /// `ssh`: the passphrase of the private key; it may be absent.
    pub const PASSPHRASE: &str = "passphrase";
    /// `ssh`: the keys of the hosts; it may be absent.
    pub const KNOWN_HOSTS: &str = "known_hosts";
    /// Certificates of authorities, as PEM.
    pub const CA_CERTIFICATES: &str = "ca.crt";
    /// The user at the proxy; it may be absent.
    pub const PROXY_USERNAME: &str = "proxy-username";
    /// The password at the proxy; it may be absent.
    pub const PROXY_PASSWORD: &str = "proxy-password";
}
