//! The repository with its credentials, which come from files.

use std::{fs, io, path::Path, time::Duration};

use git_events_runner_core::{
    cloner::{arguments, files},
    git::{Credentials, Proxy, RepoUri, Repository, Secret, Tls},
};

use crate::{
    args::{Auth, Cli},
    exit::Failure,
};

/// No limit: that of the Job ends this process.
const NO_LIMIT: Duration = Duration::from_secs(365 * 24 * 3600);

/// The repository that the command line describes.
pub fn repository(args: &Cli) -> Result<Repository, Failure> {
    let uri = RepoUri::parse(&args.repo_uri).map_err(|error| Failure::usage(format!("--{}: {error}", arguments::REPO_URI)))?;
    let credentials = match (args.auth, &args.credentials) {
        (Some(auth), Some(folder)) => credentials(auth, folder, args.insecure_ignore_host_key)?,
        _ => Credentials::None,
    };
    let ca_certificates = args.ca_file.as_deref().map(required).transpose()?;
    let proxy = args.proxy.as_ref().map(|url| proxy(url, args.credentials.as_deref())).transpose()?;
    let mut repository = Repository {
        credentials,
        tls: Tls { ca_certificates, no_verify: args.no_verify_ssl },
        proxy,
        timeout: args.timeout,
        checkout_timeout: NO_LIMIT,
        ..Repository::new(uri)
    };
    repository.know_hosts(args.known_hosts.as_deref().unwrap_or_default());
    Ok(repository)
}

fn credentials(auth: Auth, folder: &Path, insecure_ignore_host_key: bool) -> Result<Credentials, Failure> {
    let secret = |name| required(&folder.join(name)).map(Secret::from);
    Ok(match auth {
        Auth::Basic => Credentials::Basic { username: secret(files::USERNAME)?, password: secret(files::PASSWORD)? },
        Auth::Token => Credentials::Token { token: secret(files::TOKEN)? },
        Auth::Ssh => Credentials::Ssh {
            private_key: secret(files::PRIVATE_KEY)?,
            passphrase: optional(&folder.join(files::PASSPHRASE))?.map(Secret::from),
            known_hosts: optional(&folder.join(files::KNOWN_HOSTS))?,
            insecure_ignore_host_key,
        },
    })
}

fn proxy(url: &str, folder: Option<&Path>) -> Result<Proxy, Failure> {
    let value = |name| folder.map_or(Ok(None), |folder| optional(&folder.join(name)));
    let credentials = match (value(files::PROXY_USERNAME)?, value(files::PROXY_PASSWORD)?) {
        (Some(username), Some(password)) => Some((username.into(), password.into())),
        (None, None) => None,
        _ => {
            let message = format!("of the files {} and {} one is missing", files::PROXY_USERNAME, files::PROXY_PASSWORD);
            return Err(Failure::usage(message));
        }
    };
    Ok(Proxy { url: url.to_owned(), credentials })
}

fn required(path: &Path) -> Result<String, Failure> {
    optional(path)?.ok_or_else(|| Failure::usage(format!("the file {} is missing: check the Secret and its keys", path.display())))
}

fn optional(path: &Path) -> Result<Option<String>, Failure> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Failure::usage(format!("the file {} cannot be read: {error}", path.display()))),
    }
}
