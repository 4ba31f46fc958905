//! Over http.

use std::{
    io::{self, Write as _},
    time::Duration,
};

use git_events_runner_core::{
    Reason, Retry,
    git::{Credentials, RepoUri, Repository},
};

use super::{
    Asked, Case,
    server::{Connection, REF, Server, band, line, pack_start, version_2},
};

pub const ADVERTISEMENT: &str = "Content-Type: application/x-git-upload-pack-advertisement\r\n";
pub const RESULT: &str = "Content-Type: application/x-git-upload-pack-result\r\n";

/// Answers the request for capabilities as a server of version 2, and every other as the script says.
pub fn server_of_version_2(script: impl Fn(&mut Connection) -> io::Result<()> + Send + Sync + 'static) -> Server {
    Server::start(move |client| {
        while let Some(head) = client.request()? {
            if head.starts_with("GET") {
                let answer = version_2();
                client.answer("200 OK", &format!("Content-Length: {}\r\n{ADVERTISEMENT}", answer.len()), &answer)?;
            } else {
                return script(client);
            }
        }
        Ok(())
    })
}

/// One that sends the beginning of a pack and no more.
pub fn server_that_is_silent_within_the_pack() -> Server {
    server_of_version_2(|c| c.answer("200 OK", RESULT, &pack_start()).and_then(|()| c.silence()))
}

/// A repository of a server.
pub fn repository(server: &Server) -> Repository {
    Repository {
        credentials: Credentials::Basic { username: "me".into(), password: "canary".into() },
        ..Repository::new(RepoUri::parse(&format!("http://{}/app", server.address)).unwrap())
    }
}

pub fn cases() -> Vec<Case> {
    checks().into_iter().chain(checkouts()).collect()
}

fn check(what: &str, server: Server, reason: Reason, message: &'static str) -> Case {
    Case::check(&format!("http: {what}"), repository(&server), server, reason, message)
}

fn checkout(what: &str, server: Server, reason: Reason, message: &'static str) -> Case {
    check(what, server, reason, message).of(Asked::Checkout)
}

