use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    ops::Range,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};

/// The ports of our servers. Those from 32768 on are given to whoever asks the system for any port, or connects to somebody.
const PORTS: Range<u16> = 12_000..32_000;

/// An answer of the webhook listener.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: String,
    pub body: serde_json::Value,
}

/// A port that nothing listens on now, and that nobody else of this process is given.
pub fn free_port() -> Result<u16> {
    static TAKEN: AtomicU32 = AtomicU32::new(0);
    for _ in PORTS {
        let number = std::process::id().wrapping_mul(100).wrapping_add(TAKEN.fetch_add(1, Ordering::Relaxed));
        let port = PORTS.start + (number % PORTS.len() as u32) as u16;
        if TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no port of {PORTS:?} is free")
}

/// Sends a request with a body to a port of this machine, and reads the answer.
pub fn send(port: u16, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Result<Answer> {
    send_to((Ipv4Addr::LOCALHOST, port).into(), method, path, headers, body)
}

/// The same to a server that is elsewhere.
pub fn send_to(address: SocketAddr, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Result<Answer> {
    let (status, headers, body) = exchange_with(address, method, path, headers, body)?;
    Ok(Answer { status, headers, body: serde_json::from_str(&body).with_context(|| format!("no JSON: {body}"))? })
}

/// Posts an empty webhook request, calls `answered` as soon as the answer has begun, with its status, and then reads the rest of it.
pub fn post_and(port: u16, path: &str, answered: impl FnOnce(u16) -> Result<()>) -> Result<Answer> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    stream.write_all(format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 0\r\n\r\n").as_bytes())?;
    let mut answer = vec![0; "HTTP/1.1 202".len()];
    stream.read_exact(&mut answer)?;
    let status = std::str::from_utf8(&answer[9..])?.parse()?;
    answered(status)?;
    // What comes after that is there already, or is lost with who was to send it.
    let _ = stream.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer);
    let (headers, body) = answer.split_once("\r\n\r\n").with_context(|| format!("only a part of an answer: {answer:?}"))?;
    let body = serde_json::from_str(body).with_context(|| format!("no JSON: {body}"))?;
    Ok(Answer { status, headers: headers.to_owned(), body })
}

/// As [`send`], with an answer of any text: its status, its headers, and its body.
pub(crate) fn exchange(port: u16, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Result<(u16, String, String)> {
    exchange_with((Ipv4Addr::LOCALHOST, port).into(), method, path, headers, body)
}

fn exchange_with(address: SocketAddr, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Result<(u16, String, String)> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {}\r\n", body.len());
    headers.iter().for_each(|(name, value)| head.push_str(&format!("{name}: {value}\r\n")));
    stream.write_all(format!("{head}\r\n").as_bytes())?;
    // A server that refuses a large body closes before all of it is sent.
    let _ = stream.write_all(body);
    let mut answer = vec![];
    let _ = stream.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer);
    let Some((head, body)) = answer.split_once("\r\n\r\n") else { bail!("no answer, only: {answer:?}") };
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).with_context(|| format!("no status in: {head}"))?;
    Ok((status, head.to_owned(), body.to_owned()))
}
