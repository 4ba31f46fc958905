use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Duration, NamespacedSecretRef, schema};

/// Where a repository is, and how to reach it.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "git-events-runner.rs",
    version = "v1alpha1",
    kind = "GitRepo",
    namespaced,
    shortname = "gr",
    category = "git-events-runner",
    status = "SourceStatus",
    derive = "PartialEq",
    doc = "A Git repository that triggers of the same namespace can watch and Actions can check out.",
    printcolumn(name = "URI", type_ = "string", json_path = ".spec.repoUri"),
    printcolumn(name = "Ready", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].status"#),
    printcolumn(name = "Reason", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].reason"#),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Message", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].message"#, priority = 1)
)]
pub struct GitRepoSpec {
    /// The repository.
    #[serde(flatten)]
    pub repository: Repository,
}

/// Where a repository is, how to reach it, and who may use it.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "git-events-runner.rs",
    version = "v1alpha1",
    kind = "ClusterGitRepo",
    shortname = "cgr",
    category = "git-events-runner",
    status = "SourceStatus",
    derive = "PartialEq",
    doc = "A Git repository that triggers of every namespace, or of chosen ones, can watch and actions can check out.",
    printcolumn(name = "URI", type_ = "string", json_path = ".spec.repoUri"),
    printcolumn(name = "Ready", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].status"#),
    printcolumn(name = "Reason", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].reason"#),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Message", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].message"#, priority = 1)
)]
#[serde(rename_all = "camelCase")]
pub struct ClusterGitRepoSpec {
    /// The repository.
    #[serde(flatten)]
    pub repository: Repository,
    /// The namespaces whose triggers may use this repository, by the namespaces' labels. Default: all namespaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::namespace_selector")]
    pub allowed_namespaces: Option<LabelSelector>,
}

/// What GitRepo and ClusterGitRepo have in common.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.authConfig) || self.authConfig.type == 'ssh' || self.repoUri.matches('^https?://')")
        .message("basic, token and githubApp need a repoUri that begins with https:// or http://").field_path(".authConfig.type"),
    validation = Rule::new("!has(self.authConfig) || self.authConfig.type != 'ssh' || self.repoUri.matches('^(ssh://|[^/:@]+@[^/:]+:)')")
        .message("ssh needs a repoUri like ssh://git@host/path or git@host:path").field_path(".authConfig.type"),
    validation = Rule::new(
        "!has(self.tlsConfig) || self.repoUri.startsWith('https://') || !(self.tlsConfig.noVerifySsl || has(self.tlsConfig.caCert))"
    )
        .message("noVerifySsl and caCert need a repoUri that begins with https://").field_path(".tlsConfig"),
)]
pub struct Repository {
    /// Address of the repository: https://, http://, ssh:// or git://, or git@host:path. At most 2048 characters. User and password
    /// are not part of it (but for the user of ssh): they belong into the Secret that authConfig names.
    #[schemars(length(min = 1, max = 2048))]
    #[x_kube(
        validation = Rule::new(schema::REPO_URI).message("must be an https://, http://, ssh:// or git:// URI, or git@host:path"),
        validation = Rule::new(schema::NO_CREDENTIALS).message("must not hold a user or password: put them into a Secret and name it in authConfig"),
    )]
    pub repo_uri: String,
    /// How the server's certificate is verified. https only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls_config: Option<TlsConfig>,
    /// How to authenticate. Default: not at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth_config: Option<AuthConfig>,
    /// What applies to ssh only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ssh_config: Option<SshConfig>,
    /// How long one check may take, everything included, such as `30s` or `2m`; at least 1s. (How long a clone may take is for
    /// activeDeadlineSeconds of the action.) Default: 60s.
    #[serde(default = "Repository::default_timeout")]
    pub timeout: Duration,
    /// A proxy between the operator and the server, for checks and clones. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy: Option<Proxy>,
}

impl Repository {
    fn default_timeout() -> Duration {
        Duration("60s".to_owned())
    }

    /// The Secrets that are named here: of what they are, by the path of the field, and which.
    pub fn secrets(&self) -> Vec<(&'static str, &NamespacedSecretRef)> {
        let ca = self.tls_config.as_ref().and_then(|tls| tls.ca_cert.as_ref()).map(|ca| &ca.secret_ref);
        let auth = self.auth_config.as_ref().map(|auth| &auth.secret_ref);
        let proxy = self.proxy.as_ref().and_then(|proxy| proxy.secret_ref.as_ref());
        let named = [("tlsConfig.caCert.secretRef", ca), ("authConfig.secretRef", auth), ("proxy.secretRef", proxy)];
        named.into_iter().filter_map(|(path, secret)| secret.map(|secret| (path, secret))).collect()
    }
}

