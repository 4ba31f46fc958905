//! Shakes two replicas of the operator on a real API server, and checks that nothing was lost and nothing has run twice.
//!
//! Replicas die of `kill -9`, after each write of a run and at random moments; the API server goes away for a while; Jobs are deleted by hand
//! before they begin. Meanwhile pushes and requests go on.
//!
//! `PUSHES`, `REQUESTS` (to triggers that always run) and `KILLS` say how many there are at least, `OUTAGE` for how many seconds the API server
//! is gone, and `SEED` at which moments.
#![expect(clippy::unwrap_used, reason = "what a test cannot set up fails it")]

mod shaken {
    pub mod deletions;
    pub mod evidence;
    pub mod replicas;
    pub mod rest;
    pub mod traffic;
    pub mod verdict;
    pub mod world;
}

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use git_events_runner_tests::{
    Random,
    cluster::{Cluster, Mode},
    number,
};
use tokio::sync::oneshot;

use shaken::{deletions::delete_some, evidence::Evidence, replicas::Replicas, rest::come_to_rest, traffic::Traffic, world::World};

/// How much happens.
struct Storm {
    pushes: usize,
    requests: usize,
    kills: usize,
    outage: Duration,
    random: Random,
}

impl Storm {
    fn of_the_environment() -> Self {
        Self {
            pushes: number("PUSHES", 40).unwrap(),
            requests: number("REQUESTS", 20).unwrap(),
            kills: number("KILLS", 8).unwrap().max(1),
            outage: Duration::from_secs(number("OUTAGE", 3).unwrap()),
            random: Random::new(number("SEED", 1).unwrap()),
        }
    }

    /// One kill after the other, while pushes and requests go on, and in the middle of it no API server.
    async fn rage(&mut self, world: &Arc<World>, replicas: &mut Replicas) {
        for round in 0.. {
            if round >= self.kills && replicas.have_died_at_all_fail_points() {
                return;
            }
            assert!(round < 2 * self.kills + 20, "a fail point is not reached: {:?}", replicas.deaths);
            let (pushes, requests) = (self.pushes.div_ceil(self.kills), self.requests.div_ceil(self.kills));
            let traffic = Traffic::start(world, pushes, requests, &mut self.random);
            if round == self.kills / 2 {
                world.cluster.stop_api_server().unwrap();
                tokio::time::sleep(self.outage).await;
                world.cluster.start_api_server().await.unwrap();
            }
            // In every third round at a random moment, otherwise after a write.
            let kill_after = (round % 3 == 2).then(|| Duration::from_millis(self.random.below(3000) as u64));
            replicas.lose_one(kill_after, &mut self.random).await;
            traffic.end().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_is_lost_and_nothing_runs_twice() {
    let mut storm = Storm::of_the_environment();
    let began = Instant::now();
    let cluster = Cluster::shared(Mode::Kwok).await.unwrap();
    let namespace = cluster.namespace().await.unwrap();
    let world = World::new(cluster, &namespace).await;
    let evidence = Evidence::collect(&world);
    let (over, is_over) = oneshot::channel();
    let deletions = tokio::spawn(delete_some(Arc::clone(&world), Arc::clone(&evidence), storm.random.fork(), is_over));
    let mut replicas = Replicas::start(&world, &mut storm.random);
    storm.rage(&world, &mut replicas).await;
    over.send(()).unwrap();
    deletions.await.unwrap();
    println!("the storm is over after {:?}: replicas have died of {:?}", began.elapsed(), replicas.deaths);

    let last = replicas.replace_by_sound_ones();
    come_to_rest(&world).await;
    evidence.complete(&world).await;
    println!("at rest after {:?}", began.elapsed());
    evidence.verdict(&world).unwrap();
    last.hand_over(&world).await;
}
