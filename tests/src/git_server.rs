use std::{
    fs::{self, File},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream},
    path::Path,
};

use anyhow::{Result, bail};
use tempfile::TempDir;

use crate::{
    GitRepo, free_port,
    git_repo::{HERMETIC, git},
    server_process::{ServerProcess, program},
    wait_for,
};

const PACKAGES: &str = "nginx-light fcgiwrap git";

/// Who is let in.
#[derive(Clone, Debug, Default)]
pub enum Auth {
    /// Anybody.
    #[default]
    None,
    /// This user with this password.
    Basic(String, String),
    /// Whoever sends this as the whole of the header `Authorization`.
    Token(String),
    /// Whomever the server at this address lets in, which also answers for GitHub's API.
    App(SocketAddr),
}

/// How a server behaves; by default it lets anybody in, over http, and speaks protocol v2.
#[derive(Clone, Debug, Default)]
pub struct Options {
    pub auth: Auth,
    /// Protocol v0 only: the client's wish for another version does not reach git.
    pub old_protocol: bool,
    /// Answers are compressed for those who can read that.
    pub compressed: bool,
    /// A certificate and its key, as PEM: https.
    pub tls: Option<(String, String)>,
    /// What else of TLS is set, as nginx takes it.
    pub tls_settings: &'static str,
    /// Where it listens; by default where only this machine reaches it.
    pub address: Option<IpAddr>,
}

/// nginx with git-http-backend, on a port and in a folder of its own. It ends when this is dropped.
///
/// Beneath `/moved/` it redirects to the same path without that.
pub struct GitServer {
    folder: TempDir,
    origin: String,
    // In this order, so that nginx ends before what it passes requests to.
    _nginx: ServerProcess,
    _fcgiwrap: ServerProcess,
}

/// A request as nginx logs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggedRequest {
    pub method: String,
    pub path: String,
    pub status: u16,
    /// Bytes of the request, with its headers.
    pub received: u64,
    /// Bytes of the answer, with its headers.
    pub sent: u64,
}

impl GitServer {
    /// Starts one, and waits until it answers.
    pub fn start(options: &Options) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("git-server").tempdir()?;
        let root = folder.path();
        fs::create_dir(root.join("repos"))?;
        if let Some((certificate, key)) = &options.tls {
            fs::write(root.join("tls.crt"), certificate)?;
            fs::write(root.join("tls.key"), key)?;
        }
        if let Auth::Basic(user, password) = &options.auth {
            fs::write(root.join("htpasswd"), format!("{user}:{{PLAIN}}{password}\n"))?;
        }
        let socket = root.join("fcgiwrap.sock");
        let mut fcgiwrap = program("fcgiwrap", PACKAGES)?;
        fcgiwrap.args(["-c", "4", "-s", &format!("unix:{}", socket.display())]);
        let fcgiwrap = ServerProcess::start(fcgiwrap, &root.join("fcgiwrap.log"))?;
        wait_for("the socket of fcgiwrap", || socket.exists().then_some(()))?;

        let address = options.address.unwrap_or(Ipv4Addr::LOCALHOST.into());
        let backend = Path::new(&git(root, &["--exec-path"])?).join("git-http-backend");
        // Between the choice of a port and its use somebody else may take it.
        for _ in 0..10 {
            let port = free_port()?;
            fs::write(root.join("nginx.conf"), configuration(root, &backend, SocketAddr::new(address, port), options))?;
            let mut nginx = program("nginx", PACKAGES)?;
            nginx.arg("-e").arg(root.join("error.log")).arg("-p").arg(root).arg("-c").arg(root.join("nginx.conf"));
            let mut nginx = ServerProcess::start(nginx, &root.join("nginx.log"))?;
            let started = wait_for("nginx", || match nginx.is_running() {
                true if root.join("nginx.pid").exists() => TcpStream::connect((address, port)).ok().map(|_| true),
                true => None,
                false => Some(false),
            });
            if started? {
                let scheme = if options.tls.is_some() { "https" } else { "http" };
                return Ok(Self { folder, origin: format!("{scheme}://{address}:{port}"), _nginx: nginx, _fcgiwrap: fcgiwrap });
            }
        }
        bail!("nginx does not start: {}", fs::read_to_string(root.join("error.log")).unwrap_or_default())
    }

    /// Scheme, host and port.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// Where a repository is reached.
    pub fn uri(&self, name: &str) -> String {
        format!("{}/{name}.git", self.origin)
    }

    /// Makes an empty repository.
    pub fn repo(&self, name: &str) -> Result<GitRepo> {
        GitRepo::create(&self.folder.path().join("repos"), name)
    }

    /// Waits until this many requests are answered and logged, and takes them out of the log.
    pub fn take_requests(&self, count: usize) -> Result<Vec<LoggedRequest>> {
        let log = self.folder.path().join("access.log");
        let requests = wait_for("requests in the log of nginx", || {
            let text = fs::read_to_string(&log).ok()?;
            let requests: Vec<_> = text.lines().filter_map(parse_line).collect();
            (requests.len() >= count).then_some(requests)
        })?;
        File::create(&log)?;
        Ok(requests)
    }
}

