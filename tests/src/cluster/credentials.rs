use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use serde_json::json;
use uuid::Uuid;

/// Who has a token of their own: the name of their kubeconfig, and their user and group as the table of tokens has them.
const USERS: [(&str, &str); 4] = [
    ("admin", "admin,admin,system:masters"),
    ("kwok", "kwok,kwok,system:masters"),
    ("kube-controller-manager", "system:kube-controller-manager,kube-controller-manager"),
    ("kube-scheduler", "system:kube-scheduler,kube-scheduler"),
];

/// Writes the keys, certificates and tokens that the programs are started with, and a kubeconfig for each of them and for the
/// administrator, whose token comes back.
pub(super) fn write(folder: &Path, port: u16) -> anyhow::Result<String> {
    let authority_key = KeyPair::generate()?;
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    fs::write(folder.join("ca.crt"), authority.self_signed(&authority_key)?.pem())?;
    let issuer = Issuer::new(authority, authority_key);
    let key = KeyPair::generate()?;
    let certificate = CertificateParams::new(["127.0.0.1".to_owned(), "localhost".to_owned()])?.signed_by(&key, &issuer)?;
    fs::write(folder.join("tls.crt"), certificate.pem())?;
    fs::write(folder.join("tls.key"), key.serialize_pem())?;

    let accounts = KeyPair::generate()?;
    fs::write(folder.join("sa.key"), accounts.serialize_pem())?;
    fs::write(folder.join("sa.pub"), accounts.public_key_pem())?;

    let tokens = USERS.map(|_| Uuid::new_v4().to_string());
    let mut table = String::new();
    for ((name, user), token) in USERS.iter().zip(&tokens) {
        writeln!(table, "{token},{user}")?;
        kubeconfig(folder, port, name, token)?;
    }
    fs::write(folder.join("tokens.csv"), table)?;
    let [admin, ..] = tokens;
    Ok(admin)
}

/// Writes a kubeconfig for the bearer of a token, and answers its path.
pub(super) fn kubeconfig(folder: &Path, port: u16, name: &str, token: &str) -> anyhow::Result<PathBuf> {
    let server = json!({ "server": format!("https://127.0.0.1:{port}"), "certificate-authority": folder.join("ca.crt") });
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{ "name": "tests", "cluster": server }],
        "users": [{ "name": name, "user": { "token": token } }],
        "contexts": [{ "name": name, "context": { "cluster": "tests", "user": name } }],
        "current-context": name,
    });
    let file = folder.join(format!("{name}.kubeconfig"));
    fs::write(&file, config.to_string())?;
    Ok(file)
}
