//! On a real API server, which each contender reaches by a link of its own that can be cut.

use std::{
    net::SocketAddr,
    pin::pin,
    sync::atomic::{AtomicUsize, Ordering},
};

use git_events_runner_tests::cluster::{Cluster, Mode, Namespace};
use kube::config::{KubeConfigOptions, Kubeconfig};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

use super::*;
use crate::client;

/// For how long something is waited for.
const WITHIN: Duration = Duration::from_secs(60);

/// A duration that does not pass in a test.
const LONG: Duration = Duration::from_secs(600);

const SHORT: Duration = Duration::from_secs(3);
const GRACE: Duration = Duration::from_secs(1);

/// Who leads, and has led.
#[derive(Debug, Default)]
struct Seen {
    now: Vec<usize>,
    terms: Vec<(usize, Leadership)>,
    were_two: bool,
}

/// What contenders contend for.
struct Arena<'a> {
    cluster: &'a Cluster,
    namespace: Namespace<'a>,
    seen: watch::Sender<Seen>,
}

/// One that wants to lead. It vanishes as by a crash when it is dropped.
struct Contender {
    id: usize,
    link: Link,
    stop: watch::Sender<bool>,
    task: JoinHandle<anyhow::Result<()>>,
}

impl<'a> Arena<'a> {
    async fn new(cluster: &'a Cluster) -> Self {
        Self { cluster, namespace: cluster.namespace().await.unwrap(), seen: watch::Sender::default() }
    }

    fn leases(&self, client: Client) -> Api<Lease> {
        Api::namespaced(client, &self.namespace)
    }

    async fn contender(&self, duration: Duration, handled: Option<Timestamp>) -> Contender {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let id = COUNT.fetch_add(1, Ordering::Relaxed);
        let kubeconfig = Kubeconfig::read_from(self.cluster.kubeconfig()).unwrap();
        let mut config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
        let link = Link::to(config.cluster_url.authority().unwrap().as_str().parse().unwrap()).await;
        config.cluster_url = format!("https://{}", link.address).parse().unwrap();
        let client = client::with_config(config, GRACE * 3 / 4).unwrap();
        let lease = LeaseConfig {
            namespace: self.namespace.to_string(),
            name: "leader".to_owned(),
            identity: format!("contender-{id}"),
            duration,
            grace: GRACE,
        };
        let (stop, stopped) = watch::channel(false);
        let seen = self.seen.clone();
        let work = move |leadership| {
            let term = Term::begin(seen.clone(), id, leadership);
            async move {
                let _term = term;
                std::future::pending().await
            }
        };
        let task = tokio::spawn(lead(client, lease, stopped, move |_now| handled, work));
        Contender { id, link, stop, task }
    }

    /// Waits until what is seen is so.
    async fn until(&self, what: &str, is_so: impl FnMut(&Seen) -> bool) {
        let mut seen = self.seen.subscribe();
        let waited = timeout(WITHIN, seen.wait_for(is_so)).await.map(drop);
        assert!(waited.is_ok(), "{what}: not within {WITHIN:?}: {:?}", self.seen.borrow());
    }

    /// Waits for the leader of the term of this number, from 0, and answers what it took over.
    async fn term(&self, number: usize) -> (usize, Leadership) {
        self.until(&format!("term {number}"), |seen| seen.terms.len() > number).await;
        self.seen.borrow().terms[number]
    }
}

impl Contender {
    /// Asks it to stop, and waits until it has.
    async fn stop(mut self) -> anyhow::Result<()> {
        self.stop.send_replace(true);
        timeout(WITHIN, &mut self.task).await.unwrap().unwrap()
    }
}

