use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::SystemTime,
};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tempfile::TempDir;

use crate::{cluster, server_process::program};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// The programs that `tests/images/build` calls, and the Debian packages that have them.
const INSTALLED: [(&str, &str); 4] =
    [("buildah", "buildah"), ("debootstrap", "debootstrap"), ("strip", "binutils"), ("unshare", "util-linux")];

/// The images of this repository, built by buildah as their Dockerfiles say, with the programs of this test run in place of what the stage
/// compiles that is named `build`; with `IMAGES=full` that stage runs too. What the Dockerfiles take from a registry is made of this machine's
/// Debian, under the same names.
pub struct Images(TempDir);

impl Images {
    /// Builds them with this operator, and the cloner beside it. The first time on a machine takes minutes.
    pub fn build(operator: &Path) -> Result<Self> {
        for (name, package) in INSTALLED {
            program(name, package)?;
        }
        let folder = tempfile::Builder::new().prefix("images").tempdir()?;
        let out = folder.path().join("out");
        fs::create_dir(&out)?;
        let cloner = operator.with_file_name("git-events-runner-cloner");
        ensure_current(&cloner)?;
        for binary in [operator, &cloner] {
            let strip =
                program("strip", "binutils")?.arg("-o").arg(out.join(binary.file_name().context("a program")?)).arg(binary).status()?;
            ensure!(strip.success(), "strip {}: see above", binary.display());
        }
        let mut build = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/images/build"));
        build.arg(folder.path()).arg(cluster::programs(&["kubectl", "helm"])?).arg(env!("CARGO_PKG_VERSION"));
        ensure!(build.stdin(Stdio::null()).status()?.success(), "tests/images/build has failed: see above");
        Ok(Self(folder))
    }

    /// The archive of an image, to be [imported](cluster::Cluster::import): `git-events-runner`, `cloner` or `worker`.
    pub fn archive(&self, name: &str) -> PathBuf {
        self.0.path().join(name).with_extension("tar")
    }

    /// What an image says of itself.
    pub fn config(&self, name: &str) -> Result<Value> {
        let manifest: Value = serde_json::from_slice(&self.extract(name, "manifest.json")?)?;
        let config = manifest[0]["Config"].as_str().context("no config")?;
        Ok(serde_json::from_slice(&self.extract(name, config)?)?)
    }

    /// The paths of all files of an image, layer by layer.
    pub fn files(&self, name: &str) -> Result<Vec<String>> {
        let manifest: Value = serde_json::from_slice(&self.extract(name, "manifest.json")?)?;
        let layers = manifest[0]["Layers"].as_array().context("no layers")?.iter().filter_map(Value::as_str);
        let mut files = vec![];
        for layer in layers {
            let file = self.0.path().join("layer");
            fs::write(&file, self.extract(name, layer)?)?;
            let listed = tar(&["--list", "--file"], &file, &[])?;
            files.extend(String::from_utf8(listed)?.lines().map(|path| path.trim_start_matches("./").to_owned()));
        }
        Ok(files)
    }

    fn extract(&self, name: &str, file: &str) -> Result<Vec<u8>> {
        tar(&["--extract", "--to-stdout", "--file"], &self.archive(name), &[file])
    }
}

fn tar(verb: &[&str], archive: &Path, files: &[&str]) -> Result<Vec<u8>> {
    let output = Command::new("tar").args(verb).arg(archive).args(files).output()?;
    ensure!(output.status.success(), "tar {}: {}", archive.display(), String::from_utf8_lossy(&output.stderr));
    Ok(output.stdout)
}

/// Fails if a program is not there, or was built before its sources were changed: a test of another package alone does not build it.
fn ensure_current(cloner: &Path) -> Result<()> {
    let advice = || format!("{} is missing or old: run this test with `cargo test --workspace`, which builds it", cloner.display());
    let built = fs::metadata(cloner).and_then(|file| file.modified()).with_context(advice)?;
    for package in ["git-events-runner-core", "git-events-runner-cloner"] {
        ensure!(newest(&Path::new(ROOT).join(package).join("src"))? <= built, advice());
    }
    Ok(())
}

/// When a file in a folder was last changed that a program is made of.
fn newest(folder: &Path) -> Result<SystemTime> {
    let mut newest = SystemTime::UNIX_EPOCH;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if ["tests", "tests.rs"].iter().any(|tests| entry.file_name() == *tests) {
            continue;
        }
        let changed = if entry.file_type()?.is_dir() { self::newest(&entry.path())? } else { entry.metadata()?.modified()? };
        newest = newest.max(changed);
    }
    Ok(newest)
}
