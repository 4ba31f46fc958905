//! The private key out of a Secret.

use data_encoding::BASE64;
use pkcs8::{EncryptedPrivateKeyInfoRef, pkcs5::pbes2};
use russh::keys::{
    self, Algorithm, PrivateKey,
    ssh_key::{self, private::KeypairData},
};

/// How often a passphrase may be hashed: what `ssh-keygen -a` and `openssl -iter` are given at most. More would keep a thread busy for
/// minutes, at each check.
const MAX_BCRYPT: u32 = 1024;
const MAX_PBKDF2: u32 = 2_000_000;

/// How much memory the hash of a passphrase may take: four times what OpenSSL takes.
const MAX_SCRYPT: u64 = 64 << 20;

const LEGACY: &str = "is encrypted in a way of old PEM files that is not known: rewrite it with `ssh-keygen -p -f FILE`";
const WRONG: &str = "does not open with the passphrase: correct `passphrase` in the Secret";
const COSTLY: &str = "takes too long to open: protect it with fewer rounds, such as those of `ssh-keygen -p -a 100 -f FILE`";

/// Reads a private key; the error says what is wrong with it, as the rest of a sentence.
pub(super) fn decode(text: &str, passphrase: Option<&str>) -> Result<PrivateKey, String> {
    let passphrase = passphrase.filter(|passphrase| !passphrase.is_empty());
    let text: Vec<_> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let label = text.first().and_then(|line| line.strip_prefix("-----BEGIN ")).and_then(|line| line.strip_suffix("-----"));
    let key = match label {
        Some("OPENSSH PRIVATE KEY") => open_openssh(&body(&text)?, passphrase)?,
        Some("ENCRYPTED PRIVATE KEY") => open_pkcs8(&body(&text)?, passphrase)?,
        Some("RSA PRIVATE KEY" | "EC PRIVATE KEY") if text.iter().any(|line| line.starts_with("Proc-Type: 4,ENCRYPTED")) => {
            open_legacy(&text, passphrase)?
        }
        Some("RSA PRIVATE KEY" | "EC PRIVATE KEY" | "PRIVATE KEY") => keys::decode_secret_key(&text.join("\n"), None).map_err(broken)?,
        _ => return Err(no_key(text.first().copied().unwrap_or_default())),
    };
    match key.algorithm() {
        Algorithm::Ed25519 | Algorithm::Ecdsa { .. } | Algorithm::Rsa { .. } => Ok(key),
        other => Err(format!("is of the kind {}, which cannot be used: make one with `ssh-keygen -t ed25519`", other.as_str())),
    }
}

fn no_key(first_line: &str) -> String {
    let why = if first_line.is_empty() {
        "is empty"
    } else if first_line.starts_with("ssh-") || first_line.starts_with("ecdsa-") || first_line.starts_with("-----BEGIN PUBLIC KEY") {
        "is a public key: the Secret needs the other file of the pair"
    } else if first_line.starts_with("PuTTY-User-Key-File-") {
        "is in the form of PuTTY: export it as one of OpenSSH"
    } else {
        "is no private key: it has to begin with `-----BEGIN … PRIVATE KEY-----`"
    };
    why.to_owned()
}

/// What stands between the first line and the last.
fn body(lines: &[&str]) -> Result<Vec<u8>, String> {
    let body: String = lines[1..].iter().take_while(|line| !line.starts_with("-----END ")).copied().collect();
    let body = BASE64.decode(body.as_bytes()).map_err(|_| "is damaged: its lines are not base64".to_owned())?;
    // Nobody has a certificate within a key, and one within another within another would be read until there is no stack any more.
    if body.windows(10).any(|window| window == b"-cert-v01@") {
        return Err("holds a certificate, which cannot be read".to_owned());
    }
    Ok(body)
}

fn broken(error: impl Into<keys::Error>) -> String {
    format!("cannot be read: {}", error.into().to_string().to_lowercase())
}

fn given(passphrase: Option<&str>) -> Result<&str, String> {
    passphrase.ok_or_else(|| "is protected by a passphrase: the Secret needs `passphrase`, too".to_owned())
}

fn open_openssh(body: &[u8], passphrase: Option<&str>) -> Result<PrivateKey, String> {
    let key = PrivateKey::from_bytes(body).map_err(broken)?;
    if !key.is_encrypted() {
        return Ok(key);
    }
    if let ssh_key::Kdf::Bcrypt { rounds, .. } = key.kdf()
        && *rounds > MAX_BCRYPT
    {
        return Err(COSTLY.to_owned());
    }
    let key = key.decrypt(given(passphrase)?).map_err(|_| WRONG.to_owned())?;
    if matches!(key.key_data(), KeypairData::Encrypted(_)) { Err(WRONG.to_owned()) } else { Ok(key) }
}

fn open_pkcs8(body: &[u8], passphrase: Option<&str>) -> Result<PrivateKey, String> {
    let info = EncryptedPrivateKeyInfoRef::try_from(body).map_err(broken)?;
    let is_cheap = match info.encryption_algorithm.pbes2().map(|parameters| &parameters.kdf) {
        Some(pbes2::Kdf::Pbkdf2(parameters)) => parameters.iteration_count <= MAX_PBKDF2,
        Some(pbes2::Kdf::Scrypt(parameters)) => {
            let size = u64::from(parameters.block_size) * u64::from(parameters.parallelization) * 128;
            parameters.cost_parameter.checked_mul(size).is_some_and(|memory| memory <= MAX_SCRYPT)
        }
        _ => false,
    };
    if !is_cheap {
        return Err(COSTLY.to_owned());
    }
    keys::pkcs8::decode_pkcs8(body, Some(given(passphrase)?.as_bytes())).map_err(|_| WRONG.to_owned())
}

