//! What stands in front of a server over http, and changes what comes and goes.

use std::{
    io::{self, Read as _, Write as _},
    net::{Ipv4Addr, TcpListener, TcpStream},
    thread,
};

use git_events_runner_tests::GitServer;

/// Starts one, and answers with where the repository `app` is reached through it. It refuses a request with 400 and the words of `refusal`, if
/// that has some, and changes the head of each answer.
pub fn start(server: &GitServer, refusal: fn(&str) -> Option<&'static str>, change: fn(String) -> String) -> String {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let uri = format!("http://{}/app.git", listener.local_addr().unwrap());
    let behind = server.origin().trim_start_matches("http://").to_owned();
    thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let behind = behind.clone();
            thread::spawn(move || pass(client, &behind, refusal, change));
        }
    });
    uri
}

/// Passes one request on, and its answer back.
fn pass(mut client: TcpStream, behind: &str, refusal: fn(&str) -> Option<&'static str>, change: fn(String) -> String) -> io::Result<()> {
    let (mut head, mut byte) = (vec![], [0]);
    while !head.ends_with(b"\r\n\r\n") {
        client.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let length = head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ").map(|length| length.parse().unwrap()));
    let mut body = vec![0; length.unwrap_or_default()];
    client.read_exact(&mut body)?;
    if let Some(words) = refusal(&(head.clone() + &String::from_utf8_lossy(&body))) {
        let type_and_length = format!("Content-Type: text/plain; charset=utf-8\r\nContent-Length: {}", words.len());
        return write!(client, "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n{type_and_length}\r\n\r\n{words}");
    }
    let mut server = TcpStream::connect(behind)?;
    server.write_all(head.replacen("\r\n", "\r\nConnection: close\r\n", 1).as_bytes())?;
    server.write_all(&body)?;
    let mut answer = vec![];
    server.read_to_end(&mut answer)?;
    let end = answer.windows(4).position(|end| end == b"\r\n\r\n").unwrap();
    client.write_all(change(String::from_utf8_lossy(&answer[..end]).into_owned()).as_bytes())?;
    client.write_all(&answer[end..])
}
