use std::{path::PathBuf, time::Duration};

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::{Cluster, credentials};

/// The rules that the chart grants the operator everywhere, and where Secrets are, which may be everywhere.
const CLUSTER_RULES: [(&str, &str); 2] = [
    ("cluster", include_str!("../../../charts/git-events-runner/files/cluster-role.yaml")),
    ("secrets", include_str!("../../../charts/git-events-runner/files/secrets-role.yaml")),
];
/// Those where Jobs run, and those in its own namespace.
const JOBS_RULES: &str = include_str!("../../../charts/git-events-runner/files/jobs-role.yaml");
const RULES: &str = include_str!("../../../charts/git-events-runner/files/role.yaml");

const NAME: &str = "git-events-runner";

/// How long the API server may take to know a new grant.
const GRANTED_WITHIN: Duration = Duration::from_secs(10);

impl Cluster {
    /// Creates a ServiceAccount, and answers the path of a kubeconfig with a token of it that outlives the cluster.
    pub async fn service_account(&self, namespace: &str, name: &str) -> anyhow::Result<PathBuf> {
        let accounts = format!("/api/v1/namespaces/{namespace}/serviceaccounts");
        self.server.create(&accounts, json!({ "metadata": { "name": name } }).to_string()).await?;
        self.kubeconfig_of(namespace, name).await
    }

    /// The path of a kubeconfig with a token of a ServiceAccount that is there. The token outlives the cluster.
    pub async fn kubeconfig_of(&self, namespace: &str, name: &str) -> anyhow::Result<PathBuf> {
        let request = json!({ "spec": { "expirationSeconds": 7 * 24 * 3600 } });
        let tokens = format!("/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token");
        let answer = self.server.create(&tokens, request.to_string()).await?;
        let token = answer["status"]["token"].as_str().context("no token")?;
        let programs = &self.server.programs;
        credentials::kubeconfig(&programs.folder, programs.address, &format!("{namespace}.{name}"), token)
    }

    /// Creates the ServiceAccount of an operator that runs in this namespace, and has Jobs in no other: granted exactly what the chart's role
    /// files say. Answers the path of its kubeconfig.
    pub async fn operator_account(&self, namespace: &str) -> anyhow::Result<PathBuf> {
        let kubeconfig = self.service_account(namespace, NAME).await?;
        for (role, rules) in CLUSTER_RULES {
            self.grant(namespace, None, "Cluster", &format!("{NAME}-{namespace}-{role}"), rules).await?;
        }
        self.grant(namespace, Some(namespace), "", &format!("{NAME}-jobs"), JOBS_RULES).await?;
        self.grant(namespace, Some(namespace), "", NAME, RULES).await?;
        let job = json!({ "verb": "create", "group": "batch", "resource": "jobs", "namespace": namespace });
        let secret = json!({ "verb": "get", "resource": "secrets" });
        let config_map = json!({ "verb": "watch", "resource": "configmaps", "namespace": namespace, "name": "git-events-runner-config" });
        self.wait_until_granted(namespace, &[job, secret, config_map]).await?;
        Ok(kubeconfig)
    }

    /// Creates a role with these rules, and binds it to the operator's account of a namespace: everywhere, or in one namespace.
    async fn grant(&self, account_of: &str, within: Option<&str>, scope: &str, name: &str, rules: &str) -> anyhow::Result<()> {
        let group = "rbac.authorization.k8s.io";
        let collection = |kind: &str| {
            let namespace = within.map_or(String::new(), |namespace| format!("/namespaces/{namespace}"));
            format!("/apis/{group}/v1{namespace}/{}{kind}s", scope.to_lowercase())
        };
        let role = format!("apiVersion: {group}/v1\nkind: {scope}Role\nmetadata: {{name: {name}}}\n{rules}");
        self.server.create(&collection("role"), role).await?;
        let binding = json!({
            "apiVersion": format!("{group}/v1"),
            "kind": format!("{scope}RoleBinding"),
            "metadata": { "name": name },
            "roleRef": { "apiGroup": group, "kind": format!("{scope}Role"), "name": name },
            "subjects": [{ "kind": "ServiceAccount", "namespace": account_of, "name": NAME }],
        });
        self.server.create(&collection("rolebinding"), binding.to_string()).await.map(drop)
    }

    /// Waits until the API server's own cache of roles has what was created.
    async fn wait_until_granted(&self, namespace: &str, permissions: &[Value]) -> anyhow::Result<()> {
        let deadline = Instant::now() + GRANTED_WITHIN;
        for permission in permissions {
            let user = format!("system:serviceaccount:{namespace}:{NAME}");
            let review = json!({ "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
                "spec": { "user": user, "resourceAttributes": permission } });
            let reviews = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
            while self.server.create(reviews, review.to_string()).await?["status"]["allowed"] != true {
                ensure!(Instant::now() < deadline, "{user} is not granted {permission}");
                sleep(Duration::from_millis(10)).await;
            }
        }
        Ok(())
    }
}