fn checks() -> Vec<Case> {
    let status = |status: &'static str, headers: &'static str| Server::start(move |client| client.answer_once(status, headers, b"canary"));
    let ok = |headers: &'static str, body: &'static [u8]| Server::start(move |client| client.answer_once("200 OK", headers, body));
    let after = |seconds| Retry::After(Duration::from_secs(seconds));
    use Reason::*;
    vec![
        check(
            "silent",
            Server::start(Connection::silence),
            Timeout,
            "took longer than 500ms, while waiting for its answer to the first request",
        ),
        check(
            "a byte now and then",
            Server::start(|c| c.request().and_then(|_| c.trickle(b"HTTP/1.1 200 OK\r\nX: y"))),
            Timeout,
            "took longer than 500ms",
        ),
        check(
            "a body of a byte now and then",
            Server::start(|c| c.answer_once("200 OK", ADVERTISEMENT, b"").and_then(|()| c.trickle(REF))),
            Timeout,
            "took longer than 500ms, while receiving its list of refs",
        ),
        check(
            "headers without end",
            Server::start(|c| c.request().and_then(|_| c.endless(b"HTTP/1.1 200 OK\r\nX: y\r\n"))),
            Unreachable,
            "broke off",
        ),
        check(
            "refs without end",
            Server::start(|c| c.answer_once("200 OK", ADVERTISEMENT, b"").and_then(|()| c.endless(REF))),
            TooLarge,
            "has more bytes of refs than is accepted, which is 1000000",
        ),
        check(
            "compressed refs without end",
            Server::start(|c| {
                c.answer_once("200 OK", &format!("Content-Encoding: gzip\r\n{ADVERTISEMENT}"), b"\x1f\x8b\x08\0\0\0\0\0\0\xff")?;
                // As stored blocks, each with its length and the complement of that.
                c.endless(&[&[0, 64, 0, 191, 255], REF].concat())
            }),
            TooLarge,
            "has more bytes of refs than is accepted",
        ),
        check(
            "a page without end",
            Server::start(|c| c.answer_once("200 OK", "Content-Type: text/html\r\n", b"").and_then(|()| c.endless(b"<br>"))),
            ProtocolError,
            "answers with text/html, not as a Git server",
        ),
        check(
            "noise without end",
            Server::start(|c| c.answer_once("200 OK", ADVERTISEMENT, b"").and_then(|()| c.endless(b"<br>"))),
            ProtocolError,
            "no packets of Git",
        ),
        check("closed at once", Server::start(|c| c.request().map(drop)), Unreachable, "broke off"),
        check("closed before the end of the refs", ok(ADVERTISEMENT, REF), Unreachable, "its answer is cut off"),
        check("closed within a packet", ok(ADVERTISEMENT, &REF[..20]), Unreachable, "its answer is cut off"),
        check(
            "closed within the promised length",
            ok("Content-Length: 500\r\nContent-Type: application/x-git-upload-pack-advertisement\r\n", REF),
            Unreachable,
            "broke off",
        ),
        check(
            "half closed after part of the answer",
            Server::start(|c| c.answer_once("200 OK", ADVERTISEMENT, b"").and_then(|()| c.half_close(REF))),
            Unreachable,
            "its answer is cut off",
        ),
        check("no http", Server::start(|c| c.request().and_then(|_| c.0.write_all(b"SSH-2.0-x\r\n"))), Unreachable, "broke off"),
        check(
            "redirect without end",
            Server::start(|c| {
                while c.request()?.is_some() {
                    c.answer("302 Found", "Location: /a/info/refs\r\nContent-Length: 0\r\n", b"")?;
                }
                Ok(())
            }),
            ProtocolError,
            "redirects more than 5 times",
        ),
        check(
            "redirect elsewhere",
            status("302 Found", "Location: https://elsewhere.example/canary?canary\r\n"),
            ProtocolError,
            "redirects to https://elsewhere.example, which is not followed",
        ),
        check(
            "redirect to a host with the secret in its name",
            status("302 Found", "Location: https://x.CANARY.elsewhere.example/\r\n"),
            ProtocolError,
            "redirects to https://x.….elsewhere.example, which is not followed",
        ),
        check("redirect to nowhere", status("302 Found", ""), ProtocolError, "redirects to nowhere"),
        check("401", status("401 Unauthorized", "WWW-Authenticate: Basic\r\n"), AuthenticationFailed, "refuses the credentials (401"),
        check("403", status("403 Forbidden", ""), AuthenticationFailed, "refuses the credentials (403"),
        check("404", status("404 Not Found", ""), RepositoryNotFound, "there is no repository at"),
        Case { retry: after(8), ..check("403 for a while", status("403 Forbidden", "Retry-After: 8\r\n"), RateLimited, "fewer requests") },
        Case { retry: after(7), ..check("429", status("429 Too Many Requests", "Retry-After: 7\r\n"), RateLimited, "fewer requests") },
        check("500", status("500 Internal Server Error", ""), Unreachable, "is not able to answer now (500"),
        Case { retry: after(9), ..check("503", status("503 Service Unavailable", "Retry-After: 9\r\n"), Unreachable, "(503") },
        check("418", status("418 canary", ""), ProtocolError, "not how a Git server answers"),
        check("400", status("400 Bad Request", "Content-Type: text/plain\r\n"), ProtocolError, "(it says: …)"),
        check("a page", ok("Content-Type: text/html; charset=utf-8\r\n", b"<html>"), ProtocolError, "answers with text/html"),
        check("a dumb server", ok("Content-Type: text/plain\r\n", REF), ProtocolError, "(smart http)"),
        check("an error in a packet", ok(ADVERTISEMENT, b"0013ERR no \x1b[31m\n\n\n"), ProtocolError, "reports: no  [31m"),
        check("version 2, then silent", server_of_version_2(Connection::silence), Timeout, "while waiting for its answer"),
        check("version 2, then cut off", server_of_version_2(|c| c.answer("200 OK", RESULT, REF)), Unreachable, "cut off"),
        check(
            "version 2, then refs without end",
            server_of_version_2(|c| c.answer("200 OK", RESULT, b"").and_then(|()| c.endless(REF))),
            TooLarge,
            "more bytes of refs",
        ),
        check(
            "version 2, then a redirect",
            server_of_version_2(|c| c.answer("307 Temporary Redirect", "Location: http://elsewhere.example/\r\n", b"")),
            ProtocolError,
            "redirects to http://elsewhere.example",
        ),
    ]
}

