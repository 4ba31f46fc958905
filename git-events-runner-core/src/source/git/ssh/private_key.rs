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
    let info = EncryptedPrivateKeyInfoRef::try_from(body).map_err(|error| broken(pkcs8::Error::from(error)))?;
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
