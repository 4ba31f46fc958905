//! `known_hosts` of OpenSSH: which host keys, and which authorities that sign such keys, are trusted for a host.

use data_encoding::BASE64;
use ring::hmac;
use russh::keys::{
    Algorithm, Certificate, EcdsaCurve, HashAlg, PublicKeyOrCertificate,
    key::parse_public_key,
    ssh_key::{certificate::CertType, public::KeyData},
};

use super::public_hosts::PUBLIC_HOSTS;

/// What is known of one host.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// Its name in `known_hosts`: `host`, or `[host]:port` for a port other than 22.
    pub(super) name: String,
    pub(super) keys: Vec<KeyData>,
    /// The keys of authorities whose certificates are trusted.
    pub(super) authorities: Vec<KeyData>,
    revoked: Vec<KeyData>,
    /// Numbers of the lines that cannot be read. OpenSSH passes over such lines, too.
    pub(super) unreadable: Vec<usize>,
}

/// Why a host is not trusted.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Distrust {
    /// Nothing is known of it.
    Unknown,
    /// Others are known than the key that it presents.
    OtherKey,
    Revoked,
    /// What is wrong with its certificate.
    Certificate(&'static str),
}

impl Known {
    /// What these lines say of a host, or else what the large public hosts say of themselves.
    pub(super) fn of(text: &str, host: &str, port: u16) -> Self {
        let with_port = if port == 22 { host.to_owned() } else { format!("[{host}]:{port}") };
        let mut known = Self { name: with_port.clone(), ..Self::default() };
        known.read(text, &with_port);
        // As in OpenSSH: of a host whose port is named nowhere, what is said without a port holds.
        if known.is_empty() && port != 22 {
            known.unreadable.clear();
            known.read(text, host);
        }
        if known.is_empty() {
            let unreadable = std::mem::take(&mut known.unreadable);
            known.read(PUBLIC_HOSTS, &with_port);
            known.unreadable = unreadable;
        }
        known
    }

    fn is_empty(&self) -> bool {
        self.keys.is_empty() && self.authorities.is_empty()
    }

    fn read(&mut self, text: &str, name: &str) {
        for (at, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            if self.read_line(line, name).is_none() {
                self.unreadable.push(at + 1);
            }
        }
    }

    /// Takes a line if it is of this name; None: it cannot be read.
    fn read_line(&mut self, line: &str, name: &str) -> Option<()> {
        let mut words = line.split_whitespace();
        let first = words.next()?;
        let (marker, hosts) = if first.starts_with('@') { (first, words.next()?) } else { ("", first) };
        let keys = match marker {
            "" => &mut self.keys,
            "@cert-authority" => &mut self.authorities,
            "@revoked" => &mut self.revoked,
            _ => return None,
        };
        let (algorithm, key) = (words.next()?, words.next()?);
        if !names(hosts, name)? {
            return Some(());
        }
        let key = parse_public_key(&BASE64.decode(key.as_bytes()).ok()?).ok()?;
        keys.push(key.key_data().clone());
        (key.algorithm().as_str() == algorithm).then_some(())
    }

    /// The algorithms of host keys in the order in which they are asked for: those of which a key is known come first. A server offers only
    /// one of its keys, and it should be the one that can be recognized.
    pub(super) fn algorithms(&self) -> Vec<Algorithm> {
        let is_known = |algorithm: &Algorithm| self.keys.iter().any(|key| is_of(key, algorithm));
        let (mut first, rest): (Vec<_>, Vec<_>) = ALGORITHMS.iter().cloned().partition(is_known);
        first.extend(rest);
        first
    }

    /// The algorithms of keys whose certificates are asked for.
    pub(super) fn certificate_algorithms(&self) -> Vec<Algorithm> {
        if self.authorities.is_empty() { vec![] } else { ALGORITHMS.to_vec() }
    }

