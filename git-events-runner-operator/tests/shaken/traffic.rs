//! Pushes and requests.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use git_events_runner_tests::{Random, send};
use tokio::task::{JoinHandle, spawn_blocking};

use super::world::{Kind, World};

/// Pushes and requests that go on.
pub struct Traffic {
    over: Arc<AtomicBool>,
    tasks: [JoinHandle<()>; 2],
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

impl Traffic {
    /// Starts with so many of both, and goes on more slowly.
    pub fn start(world: &Arc<World>, pushes: usize, requests: usize, random: &mut Random) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let go_on = |least: usize, mut random: Random, once: fn(&World, &mut Random)| {
            let (world, over) = (Arc::clone(world), Arc::clone(&over));
            spawn_blocking(move || {
                for number in 0.. {
                    if number >= least && over.load(Ordering::Relaxed) {
                        return;
                    }
                    once(&world, &mut random);
                    thread::sleep(Duration::from_millis(random.below(if number < least { 200 } else { 2000 }) as u64));
                }
            })
        };
        let tasks = [go_on(pushes, random.fork(), push), go_on(requests, random.fork(), request)];
        Self { over, tasks }
    }

    /// Ends it when there was as much as there was to be.
    pub async fn end(mut self) {
        self.over.store(true, Ordering::Relaxed);
        for task in &mut self.tasks {
            task.await.unwrap();
        }
    }
}

/// Pushes a new commit, or now and then goes back to an older one.
fn push(world: &World, random: &mut Random) {
    let number = random.below(world.repos.len());
    let repo = &world.repos[number];
    let older = if random.below(5) == 0 { repo.commit(&format!("{}~1", world.tip(number))).ok() } else { None };
    match older {
        Some(older) => repo.force("main", older).unwrap(),
        None => drop(repo.push("main", &[("file", &random.below(usize::MAX).to_string())]).unwrap()),
    }
}

/// Sends a request to a trigger that always runs, and another one to one that runs on change. Whom they do not reach they do not reach.
fn request(world: &World, random: &mut Random) {
    for kind in [Kind::Always, Kind::Change] {
        let triggers = world.triggers(kind);
        let trigger = triggers[random.below(triggers.len())];
        let ports = world.ports.lock().unwrap().clone();
        let id = ask(world, ports[random.below(ports.len())], &trigger.name);
        if let Some(id) = id.filter(|_| kind == Kind::Always) {
            world.accepted.lock().unwrap().push((trigger.name.clone(), id));
        }
    }
}

/// Sends a request, and answers its id if it is accepted.
pub fn ask(world: &World, port: u16, trigger: &str) -> Option<String> {
    let answer = send(port, "POST", &format!("/{}/{trigger}", world.namespace), &[], b"").ok()?;
    (answer.status == 202).then(|| answer.body["task_id"].as_str().unwrap().to_owned())
}