/// Of the encryptions before PKCS #8, the one that `ssh-keygen -m PEM` uses is known, for RSA.
fn open_legacy(lines: &[&str], passphrase: Option<&str>) -> Result<PrivateKey, String> {
    if !lines[0].contains("RSA") || !lines.iter().any(|line| line.starts_with("DEK-Info: AES-128-CBC,")) {
        return Err(LEGACY.to_owned());
    }
    keys::decode_secret_key(&lines.join("\n"), Some(given(passphrase)?)).map_err(|_| WRONG.to_owned())
}

#[cfg(test)]
mod tests {
    use data_encoding::BASE64_MIME;
    use russh::keys::{key::safe_rng, ssh_key::LineEnding};

    use super::*;

    fn key() -> PrivateKey {
        PrivateKey::random(&mut safe_rng(), Algorithm::Ed25519).unwrap()
    }

    fn openssh(key: &PrivateKey) -> String {
        key.to_openssh(LineEnding::LF).unwrap().to_string()
    }

    fn protected() -> String {
        openssh(&key().encrypt(&mut safe_rng(), "canary").unwrap())
    }

    fn pkcs8(key: &PrivateKey, rounds: u32) -> Vec<u8> {
        keys::pkcs8::encode_pkcs8_encrypted(b"canary", rounds, key).unwrap()
    }

    fn pem(label: &str, body: &[u8]) -> String {
        format!("-----BEGIN {label}-----\n{}\n-----END {label}-----", BASE64_MIME.encode(body))
    }

    /// The text with some bytes of its body replaced.
    fn patched(text: &str, find: &[u8], at: usize, by: &[u8]) -> String {
        let lines: Vec<_> = text.lines().collect();
        let mut body = body(&lines).unwrap();
        let from = at + body.windows(find.len()).position(|window| window == find).unwrap();
        body[from..from + by.len()].copy_from_slice(by);
        pem(lines[0].trim_start_matches("-----BEGIN ").trim_end_matches("-----"), &body)
    }

    #[test]
    fn a_key_is_read_whatever_its_lines_end_with() {
        let key = key();
        let text = openssh(&key);
        for text in [text.clone(), text.trim().to_owned(), text.replace('\n', "\r\n"), format!("\n  {}  \n", text.replace('\n', " \n "))] {
            assert_eq!(decode(&text, None).unwrap().public_key().key_data(), key.public_key().key_data());
            assert!(decode(&text, Some("not needed")).is_ok());
        }
    }

    #[test]
    fn a_protected_key_opens_with_its_passphrase_only() {
        for text in [protected(), pem("ENCRYPTED PRIVATE KEY", &pkcs8(&key(), 2048))] {
            assert!(decode(&text, Some("canary")).is_ok());
            assert_eq!(decode(&text, Some("another")).unwrap_err(), WRONG);
            for none in [None, Some("")] {
                assert!(decode(&text, none).unwrap_err().contains("is protected by a passphrase"));
            }
        }
    }

    #[test]
    fn a_key_that_would_keep_a_thread_busy_is_refused_at_once() {
        // The name of the hash, the length of its options, that of the salt, and the salt; then the rounds.
        let endless = patched(&protected(), b"bcrypt", 6 + 4 + 4 + 16, &[0xff; 4]);
        assert_eq!(decode(&endless, Some("canary")).unwrap_err(), COSTLY);
        let long = pem("ENCRYPTED PRIVATE KEY", &pkcs8(&key(), 0x01_2fd1));
        let endless = patched(&long, &[2, 3, 1, 0x2f, 0xd1], 2, &[0x7f, 0xff, 0xff]);
        assert_eq!(decode(&endless, Some("canary")).unwrap_err(), COSTLY);
    }

    #[test]
    fn certificates_within_a_key_are_not_even_looked_at() {
        let text = pem("OPENSSH PRIVATE KEY", b"openssh-key-v1\0 ssh-ed25519-cert-v01@openssh.com");
        assert!(decode(&text, None).unwrap_err().contains("holds a certificate"));
    }

    #[test]
    fn what_is_no_private_key_is_told_by_what_it_is() {
        let cut = openssh(&key());
        let legacy =
            "-----BEGIN EC PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\nAAAA\n-----END EC PRIVATE KEY-----";
        for (text, expected) in [
            ("", "is empty"),
            ("\n \n", "is empty"),
            ("ssh-ed25519 canary", "is a public key"),
            ("-----BEGIN PUBLIC KEY-----\ncanary", "is a public key"),
            ("PuTTY-User-Key-File-3: canary", "is in the form of PuTTY"),
            ("canary", "is no private key"),
            ("-----BEGIN CERTIFICATE-----\ncanary", "is no private key"),
            ("-----BEGIN OPENSSH PRIVATE KEY-----\ncanary?\n", "is damaged"),
            ("-----BEGIN OPENSSH PRIVATE KEY-----", "cannot be read"),
            ("-----BEGIN PRIVATE KEY-----\nY2FuYXJ5\n", "cannot be read"),
            ("-----BEGIN ENCRYPTED PRIVATE KEY-----\nY2FuYXJ5\n", "cannot be read"),
            (&cut[..cut.len() / 2 / 4 * 4], ""),
            (legacy, "`ssh-keygen -p -f FILE`"),
        ] {
            let error = decode(text, Some("canary")).unwrap_err();
            assert!(error.contains(expected) && !error.contains("canary") && !error.contains('\n'), "{text}: {error}");
        }
    }
}
