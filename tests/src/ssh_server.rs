use std::{
    fs::{self, OpenOptions},
    io::Write as _,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail, ensure};
use tempfile::TempDir;

use crate::{
    GitRepo, free_port,
    git_repo::HERMETIC,
    server_process::{ServerProcess, program},
    wait_for,
};

const PACKAGES: &str = "openssh-server openssh-client git";

/// A key of ssh, made by `ssh-keygen`.
#[derive(Clone, Debug)]
pub struct SshKey {
    /// The file of the private key; that of the public key is beside it.
    pub file: PathBuf,
    pub private: String,
    /// Kind and key, without a comment.
    pub public: String,
}

impl SshKey {
    /// Makes one in a folder, with arguments such as `-t ed25519`.
    pub fn create(folder: &Path, args: &[&str], passphrase: &str) -> Result<Self> {
        let file = folder.join(format!("key-{}", fs::read_dir(folder)?.count()));
        keygen(program("ssh-keygen", PACKAGES)?.args(args).args(["-q", "-N", passphrase, "-C", "", "-f"]).arg(&file))?;
        let (private, public) = (fs::read_to_string(&file)?, fs::read_to_string(file.with_extension("pub"))?);
        Ok(Self { file, private, public: public.trim().to_owned() })
    }

    /// The command by which git itself uses it for a host that is known by this.
    pub(crate) fn ssh_command(&self, known_hosts: &str) -> Result<String> {
        let file = self.file.with_extension("known_hosts");
        fs::write(&file, known_hosts)?;
        let (known_hosts, key) = (file.display(), self.file.display());
        Ok(format!("ssh -F /dev/null -o StrictHostKeyChecking=yes -o UserKnownHostsFile={known_hosts} -o IdentitiesOnly=yes -i {key}"))
    }

    /// Its fingerprint, as `ssh-keygen -l` shows it.
    pub fn fingerprint(&self) -> Result<String> {
        let shown = keygen(program("ssh-keygen", PACKAGES)?.arg("-lf").arg(self.file.with_extension("pub")))?;
        shown.split(' ').nth(1).map(str::to_owned).context("no fingerprint")
    }
}

fn keygen(command: &mut Command) -> Result<String> {
    let done = command.stdin(Stdio::null()).output()?;
    ensure!(done.status.success(), "ssh-keygen: {}", String::from_utf8_lossy(&done.stderr));
    Ok(String::from_utf8(done.stdout)?)
}

/// A line of `known_hosts`, or several, with hashed names.
pub fn hashed(known_hosts: &str) -> Result<String> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("known_hosts");
    fs::write(&file, known_hosts)?;
    keygen(program("ssh-keygen", PACKAGES)?.arg("-Hf").arg(&file))?;
    Ok(fs::read_to_string(file)?)
}

/// OpenSSH's server, on a port and in a folder of its own, where whoever runs the test can use `git-upload-pack` and nothing else. It ends
/// when this is dropped.
pub struct SshServer {
    folder: TempDir,
    address: SocketAddr,
    user: String,
    /// Of Ed25519, ECDSA and RSA.
    pub host_keys: [SshKey; 3],
    /// The authority that has signed the host key of Ed25519.
    pub authority: SshKey,
    _sshd: ServerProcess,
}

impl SshServer {
    /// Starts one, and waits until it answers. One of the old protocol does not take the client's wish for version 2.
    pub fn start(old_protocol: bool) -> Result<Self> {
        Self::start_at(Ipv4Addr::LOCALHOST.into(), old_protocol)
    }

