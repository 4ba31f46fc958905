//! Over ssh: servers that are none, and OpenSSH's own with a command that means harm.

use std::{
    fs,
    io::{self, Write as _},
    sync::Arc,
    time::Duration,
};

use git_events_runner_core::{
    Reason,
    git::{Credentials, RepoUri, Repository},
};
use git_events_runner_tests::{SshKey, SshServer};

use super::{
    Asked, Case,
    server::{Connection, Server},
};

const GREETING: &[u8] = b"SSH-2.0-harmless\r\n";

/// What comes before a pack.
const PACK: &str = "printf '000eversion 2\\n0012fetch=shallow\\n0000'; head -c 60 >/dev/null; printf '000dpackfile\\n'; ";

pub fn cases() -> Vec<Case> {
    let folder = tempfile::tempdir().unwrap();
    let key = SshKey::create(folder.path(), &["-t", "ed25519"], "").unwrap();
    strangers(&key).into_iter().chain(commands()).collect()
}

/// Nobody is let in there.
fn strangers(key: &SshKey) -> Vec<Case> {
    let check = |what: &str, server: Server, reason, message| {
        let uri = format!("ssh://git@{}/app", server.address);
        Case::check(&format!("ssh: {what}"), repository(&uri, key), server, reason, message)
    };
    use Reason::*;
    let start = |script: fn(&mut Connection) -> io::Result<()>| Server::start(script);
    vec![
        check("silent", start(Connection::silence), Timeout, "took longer than 500ms, while exchanging keys with it"),
        check("a byte now and then", start(|c| c.trickle(b"x")), Timeout, "while exchanging keys with it"),
        check("lines without end", start(|c| c.endless(b"hello\r\n")), ProtocolError, "it does not greet as one of ssh"),
        check("noise without end", start(|c| c.endless(&[0xff])), ProtocolError, ""),
        check("closed at once", start(|_| Ok(())), Unreachable, "broke off"),
        check("half closed at once", start(|c| c.half_close(b"")), Unreachable, "broke off"),
        check("a page", start(|c| c.half_close(b"HTTP/1.1 400 Bad Request\r\n\r\n")), Unreachable, "broke off"),
        check(
            "greets, then silent",
            start(|c| c.0.write_all(GREETING).and_then(|()| c.silence())),
            Timeout,
            "while exchanging keys with it",
        ),
        check("greets, then a byte now and then", start(|c| c.0.write_all(GREETING).and_then(|()| c.trickle(&[0, 0, 1, 0]))), Timeout, ""),
        check(
            "greets, then zeros without end",
            start(|c| c.0.write_all(GREETING).and_then(|()| c.endless(&[0]))),
            Unreachable,
            "broke off",
        ),
        check("greets, then noise without end", start(|c| c.0.write_all(GREETING).and_then(|()| c.endless(&[0xff]))), ProtocolError, ""),
        check("greets, then closed", start(|c| c.0.write_all(GREETING)), Unreachable, "broke off"),
        check("greets, then half closed", start(|c| c.half_close(GREETING)), Unreachable, "broke off"),
        check("of an old version", start(|c| c.half_close(b"SSH-1.5-x\r\n")), Unreachable, "broke off"),
    ]
}

/// We are let in there, and get what a command of the shell prints.
fn commands() -> Vec<Case> {
    let server = Arc::new(SshServer::start(false).unwrap());
    let check = |what: &str, script: &str, reason, message| {
        let key = SshKey::create(server.folder(), &["-t", "ed25519"], "").unwrap();
        let file = key.file.with_extension("sh");
        fs::write(&file, script).unwrap();
        server.authorize(&key, &format!("sh {}", file.display())).unwrap();
        let mut repository = repository(&server.uri("app"), &key);
        if let Credentials::Ssh { known_hosts, .. } = &mut repository.credentials {
            *known_hosts = Some(server.known_hosts());
        }
        let case = Case::at(&format!("ssh: {what}"), repository, server.port(), Arc::clone(&server), reason, message);
        // Time to log in, too.
        if reason == Reason::Timeout { case.within(Duration::from_secs(3)) } else { case }
    };
    let checkout = |what, script: &str, reason, message| check(what, &format!("{PACK}{script}"), reason, message).of(Asked::Checkout);
    let slowly = |text: &str| format!("while for piece in {text}; do printf $piece || exit; sleep 0.05; done; do true; done");
    let silent = "cat >/dev/null";
    use Reason::*;
    vec![
        check("a silent command", silent, Timeout, "took longer than 3s, while receiving its list of refs"),
        check("a byte of the command now and then", &slowly("0 0 4 0"), Timeout, "while receiving its list of refs"),
        check("refs without end", "yes 004112345678123456781234567812345678123456781 refs/heads/other", ProtocolError, ""),
        check("noise without end", "cat /dev/urandom", ProtocolError, "no packets of Git"),
        check("errors without end", "yes >&2", Timeout, "while receiving its list of refs"),
        check("a half closed command", &format!("exec >&- 2>&-; {silent}"), Unreachable, "cut off"),
        checkout("silent within the pack", silent, Timeout, "while receiving its files"),
        checkout("progress without end", "yes \"$(printf '0014\\2')3456789 12345\"", ProtocolError, ""),
        checkout("half closed within the pack", &format!("exec >&- 2>&-; {silent}"), Unreachable, "its answer is cut off"),
    ]
}

/// The host key does not matter to one that means harm.
pub fn repository(uri: &str, key: &SshKey) -> Repository {
    let credentials = Credentials::Ssh {
        private_key: key.private.as_str().into(),
        passphrase: Some("canary".into()),
        known_hosts: None,
        insecure_ignore_host_key: true,
    };
    Repository { credentials, ..Repository::new(RepoUri::parse(uri).unwrap()) }
}
