//! `known_hosts` of OpenSSH: which host keys, and which authorities that sign such keys, are trusted for a host.

use std::collections::BTreeSet;

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
    pub(super) unreadable: BTreeSet<usize>,
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
            known.read(text, host);
        }
        if known.is_empty() {
            known.read(PUBLIC_HOSTS, &with_port);
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
                self.unreadable.insert(at + 1);
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

#[cfg(test)]
mod tests {
    use russh::keys::PublicKey;

    use super::*;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAICOVEqFTba+zKKZUtOLceCcdGgjuUDbkUjaKjVjKrVsd";
    const OTHER: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBQTQxi2uU7TbSHGwy/YJGFRliGDKlyrl2I5YPm4QlyT";
    const ECDSA: &str = "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBNgR2QsxrYgKhOiwIH9oLnVSh5rkiwIq4JodGH1BigHesNtJoO+weAkeyA+5bmUyuzNloZJmgF8OzMH9b7eu1UY=";
    const AUTHORITY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKxog2LjdUDqGRY3C0rAa4dJOEY5EefPMbtd6Psx4IG6";

    fn of(text: &str, host: &str, port: u16) -> Vec<String> {
        Known::of(text, host, port).keys.iter().map(|key| PublicKey::from(key.clone()).to_openssh().unwrap().trim().to_owned()).collect()
    }

    fn presented(key: &str) -> PublicKeyOrCertificate {
        PublicKey::from_openssh(key).unwrap().into()
    }

    #[test]
    fn a_line_holds_for_the_hosts_that_it_names() {
        for (hosts, host, port, is_named) in [
            ("example.com", "example.com", 22, true),
            ("Example.COM", "example.com", 22, true),
            ("example.com", "xexample.com", 22, false),
            ("example.com", "example.com.evil.example", 22, false),
            ("a,example.com,b", "example.com", 22, true),
            ("*.example.com", "git.example.com", 22, true),
            ("*.example.com", "example.com", 22, false),
            ("git?.example.com", "git1.example.com", 22, true),
            ("git?.example.com", "git.example.com", 22, false),
            ("*,!evil.example.com", "git.example.com", 22, true),
            ("*,!evil.example.com", "evil.example.com", 22, false),
            ("!*.example.com", "git.example.com", 22, false),
            ("[example.com]:2222", "example.com", 2222, true),
            ("[example.com]:2222", "example.com", 22, false),
            ("[example.com]:2222", "example.com", 2223, false),
            ("[*.example.com]:2222", "git.example.com", 2222, true),
            ("example.com", "example.com", 2222, true),
            ("::1", "::1", 22, true),
            ("[::1]:2222", "::1", 2222, true),
            ("192.0.2.1", "192.0.2.1", 22, true),
            ("", "example.com", 22, false),
        ] {
            let expected: &[&str] = if is_named { &[KEY] } else { &[] };
            assert_eq!(of(&format!("{hosts} {KEY} a comment"), host, port), expected, "{hosts} for {host}:{port}");
        }
    }

    #[test]
    fn hashed_names_are_those_of_ssh_keygen() {
        let plain = format!("|1|lgxTbcwFlNnjKOT2VeINAJlfoqY=|JSxR0BXsVUaZjsW5ay+qGw8C1js= {KEY}");
        assert_eq!(of(&plain, "example.com", 22), [KEY]);
        assert!(of(&plain, "example.org", 22).is_empty());
        let with_port = format!("|1|Lxgu73JNHGP3CxST6xa51c4edvM=|q6ltTQaHIDTnlJBWV72xyRhXM7o= {KEY}");
        assert_eq!(of(&with_port, "example.com", 2222), [KEY]);
        assert!(of(&with_port, "example.com", 22).is_empty());
    }

    #[test]
    fn what_is_said_of_the_port_counts_more_than_what_is_said_without_one() {
        let text = format!("example.com {KEY}\n[example.com]:2222 {OTHER}");
        assert_eq!(of(&text, "example.com", 2222), [OTHER]);
        assert_eq!(of(&text, "example.com", 22), [KEY]);
        assert_eq!(of(&text, "example.com", 2223), [KEY]);
    }

    #[test]
    fn what_is_given_counts_more_than_what_the_public_hosts_publish() {
        assert_eq!(of("", "github.com", 22).len(), 3);
        assert_eq!(of(&format!("example.com {KEY}"), "github.com", 22).len(), 3);
        assert_eq!(of(&format!("github.com {KEY}"), "github.com", 22), [KEY]);
        assert!(of("", "github.com", 2222).is_empty());
        assert!(of("", "github.com.evil.example", 22).is_empty());
    }

    #[test]
    fn lines_that_cannot_be_read_are_told_by_their_numbers_and_others_are_read() {
        let text = format!(
            "# a comment\n\n  \texample.com\t{KEY}\r\nexample.com\nexample.com ssh-ed25519 ????\nexample.com ssh-rsa {}\n@what {KEY}\n\
             |2|a|b {KEY}\n|1|????|b {KEY}\nexample.org ssh-ed25519 ????\nexample.com {ECDSA}",
            KEY.split(' ').next_back().unwrap()
        );
        let known = Known::of(&text, "example.com", 22);
        assert_eq!(known.keys.len(), 3, "the key of the wrong name is one, too");
        assert_eq!(known.unreadable, BTreeSet::from([4, 5, 6, 7, 8, 9]));
    }

    #[test]
    fn no_line_reads_certificates_within_certificates() {
        let nested = b"\0\0\0\x20ssh-ed25519-cert-v01@openssh.com".repeat(100_000);
        let line = format!("example.com ssh-ed25519-cert-v01@openssh.com {}", BASE64.encode(&nested));
        assert_eq!(Known::of(&line, "example.com", 22).unreadable, BTreeSet::from([1]));
    }

    #[test]
    fn patterns_take_no_longer_than_they_should() {
        assert!(matches("a*b*c", "a--b--b--c") && matches("*", "") && matches("a*", "a") && matches("*a", "ba") && matches("", ""));
        assert!(!matches("a*b*c", "a--b--b--") && !matches("", "a") && !matches("?", "") && !matches("*?", ""));
        assert!(!matches(&"*a".repeat(1000), &"a".repeat(900)));
    }

    #[test]
    fn the_kinds_of_keys_that_are_known_are_asked_for_first() {
        let known = Known::of(&format!("example.com {ECDSA}"), "example.com", 22);
        assert_eq!(known.algorithms()[0].as_str(), "ecdsa-sha2-nistp256");
        assert_eq!(known.algorithms().len(), ALGORITHMS.len());
        assert_eq!(Known::default().algorithms(), ALGORITHMS);
        assert!(known.certificate_algorithms().is_empty());
    }

    #[test]
    fn a_known_key_is_trusted_and_no_other() {
        let known = Known::of(&format!("example.com {KEY}\nexample.com {ECDSA}"), "example.com", 22);
        for key in [KEY, ECDSA] {
            assert_eq!(known.check(&presented(key), "example.com", 0), Ok(()));
        }
        assert_eq!(known.check(&presented(OTHER), "example.com", 0), Err(Distrust::OtherKey));
        assert_eq!(Known::default().check(&presented(OTHER), "example.com", 0), Err(Distrust::Unknown));
    }

    #[test]
    fn a_revoked_key_is_not_trusted_whatever_else_is_said_of_it() {
        let text = format!("example.com {KEY}\n@revoked * {KEY}\n@cert-authority * {AUTHORITY}\n@revoked *.com {AUTHORITY}");
        let known = Known::of(&text, "example.com", 22);
        assert_eq!(known.check(&presented(KEY), "example.com", 0), Err(Distrust::Revoked));
        assert_eq!(known.check(&certificate(FOR_EXAMPLE_COM), "example.com", 0), Err(Distrust::Revoked));
        let other_host = Known::of(&text.replace('*', "other"), "example.com", 22);
        assert_eq!(other_host.check(&presented(KEY), "example.com", 0), Ok(()));
    }

    // Made by `ssh-keygen -s ca -h -n example.com,alt.example.com`, and so on, for the key above.
    const FOR_EXAMPLE_COM: &str = "AAAAIHNzaC1lZDI1NTE5LWNlcnQtdjAxQG9wZW5zc2guY29tAAAAIJJfuSCJswDX8GfPTk5U1se4d1T21ZbAKK/OmU8sUaJrAAAAICOVEqFTba+zKKZUtOLceCcdGgjuUDbkUjaKjVjKrVsdAAAAAAAAAAAAAAACAAAABGhvc3QAAAAiAAAAC2V4YW1wbGUuY29tAAAAD2FsdC5leGFtcGxlLmNvbQAAAAAAAAAA//////////8AAAAAAAAAAAAAAAAAAAAzAAAAC3NzaC1lZDI1NTE5AAAAIKxog2LjdUDqGRY3C0rAa4dJOEY5EefPMbtd6Psx4IG6AAAAUwAAAAtzc2gtZWQyNTUxOQAAAECF216R900/8IKZeXauFYhqbv5KH7d929BUPZM+km3Aeona1lnossOSqgcwbsP1kfnFjVk4mH3Z1UWh2SgglGgK";
    const OF_2020: &str = "AAAAIHNzaC1lZDI1NTE5LWNlcnQtdjAxQG9wZW5zc2guY29tAAAAILe57oMyHcNJfMxpQwpuAqrqWCzmfLHjl9XhI7KNsVyEAAAAICOVEqFTba+zKKZUtOLceCcdGgjuUDbkUjaKjVjKrVsdAAAAAAAAAAAAAAACAAAABGhvc3QAAAAPAAAAC2V4YW1wbGUuY29tAAAAAF4L4QAAAAAAX+5mAAAAAAAAAAAAAAAAAAAAADMAAAALc3NoLWVkMjU1MTkAAAAgrGiDYuN1QOoZFjcLSsBrh0k4RjkR588xu13o+zHggboAAABTAAAAC3NzaC1lZDI1NTE5AAAAQF7rZ3aFZyPUatjHr/YTI04P+NfzDAgZQgzzM0EVP+CXFbCGyg9ttUiOdCt/SxCZN1QDalphn+uOkxpRHQ2nqg0=";
    const OF_A_USER: &str = "AAAAIHNzaC1lZDI1NTE5LWNlcnQtdjAxQG9wZW5zc2guY29tAAAAIBFJAxy+87ljyT8GaToO5Yjb8+I6tu1CzbzFDltOdLcwAAAAICOVEqFTba+zKKZUtOLceCcdGgjuUDbkUjaKjVjKrVsdAAAAAAAAAAAAAAABAAAABHVzZXIAAAAPAAAAC2V4YW1wbGUuY29tAAAAAAAAAAD//////////wAAAAAAAACCAAAAFXBlcm1pdC1YMTEtZm9yd2FyZGluZwAAAAAAAAAXcGVybWl0LWFnZW50LWZvcndhcmRpbmcAAAAAAAAAFnBlcm1pdC1wb3J0LWZvcndhcmRpbmcAAAAAAAAACnBlcm1pdC1wdHkAAAAAAAAADnBlcm1pdC11c2VyLXJjAAAAAAAAAAAAAAAzAAAAC3NzaC1lZDI1NTE5AAAAIKxog2LjdUDqGRY3C0rAa4dJOEY5EefPMbtd6Psx4IG6AAAAUwAAAAtzc2gtZWQyNTUxOQAAAEBgFabDkWMs46p7gSd6/CC1ZchfOkTe8H609PBHwmzNpxJHURp4vQanrZZlxYFR2qCUsh2qs/VxNgt9xacUg9MP";
    const FOR_ANY_HOST: &str = "AAAAIHNzaC1lZDI1NTE5LWNlcnQtdjAxQG9wZW5zc2guY29tAAAAIPOdaF/gfx2vT+EppOBo5hXYewq/0dLnX6dqA+4FX46/AAAAICOVEqFTba+zKKZUtOLceCcdGgjuUDbkUjaKjVjKrVsdAAAAAAAAAAAAAAACAAAAA2FueQAAAAAAAAAAAAAAAP//////////AAAAAAAAAAAAAAAAAAAAMwAAAAtzc2gtZWQyNTUxOQAAACCsaINi43VA6hkWNwtKwGuHSThGORHnzzG7Xej7MeCBugAAAFMAAAALc3NoLWVkMjU1MTkAAABAk4v90pOYxsBIeRy6d6JcvKKpH91z8jIGGz2u6TY2zRHgHIC+j5S8w9vffIgbok0VQI7ndXsA/vl4sl3bwSkaBA==";

    fn certificate(base64: &str) -> PublicKeyOrCertificate {
        Certificate::from_bytes(&BASE64.decode(base64.as_bytes()).unwrap()).unwrap().into()
    }

    #[test]
    fn a_certificate_is_trusted_if_the_authority_is_and_it_fits() {
        let known = Known::of(&format!("@cert-authority *.com {AUTHORITY}"), "example.com", 22);
        assert_eq!(known.certificate_algorithms(), ALGORITHMS);
        let in_2020 = 1_590_000_000;
        for (base64, host, now, expected) in [
            (FOR_EXAMPLE_COM, "example.com", in_2020, Ok(())),
            (FOR_EXAMPLE_COM, "alt.example.com", in_2020, Ok(())),
            (FOR_EXAMPLE_COM, "git.example.com", in_2020, Err("is for another host")),
            (OF_2020, "example.com", in_2020, Ok(())),
            (OF_2020, "example.com", 2 * in_2020, Err("has expired, or is not valid yet")),
            (OF_2020, "example.com", 0, Err("has expired, or is not valid yet")),
            (OF_A_USER, "example.com", in_2020, Err("is not one of a host")),
            (FOR_ANY_HOST, "example.org", in_2020, Ok(())),
        ] {
            assert_eq!(known.check(&certificate(base64), host, now), expected.map_err(Distrust::Certificate), "{host} {expected:?}");
        }
        let other = Known::of(&format!("@cert-authority *.com {OTHER}"), "example.com", 22);
        let unknown = Err(Distrust::Certificate("is signed by an authority that is not known"));
        assert_eq!(other.check(&certificate(FOR_EXAMPLE_COM), "example.com", in_2020), unknown);
        assert_eq!(known.check(&presented(KEY), "example.com", in_2020), Err(Distrust::Unknown), "a bare key is no certificate");
        let by_itself = Known::of(&format!("example.com {KEY}"), "example.com", 22);
        assert_eq!(by_itself.check(&certificate(OF_2020), "example.com", 0), Ok(()), "its key is known without it");
    }

    #[test]
    fn a_forged_certificate_is_not_trusted() {
        let known = Known::of(&format!("@cert-authority *.com {AUTHORITY}"), "example.com", 22);
        let mut bytes = BASE64.decode(FOR_EXAMPLE_COM.as_bytes()).unwrap();
        let at = bytes.windows(11).position(|window| window == b"example.com").unwrap();
        bytes[at..at + 11].copy_from_slice(b"example.net");
        let forged = Certificate::from_bytes(&bytes).unwrap().into();
        let expected = Err(Distrust::Certificate("is not signed by the authority that it names"));
        assert_eq!(known.check(&forged, "example.net", 1_590_000_000), expected);
    }
}
