//! Upgrades of the release while there is work.

use std::collections::BTreeSet;

use git_events_runner_core::{CommitId, RunPhase, job};
use git_events_runner_tests::{GitRepo, send_to};
use k8s_openapi::api::batch::v1::Job;
use kube::ResourceExt as _;

use super::{
    fixture::{Fixture, commits, request, trigger},
    release::{CHART, RELEASE},
};

/// What was asked for.
#[derive(Default)]
struct Asked {
    /// Each was pushed when the one before had a Job.
    commits: Vec<CommitId>,
    /// Those that were answered with 202.
    requests: BTreeSet<String>,
    /// How many were sent to a replica that ended before it had answered: each may be recorded, or not.
    unanswered: usize,
}

impl Asked {
    /// Pushes a commit, posts a request, and waits until both have their Job, unless nobody has answered the request.
    fn once(&mut self, f: &Fixture, repo: &GitRepo) {
        let commit = repo.push("main", &[("count", &self.commits.len().to_string())]).unwrap();
        self.commits.push(commit);
        let path = format!("/{}/posted", f.namespace);
        match f
            .release
            .replicas()
            .unwrap()
            .first()
            .map(|replica| send_to(*replica, "POST", &path, &[("Content-Type", "application/json")], b"{}"))
        {
            Some(Ok(answer)) if answer.status == 202 => {
                assert!(self.requests.insert(answer.body["task_id"].as_str().unwrap().to_owned()));
            }
            // It says that nothing is recorded.
            Some(Ok(answer)) => assert_eq!(answer.status, 503, "{answer:?}"),
            Some(Err(_)) => self.unanswered += 1,
            None => {}
        }
        f.wait_for("a Job for each commit and each request", || {
            let jobs = f.jobs();
            (commits(&of(&jobs, "pushed")).contains(&commit) && requests(&of(&jobs, "posted")).is_superset(&self.requests)).then_some(())
        });
    }
}

/// The Jobs of a trigger.
fn of(jobs: &[Job], trigger: &str) -> Vec<Job> {
    jobs.iter().filter(|found| found.labels()[job::TRIGGER_NAME] == trigger).cloned().collect()
}

/// The requests that Jobs are for.
fn requests(jobs: &[Job]) -> BTreeSet<String> {
    jobs.iter().flat_map(|job| request(job).requests).map(|id| id.to_string()).collect()
}

#[tokio::test]
async fn nothing_is_lost_or_doubled_while_the_release_is_upgraded_and_rolled_back() {
    let f = Fixture::new().await;
    let server = f.open_server();
    let repo = server.repo("app").unwrap();
    f.git_repo("app", &server.uri("app"));
    f.action("run", "args: ['true']");
    f.apply(&trigger("pushed", "{ names: [app] }", "run"));
    f.apply(
        "
apiVersion: git-events-runner.rs/v1alpha1
kind: WebhookTrigger
metadata: { name: posted }
spec:
  sources: { names: [app], watchOn: { onChangeOnly: false } }
  webhook: { multiSource: true, allowUnauthenticated: true }
  action: { kind: Action, name: run }
",
    );
    let mut asked = Asked::default();
    f.wait_until_ready("webhooktrigger/posted");
    asked.once(&f, &repo);

    let upgrade = ["upgrade", RELEASE, CHART, "--reuse-values", "--set=podAnnotations.step=upgraded"];
    let rollback = ["rollback", RELEASE, "1"];
    for roll in [&upgrade[..], &rollback] {
        let before = f.release.replicas().unwrap();
        f.release.helm(roll).unwrap();
        // Until the replicas are others, and then some.
        let mut after = 0;
        while after < 3 {
            asked.once(&f, &repo);
            let rolled = f.release.kubectl(&["rollout", "status", "deployment", RELEASE, "--watch=false"]).unwrap();
            let replaced = f.release.replicas().unwrap().iter().all(|replica| !before.contains(replica));
            after += usize::from(replaced && rolled.contains("successfully rolled out"));
        }
    }

    let jobs = f.wait_for("the end of all Jobs", || {
        Some(f.jobs()).filter(|jobs| jobs.iter().all(|found| job::phase(found) == RunPhase::Succeeded))
    });
    assert_eq!(commits(&of(&jobs, "pushed")), asked.commits, "each commit once, in their order");
    let posted = of(&jobs, "posted");
    assert_eq!(requests(&posted).len(), posted.len(), "each request on a Job of its own");
    assert!(requests(&posted).is_superset(&asked.requests));
    assert!(posted.len() <= asked.requests.len() + asked.unanswered, "{} more than asked for", posted.len() - asked.requests.len());
    assert!(asked.requests.len() >= 6, "{} requests were taken", asked.requests.len());
}
