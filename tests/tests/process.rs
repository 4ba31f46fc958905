//! Local runs, with real processes.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that fails panics")]

#[path = "process/crashes.rs"]
mod crashes;
#[path = "process/machine.rs"]
mod machine;
#[path = "process/runs.rs"]
mod runs;

use std::sync::Arc;

use async_trait::async_trait;
use git_events_runner_core::{testing::ActionHarness, *};
use machine::Machine;

struct Harness(Machine);

#[async_trait]
impl ActionHarness for Harness {
    fn action(&self) -> &dyn Action {
        &self.0.action
    }

    fn request(&self) -> RunRequest {
        machine::request()
    }

    async fn begun(&self, run: &RunRef) -> usize {
        self.0.lines_of(&format!("begun-{}", run.name)).len()
    }

    async fn finish(&self, run: &RunRef) {
        std::fs::write(self.0.file(&format!("finish-{}", run.name)), "").unwrap();
    }

    async fn restart(&mut self) {
        self.0.restart();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn local_processes_conform() {
    testing::action(|| async {
        // The name of a run is that of the folder above its files.
        let script = r#"run=$(basename "$(dirname "$PWD")"); echo begun >> "$FILES/begun-$run"
            while [ ! -e "$FILES/finish-$run" ]; do sleep 0.02; done"#;
        let mut machine = Machine::new(&["sh", "-c", script]);
        machine.runs = machine.runs.clone().with_max_running(2);
        machine.restart();
        Harness(machine)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_action_without_a_command_is_refused() {
    let machine = Machine::new(&[]);
    let error = machine.action.register(&machine::request()).await.unwrap_err();
    assert_eq!(error.to_string(), "Action default/deploy has neither `command` nor `args`: there is no image to start by itself");
    assert!(matches!(error, ActionError::Invalid(_)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_cannot_be_the_name_of_a_folder_is_refused() {
    let machine = Machine::new(&["true"]);
    for name in ["../escape", ".hidden", "a/b", "a b"] {
        let mut request = machine::request();
        request.key.trigger.name = name.to_owned();
        let error = machine.action.register(&request).await.unwrap_err();
        assert!(error.to_string().contains("cannot be the name of a folder"), "{error}");
        let run = RunRef { name: request.key.name(), uid: "1".into() };
        assert_eq!(machine.action.release(&run).await.unwrap(), Released::Gone);
        machine.action.stop(&run).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_supervisor_that_does_not_work_is_an_error_with_its_own_words() {
    let mut machine = Machine::new(&["true"]);
    machine.supervisor = process::Supervisor { program: "/bin/sh".into(), args: vec!["-c".into(), "echo no such luck >&2".into()] };
    machine.reopen();
    let run = machine.register(&machine::request()).await;
    let error = machine.action.release(&run).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("runs cannot be read or written: {run} has not begun: its supervisor ended, and said: no such luck")
    );
    machine.supervisor.program = "/nowhere".into();
    machine.reopen();
    let error = machine.action.release(&run).await.unwrap_err();
    assert!(error.to_string().contains("/nowhere cannot be started"), "{error}");
    assert_eq!(machine.phase(&run).await, RunPhase::Waiting);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_origin_that_cannot_be_had_leaves_the_run_waiting() {
    struct Nowhere;
    #[async_trait]
    impl process::Origins for Nowhere {
        async fn origin(&self, _: &RunRequest) -> Result<process::Origin, ActionError> {
            Err(ActionError::Unavailable("no way there".into()))
        }
    }
    let machine = Machine::new(&["true"]);
    let run = machine.register(&machine::request()).await;
    let id = machine.action.id().clone();
    let action = process::ProcessAction::new(id, machine.runs.clone(), machine.command.clone(), Arc::new(Nowhere));
    assert!(action.release(&run).await.unwrap_err().to_string().contains("no way there"));
    assert_eq!(machine.phase(&run).await, RunPhase::Waiting);
}
