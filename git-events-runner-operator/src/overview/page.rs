//! The page: the same table in HTML.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use git_events_runner_core::Scope;
use kube::Client;
use tokio::sync::{Mutex, watch};

use super::{HEADINGS, Line, lines};

/// For how long an answer of the API server is shown: this is all that those who ask for the page can cost it.
const SHOWN_FOR: Duration = Duration::from_secs(5);

/// The most lines that are shown; a page of some hundred kilobytes.
const MAX_LINES: usize = 1000;

const STYLE: &str = "body{font:14px/1.5 system-ui,sans-serif;margin:2em;color:#222;background:#fff}\
    table{border-collapse:collapse}th,td{text-align:left;padding:.25em 1.2em .25em 0;border-bottom:1px solid #ddd;white-space:nowrap}\
    th{font-weight:600}.bad{color:#b00020}\
    @media(prefers-color-scheme:dark){body{color:#ddd;background:#181818}th,td{border-color:#444}.bad{color:#ff8a80}}";

/// The page as it was made last. Clones share it.
#[derive(Clone)]
pub struct Page {
    cluster: watch::Receiver<Option<(Client, Scope)>>,
    made: Arc<Mutex<Option<(Instant, String)>>>,
}

impl Page {
    /// A page of this part of a cluster, as soon as there is access to it.
    pub fn new(cluster: watch::Receiver<Option<(Client, Scope)>>) -> Self {
        Self { cluster, made: Arc::default() }
    }

    /// The page, not older than some seconds.
    ///
    /// # Errors
    ///
    /// Why the API server does not tell.
    pub async fn html(&self) -> Result<String, String> {
        let cluster = self.cluster.borrow().clone();
        let Some((client, scope)) = cluster else { return Err("not ready".to_owned()) };
        // Those who come meanwhile wait for the same answer.
        let mut made = self.made.lock().await;
        if let Some((at, page)) = &*made
            && at.elapsed() < SHOWN_FOR
        {
            return Ok(page.clone());
        }
        let lines = lines(&client, &scope).await.map_err(|error| format!("the triggers cannot be listed: {error}"))?;
        let page = html(&lines);
        *made = Some((Instant::now(), page.clone()));
        Ok(page)
    }
}

pub(super) fn html(lines: &[Line]) -> String {
    let headings: String = HEADINGS.iter().map(|heading| format!("<th scope=\"col\">{}</th>", capitalized(heading))).collect();
    let rows: String = lines.iter().take(MAX_LINES).map(row).collect();
    let more = lines.len().saturating_sub(MAX_LINES);
    let note = match (lines.len(), more) {
        (0, _) => "<p>There are no triggers yet.</p>".to_owned(),
        (_, 0) => String::new(),
        _ => format!("<p>And {more} more: see <code>git-events-runner status --all-namespaces</code>.</p>"),
    };
    format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>git-events-runner</title>\
         <meta name=\"viewport\" content=\"width=device-width\"><meta http-equiv=\"refresh\" content=\"30\"><style>{STYLE}</style></head>\n\
         <body><h1>Triggers and their last runs</h1>\n<table><thead><tr>{headings}</tr></thead>\n<tbody>{rows}</tbody></table>\n{note}\
         <p><a href=\"/metrics\">Metrics</a></p></body></html>\n"
    )
}

fn row(Line(cells): &Line) -> String {
    let cell = |cell: &String| {
        let is_bad = ["False", "Failed", "Expired"].contains(&cell.as_str());
        format!("<td{}>{}</td>", if is_bad { " class=\"bad\"" } else { "" }, escaped(cell))
    };
    format!("<tr>{}</tr>\n", cells.iter().map(cell).collect::<String>())
}

fn capitalized(heading: &str) -> String {
    heading[..1].to_owned() + &heading[1..].to_lowercase()
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
