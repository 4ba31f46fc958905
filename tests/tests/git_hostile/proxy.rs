//! Through proxies: such as mean harm, and real ones with a server behind them that does.

use std::{
    io::{self, Read as _, Write as _},
    sync::Arc,
};

use git_events_runner_core::{
    Reason,
    git::{Proxy, RepoUri, Repository},
};
use git_events_runner_tests::ProxyServer;

use super::{
    Asked, Case, http,
    server::{Connection, REF, Server},
};

const CONNECTED: &[u8] = b"HTTP/1.1 200 Connection established\r\n\r\n";

pub fn cases() -> Vec<Case> {
    of_http().into_iter().chain(of_socks()).chain(behind_real_ones()).collect()
}

/// Nothing is looked up and nobody is asked but the proxy.
const NOWHERE: &str = "https://git.example.com/app";

fn check(what: &str, scheme: &str, uri: &str, server: Server, reason: Reason, message: &'static str) -> Case {
    let credentials = Some(("robot".into(), "canary".into()));
    let proxy = Some(Proxy { url: format!("{scheme}://{}", server.address), credentials });
    let repository = Repository { proxy, ..Repository::new(RepoUri::parse(uri).unwrap()) };
    Case::check(&format!("proxy: {what}"), repository, server, reason, message)
}

fn of_http() -> Vec<Case> {
    let start = |script: fn(&mut Connection) -> io::Result<()>| Server::start(move |c| c.request().and_then(|_| script(c)));
    let tunnel = |what, script, reason, message| check(what, "http", NOWHERE, start(script), reason, message);
    let plain = |what, script, reason, message| check(what, "http", "http://git.example.com/app", start(script), reason, message);
    use Reason::*;
    vec![
        tunnel("silent", Connection::silence, Timeout, "took longer than 500ms"),
        tunnel("a byte now and then", |c| c.trickle(b"HTTP/1.1 200 OK\r\nX: y"), Timeout, "took longer than 500ms"),
        tunnel("headers without end", |c| c.0.write_all(b"HTTP/1.1 200 OK\r\n").and_then(|()| c.endless(b"X: y\r\n")), Unreachable, ""),
        tunnel("noise", |c| c.endless(&[0xff]), Unreachable, "no connection to"),
        tunnel("closed at once", |_| Ok(()), Unreachable, "no connection to"),
        tunnel("half closed", |c| c.half_close(b"HTTP/1.1 200"), Unreachable, "no connection to"),
        tunnel("connects to nobody", |c| c.half_close(b"HTTP/1.1 502 Bad Gateway\r\n\r\n"), Unreachable, "no connection to"),
        tunnel("connects, then silent", |c| c.0.write_all(CONNECTED).and_then(|()| c.silence()), Timeout, "took longer than 500ms"),
        tunnel(
            "connects, then noise",
            |c| c.0.write_all(CONNECTED).and_then(|()| c.endless(b"noise")),
            Unreachable,
            "it does not speak TLS there",
        ),
        tunnel("connects, then closed", |c| c.0.write_all(CONNECTED), Unreachable, "no connection to"),
        plain("silent without a tunnel", Connection::silence, Timeout, "took longer than 500ms"),
        plain(
            "a page without a tunnel",
            |c| c.answer("200 OK", "Content-Type: text/html\r\n", b"no"),
            ProtocolError,
            "answers with text/html",
        ),
        plain("closed without a tunnel", |_| Ok(()), Unreachable, "through the proxy"),
    ]
}

fn of_socks() -> Vec<Case> {
    // User and password are asked for, and found right; then it is asked to connect.
    let start = |script: fn(&mut Connection) -> io::Result<()>| {
        Server::start(move |client| {
            for answer in [[5, 2], [1, 0]] {
                let _ = client.0.read(&mut [0; 1000])?;
                client.0.write_all(&answer)?;
            }
            let _ = client.0.read(&mut [0; 1000])?;
            script(client)
        })
    };
    let check = |what, server, reason, message| check(what, "socks5", NOWHERE, server, reason, message);
    use Reason::*;
    vec![
        check("a silent one of socks", Server::start(Connection::silence), Timeout, "took longer than 500ms"),
        check("noise of one of socks", Server::start(|c| c.endless(&[0xff])), Unreachable, "no connection to"),
        check("one of socks that closes at once", Server::start(|_| Ok(())), Unreachable, "no connection to"),
        check("one of socks that half closes", Server::start(|c| c.half_close(&[5])), Unreachable, "no connection to"),
        check(
            "one of socks that connects to nobody",
            start(|c| c.half_close(&[5, 5, 0, 1, 0, 0, 0, 0, 0, 0])),
            Unreachable,
            "no connection",
        ),
        check("one of socks that falls silent", start(Connection::silence), Timeout, "took longer than 500ms"),
        check("a byte of one of socks now and then", start(|c| c.trickle(&[5, 0, 0, 3, 255, 1])), Timeout, "took longer than 500ms"),
    ]
}

fn behind_real_ones() -> Vec<Case> {
    let proxies = [ProxyServer::http(None), ProxyServer::socks5(None)].map(|proxy| Arc::new(proxy.unwrap()));
    let urls = [format!("http://{}", proxies[0].authority()), format!("socks5://{}", proxies[1].authority())];
    let through = |number: usize, what: &str, server: Server, reason, message| {
        let proxy = Some(Proxy { url: urls[number].clone(), credentials: None });
        let mut repository = Repository { proxy, ..http::repository(&server) };
        // A proxy that waits for an answer to pass on does not notice that nobody wants it any more; one that passes on all it gets does.
        if what == "silent" {
            repository.uri = RepoUri::parse(&format!("https://{}/app", server.address)).unwrap();
        }
        let port = server.address.port();
        Case::at(&format!("behind {}: {what}", urls[number]), repository, port, (Arc::clone(&proxies[number]), server), reason, message)
    };
    use Reason::*;
    let mut cases = vec![];
    for number in 0..urls.len() {
        cases.extend([
            through(number, "silent", Server::start(Connection::silence), Timeout, "took longer than 500ms"),
            through(
                number,
                "a body of a byte now and then",
                Server::start(|c| c.answer_once("200 OK", http::ADVERTISEMENT, b"").and_then(|()| c.trickle(REF))),
                Timeout,
                "receiving its list of refs",
            ),
            through(
                number,
                "refs without end",
                Server::start(|c| c.answer_once("200 OK", http::ADVERTISEMENT, b"").and_then(|()| c.endless(REF))),
                TooLarge,
                "more bytes of refs",
            ),
            through(number, "silent within the pack", http::server_that_is_silent_within_the_pack(), Timeout, "receiving its files")
                .of(Asked::Checkout),
        ]);
    }
    cases
}
