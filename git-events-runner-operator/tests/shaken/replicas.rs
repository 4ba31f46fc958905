//! Two replicas of the operator, that die and are started again.

use std::{
    collections::BTreeMap,
    os::unix::process::ExitStatusExt as _,
    sync::Arc,
    time::{Duration, Instant},
};

use git_events_runner_core::job;
use git_events_runner_tests::{Operator, Random, wait_for};
use k8s_openapi::api::batch::v1::Job;
use kube::{Api, api::ListParams};
use rustix::process::Signal;

use super::{
    evidence::wait_a_little,
    world::{Kind, World},
};

/// A fail point after each write of a run, and of a request.
const FAIL_POINTS: [&str; 5] = ["job-registered", "state-recorded", "secret-created", "job-released", "request-recorded"];

/// How long it may take until a replica dies at a fail point.
const DIES_WITHIN: Duration = Duration::from_secs(90);

/// Two replicas, each of which dies at a fail point.
pub struct Replicas {
    world: Arc<World>,
    replicas: Vec<Replica>,
    /// How often replicas have died of what.
    pub deaths: BTreeMap<&'static str, usize>,
    logs: Vec<String>,
}

struct Replica {
    operator: Operator,
    fail_point: &'static str,
}

impl Replicas {
    pub fn start(world: &Arc<World>, random: &mut Random) -> Self {
        let deaths = FAIL_POINTS.into_iter().map(|fail_point| (fail_point, 0)).collect();
        let mut replicas = Self { world: Arc::clone(world), replicas: vec![], deaths, logs: vec![] };
        for _ in 0..2 {
            replicas.add(random);
        }
        replicas
    }

    /// Starts a replica that dies where the fewest have died. Before that it pauses there now and then, so that others come in between.
    fn add(&mut self, random: &mut Random) {
        let others = self.replicas.iter().map(|replica| replica.fail_point);
        let others: Vec<_> = others.collect();
        let fail_points = FAIL_POINTS.into_iter().filter(|fail_point| !others.contains(fail_point));
        let fail_point = fail_points.min_by_key(|fail_point| self.deaths[fail_point]).unwrap();
        let pauses = 1 + random.below(3);
        let operator = self.world.start(&format!("{fail_point}={pauses}*sleep(100)->return"));
        self.replicas.push(Replica { operator, fail_point });
        *self.world.ports.lock().unwrap() = self.replicas.iter().map(|replica| replica.operator.webhooks_port()).collect();
    }

    pub fn have_died_at_all_fail_points(&self) -> bool {
        FAIL_POINTS.iter().all(|fail_point| self.deaths[fail_point] > 0)
    }

    /// Waits until one has died at its fail point, or kills the leader after a time, and starts another one.
    pub async fn lose_one(&mut self, kill_in: Option<Duration>, random: &mut Random) {
        let began = Instant::now();
        loop {
            let dead = self.replicas.iter_mut().position(|replica| replica.operator.has_ended().unwrap());
            if let Some(dead) = dead {
                let Replica { operator, fail_point } = self.replicas.remove(dead);
                let (status, logs) = operator.finish().unwrap();
                assert_eq!(status.signal(), Some(Signal::ABORT.as_raw()), "it has ended by itself: {status}\n{}", logs.join("\n"));
                self.bury(fail_point, logs);
                break;
            }
            let is_due = kill_in.is_some_and(|kill_in| began.elapsed() >= kill_in);
            let leader = self.replicas.iter().position(|replica| leads(&replica.operator)).filter(|_| is_due);
            if let Some(leader) = leader {
                let mut operator = self.replicas.remove(leader).operator;
                operator.kill().unwrap();
                self.bury("kill -9", operator.logs());
                break;
            }
            let armed: Vec<_> = self.replicas.iter().map(|replica| replica.fail_point).collect();
            assert!(began.elapsed() < DIES_WITHIN, "none has died: {armed:?}; {:?}", self.deaths);
            wait_a_little().await;
        }
        self.add(random);
    }

    fn bury(&mut self, of: &'static str, logs: Vec<String>) {
        *self.deaths.entry(of).or_default() += 1;
        self.logs.extend(logs);
    }

    /// Has two that do not die take over.
    pub fn replace_by_sound_ones(&mut self) -> Sound {
        for mut replica in self.replicas.drain(..) {
            replica.operator.kill().unwrap();
            self.logs.extend(replica.operator.logs());
        }
        let replicas = [(); 2].map(|()| self.world.start(""));
        for operator in &replicas {
            operator.wait_until_ready().unwrap();
        }
        *self.world.ports.lock().unwrap() = replicas.iter().map(Operator::webhooks_port).collect();
        Sound(replicas)
    }

    /// What those that are gone have logged.
    pub fn logs(self) -> Vec<String> {
        self.logs
    }
}

/// Two replicas that go on until they are asked to end.
pub struct Sound([Operator; 2]);

impl Sound {
    /// Asks the leader to end at the moment of a push, and measures how long it takes until the other one leads, and has a Job begin.
    pub async fn hand_over(self, world: &World) {
        let [first, second] = self.0;
        let (leader, other) = if leads(&first) { (first, second) } else { (second, first) };
        assert!(leads(&leader) && !leads(&other));
        let jobs = number_of_jobs(world).await;
        let repo = world.triggers(Kind::Schedule)[0].sources[0];
        world.repos[repo].push("main", &[("file", "the last one")]).unwrap();
        let asked = Instant::now();
        let (status, logs) = leader.terminate().unwrap();
        assert!(status.success(), "{status}: {logs:#?}");
        let ended = asked.elapsed();
        wait_for("the other one leads", || leads(&other).then_some(())).unwrap();
        let led = asked.elapsed();
        while number_of_jobs(world).await == jobs {
            assert!(asked.elapsed() < Duration::from_secs(30), "the next leader does not work: {}", other.logs().join("\n"));
            wait_a_little().await;
        }
        println!(
            "after SIGTERM: the leader had ended after {ended:?}, the other one led after {led:?}, and worked after {:?}",
            asked.elapsed()
        );
        other.terminate().unwrap();
    }
}

async fn number_of_jobs(world: &World) -> usize {
    let ours = ListParams::default().labels(&format!("{}={}", job::MANAGED_BY, job::FIELD_MANAGER));
    Api::<Job>::namespaced(world.client.clone(), &world.namespace).list_metadata(&ours).await.unwrap().items.len()
}

fn leads(operator: &Operator) -> bool {
    operator.metrics().is_ok_and(|metrics| metrics.lines().any(|line| line == "git_events_runner_leader 1"))
}