    /// The same where it is reached by another address.
    pub fn start_at(address: IpAddr, old_protocol: bool) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("ssh-server").tempdir()?;
        let root = folder.path();
        fs::create_dir(root.join("repos"))?;
        fs::write(root.join("authorized_keys"), "")?;
        let key = |args: &[&str]| SshKey::create(root, args, "");
        let host_keys = [key(&["-t", "ed25519"])?, key(&["-t", "ecdsa"])?, key(&["-t", "rsa", "-b", "2048"])?];
        let authority = key(&["-t", "ed25519"])?;
        let mut sign = program("ssh-keygen", PACKAGES)?;
        sign.args(["-q", "-h", "-I", "host", "-n", &address.to_string(), "-s"])
            .arg(&authority.file)
            .arg(host_keys[0].file.with_extension("pub"));
        keygen(&mut sign)?;
        let user = Command::new("id").arg("-un").output()?;
        let user = String::from_utf8(user.stdout)?.trim().to_owned();
        // Where root's server locks itself in; that of anybody else does not.
        if user == "root" {
            fs::create_dir_all("/run/sshd")?;
        }
        // Between the choice of a port and its use somebody else may take it.
        for _ in 0..10 {
            let address = SocketAddr::new(address, free_port()?);
            fs::write(root.join("sshd_config"), configuration(root, address, &host_keys, old_protocol))?;
            let mut command = program("sshd", PACKAGES)?;
            command.args(["-D", "-e", "-f"]).arg(root.join("sshd_config"));
            // Later ones shut out whoever has shown a wrong key before.
            let lenient = ["-o", "PerSourcePenalties=no"];
            if program("sshd", PACKAGES)?.arg("-t").args(lenient).arg("-f").arg(root.join("sshd_config")).output()?.status.success() {
                command.args(lenient);
            }
            let mut sshd = ServerProcess::start(command, &root.join("sshd.log"))?;
            let started = wait_for("sshd", || match sshd.is_running() {
                true => TcpStream::connect(address).ok().map(|_| true),
                false => Some(false),
            });
            if started? {
                return Ok(Self { folder, address, user, host_keys, authority, _sshd: sshd });
            }
        }
        bail!("sshd does not start: {}", fs::read_to_string(root.join("sshd.log")).unwrap_or_default())
    }

    /// Makes an empty repository.
    pub fn repo(&self, name: &str) -> Result<GitRepo> {
        GitRepo::create(&self.folder.path().join("repos"), name)
    }

    /// Where a repository is reached.
    pub fn uri(&self, name: &str) -> String {
        self.uri_as(&self.user, name)
    }

    /// Where a repository is reached by another user.
    pub fn uri_as(&self, user: &str, name: &str) -> String {
        format!("ssh://{user}@{}{}/{name}.git", self.address, self.folder.path().join("repos").display())
    }

    /// Where it keeps what it needs.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Makes a key that is let in, for `git-upload-pack`.
    pub fn key(&self, args: &[&str], passphrase: &str) -> Result<SshKey> {
        let key = SshKey::create(self.folder.path(), args, passphrase)?;
        let hermetic: Vec<_> = HERMETIC.iter().map(|(name, value)| format!("{name}={value}")).collect();
        self.authorize(&key, &format!("env {} git-shell -c \\\"$SSH_ORIGINAL_COMMAND\\\"", hermetic.join(" ")))?;
        Ok(key)
    }

    /// Lets a key in for a command, whatever the client wants to run.
    pub fn authorize(&self, key: &SshKey, command: &str) -> Result<()> {
        let mut file = OpenOptions::new().append(true).open(self.folder.path().join("authorized_keys"))?;
        Ok(writeln!(file, "restrict,command=\"{command}\" {}", key.public)?)
    }

    /// The name of the server in `known_hosts`.
    pub fn host(&self) -> String {
        format!("[{}]:{}", self.address.ip(), self.address.port())
    }

    /// Its host keys, as `known_hosts`.
    pub fn known_hosts(&self) -> String {
        self.host_keys.iter().map(|key| format!("{} {}\n", self.host(), key.public)).collect()
    }

    /// The command by which git itself reaches it with a key.
    pub fn ssh_command(&self, key: &SshKey) -> Result<String> {
        key.ssh_command(&self.known_hosts())
    }

    /// What it has logged so far.
    pub fn log(&self) -> Result<String> {
        Ok(fs::read_to_string(self.folder.path().join("sshd.log"))?)
    }
}

fn configuration(root: &Path, address: SocketAddr, host_keys: &[SshKey], old_protocol: bool) -> String {
    let keys: String = host_keys.iter().map(|key| format!("HostKey {}\n", key.file.display())).collect();
    let version = if old_protocol { "" } else { "AcceptEnv GIT_PROTOCOL" };
    let certificate = format!("{}-cert.pub", host_keys[0].file.display());
    let root = root.display();
    format!(
        "ListenAddress {address}
{keys}HostCertificate {certificate}
{version}
AuthorizedKeysFile {root}/authorized_keys
PidFile {root}/sshd.pid
AuthenticationMethods publickey
PermitRootLogin prohibit-password
StrictModes no
UsePAM no
LogLevel VERBOSE
MaxStartups 1000
"
    )
}
