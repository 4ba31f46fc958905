//! Servers that do as a script says, whatever a client wants.

use std::{
    io::{self, Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

/// A server that does with each connection what its script says, on threads of its own.
pub struct Server {
    pub address: SocketAddr,
    accepted: Arc<AtomicUsize>,
}

impl Server {
    pub fn start(script: impl Fn(&mut Connection) -> io::Result<()> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let accepted = Arc::new(AtomicUsize::new(0));
        let (script, count) = (Arc::new(script), Arc::clone(&accepted));
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                count.fetch_add(1, Ordering::SeqCst);
                let script = Arc::clone(&script);
                // An error means that the client has gone, as it should.
                thread::spawn(move || script(&mut Connection(stream)));
            }
        });
        Self { address, accepted }
    }

    /// How many connections it has accepted so far.
    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }
}

/// A connection to a client.
pub struct Connection(pub TcpStream);

impl Connection {
    /// Reads a request, and answers with its head; None when the client has closed.
    pub fn request(&mut self) -> io::Result<Option<String>> {
        let (mut head, mut byte) = (vec![], [0]);
        while !head.ends_with(b"\r\n\r\n") {
            if self.0.read(&mut byte)? == 0 {
                return Ok(None);
            }
            head.push(byte[0]);
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).map_or(0, |length| length.parse().unwrap());
        self.0.read_exact(&mut vec![0; length])?;
        Ok(Some(head))
    }

    pub fn answer(&mut self, status: &str, headers: &str, body: &[u8]) -> io::Result<()> {
        self.0.write_all(format!("HTTP/1.1 {status}\r\n{headers}\r\n").as_bytes())?;
        self.0.write_all(body)
    }

    /// Reads the request and answers it, with the end of the connection as that of the body.
    pub fn answer_once(&mut self, status: &str, headers: &str, body: &[u8]) -> io::Result<()> {
        self.request()?;
        self.answer(status, &format!("Connection: close\r\n{headers}"), body)
    }

    /// Says nothing until the client closes.
    pub fn silence(&mut self) -> io::Result<()> {
        io::copy(&mut self.0, &mut io::sink()).map(drop)
    }

    /// Repeats this until the client closes.
    pub fn endless(&mut self, piece: &[u8]) -> io::Result<()> {
        let many = piece.repeat(1 + 60_000 / piece.len());
        loop {
            self.0.write_all(&many)?;
        }
    }

    /// Sends one byte of this now and then, until the client closes.
    pub fn trickle(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.set_read_timeout(Some(Duration::from_millis(50)))?;
        for byte in bytes.iter().cycle() {
            self.0.write_all(&[*byte])?;
            if matches!(self.0.read(&mut [0]), Ok(0)) {
                break;
            }
        }
        Ok(())
    }

    /// Reads a packet of Git, such as the greeting of `git://`.
    pub fn packet(&mut self) -> io::Result<Vec<u8>> {
        let mut length = [0; 4];
        self.0.read_exact(&mut length)?;
        let length = usize::from_str_radix(&String::from_utf8_lossy(&length), 16).map_err(io::Error::other)?;
        let mut packet = vec![0; length.saturating_sub(4)];
        self.0.read_exact(&mut packet)?;
        Ok(packet)
    }

    /// Sends this, and nothing more: but the connection stays open in the other direction until the client closes.
    pub fn half_close(&mut self, last: &[u8]) -> io::Result<()> {
        self.0.write_all(last)?;
        self.0.shutdown(Shutdown::Write)?;
        self.silence()
    }
}

/// A ref, as a packet.
pub const REF: &[u8] = b"00401234567812345678123456781234567812345678 refs/heads/other99\n";

/// A packet with this text.
pub fn line(text: &[u8]) -> Vec<u8> {
    [format!("{:04x}", text.len() + 4).as_bytes(), text].concat()
}

/// A packet of a channel: 1 has the pack, 2 what is going on, 3 an error.
pub fn band(band: u8, data: &[u8]) -> Vec<u8> {
    line(&[&[band], data].concat())
}

/// The beginning of a pack of nine objects.
pub fn pack_start() -> Vec<u8> {
    [line(b"packfile\n"), band(1, b"PACK\0\0\0\x02\0\0\0\x09")].concat()
}

/// What a server of version 2 says of itself.
pub fn version_2() -> Vec<u8> {
    [line(b"version 2\n"), line(b"fetch=shallow\n"), b"0000".to_vec()].concat()
}
