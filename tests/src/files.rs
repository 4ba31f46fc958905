use std::{
    collections::BTreeSet,
    fs,
    os::unix::{ffi::OsStrExt as _, fs::PermissionsExt as _},
    path::Path,
};

use anyhow::Result;

/// Everything in a folder but `.git`, by path: kind, permissions, and content or target.
pub fn files(folder: &Path) -> Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    walk(folder, folder, &mut found)?;
    Ok(found)
}

fn walk(top: &Path, folder: &Path, found: &mut BTreeSet<String>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name() == ".git" {
            continue;
        }
        let (path, kind) = (entry.path(), entry.file_type()?);
        let name = path.strip_prefix(top)?.as_os_str().as_bytes().escape_ascii();
        let mode = entry.metadata()?.permissions().mode() & 0o777;
        if kind.is_symlink() {
            found.insert(format!("{name} -> {}", fs::read_link(&path)?.as_os_str().as_bytes().escape_ascii()));
        } else if kind.is_dir() {
            found.insert(format!("{name}/ {mode:o}"));
            walk(top, &path, found)?;
        } else {
            found.insert(format!("{name} {mode:o} {}", fs::read(&path)?.escape_ascii()));
        }
    }
    Ok(())
}
