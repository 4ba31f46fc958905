use std::{
    io::{self, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result};
use data_encoding::{BASE64, BASE64URL_NOPAD};
use jiff::{SignedDuration, Timestamp, fmt::rfc2822};
use ring::signature::{KeyPair as _, RSA_PKCS1_2048_8192_SHA256, RsaKeyPair, UnparsedPublicKey};
use rustls::pki_types::{PrivateKeyDer, pem::PemObject as _};
use serde_json::{Value, json};

/// What GitHub does for its Apps, for one App with one installation: it gives a token to whoever signs with the key of the App, and tells
/// nginx which tokens open a repository. It speaks http, and nginx speaks https in front of it.
///
/// It is written after GitHub's documentation, as GitHub itself is not to be reached from tests.
pub struct AppServer {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

/// The ids of the App and of its installation.
pub const APP: &str = "12";
pub const INSTALLATION: &str = "34";

#[derive(Default)]
struct State {
    public_key: Vec<u8>,
    /// Those that open a repository.
    tokens: Vec<String>,
    /// How many were asked for.
    asked: usize,
    behaviour: AppBehaviour,
}

/// What can be changed.
#[derive(Clone, Debug)]
pub struct AppBehaviour {
    /// How long tokens last.
    pub lifetime: Duration,
    /// How far its clock is ahead.
    pub ahead: SignedDuration,
    /// What it answers to whoever proves to be the App, in place of a token: status, headers, and body.
    pub refusal: Option<(u16, &'static str, &'static str)>,
}

impl Default for AppBehaviour {
    fn default() -> Self {
        Self { lifetime: Duration::from_secs(3600), ahead: SignedDuration::ZERO, refusal: None }
    }
}

impl AppServer {
    /// Starts one, for an App with this private key, which is in PEM. What every token begins with is `token`.
    pub fn start(private_key: &str, token: &'static str) -> Result<Self> {
        let key = match PrivateKeyDer::from_pem_slice(private_key.as_bytes())? {
            PrivateKeyDer::Pkcs1(key) => RsaKeyPair::from_der(key.secret_pkcs1_der()),
            other => RsaKeyPair::from_pkcs8(other.secret_der()),
        };
        let key = key.ok().context("the key of the App is of another kind")?;
        let state = State { public_key: key.public_key().as_ref().to_vec(), ..State::default() };
        let (state, listener) = (Arc::new(Mutex::new(state)), TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?);
        let (address, shared) = (listener.local_addr()?, Arc::clone(&state));
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let shared = Arc::clone(&shared);
                thread::spawn(move || answer(client, &shared, token));
            }
        });
        Ok(Self { address, state })
    }

    /// Where nginx asks it.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many tokens were asked for since the last call.
    pub fn take_asked(&self) -> usize {
        std::mem::take(&mut lock(&self.state).asked)
    }

    /// No token that it has given opens anything any more.
    pub fn revoke_all(&self) {
        lock(&self.state).tokens.clear();
    }

    pub fn behave(&self, behaviour: AppBehaviour) {
        lock(&self.state).behaviour = behaviour;
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn answer(mut client: TcpStream, state: &Mutex<State>, token: &str) -> io::Result<()> {
    let (mut head, mut byte) = (vec![], [0]);
    while !head.ends_with(b"\r\n\r\n") {
        client.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let header = |wanted: &str| {
        let mut headers = head.lines().filter_map(|line| line.split_once(": "));
        headers.find_map(|(name, value)| name.eq_ignore_ascii_case(wanted).then_some(value))
    };
    let authorization = header("authorization");
    let mut asked_for = vec![];
    if head.starts_with("POST ") {
        let length = header("content-length").and_then(|length| length.parse().ok()).unwrap_or_default();
        asked_for.resize(length, 0);
        client.read_exact(&mut asked_for)?;
    }
    let mut state = lock(state);
    let now = Timestamp::now() + state.behaviour.ahead;
    let (status, headers, body) = if head.starts_with("POST ") {
        state.asked += 1;
        let path = head.split(' ').nth(1).unwrap_or_default();
        state.token(path, authorization.unwrap_or_default(), &asked_for, now, token)
    } else {
        let is_in = authorization.is_some_and(|value| state.is_in(value));
        (if is_in { 204 } else { 401 }, "", String::new())
    };
    drop(state);
    let date = rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&now).unwrap_or_default();
    let length = body.len();
    write!(client, "HTTP/1.1 {status} x\r\nDate: {date}\r\n{headers}Connection: close\r\nContent-Length: {length}\r\n\r\n{body}")
}

impl State {
    fn token(&mut self, path: &str, authorization: &str, asked_for: &[u8], now: Timestamp, token: &str) -> (u16, &'static str, String) {
        let refused = |status: u16, message: &str| (status, "", json!({ "message": message, "status": status.to_string() }).to_string());
        let Some(claims) = self.claims(authorization) else { return refused(401, "A JSON web token could not be decoded") };
        let second = |name: &str| claims[name].as_i64().unwrap_or(i64::MAX);
        if claims["iss"] != APP {
            return refused(401, "Integration not found");
        }
        if second("iat") > now.as_second() {
            return refused(401, "'Issued at' claim ('iat') must be an Integer representing the time that the assertion was issued");
        }
        if second("exp") <= now.as_second() {
            return refused(
                401,
                "'Expiration time' claim ('exp') must be a numeric value representing the future time at which the assertion expires",
            );
        }
        if second("exp") > now.as_second() + 600 {
            return refused(401, "'Expiration time' claim ('exp') is too far in the future");
        }
        if path != format!("/api/v3/app/installations/{INSTALLATION}/access_tokens") {
            return refused(404, "Not Found");
        }
        if let Some((status, headers, body)) = self.behaviour.refusal {
            return (status, headers, body.to_owned());
        }
        // GitHub gives all that the App may do to whoever does not say what for.
        if serde_json::from_slice::<Value>(asked_for).ok() != Some(json!({ "permissions": { "contents": "read" } })) {
            return refused(422, "more is asked for than is needed");
        }
        let token = format!("{token}{}", self.tokens.len() + self.asked);
        self.tokens.push(token.clone());
        let expires_at = (now + self.behaviour.lifetime).strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        (201, "", json!({ "token": token, "expires_at": expires_at, "permissions": { "contents": "read" } }).to_string())
    }

    /// What a JSON Web Token says, if it is signed by the App.
    fn claims(&self, authorization: &str) -> Option<Value> {
        let (signed, signature) = authorization.strip_prefix("Bearer ")?.rsplit_once('.')?;
        let signature = BASE64URL_NOPAD.decode(signature.as_bytes()).ok()?;
        UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, &self.public_key).verify(signed.as_bytes(), &signature).ok()?;
        let mut parts = signed.split('.').map(|part| serde_json::from_slice::<Value>(&BASE64URL_NOPAD.decode(part.as_bytes()).ok()?).ok());
        let (head, claims) = (parts.next()??, parts.next()??);
        (head["alg"] == "RS256" && head["typ"] == "JWT").then_some(claims)
    }

    /// Whether a repository opens to this header.
    fn is_in(&self, authorization: &str) -> bool {
        let login = authorization.strip_prefix("Basic ").and_then(|login| BASE64.decode(login.as_bytes()).ok());
        let login = login.and_then(|login| String::from_utf8(login).ok()).unwrap_or_default();
        login.strip_prefix("x-access-token:").is_some_and(|token| self.tokens.iter().any(|given| given == token))
    }
}
