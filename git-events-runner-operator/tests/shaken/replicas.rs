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
    traffic::ask,
    world::{Kind, World, wait_a_little},
};

/// A fail point after each write of a run, and of a request, and how many such writes a replica may survive: there are more of some.
const FAIL_POINTS: [(&str, usize); 5] =
    [("job-registered", 30), ("state-recorded", 50), ("secret-created", 8), ("job-released", 15), ("request-recorded", 5)];

/// How long it may take until a replica dies at a fail point.
const DIES_WITHIN: Duration = Duration::from_secs(90);

/// How long it may take until another one works.
const WORKS_WITHIN: Duration = Duration::from_secs(30);

/// Two replicas, each of which dies at a fail point.
pub struct Replicas {
    world: Arc<World>,
    replicas: Vec<Replica>,
    /// How often replicas have died of what.
    pub deaths: BTreeMap<&'static str, usize>,
}

struct Replica {
    operator: Operator,
    fail_point: &'static str,
}

impl Replicas {
    pub fn start(world: &Arc<World>, random: &mut Random) -> Self {
        let deaths = FAIL_POINTS.into_iter().map(|(fail_point, _)| (fail_point, 0)).collect();
        let mut replicas = Self { world: Arc::clone(world), replicas: vec![], deaths };
        for _ in 0..2 {
            replicas.add(random);
        }
        replicas
    }

    /// Starts a replica that dies where the fewest have died. Before that it pauses there now and then, so that others come in between.
    fn add(&mut self, random: &mut Random) {
        let armed = self.armed();
        let others = FAIL_POINTS.into_iter().filter(|(fail_point, _)| !armed.contains(fail_point));
        let (fail_point, survived) = others.min_by_key(|(fail_point, _)| self.deaths[fail_point]).unwrap();
        let survived = random.below(survived + 1);
        let operator = self.world.start(&format!("{fail_point}={survived}*sleep(20)->return"));
        self.replicas.push(Replica { operator, fail_point });
        *self.world.ports.lock().unwrap() = self.replicas.iter().map(|replica| replica.operator.webhooks_port()).collect();
    }

    pub fn have_died_at_all_fail_points(&self) -> bool {
        FAIL_POINTS.iter().all(|(fail_point, _)| self.deaths[fail_point] > 0)
    }

    /// Waits until one has died at its fail point, or kills one that has led for a time, and starts another one.
    pub async fn lose_one(&mut self, kill_after: Option<Duration>, random: &mut Random) {
        let (began, mut led_since) = (Instant::now(), None);
        while !self.one_has_died() {
            let leader = self.replicas.iter().position(|replica| leads(&replica.operator));
            let led_for = leader.map(|_| led_since.get_or_insert_with(Instant::now).elapsed());
            if let Some(leader) = leader.filter(|_| kill_after.is_some_and(|kill_after| led_for >= Some(kill_after))) {
                let mut operator = self.replicas.remove(leader).operator;
                operator.kill().unwrap();
                self.bury("kill -9", operator.logs());
                break;
            }
            assert!(began.elapsed() < DIES_WITHIN, "none has died: {:?}, and before {:?}", self.armed(), self.deaths);
            wait_a_little().await;
        }
        self.add(random);
    }

    fn one_has_died(&mut self) -> bool {
        let Some(dead) = self.replicas.iter_mut().position(|replica| replica.operator.has_ended().unwrap()) else { return false };
        let Replica { operator, fail_point } = self.replicas.remove(dead);
        let (status, logs) = operator.finish().unwrap();
        assert_eq!(status.signal(), Some(Signal::ABORT.as_raw()), "it has ended by itself: {status}\n{}", logs.join("\n"));
        self.bury(fail_point, logs);
        true
    }

    fn armed(&self) -> Vec<&'static str> {
        self.replicas.iter().map(|replica| replica.fail_point).collect()
    }

    fn bury(&mut self, of: &'static str, logs: Vec<String>) {
        *self.deaths.entry(of).or_default() += 1;
        assert!(!logs.iter().any(|line| line.contains("panicked")), "it has panicked:\n{}", logs.join("\n"));
    }

    /// Has two that do not die take over.
    pub fn replace_by_sound_ones(self) -> Sound {
        drop(self.replicas);
        let replicas = [(); 2].map(|()| self.world.start(""));
        for operator in &replicas {
            operator.wait_until_ready().unwrap();
        }
        *self.world.ports.lock().unwrap() = replicas.iter().map(Operator::webhooks_port).collect();
        Sound(replicas)
    }
}

/// Two replicas that go on until they are asked to end.
pub struct Sound([Operator; 2]);

impl Sound {
    /// Asks the leader to end, and measures how long it takes until the other one leads, and serves a request.
    pub async fn hand_over(self, world: &World) {
        let [first, second] = self.0;
        wait_for("one leads", || (leads(&first) != leads(&second)).then_some(())).unwrap();
        let (leader, other) = if leads(&first) { (first, second) } else { (second, first) };
        let jobs = number_of_jobs(world).await;
        let asked = Instant::now();
        let (status, logs) = leader.terminate().unwrap();
        assert!(status.success(), "{status}: {logs:#?}");
        let ended = asked.elapsed();
        wait_for("a request is taken", || ask(world, other.webhooks_port(), &world.triggers(Kind::Always)[0].name)).unwrap();
        wait_for("the other one leads", || leads(&other).then_some(())).unwrap();
        let led = asked.elapsed();
        while number_of_jobs(world).await == jobs {
            assert!(asked.elapsed() < WORKS_WITHIN, "the next leader does not work:\n{}", other.logs().join("\n"));
            wait_a_little().await;
        }
        let worked = asked.elapsed();
        println!(
            "after a SIGTERM the leader had ended within {ended:?}, the next one led within {led:?}, and had worked within {worked:?}"
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
