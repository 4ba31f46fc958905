use std::{
    cell::RefCell,
    fmt,
    ops::Deref,
    panic,
    sync::{
        Once,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::ensure;
use reqwest::{Method, StatusCode};
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::Cluster;

/// How long the controllers may take to furnish a namespace. The first one waits for their start.
const FURNISHED_WITHIN: Duration = Duration::from_secs(60);

thread_local! {
    /// Why the test of this thread has failed.
    static WHY: RefCell<String> = const { RefCell::new(String::new()) };
}

/// A namespace that no other test has. If the test fails, what is in it is printed, and then once more why it has failed.
#[derive(Debug)]
pub struct Namespace<'a> {
    cluster: &'a Cluster,
    name: String,
}

impl Cluster {
    /// Creates a namespace, ready for Pods.
    pub async fn namespace(&self) -> anyhow::Result<Namespace<'_>> {
        static COUNT: AtomicUsize = AtomicUsize::new(1);
        static REMEMBER: Once = Once::new();
        REMEMBER.call_once(|| {
            let print = panic::take_hook();
            panic::set_hook(Box::new(move |panic| {
                WHY.set(panic.to_string());
                print(panic);
            }));
        });
        let name = format!("test-{}", COUNT.fetch_add(1, Ordering::Relaxed));
        self.server.create("/api/v1/namespaces", json!({ "metadata": { "name": name } }).to_string()).await?;
        let account = format!("/api/v1/namespaces/{name}/serviceaccounts/default");
        let deadline = Instant::now() + FURNISHED_WITHIN;
        while self.server.send(Method::GET, &account, "application/json", String::new()).await?.0 != StatusCode::OK {
            self.server.programs.ensure_running()?;
            ensure!(Instant::now() < deadline, "{name} has no ServiceAccount\n{}", self.server.programs.logs());
            sleep(Duration::from_millis(20)).await;
        }
        Ok(Namespace { cluster: self, name })
    }
}

impl Namespace<'_> {
    fn print(&self) {
        let kinds = [("scheduletriggers,webhooktriggers", "yaml"), ("gitrepos,actions,jobs,pods,leases,events", "wide")];
        for (kinds, format) in kinds {
            let mut kubectl = self.cluster.kubectl();
            let output = kubectl.args(["--request-timeout=10s", "--namespace", &self.name, "get", kinds, "--output", format]).output();
            let text = output.map(|output| [output.stdout, output.stderr].concat()).unwrap_or_default();
            eprintln!("--- {kinds} of {self}\n{}", String::from_utf8_lossy(&text));
        }
        eprintln!("{}", self.cluster.server.programs.logs());
        eprintln!("--- {}", WHY.take());
    }
}

impl Drop for Namespace<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.print();
        }
    }
}

impl Deref for Namespace<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.name
    }
}

impl fmt::Display for Namespace<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}
