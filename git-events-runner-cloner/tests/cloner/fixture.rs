use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use git_events_runner_core::CommitId;
use git_events_runner_tests::{GitRepo, Program};
use tempfile::TempDir;

pub const PROGRAM: &str = env!("CARGO_BIN_EXE_git-events-runner-cloner");

/// A command line for the cloner, with a folder for all that it reads and writes.
pub struct Clone {
    folder: TempDir,
    pub args: Vec<String>,
}

/// How the cloner ended.
#[derive(Debug)]
pub struct Ended {
    pub code: Option<i32>,
    pub output: Vec<String>,
    /// What Kubernetes would show.
    pub last_words: String,
}

impl Clone {
    pub fn of(uri: &str, commit: CommitId) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::create_dir(folder.path().join("credentials")).unwrap();
        fs::write(folder.path().join("termination-log"), "").unwrap();
        fs::set_permissions(folder.path().join("termination-log"), fs::Permissions::from_mode(0o666)).unwrap();
        let mut clone = Self { folder, args: vec![] };
        clone.args = vec![format!("--repo-uri={uri}"), format!("--commit={commit}")];
        clone.args.push(format!("--destination={}", clone.destination().display()));
        clone.args.push(format!("--termination-log={}", clone.path("termination-log").display()));
        clone
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn destination(&self) -> PathBuf {
        self.path("destination")
    }

    pub fn arg(mut self, arg: &str) -> Self {
        self.args.push(arg.to_owned());
        self
    }

    /// Puts credentials into their files.
    pub fn credentials(mut self, auth: &str, files: &[(&str, &str)]) -> Self {
        for (name, content) in files {
            fs::write(self.path("credentials").join(name), content).unwrap();
        }
        self.args.push(format!("--credentials={}", self.path("credentials").display()));
        self.args.extend((!auth.is_empty()).then(|| format!("--auth={auth}")));
        self
    }

    /// The command, with nothing of the environment.
    pub fn command(&self) -> Command {
        let mut command = Command::new(PROGRAM);
        command.args(&self.args).env_clear().current_dir("/");
        command
    }

    pub fn start(&self) -> Program {
        Program::start(self.command()).unwrap()
    }

    pub fn run(&self) -> Ended {
        self.ended(self.start())
    }

    pub fn ended(&self, program: Program) -> Ended {
        let (status, output) = program.finish().unwrap();
        Ended { code: status.code(), output, last_words: fs::read_to_string(self.path("termination-log")).unwrap() }
    }

    /// Runs it as nobody, after a script in a file system of its own, which is read-only but for what the script says. `$D` is the
    /// destination.
    pub fn run_confined(&self, script: &str) -> Ended {
        let mut command = Command::new("unshare");
        // The last words are written all the same, as Kubernetes mounts their file.
        let script = format!("set -e; D=$1; mount --bind \"$2\" \"$2\"; shift 2; {script}; mount -o remount,bind,ro /; exec \"$@\"");
        command.args(["--mount", "--propagation=private", "sh", "-c", &script, "sh"]);
        command.arg(self.destination()).arg(self.path("termination-log"));
        command.args(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--bounding-set=-all", "--no-new-privs", PROGRAM]);
        command.args(&self.args).current_dir("/").env("HOME", self.folder.path());
        self.ended(Program::start(command).unwrap())
    }
}

impl Ended {
    pub fn assert_success(&self) {
        assert_eq!(self.code, Some(0), "{:#?}", self.output);
        assert_eq!(self.last_words, "");
    }

    /// It ended with a code, and with a message that is in its output and its last words alike.
    pub fn assert_failure(&self, code: i32, message: &str) {
        self.assert_failure_about(code, &[message]);
    }

    pub fn assert_failure_about(&self, code: i32, messages: &[&str]) {
        assert_eq!(self.code, Some(code), "{self:#?}");
        for message in messages {
            assert!(self.last_words.contains(message), "`{message}` is not in {self:#?}");
        }
        let said = format!("git-events-runner-cloner: {}", self.last_words);
        assert_eq!(self.output.last(), Some(&said), "one line, the last one");
    }
}

/// What git itself checks out.
pub fn cloned_by_git(repo: &GitRepo, commit: CommitId) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("clone");
    let git = |args: &[&str]| repo.git(args).unwrap();
    git(&["clone", "--quiet", "--no-checkout", path(repo.bare()), path(&target)]);
    git(&["-C", path(&target), "-c", "advice.detachedHead=false", "checkout", "--quiet", &commit.to_string()]);
    folder
}

pub fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}
