use std::{
    fs,
    io::{Seek as _, Write as _},
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use git_events_runner_core::CommitId;

/// A bare repository, and a work tree from which it is pushed to by git itself, with no configuration of user or machine.
pub struct GitRepo {
    bare: PathBuf,
    work: PathBuf,
}

impl GitRepo {
    /// Makes an empty one at `{folder}/{name}.git`; its branches come by [`GitRepo::push`].
    pub fn create(folder: &Path, name: &str) -> Result<Self> {
        let repo = Self { bare: folder.join(format!("{name}.git")), work: folder.join(format!("{name}.work")) };
        fs::create_dir_all(&repo.work)?;
        git(folder, &["init", "--quiet", "--bare", "--initial-branch=main", &text(&repo.bare)?])?;
        git(&repo.bare, &["config", "receive.denyDeleteCurrent", "ignore"])?;
        repo.git(&["init", "--quiet", "--initial-branch=main"])?;
        repo.git(&["remote", "add", "origin", &text(&repo.bare)?])?;
        Ok(repo)
    }

    /// The bare repository.
    pub fn bare(&self) -> &Path {
        &self.bare
    }

    /// The work tree, with its own repository.
    pub fn work(&self) -> &Path {
        &self.work
    }

    /// Runs git in the work tree; what it prints comes back without line ends.
    pub fn git(&self, args: &[&str]) -> Result<String> {
        git(&self.work, args)
    }

    /// Runs git in the work tree with an input.
    pub fn git_with_input(&self, args: &[&str], input: &str) -> Result<String> {
        let mut file = tempfile::tempfile()?;
        file.write_all(input.as_bytes())?;
        file.rewind()?;
        run(&self.work, args, file.into())
    }

    /// Commits these files, by path, on top of what a branch has, and pushes it.
    pub fn push(&self, branch: &str, files: &[(&str, &str)]) -> Result<CommitId> {
        if self.git(&["rev-parse", "--quiet", "--verify", &format!("refs/heads/{branch}")]).is_ok() {
            self.git(&["checkout", "--quiet", branch, "--"])?;
        } else {
            self.git(&["checkout", "--quiet", "--orphan", branch])?;
        }
        for (path, content) in files {
            self.write(path, content)?;
        }
        self.commit_and_push(branch)
    }

    /// Commits everything that is in the work tree, and pushes it.
    pub fn commit_and_push(&self, branch: &str) -> Result<CommitId> {
        self.git(&["add", "--all"])?;
        self.git(&["commit", "--quiet", "--allow-empty", "--message", "a change"])?;
        self.git(&["push", "--quiet", "--force", "origin", &format!("HEAD:refs/heads/{branch}")])?;
        self.commit("HEAD")
    }

    /// Writes a file into the work tree.
    pub fn write(&self, path: &str, content: &str) -> Result<()> {
        let file = self.work.join(path);
        file.parent().map_or(Ok(()), fs::create_dir_all)?;
        Ok(fs::write(file, content)?)
    }

    /// Makes a file of the work tree executable.
    pub fn make_executable(&self, path: &str) -> Result<()> {
        Ok(fs::set_permissions(self.work.join(path), fs::Permissions::from_mode(0o755))?)
    }

    /// Makes a symbolic link in the work tree.
    pub fn link(&self, path: &str, target: &str) -> Result<()> {
        Ok(symlink(target, self.work.join(path))?)
    }

    /// Tags a commit, with a message: an annotated tag.
    pub fn tag_annotated(&self, name: &str, commit: CommitId) -> Result<()> {
        self.git(&["tag", "--force", "--annotate", "--message", "a release", name, &commit.to_string()])?;
        self.push_refs(&[&format!("+refs/tags/{name}")])
    }

    /// Tags a commit, without a message.
    pub fn tag(&self, name: &str, commit: CommitId) -> Result<()> {
        self.git(&["tag", "--force", name, &commit.to_string()])?;
        self.push_refs(&[&format!("+refs/tags/{name}")])
    }

    /// Lets a branch of the bare repository point at a commit, forward or back.
    pub fn force(&self, branch: &str, commit: CommitId) -> Result<()> {
        self.push_refs(&[&format!("+{commit}:refs/heads/{branch}")])
    }

    /// Deletes a ref of the bare repository, by its full name.
    pub fn delete(&self, name: &str) -> Result<()> {
        self.push_refs(&[&format!(":{name}")])
    }

    fn push_refs(&self, refs: &[&str]) -> Result<()> {
        self.git(&[&["push", "--quiet", "origin"], refs].concat()).map(drop)
    }

    /// The commit that a revision of the work tree's repository names.
    pub fn commit(&self, revision: &str) -> Result<CommitId> {
        Ok(self.git(&["rev-parse", &format!("{revision}^{{commit}}")])?.parse()?)
    }
}

fn text(path: &Path) -> Result<String> {
    path.to_str().map(str::to_owned).context("a path that is not UTF-8")
}

/// Runs git in a folder, with no configuration of user or machine.
pub(crate) fn git(folder: &Path, args: &[&str]) -> Result<String> {
    run(folder, args, Stdio::null())
}

fn run(folder: &Path, args: &[&str], input: Stdio) -> Result<String> {
    let mut command = Command::new("git");
    command.current_dir(folder).args(args).stdin(input).env_clear();
    command.envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
    command.envs(HERMETIC).envs([("HOME", "/nonexistent"), ("LC_ALL", "C"), ("GIT_TERMINAL_PROMPT", "0")]);
    for who in ["AUTHOR", "COMMITTER"] {
        command.env(format!("GIT_{who}_NAME"), "Tester").env(format!("GIT_{who}_EMAIL"), "tester@example.com");
        command.env(format!("GIT_{who}_DATE"), "2026-01-01T00:00:00Z");
    }
    let done = command.output().context("git is not installed: apt-get install git")?;
    let (out, err) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    ensure!(done.status.success(), "git {}: {}", args.join(" "), err.trim());
    Ok(out.trim_end().to_owned())
}

/// What keeps the configuration of user and machine out of git.
pub(crate) const HERMETIC: [(&str, &str); 3] =
    [("GIT_CONFIG_NOSYSTEM", "1"), ("GIT_CONFIG_GLOBAL", "/dev/null"), ("GIT_ATTR_NOSYSTEM", "1")];
