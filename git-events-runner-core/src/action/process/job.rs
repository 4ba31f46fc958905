use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

use crate::Revision;

/// How supervisors are started: a program, and the arguments that come before the run's folder. It has to call
/// [`supervise`](super::supervise()).
#[derive(Clone, Debug)]
pub struct Supervisor {
    /// Such as the program's own file.
    pub program: PathBuf,
    /// Such as `supervise`.
    pub args: Vec<String>,
}

/// All that a supervisor has to know of its run. It holds credentials and secrets: it goes through a pipe, and nowhere else.
#[derive(Serialize, Deserialize)]
pub struct Job {
    /// Of which registration of the run this is the job.
    pub uid: String,
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// All variables but for [`PASSED_ON`].
    pub environment: BTreeMap<String, String>,
    /// What to check out, in whatever form the program that supervises understands.
    pub checkout: serde_json::Value,
    pub revision: Revision,
    /// How long the run may take, checkout included.
    pub deadline: Option<Duration>,
    /// How long a command has to end by itself when it is ended.
    pub grace: Duration,
}

/// The only variables that an action gets from the environment of the process that starts it: where programs are found, where a
/// program may keep files of its user's, and in which language, zone and folder it works. Whatever else is set there (tokens of the
/// shell that runs local mode, settings of Git) is none of an action's business.
pub const PASSED_ON: [&str; 5] = ["PATH", "HOME", "LANG", "TZ", "TMPDIR"];