/// How the server's certificate is verified.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct TlsConfig {
    /// True: any certificate is taken, so that anybody on the way can answer in the server's place. Default: false.
    #[serde(default)]
    pub no_verify_ssl: bool,
    /// Certificates of authorities to trust in addition to the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_cert: Option<CaCert>,
}

/// Certificates of authorities, in a Secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct CaCert {
    /// The Secret with the certificates.
    pub secret_ref: NamespacedSecretRef,
    /// The key in the Secret; its value is one certificate or several, as PEM. Default: ca.crt.
    #[serde(default = "CaCert::default_key")]
    #[schemars(length(min = 1, max = 253), regex(pattern = schema::SECRET_KEY))]
    pub key: String,
}

impl CaCert {
    fn default_key() -> String {
        "ca.crt".to_owned()
    }
}

/// How to authenticate at the server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct AuthConfig {
    /// The method. basic: user and password, http(s) only. token: the Secret's value as it is in the header Authorization, http(s) only.
    /// ssh: a private key, ssh only. githubApp: tokens of a GitHub App, which are made as needed and renewed before they expire, http(s) only.
    #[serde(rename = "type")]
    pub auth_type: AuthType,
    /// The Secret with the credentials.
    pub secret_ref: NamespacedSecretRef,
    /// The keys in the Secret, where they are not the usual ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keys: Option<AuthKeys>,
}

/// A method of authentication.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub enum AuthType {
    /// User and password.
    Basic,
    /// A value for the header Authorization.
    Token,
    /// A private key.
    Ssh,
    /// Tokens of a GitHub App.
    GithubApp,
}

/// Names of keys in the Secret with the credentials. Each method reads its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(inline)]
pub struct AuthKeys {
    /// basic: key of the user. Default: username.
    #[schemars(length(min = 1, max = 253), regex(pattern = schema::SECRET_KEY))]
    pub username: String,
    /// basic: key of the password. Default: password.
    #[schemars(length(min = 1, max = 253), regex(pattern = schema::SECRET_KEY))]
    pub password: String,
    /// token: key of the value of the header. Default: token.
    #[schemars(length(min = 1, max = 253), regex(pattern = schema::SECRET_KEY))]
    pub token: String,
    /// ssh and githubApp: key of the private key, in PEM or OpenSSH's form. Default: ssh-privatekey.
    #[schemars(length(min = 1, max = 253), regex(pattern = schema::SECRET_KEY))]
    pub private_key: String,
    /// ssh: key of the host keys to trust, in the form of known_hosts; it may be absent from the Secret. Default: known_hosts.
    #[schemars(length(min = 1, max = 253), regex(pattern = schema::SECRET_KEY))]
    pub known_hosts: String,
    /// ssh: key of the private key's passphrase; it may be absent from the Secret. Default: passphrase.
    #[schemars(length(min = 1, max = 253), regex(pattern = schema::SECRET_KEY))]
    pub passphrase: String,
    /// githubApp: key of the App's id. Default: appId.
    #[schemars(length(min = 1, max = 253), regex(pattern = schema::SECRET_KEY))]
    pub app_id: String,
    /// githubApp: key of the id of the App's installation. Default: installationId.
    #[schemars(length(min = 1, max = 253), regex(pattern = schema::SECRET_KEY))]
    pub installation_id: String,
}

impl Default for AuthKeys {
    fn default() -> Self {
        Self {
            username: "username".to_owned(),
            password: "password".to_owned(),
            token: "token".to_owned(),
            private_key: "ssh-privatekey".to_owned(),
            known_hosts: "known_hosts".to_owned(),
            passphrase: "passphrase".to_owned(),
            app_id: "appId".to_owned(),
            installation_id: "installationId".to_owned(),
        }
    }
}

/// What applies to ssh only.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct SshConfig {
    /// True: any host key is taken, so that anybody on the way can answer in the server's place. False: the host key must be in the
    /// Secret's known_hosts or in the operator's own list, which has the keys of the large public hosts and those of the runtime config.
    /// Default: false.
    #[serde(default)]
    pub insecure_ignore_host_key: bool,
}

/// A proxy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct Proxy {
    /// Address of the proxy: http://, https:// or socks5://, host, and port. At most 2048 characters, no user and no password.
    #[schemars(
        length(min = 1, max = 2048),
        regex(pattern = r"^(https?|socks5)://([A-Za-z0-9_][A-Za-z0-9._-]*|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?/?$")
    )]
    pub url: String,
    /// A Secret whose keys username and password open the proxy. Default: it asks for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<NamespacedSecretRef>,
}

/// What the operator has seen of a repository. Written when it changes, not at every check.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct SourceStatus {
    /// Ready: True with reason Reachable, or False with reason AuthenticationFailed, HostKeyMismatch, CertificateInvalid, Unreachable,
    /// Timeout, InvalidSpec or SecretNotFound.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// The generation of the specification that the conditions speak of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
}