    /// Whether the host, which has proved to own this key, is the one that is known. `now` is in seconds since 1970.
    pub(super) fn check(&self, presented: &PublicKeyOrCertificate, host: &str, now: u64) -> Result<(), Distrust> {
        let key = presented.public_key().key_data().clone();
        let authority = presented.certificate().map(Certificate::signature_key);
        if self.revoked.iter().any(|revoked| *revoked == key || Some(revoked) == authority) {
            return Err(Distrust::Revoked);
        }
        // The key in a certificate may be known by itself.
        if self.keys.contains(&key) {
            return Ok(());
        }
        match presented.certificate() {
            Some(certificate) => self.check_certificate(certificate, host, now).map_err(Distrust::Certificate),
            None if self.keys.is_empty() => Err(Distrust::Unknown),
            None => Err(Distrust::OtherKey),
        }
    }

    fn check_certificate(&self, certificate: &Certificate, host: &str, now: u64) -> Result<(), &'static str> {
        if !self.authorities.contains(certificate.signature_key()) {
            return Err("is signed by an authority that is not known");
        }
        if certificate.cert_type() != CertType::Host {
            return Err("is not one of a host");
        }
        if matches!(certificate.signature().algorithm(), Algorithm::Rsa { hash: None } | Algorithm::Dsa) {
            return Err("is signed by an algorithm that is not safe any more");
        }
        // All critical options of the standard are for users.
        if !certificate.critical_options().is_empty() {
            return Err("has conditions that are not known");
        }
        let names = certificate.valid_principals();
        if !names.is_empty() && !names.iter().any(|name| name.eq_ignore_ascii_case(host)) {
            return Err("is for another host");
        }
        if !(certificate.valid_after()..certificate.valid_before()).contains(&now) {
            return Err("has expired, or is not valid yet");
        }
        let authority = certificate.signature_key().fingerprint(HashAlg::Sha256);
        certificate.validate_at(now, [&authority]).map_err(|_| "is not signed by the authority that it names")
    }
}

/// The host keys that are accepted. RSA only with SHA-2: nobody should trust SHA-1 any more.
const ALGORITHMS: [Algorithm; 6] = [
    Algorithm::Ed25519,
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 },
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP384 },
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP521 },
    Algorithm::Rsa { hash: Some(HashAlg::Sha512) },
    Algorithm::Rsa { hash: Some(HashAlg::Sha256) },
];

fn is_of(key: &KeyData, algorithm: &Algorithm) -> bool {
    match algorithm {
        Algorithm::Rsa { .. } => key.is_rsa(),
        other => key.algorithm() == *other,
    }
}

/// Whether the hosts of a line have this name; None: they cannot be read.
fn names(hosts: &str, name: &str) -> Option<bool> {
    if let Some(hashed) = hosts.strip_prefix("|1|") {
        let (salt, hash) = hashed.split_once('|')?;
        let (salt, hash) = (BASE64.decode(salt.as_bytes()).ok()?, BASE64.decode(hash.as_bytes()).ok()?);
        let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &salt);
        return Some(hmac::verify(&key, name.as_bytes(), &hash).is_ok());
    }
    // The hash of another kind.
    if hosts.starts_with('|') {
        return None;
    }
    let (mut is_named, hosts) = (false, hosts.to_ascii_lowercase());
    for pattern in hosts.split(',') {
        match pattern.strip_prefix('!') {
            Some(pattern) if matches(pattern, name) => return Some(false),
            Some(_) => {}
            None => is_named = is_named || matches(pattern, name),
        }
    }
    Some(is_named)
}

/// Whether a pattern with `*` and `?` matches all of a name.
fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name) = (pattern.as_bytes(), name.as_bytes());
    let (mut at, mut of) = (0, 0);
    // Where the last `*` was, and how far the name was then: it takes one character more each time that what follows does not match.
    let mut last: Option<(usize, usize)> = None;
    while of < name.len() {
        match pattern.get(at) {
            Some(b'*') => {
                last = Some((at, of));
                at += 1;
            }
            Some(letter) if *letter == b'?' || *letter == name[of] => {
                at += 1;
                of += 1;
            }
            _ => {
                let Some((star, taken)) = last else { return false };
                last = Some((star, taken + 1));
                (at, of) = (star + 1, taken + 1);
            }
        }
    }
    pattern[at..].iter().all(|letter| *letter == b'*')
}
