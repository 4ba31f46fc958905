//! Follows the guides.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use git_events_runner_tests::cluster::{Cluster, Mode};

use super::{
    alike::alike,
    page::{Block, Page},
    place::Place,
};

/// The guides in the order in which they are followed, in one cluster.
const GUIDES: [&str; 9] = [
    "install",
    "first-trigger",
    "private-repository",
    "ssh",
    "many-tenants",
    "security",
    "what-can-go-wrong",
    "upgrade",
    "from-the-published-operator",
];

/// How long what only looks may be repeated until it shows what the page says.
const WITHIN: Duration = Duration::from_secs(30);

/// Commands that change nothing.
const LOOKS: [&str; 7] = [
    "git-events-runner status",
    "kubectl auth ",
    "kubectl describe ",
    "kubectl events ",
    "kubectl explain ",
    "kubectl get ",
    "kubectl wait ",
];

fn guides() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/guides")
}

#[test]
fn each_page_is_followed() {
    let pages = fs::read_dir(guides()).unwrap().map(|entry| Page::read(&entry.unwrap().path()).unwrap().name());
    let followed = GUIDES.map(|name| format!("{name}.md"));
    assert_eq!(pages.collect::<BTreeSet<_>>(), BTreeSet::from(followed));
}

#[tokio::test]
async fn the_guides_do_what_they_say() {
    let cluster = Cluster::start_bare(Mode::Kwok).await.unwrap();
    let mut place = Place::new(&cluster).unwrap();
    let last = std::env::var("GUIDE").ok();
    let mut wrong = vec![];
    for name in GUIDES {
        let page = Page::read(&guides().join(format!("{name}.md"))).unwrap();
        if let Err(error) = follow(&page, &mut place).await {
            wrong.push(format!("{error:#}"));
        }
        if last.as_deref() == Some(name) {
            break;
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

/// Does what each block of a page says.
async fn follow(page: &Page, place: &mut Place<'_>) -> Result<()> {
    let blocks = page.blocks();
    match page.name().as_str() {
        "upgrade.md" => place.take_next_version()?,
        "from-the-published-operator.md" => place.leave_published()?,
        _ => {}
    }
    let mut changes = vec![];
    for (block, next) in blocks.iter().zip(blocks.iter().skip(1).map(Some).chain([None])) {
        let printed = next.filter(|next| next.info == "text");
        let at = || format!("{} line {}", page.name(), block.line);
        match block.info.as_str() {
            "sh" | "sh fails" => changes.extend(paste(block, printed, place).await.with_context(at)?),
            "yaml" | "bash" => place.write(named(block).with_context(at)?, &block.text)?,
            "text" => {}
            other => bail!("{}: nothing is known of blocks of `{other}`", at()),
        }
    }
    if changes.is_empty() { Ok(()) } else { page.update(&changes) }
}

/// The name that a block is to be saved under, which is its first comment.
fn named(block: &Block) -> Result<&str> {
    block.text.lines().find_map(|line| line.strip_prefix("# ")).context("it does not begin with a comment that is the name of its file")
}

/// The lines that a block prints. Events of the same moment have no order.
fn lines(block: &Block, printed: &str) -> Vec<String> {
    let mut lines: Vec<_> = alike(printed).lines().map(str::to_owned).collect();
    if block.text.starts_with("kubectl events ") {
        lines.sort_unstable();
    }
    lines
}

/// Runs a block, and compares what it prints with what the page says; answers what the page should say instead.
async fn paste(block: &Block, printed: Option<&Block>, place: &mut Place<'_>) -> Result<Option<(Block, String)>> {
    let looks = |line: &str| line.starts_with(' ') || line.contains(" --dry-run=") || LOOKS.iter().any(|look| line.starts_with(look));
    let only_looks = block.text.lines().all(looks);
    let (deadline, writes) = (Instant::now() + WITHIN, std::env::var_os("UPDATE_DOCS").is_some());
    loop {
        let (is_well, output) = place.run(&block.text).await?;
        let is_as_said = printed.is_none_or(|printed| lines(block, &printed.text) == lines(block, &output));
        if is_well == (block.info == "sh") && is_as_said {
            return Ok(printed.filter(|_| writes).map(|printed| (printed.clone(), output)));
        }
        let is_empty = printed.is_some_and(|printed| printed.text.is_empty());
        if only_looks && !is_empty && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(200)).await;
            continue;
        }
        ensure!(is_well == (block.info == "sh"), "has ended {}:\n{output}", if is_well { "well" } else { "with an error" });
        let Some(printed) = printed else { return Ok(None) };
        ensure!(writes, "prints\n{output}and not\n{}\nUPDATE_DOCS=1 puts it there", printed.text);
        return Ok(Some((printed.clone(), output)));
    }
}