impl Drop for Contender {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The work of one leader, while it lasts.
struct Term {
    seen: watch::Sender<Seen>,
    id: usize,
}

impl Term {
    fn begin(seen: watch::Sender<Seen>, id: usize, leadership: Leadership) -> Self {
        seen.send_modify(|seen| {
            seen.now.push(id);
            seen.terms.push((id, leadership));
            seen.were_two |= seen.now.len() > 1;
        });
        Self { seen, id }
    }
}

impl Drop for Term {
    fn drop(&mut self) {
        self.seen.send_modify(|seen| seen.now.retain(|id| *id != self.id));
    }
}

/// A way to the API server. What is sent while it is cut arrives when it is mended.
struct Link {
    address: SocketAddr,
    is_cut: watch::Sender<bool>,
}

impl Link {
    async fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, is_cut) = (listener.local_addr().unwrap(), watch::Sender::new(false));
        let (mut dropped, is_cut_now) = (is_cut.subscribe(), is_cut.subscribe());
        tokio::spawn(async move {
            while let Some(Ok((client, _))) = tokio::select! {
                accepted = listener.accept() => Some(accepted),
                _ = async { while dropped.changed().await.is_ok() {} } => None,
            } {
                tokio::spawn(carry(client, server, is_cut_now.clone()));
            }
        });
        Self { address, is_cut }
    }
}

async fn carry(mut client: TcpStream, server: SocketAddr, mut is_cut: watch::Receiver<bool>) -> anyhow::Result<()> {
    is_cut.wait_for(|is_cut| !is_cut).await?;
    let mut server = TcpStream::connect(server).await?;
    let mut carried = pin!(copy_bidirectional(&mut client, &mut server));
    loop {
        tokio::select! {
            biased;
            cut = is_cut.wait_for(|is_cut| *is_cut) => drop(cut?),
            carried = &mut carried => return Ok(carried.map(drop)?),
        }
        is_cut.wait_for(|is_cut| !is_cut).await?;
    }
}

fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_is_released_is_taken_over_at_once_with_what_was_handled() {
    let cluster = Cluster::shared(Mode::ControlPlane).await.unwrap();
    let arena = Arena::new(cluster).await;
    let handled = time("2026-01-01T00:00:00Z");
    let first = arena.contender(LONG, Some(handled)).await;
    assert_eq!(arena.term(0).await, (first.id, Leadership { handled_until: None }));
    let second = arena.contender(LONG, None).await;
    first.stop().await.unwrap();
    assert_eq!(arena.term(1).await, (second.id, Leadership { handled_until: Some(handled) }));
    second.stop().await.unwrap();

    // Who has not said what is handled hands on what it took over.
    let third = arena.contender(LONG, None).await;
    assert_eq!(arena.term(2).await, (third.id, Leadership { handled_until: Some(handled) }));
    let lease = arena.leases(cluster.client().await.unwrap()).get("leader").await.unwrap();
    let spec = lease.spec.unwrap();
    assert_eq!((spec.holder_identity, spec.lease_transitions), (Some(format!("contender-{}", third.id)), Some(2)));
    assert!(!arena.seen.borrow().were_two);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_vanishes_is_followed_when_its_lease_has_expired() {
    let cluster = Cluster::shared(Mode::ControlPlane).await.unwrap();
    let arena = Arena::new(cluster).await;
    let handled = time("2026-01-01T00:00:00Z");
    let first = arena.contender(SHORT, Some(handled)).await;
    arena.term(0).await;
    let mut written = pin!(watch_object(arena.leases(cluster.client().await.unwrap()), "leader"));
    while written.next().await.unwrap().unwrap().unwrap().annotations().get(HANDLED_UNTIL).is_none() {}
    let second = arena.contender(SHORT, None).await;
    drop(first);
    assert_eq!(arena.term(1).await, (second.id, Leadership { handled_until: Some(handled) }));
    assert!(!arena.seen.borrow().were_two);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_of_another_program_is_respected_and_its_last_renewal_is_what_was_handled() {
    let cluster = Cluster::shared(Mode::ControlPlane).await.unwrap();
    let arena = Arena::new(cluster).await;
    let renewed = "2020-01-01T00:00:00.000000Z";
    let lease = serde_json::json!({
        "metadata": { "name": "leader" },
        "spec": { "holderIdentity": "other", "leaseDurationSeconds": 1, "renewTime": renewed },
    });
    let leases = arena.leases(cluster.client().await.unwrap());
    leases.create(&PostParams::default(), &serde_json::from_value(lease).unwrap()).await.unwrap();
    let contender = arena.contender(LONG, None).await;
    assert_eq!(arena.term(0).await, (contender.id, Leadership { handled_until: Some(time(renewed)) }));
}

#[tokio::test(flavor = "multi_thread")]
async fn there_are_never_two_leaders_whatever_happens_to_them() {
    let cluster = Cluster::start(Mode::ControlPlane).await.unwrap();
    let arena = Arena::new(&cluster).await;
    let mut contenders = vec![];
    for _ in 0..3 {
        contenders.push(arena.contender(SHORT, None).await);
    }
    let mut term = 0;
    for what in ["cut", "vanish", "release", "outage", "delete", "cut", "vanish", "outage"] {
        let (leader, _) = arena.term(term).await;
        term = arena.seen.borrow().terms.len();
        let Some(place) = contenders.iter().position(|contender| contender.id == leader) else { panic!("{leader} is gone") };
        match what {
            "cut" => {
                contenders[place].link.is_cut.send_replace(true);
                arena.term(term).await;
                contenders[place].link.is_cut.send_replace(false);
            }
            "outage" => {
                cluster.stop_api_server().unwrap();
                arena.until("nobody leads", |seen| seen.now.is_empty()).await;
                cluster.start_api_server().await.unwrap();
            }
            "delete" => {
                arena.leases(cluster.client().await.unwrap()).delete("leader", &Default::default()).await.unwrap();
            }
            _ => {
                let contender = contenders.remove(place);
                if what == "release" {
                    contender.stop().await.unwrap();
                }
                contenders.push(arena.contender(SHORT, None).await);
            }
        }
    }
    arena.term(term).await;
    assert!(!arena.seen.borrow().were_two, "{:?}", arena.seen.borrow());
}

#[tokio::test(flavor = "multi_thread")]
async fn work_that_ends_ends_leadership() {
    let cluster = Cluster::shared(Mode::ControlPlane).await.unwrap();
    let namespace = cluster.namespace().await.unwrap();
    let client = cluster.client().await.unwrap();
    let (name, identity) = ("leader".to_owned(), "one".to_owned());
    let lease = LeaseConfig { namespace: namespace.to_string(), name, identity, duration: LONG, grace: GRACE };
    let (_stop, stopped) = watch::channel(false);
    let failed = lead(client.clone(), lease, stopped, Some, |_leadership| async { anyhow::bail!("it failed") }).await;
    assert_eq!(failed.unwrap_err().to_string(), "it failed");
    let lease = Api::<Lease>::namespaced(client, &namespace).get("leader").await.unwrap();
    assert_eq!(holder(&lease), None);
}

#[tokio::test(start_paused = true)]
async fn a_holder_is_left_alone_from_when_its_lease_was_seen_to_change_whatever_its_clock_says() {
    let lease = |version: &str, holder: Option<&str>| -> Lease {
        serde_json::from_value(serde_json::json!({
            "metadata": { "resourceVersion": version },
            "spec": { "holderIdentity": holder, "leaseDurationSeconds": 30, "renewTime": "2020-01-01T00:00:00.000000Z" },
        }))
        .unwrap()
    };
    let config = LeaseConfig { namespace: String::new(), name: String::new(), identity: "us".to_owned(), duration: LONG, grace: GRACE };
    let seconds = Duration::from_secs;
    let begin = Instant::now();
    let mut rival = Rival { version: None, gone: begin };
    rival.see(Some(&lease("1", Some("them"))), &config);
    assert_eq!(rival.gone, begin + seconds(30));
    tokio::time::advance(seconds(10)).await;
    // It is seen again, and has not changed; it is gone, and its holder may not know it yet.
    rival.see(Some(&lease("1", Some("them"))), &config);
    rival.see(None, &config);
    assert_eq!(rival.gone, begin + seconds(30));
    rival.see(Some(&lease("2", Some("them"))), &config);
    assert_eq!(rival.gone, begin + seconds(40));
    for (version, free) in [("3", lease("3", None)), ("4", lease("4", Some(""))), ("5", lease("5", Some("us")))] {
        rival.see(Some(&free), &config);
        assert_eq!(rival.gone, begin + seconds(10), "{version}");
    }
}
