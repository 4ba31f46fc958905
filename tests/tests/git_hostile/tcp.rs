//! Over `git://`.

use std::io::{self, Write as _};

use git_events_runner_core::{
    Reason,
    git::{RepoUri, Repository},
};

use super::{
    Asked, Case,
    server::{Connection, REF, Server, band, pack_start, version_2},
};

pub fn cases() -> Vec<Case> {
    use Reason::*;
    vec![
        check("silent", Connection::silence, Timeout, "took longer than 500ms, while receiving its list of refs"),
        check("a byte now and then", |c| c.trickle(REF), Timeout, "took longer than 500ms, while receiving its list of refs"),
        check("refs without end", |c| c.endless(REF), TooLarge, "has more bytes of refs than is accepted, which is 1000000"),
        check("noise without end", |c| c.endless(&[0xff, b'x']), ProtocolError, "no packets of Git"),
        check("empty packets without end", |c| c.endless(b"0004"), ProtocolError, "a ref without a name"),
        check("closed at once", |_| Ok(()), Unreachable, "its answer is cut off"),
        check("closed within a packet", |c| c.0.write_all(&REF[..20]), Unreachable, "its answer is cut off"),
        check("half closed", |c| c.half_close(REF), Unreachable, "its answer is cut off"),
        check("half closed at once", |c| c.half_close(b""), Unreachable, "its answer is cut off"),
        check("a page", |c| c.0.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n"), ProtocolError, "no packets of Git"),
        check("an error in a packet", |c| c.0.write_all(b"0013ERR no \x1b[31m\n\n\n"), ProtocolError, "reports: no  [31m"),
        check("version 2, then silent", of_version_2(Connection::silence), Timeout, "took longer than 500ms, while receiving the ref"),
        check("version 2, then a byte now and then", of_version_2(|c| c.trickle(REF)), Timeout, "while receiving the ref"),
        check("version 2, then refs without end", of_version_2(|c| c.endless(REF)), TooLarge, "more bytes of refs"),
        check("version 2, then half closed", of_version_2(|c| c.half_close(REF)), Unreachable, "its answer is cut off"),
        check("version 2, then noise", of_version_2(|c| c.0.write_all(b"hello, world")), ProtocolError, "no packets of Git"),
        checkout("silent", Connection::silence, Timeout, "took longer than 500ms, while receiving its list of refs"),
        checkout("silent within the pack", pack(Connection::silence), Timeout, "took longer than 500ms, while receiving its files"),
        checkout(
            "a byte of the pack now and then",
            pack(|c| c.trickle(&band(2, b"working"))),
            Timeout,
            "took longer than 1s, while receiving its files",
        ),
        checkout("progress without end", pack(|c| c.endless(&band(2, &[b'x'; 1000]))), TooLarge, "more bytes of files"),
        checkout("a pack of noise", pack(|c| c.endless(&band(1, &[0xff; 1000]))), ProtocolError, "cannot be read: "),
        files("silent within the pack", pack(Connection::silence), Timeout, "took longer than 500ms, while receiving its files"),
        files("a byte of the pack now and then", pack(|c| c.trickle(&band(2, b"working"))), Timeout, "took longer than 500ms"),
        files("progress without end", pack(|c| c.endless(&band(2, &[b'x'; 1000]))), TooLarge, "more bytes of files"),
        files("a pack of noise", pack(|c| c.endless(&band(1, &[0xff; 1000]))), ProtocolError, "cannot be read: a number that is too large"),
        files("half closed within the pack", pack(|c| c.half_close(&band(1, b"x"))), Unreachable, "its answer is cut off"),
        checkout("half closed within the pack", pack(|c| c.half_close(&band(1, b"x"))), Unreachable, "its answer is cut off"),
    ]
}

fn check(
    what: &str,
    script: impl Fn(&mut Connection) -> io::Result<()> + Send + Sync + 'static,
    reason: Reason,
    message: &'static str,
) -> Case {
    let server = Server::start(move |client| client.packet().and_then(|_| script(client)));
    let repository = Repository::new(RepoUri::parse(&format!("git://{}/app", server.address)).unwrap());
    Case::check(&format!("git://: {what}"), repository, server, reason, message)
}

fn checkout(
    what: &str,
    script: impl Fn(&mut Connection) -> io::Result<()> + Send + Sync + 'static,
    reason: Reason,
    message: &'static str,
) -> Case {
    check(what, script, reason, message).of(Asked::Checkout)
}

fn files(
    what: &str,
    script: impl Fn(&mut Connection) -> io::Result<()> + Send + Sync + 'static,
    reason: Reason,
    message: &'static str,
) -> Case {
    check(&format!("files: {what}"), script, reason, message).of(Asked::Files)
}

/// Answers the greeting as a server of version 2, and takes the request.
fn of_version_2(script: impl Fn(&mut Connection) -> io::Result<()> + Send + Sync + 'static) -> impl Fn(&mut Connection) -> io::Result<()> {
    move |client| {
        client.0.write_all(&version_2())?;
        while !client.packet()?.is_empty() {}
        script(client)
    }
}

/// Sends the beginning of a pack, and goes on as the script says.
fn pack(script: impl Fn(&mut Connection) -> io::Result<()> + Send + Sync + 'static) -> impl Fn(&mut Connection) -> io::Result<()> {
    of_version_2(move |client| client.0.write_all(&pack_start()).and_then(|()| script(client)))
}
