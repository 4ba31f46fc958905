//! What a checkout writes has the permissions that the umask leaves, as with git itself: an action may run as any user.
//!
//! It is alone here, because the umask is that of the whole process.

use std::{os::unix::fs::PermissionsExt as _, path::Path};

use git_events_runner_core::{
    Checkout as _, ObjectRef, Reference, Revision,
    git::{GitClient, GitSource, RepoUri, Repository},
};
use git_events_runner_tests::GitRepo;
use rustix::{fs::Mode, process::umask};

#[tokio::test]
async fn a_checkout_leaves_the_permissions_that_the_umask_leaves() {
    let folder = tempfile::tempdir().unwrap();
    let repo = GitRepo::create(folder.path(), "app").unwrap();
    repo.write("folder/plain", "1").unwrap();
    repo.write("folder/run.sh", "1").unwrap();
    repo.make_executable("folder/run.sh").unwrap();
    let commit = repo.commit_and_push("main").unwrap();
    let uri = RepoUri::parse_with_local(repo.bare().to_str().unwrap(), Path::new("/")).unwrap();
    let source = GitSource::new(ObjectRef::cluster("ClusterGitRepo", "app"), Repository::new(uri), GitClient::default());

    for (mask, expected) in [(0, [0o777, 0o666, 0o777]), (0o027, [0o750, 0o640, 0o750])] {
        umask(Mode::from_raw_mode(mask));
        let into = tempfile::tempdir().unwrap();
        source.checkout(&Revision { reference: Reference::Commit(commit), commit }, into.path()).await.unwrap();
        let mode = |name| into.path().join(name).metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(["folder", "folder/plain", "folder/run.sh"].map(mode), expected);
    }
}