fn checkouts() -> Vec<Case> {
    let fetch = |pieces: Vec<Vec<u8>>| {
        server_of_version_2(move |c| c.answer("200 OK", &format!("Connection: close\r\n{RESULT}"), &pieces.concat()))
    };
    let endless = |data: &'static [u8]| {
        server_of_version_2(move |c| c.answer("200 OK", RESULT, &pack_start()).and_then(|()| c.endless(&band(1, data))))
    };
    use Reason::*;
    vec![
        checkout("silent", Server::start(Connection::silence), Timeout, "took longer than 500ms, while waiting"),
        checkout("version 2, then silent", server_of_version_2(Connection::silence), Timeout, "while waiting for its answer"),
        checkout(
            "silent within the pack",
            server_that_is_silent_within_the_pack(),
            Timeout,
            "took longer than 500ms, while receiving its files",
        ),
        checkout(
            "a byte of the pack now and then",
            server_of_version_2(|c| c.answer("200 OK", RESULT, &pack_start()).and_then(|()| c.trickle(&band(2, b"working")))),
            Timeout,
            "took longer than 1s, while receiving its files",
        ),
        checkout("a pack of noise", endless(&[0xff; 1000]), ProtocolError, "cannot be read: "),
        checkout(
            "a pack without end",
            // One object of a terabyte, as stored blocks of nothing.
            server_of_version_2(|c| {
                c.answer("200 OK", RESULT, &pack_start())?;
                c.0.write_all(&band(1, &[0xb0, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01, 0x78, 0x01]))?;
                c.endless(&band(1, &[&[0, 0xe8, 0x03, 0x17, 0xfc], [0; 1000].as_slice()].concat()))
            }),
            TooLarge,
            "has more bytes of files than is accepted, which is 10000000",
        ),
        checkout(
            "progress without end",
            server_of_version_2(|c| c.answer("200 OK", RESULT, &pack_start()).and_then(|()| c.endless(&band(2, &[b'x'; 1000])))),
            TooLarge,
            "more bytes of files",
        ),
        checkout(
            "not a pack",
            fetch(vec![line(b"packfile\n"), band(1, b"hello, world"), b"0000".to_vec()]),
            ProtocolError,
            "what is no pack",
        ),
        checkout("a pack without objects", fetch(vec![pack_start(), b"0000".to_vec()]), ProtocolError, "cannot be read"),
        checkout("a pack that is cut off", fetch(vec![pack_start()]), Unreachable, "its answer is cut off"),
        checkout("an error within the pack", fetch(vec![pack_start(), band(3, b"out of canary\n")]), ProtocolError, "reports: out of …"),
        checkout(
            "an error instead of a pack",
            fetch(vec![line(b"ERR upload-pack: not our ref 1234")]),
            ReferenceNotFound,
            "there is no commit",
        ),
        checkout(
            "billions of objects",
            fetch(vec![line(b"packfile\n"), band(1, b"PACK\0\0\0\x02\xff\xff\xff\xff")]),
            ProtocolError,
            "objects",
        ),
        checkout("a page", server_of_version_2(|c| c.answer("200 OK", "Content-Type: text/html\r\n", b"")), ProtocolError, "text/html"),
        checkout("500", server_of_version_2(|c| c.answer("500 Oh", "", b"")), Unreachable, "(500"),
    ]
}
