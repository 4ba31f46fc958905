//! What a checkout writes, and what it reads: nothing but the commit.

#![expect(clippy::unwrap_used, reason = "what a test cannot set up fails it")]

use std::{
    fs,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

use git_events_runner_core::{
    Checkout as _, CommitId, ObjectRef, Reason, Reference, Retry, Revision, Source as _, SourceError, Watch,
    git::{GitClient, GitSource, Proxy, RepoUri, Repository},
};
use git_events_runner_tests::{GitRepo, files};
use tempfile::TempDir;

fn repository(uri: &str) -> Repository {
    Repository::new(RepoUri::parse_with_local(uri, Path::new("/")).unwrap())
}

fn source(path: &Path) -> GitSource {
    GitSource::new(ObjectRef::cluster("ClusterGitRepo", "app"), repository(path.to_str().unwrap()), GitClient::default())
}

async fn check_out(source: &GitSource, commit: CommitId) -> Result<TempDir, SourceError> {
    let into = tempfile::tempdir().unwrap();
    let revision = Revision { reference: Reference::Commit(commit), commit };
    source.checkout(&revision, into.path()).await.map(|()| into)
}

fn folder_and_repo() -> (TempDir, GitRepo) {
    let folder = tempfile::tempdir().unwrap();
    let repo = GitRepo::create(folder.path(), "app").unwrap();
    (folder, repo)
}

/// Commits what is in the work tree, with a submodule besides.
fn commit_with_submodule(repo: &GitRepo, path: &str) -> CommitId {
    fs::create_dir_all(repo.work().join(path)).unwrap();
    let link = format!("160000,1234567812345678123456781234567812345678,{path}");
    repo.git(&["update-index", "--add", "--cacheinfo", &link]).unwrap();
    repo.commit_and_push("main").unwrap()
}

#[tokio::test]
async fn what_gitmodules_includes_is_not_read() {
    let (folder, repo) = folder_and_repo();
    let elsewhere = folder.path().join("elsewhere");
    // Whoever reads this as configuration fails.
    fs::write(&elsewhere, "[a secret of the machine").unwrap();
    let included = format!("[include]\n\tpath = {}\n", elsewhere.display());
    repo.write(".gitmodules", &format!("[submodule \"sub\"]\n\tpath = sub\n\turl = ../sub\n{included}")).unwrap();
    let commit = commit_with_submodule(&repo, "sub");
    let into = check_out(&source(repo.bare()), commit).await.unwrap();
    assert!(into.path().join(".gitmodules").is_file());
    assert_eq!(fs::read_dir(into.path().join("sub")).unwrap().count(), 0, "a submodule is an empty folder");
}

#[tokio::test]
async fn a_symbolic_link_is_neither_followed_nor_read() {
    let (folder, repo) = folder_and_repo();
    let outside = folder.path().join("outside");
    fs::create_dir(&outside).unwrap();
    // Whoever opens this waits for ever.
    let pipe = folder.path().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    for name in [".gitattributes", ".gitignore", "pipe"] {
        repo.link(name, pipe.to_str().unwrap()).unwrap();
    }
    repo.link("out", outside.to_str().unwrap()).unwrap();
    repo.write("a.txt", "1\n").unwrap();
    let commit = repo.commit_and_push("main").unwrap();
    let into = check_out(&source(repo.bare()), commit).await.unwrap();
    assert_eq!(fs::read_link(into.path().join(".gitattributes")).unwrap(), pipe);
    assert_eq!(fs::read_link(into.path().join("out")).unwrap(), outside);

    // A tree as no git makes it: the same name is a link that leads out, and a folder.
    let link = repo.git(&["rev-parse", "HEAD:out"]).unwrap();
    let file = repo.git(&["rev-parse", "HEAD:a.txt"]).unwrap();
    let inner = repo.git_with_input(&["mktree"], &format!("100644 blob {file}\tescaped\n")).unwrap();
    let tree = raw_tree(&repo, &[("120000", "out", &link), ("40000", "out", &inner)]);
    let commit = repo.git(&["commit-tree", "-m", "evil", &tree]).unwrap().parse().unwrap();
    check_out(&source(repo.work()), commit).await.unwrap_err();
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
}

/// Writes a tree with exactly these entries.
fn raw_tree(repo: &GitRepo, entries: &[(&str, &str, &str)]) -> String {
    let mut tree = vec![];
    for (mode, name, id) in entries {
        tree.extend(format!("{mode} {name}\0").into_bytes());
        tree.extend((0..20).map(|at| u8::from_str_radix(&id[at * 2..at * 2 + 2], 16).unwrap()));
    }
    fs::write(repo.work().join("raw-tree"), tree).unwrap();
    repo.git(&["hash-object", "-t", "tree", "--literally", "-w", "raw-tree"]).unwrap()
}

#[tokio::test]
async fn a_shallow_repository_on_disk_is_checked_out_as_one() {
    let (folder, repo) = folder_and_repo();
    for content in ["1", "2", "3"] {
        repo.push("main", &[("a", content)]).unwrap();
    }
    let shallow = folder.path().join("shallow");
    let uri = format!("file://{}", repo.bare().display());
    repo.git(&["clone", "--quiet", "--depth=2", &uri, shallow.to_str().unwrap()]).unwrap();
    let into = check_out(&source(&shallow).keep_git_folder(true), repo.commit("HEAD").unwrap()).await.unwrap();
    let git = |args: &[&str]| repo.git(&[&["-C", into.path().to_str().unwrap()], args].concat());
    assert_eq!(git(&["rev-list", "--count", "HEAD"]).unwrap(), "2");
    git(&["fsck", "--strict"]).unwrap();
}

#[tokio::test]
async fn files_that_are_kept_with_their_repository_count_as_unchanged() {
    let (_folder, repo) = folder_and_repo();
    repo.write(".gitattributes", "*.txt text eol=crlf\n").unwrap();
    repo.link("link", "a.txt").unwrap();
    let commit = repo.push("main", &[("a.txt", "1\n"), ("b", "2\n")]).unwrap();
    let into = check_out(&source(repo.bare()).keep_git_folder(true), commit).await.unwrap();
    let git = |args: &[&str]| repo.git(&[&["-C", into.path().to_str().unwrap()], args].concat());
    // Unlike `git status`, this one looks no file up whose size and times the index does not know.
    git(&["diff-files", "--quiet"]).unwrap();
    assert_eq!(git(&["status", "--porcelain"]).unwrap(), "");
}

#[tokio::test]
async fn a_folder_that_cannot_be_written_is_told_from_a_server_that_fails() {
    let (folder, repo) = folder_and_repo();
    let commit = repo.push("main", &[("a", "1")]).unwrap();
    let revision = Revision { reference: Reference::Commit(commit), commit };
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    for into in [PathBuf::from("/proc"), file, folder.path().join("missing")] {
        let error = source(repo.bare()).checkout(&revision, &into).await.unwrap_err();
        assert_eq!(error.reason(), Reason::NotWritable, "{error}");
        assert!(error.to_string().contains(into.to_str().unwrap()), "{error}");
    }
}

#[tokio::test]
async fn a_proxy_that_is_none_is_refused_and_not_gone_around() {
    for (url, why) in [
        ("ftp://proxy.example.com:3128", "it begins with ftp:"),
        ("socks4://proxy.example.com:1080", "it begins with socks4:"),
        ("proxy.example.com:3128", "it begins with proxy.example.com:"),
        ("proxy", "relative URL without a base"),
        ("http://me:canary@proxy.example.com", "user or a password"),
    ] {
        let mut repository = repository("http://127.0.0.1:1/app");
        repository.proxy = Some(Proxy { url: url.to_owned(), credentials: None });
        let source = GitSource::new(ObjectRef::cluster("ClusterGitRepo", "app"), repository, GitClient::default());
        let error = source.observe(&Watch::new(Reference::Branch("main".to_owned()))).await.unwrap_err();
        assert_eq!((error.reason(), error.retry()), (Reason::InvalidSpec, Retry::Never), "{error}");
        assert!(error.to_string().contains(why) && !error.to_string().contains("canary"), "{error}");
    }
}

/// Contents that a conversion may take for something else.
const CONTENTS: [&str; 13] = [
    "",
    "one\ntwo\n",
    "one\r\ntwo\r\n",
    "one\ntwo\r\n",
    "one\rtwo\n",
    "no end",
    "\n",
    "zero \0 byte\n",
    "mostly \u{1}\u{2}\u{3}\n",
    "old dos\n\u{1a}",
    "tab\tescape\u{1b}[m backspace\u{8} form feed\u{c}\n",
    "ü and 日本\n",
    "$Id$ $Id: 1234 $\n$Id: a.c 1.2 me $ $Id:$ $Id: $ $Id:x$ $Id: open\n$ $Identity$ $Id\n$Id$",
];

#[tokio::test]
async fn attributes_have_the_same_effect_as_with_git_itself() {
    let (folder, repo) = folder_and_repo();
    let words = ["text", "-text", "!text", "text=auto", "text=input", "text=other", "crlf", "-crlf", "crlf=input", "binary"];
    let ends = ["", "eol=crlf", "eol=lf", "-eol", "ident", "ident eol=crlf", "-ident"];
    let mut attributes = "[attr]windows text eol=crlf\n".to_owned();
    for (number, kind) in words.iter().flat_map(|word| ends.iter().map(move |end| format!("{word} {end}"))).enumerate() {
        attributes += &format!("*.{number} {kind}\n");
        for (content_number, content) in CONTENTS.iter().enumerate() {
            repo.write(&format!("{number}/{content_number}.{number}"), content).unwrap();
        }
    }
    attributes += "*.win windows\nsub/ text eol=crlf\nsub/*.path text eol=crlf\n";
    repo.write(".gitattributes", &attributes).unwrap();
    repo.write("sub/deep/.gitattributes", "*.win -text\n*.deep text eol=crlf\n/only text eol=crlf\n").unwrap();
    for path in [
        "a.win",
        "sub/a.win",
        "sub/deep/a.win",
        "sub/a.path",
        "sub/deep/a.path",
        "a.deep",
        "sub/deep/a.deep",
        "sub/deep/only",
        "only",
        "sub/deep/er/only",
    ] {
        repo.write(path, CONTENTS[1]).unwrap();
    }
    // As they are, whatever the attributes would make of them on their way in.
    repo.write("../info-attributes", "* -text -ident -crlf\n").unwrap();
    fs::create_dir_all(repo.work().join(".git/info")).unwrap();
    fs::rename(folder.path().join("info-attributes"), repo.work().join(".git/info/attributes")).unwrap();
    let commit = repo.commit_and_push("main").unwrap();
    assert_matches_git(&repo, commit).await;
}

/// Compares a checkout with that of `git clone`.
async fn assert_matches_git(repo: &GitRepo, commit: CommitId) {
    let cloned = tempfile::tempdir().unwrap();
    let target = cloned.path().join("clone");
    repo.git(&["clone", "--quiet", repo.bare().to_str().unwrap(), target.to_str().unwrap()]).unwrap();
    let into = check_out(&source(repo.bare()), commit).await.unwrap();
    let (expected, found) = (files(&target).unwrap(), files(into.path()).unwrap());
    let differing: Vec<_> = expected.difference(&found).take(10).collect();
    let ours: Vec<_> = found.difference(&expected).take(10).collect();
    assert!(differing.is_empty() && ours.is_empty(), "git has {differing:#?}, and we have {ours:#?}");
}

#[tokio::test]
async fn names_are_bytes_and_written_as_they_are() {
    let (_folder, repo) = folder_and_repo();
    for name in
        ["readme", "README", "Readme", "a\\b", "a:b", "a\nb", "-rf", "~", ".git-not", ".gitignore", "git~2", "com1", "trailing.", "space "]
    {
        repo.write(name, name).unwrap();
    }
    repo.write("folder/x", "1").unwrap();
    repo.write("Folder/x", "2").unwrap();
    for bytes in [b"latin-\xe4".as_slice(), b"\xff\xfe/\x80"] {
        let path = repo.work().join(std::ffi::OsStr::from_bytes(bytes));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    for (name, target) in [("up", "../../.."), ("absolute", "/etc/passwd"), ("loop", "loop"), ("to-folder", "folder")] {
        repo.link(name, target).unwrap();
    }
    repo.write("run", "#!/bin/sh\n").unwrap();
    repo.make_executable("run").unwrap();
    let commit = commit_with_submodule(&repo, "deep/er/sub");
    assert_matches_git(&repo, commit).await;
}

#[tokio::test]
async fn names_that_git_refuses_are_refused() {
    let (_folder, repo) = folder_and_repo();
    repo.push("main", &[("a", "1")]).unwrap();
    let blob = repo.git(&["rev-parse", "HEAD:a"]).unwrap();
    let folder = repo.git_with_input(&["mktree"], &format!("100644 blob {blob}\tconfig\n")).unwrap();
    for name in [".git", ".GIT", ".Git", "git~1", "GIT~1", ".git ", ".git...", ".git. .", ".git::$INDEX_ALLOCATION", "..", ".", "a/b", ""] {
        for (mode, id) in [("100644", &blob), ("40000", &folder), ("120000", &blob)] {
            let tree = raw_tree(&repo, &[(mode, name, id)]);
            let commit = repo.git(&["commit-tree", "-m", "evil", &tree]).unwrap().parse().unwrap();
            let error = check_out(&source(repo.work()), commit).await.unwrap_err();
            assert_eq!(error.reason(), Reason::ProtocolError, "{mode} {name}: {error}");
        }
    }
}

#[tokio::test]
async fn what_no_file_can_be_here_is_the_commits_fault_and_not_the_disks() {
    let (_folder, repo) = folder_and_repo();
    repo.write("a", "").unwrap();
    repo.write("nul", "a\0b").unwrap();
    repo.write("long", &"x".repeat(5000)).unwrap();
    repo.commit_and_push("main").unwrap();
    let [empty, nul, long] = ["a", "nul", "long"].map(|name| repo.git(&["rev-parse", &format!("HEAD:{name}")]).unwrap());
    let (name, tree) = ("n".repeat(300), repo.git(&["rev-parse", "HEAD^{tree}"]).unwrap());
    for (entry, message) in [
        (("100644", name.as_str(), &empty), "its file nnn"),
        (("40000", &name, &tree), "its file nnn"),
        (("120000", "l", &long), "its file l"),
        (("120000", "l", &empty), "its symbolic link l leads nowhere"),
        (("120000", "l", &nul), "its symbolic link l leads nowhere"),
    ] {
        let tree = raw_tree(&repo, &[(entry.0, entry.1, entry.2)]);
        let commit = repo.git(&["commit-tree", "-m", "odd", &tree]).unwrap().parse().unwrap();
        let error = check_out(&source(repo.work()), commit).await.unwrap_err();
        assert!(error.reason() == Reason::ProtocolError && error.to_string().contains(message), "{error}");
        assert!(error.to_string().len() < 400, "{error}");
    }
}

#[tokio::test]
async fn a_submodule_that_cannot_be_fetched_from_here_says_why() {
    let (_folder, repo) = folder_and_repo();
    for (url, message) in [
        ("../lib.git", "the url of its submodule sub is relative, and the repository is on disk, without a server: write the whole URL"),
        (
            "git@git.example.com:lib.git",
            "goes to the repository's own server only: the submodule has to be open to everybody there, for example",
        ),
    ] {
        repo.write(".gitmodules", &format!("[submodule \"sub\"]\n\tpath = sub\n\turl = {url}\n")).unwrap();
        let commit = commit_with_submodule(&repo, "sub");
        let error = check_out(&source(repo.bare()).submodules(true), commit).await.unwrap_err();
        assert!(error.reason() == Reason::ProtocolError && error.to_string().contains(message), "{error}");
    }
}

#[tokio::test]
async fn folders_are_nested_as_deep_as_a_path_can_be_and_no_deeper() {
    let (_folder, repo) = folder_and_repo();
    repo.push("main", &[("a", "1")]).unwrap();
    let mut tree = repo.git(&["rev-parse", "HEAD^{tree}"]).unwrap();
    for (levels, message) in [(1500, None), (560, Some("folders nested deeper"))] {
        for _ in 0..levels {
            tree = raw_tree(&repo, &[("40000", "d", &tree)]);
        }
        let commit = repo.git(&["commit-tree", "-m", "deep", &tree]).unwrap().parse().unwrap();
        let done = check_out(&source(repo.work()), commit).await;
        match message {
            None => assert!(done.unwrap().path().join("d/".repeat(levels)).join("a").exists()),
            Some(message) => assert!(done.unwrap_err().to_string().contains(message)),
        }
    }
}

#[tokio::test]
async fn modes_that_no_git_writes_any_more_are_those_that_they_stand_for() {
    let (_folder, repo) = folder_and_repo();
    repo.push("main", &[("a", "1")]).unwrap();
    let blob = repo.git(&["rev-parse", "HEAD:a"]).unwrap();
    let tree = raw_tree(&repo, &[("100664", "group", &blob), ("100600", "own", &blob), ("100700", "run", &blob)]);
    let commit: CommitId = repo.git(&["commit-tree", "-m", "old", &tree]).unwrap().parse().unwrap();
    repo.git(&["push", "--quiet", "--force", "origin", &format!("{commit}:refs/heads/main")]).unwrap();
    assert_matches_git(&repo, commit).await;
}