fn parse_line(line: &str) -> Option<LoggedRequest> {
    let mut words = line.split(' ');
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut number = || words.next()?.parse::<u64>().ok();
    let (status, received, sent) = (number()?, number()?, number()?);
    Some(LoggedRequest { method, path, status: u16::try_from(status).ok()?, received, sent })
}

fn configuration(root: &Path, backend: &Path, address: SocketAddr, options: &Options) -> String {
    let (root, backend) = (root.display(), backend.display());
    let (ssl, certificate) = match options.tls {
        Some(_) => (" ssl", format!("ssl_certificate {root}/tls.crt; ssl_certificate_key {root}/tls.key; {}", options.tls_settings)),
        None => ("", String::new()),
    };
    let compression = if options.compressed { "gzip on; gzip_types *; gzip_min_length 1; gzip_proxied any;" } else { "" };
    let auth = match &options.auth {
        Auth::None => String::new(),
        Auth::Basic(..) => format!("auth_basic git; auth_basic_user_file {root}/htpasswd;"),
        Auth::App(_) => "auth_request /auth;".to_owned(),
        Auth::Token(token) => format!("if ($http_authorization != \"{token}\") {{ return 401; }}"),
    };
    let api = match &options.auth {
        Auth::App(address) => format!(
            "location /api/ {{ proxy_pass http://{address}; proxy_pass_header Date; }}
        location = /auth {{
            internal; proxy_pass http://{address}; proxy_pass_request_body off; proxy_set_header Content-Length \"\";
        }}"
        ),
        _ => String::new(),
    };
    // Not only by its own name: git-http-backend also reads the header, which nginx passes on by itself.
    let version = if options.old_protocol { "HTTP_GIT_PROTOCOL \"\"" } else { "GIT_PROTOCOL $http_git_protocol" };
    let hermetic: String = HERMETIC.iter().map(|(name, value)| format!("fastcgi_param {name} {value};\n")).collect();
    format!(
        "daemon off; master_process off; pid {root}/nginx.pid; error_log {root}/error.log;
events {{ worker_connections 256; }}
http {{
    log_format plain '$request_method $request_uri $status $request_length $bytes_sent';
    access_log {root}/access.log plain;
    client_body_temp_path {root}/body; fastcgi_temp_path {root}/fastcgi; proxy_temp_path {root}/proxy;
    scgi_temp_path {root}/scgi; uwsgi_temp_path {root}/uwsgi;
    client_max_body_size 0;
    server {{
        listen {address}{ssl};
        {certificate} {compression}
        location ~ ^/moved/(?<rest>.*)$ {{ return 302 $scheme://$http_host/$rest$is_args$args; }}
        {api}
        location / {{
            {auth}
            fastcgi_pass unix:{root}/fcgiwrap.sock;
            fastcgi_param SCRIPT_FILENAME {backend};
            fastcgi_param GIT_PROJECT_ROOT {root}/repos;
            fastcgi_param GIT_HTTP_EXPORT_ALL 1;
            fastcgi_param PATH_INFO $uri;
            fastcgi_param QUERY_STRING $query_string;
            fastcgi_param REQUEST_METHOD $request_method;
            fastcgi_param CONTENT_TYPE $content_type;
            fastcgi_param CONTENT_LENGTH $content_length;
            fastcgi_param REMOTE_ADDR $remote_addr;
            fastcgi_param {version};
            {hermetic}
        }}
    }}
}}
"
    )
}
