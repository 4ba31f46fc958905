use std::{
    fmt::Write as _,
    fs,
    net::SocketAddrV4,
    path::{Path, PathBuf},
};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use serde_json::json;
use uuid::Uuid;

/// Who has a token of their own: the name of their kubeconfig, and their user and group as the table of tokens has them.
const USERS: [(&str, &str); 5] = [
    ("admin", "admin,admin,system:masters"),
    ("kwok", "kwok,kwok,system:masters"),
    ("kube-controller-manager", "system:kube-controller-manager,kube-controller-manager"),
    ("kube-scheduler", "system:kube-scheduler,kube-scheduler"),
    ("kubelet", "system:node:node,kubelet,system:nodes"),
];

/// Writes the keys, certificates and tokens that the programs are started with, and a kubeconfig for each of them and for the
/// administrator, whose token comes back.
pub(super) fn write(folder: &Path, address: SocketAddrV4) -> anyhow::Result<String> {
    let authority_key = KeyPair::generate()?;
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    // Not that of the certificate: OpenSSL would take that for its own issuer.
    authority.distinguished_name.push(DnType::CommonName, "authority");
    fs::write(folder.join("ca.crt"), authority.self_signed(&authority_key)?.pem())?;
    let issuer = Issuer::new(authority, authority_key);
    let key = KeyPair::generate()?;
    // As this machine calls it, and Pods.
    let names = [address.ip().to_string(), "10.96.0.1".to_owned(), "kubernetes.default.svc".to_owned()];
    let certificate = CertificateParams::new(names)?.signed_by(&key, &issuer)?;
    fs::write(folder.join("tls.crt"), certificate.pem())?;
    fs::write(folder.join("tls.key"), key.serialize_pem())?;

    let accounts = KeyPair::generate()?;
    fs::write(folder.join("sa.key"), accounts.serialize_pem())?;
    fs::write(folder.join("sa.pub"), accounts.public_key_pem())?;

    let tokens = USERS.map(|_| Uuid::new_v4().to_string());
    let mut table = String::new();
    for ((name, user), token) in USERS.iter().zip(&tokens) {
        writeln!(table, "{token},{user}")?;
        kubeconfig(folder, address, name, token)?;
    }
    fs::write(folder.join("tokens.csv"), table)?;
    let [admin, ..] = tokens;
    Ok(admin)
}

/// Writes a kubeconfig for the bearer of a token, and answers its path.
pub(super) fn kubeconfig(folder: &Path, address: SocketAddrV4, name: &str, token: &str) -> anyhow::Result<PathBuf> {
    let server = json!({ "server": format!("https://{address}"), "certificate-authority": folder.join("ca.crt") });
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
