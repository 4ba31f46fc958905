//! What the docs tell of, to compare with what there is.

use std::collections::BTreeSet;

const WHAT_CAN_GO_WRONG: &str = include_str!("../../docs/guides/what-can-go-wrong.md");

/// What answers requests, but for the headers that hyper refuses.
const WEBHOOK: &str = include_str!("webhook.rs");

#[test]
fn the_docs_tell_of_all_answers_to_webhooks_and_of_no_others() {
    let names = WEBHOOK.split("StatusCode::").skip(1).map(|rest| rest.split(|c: char| c != '_' && !c.is_ascii_uppercase()).next());
    let given = names.flatten().filter(|name| !name.is_empty()).chain(["REQUEST_HEADER_FIELDS_TOO_LARGE"]).map(str::to_owned).collect();
    let codes = section("What a forge shows").lines().filter_map(|line| line.strip_prefix("| ")?.split(' ').next()?.parse().ok());
    let told = codes.filter_map(|code| hyper::StatusCode::from_u16(code).ok()?.canonical_reason());
    assert_eq!(told.map(|name| name.to_uppercase().replace(' ', "_")).collect::<BTreeSet<_>>(), given);
}

/// What is below a heading.
fn section(heading: &str) -> &'static str {
    let (_, below) = WHAT_CAN_GO_WRONG.split_once(&format!("\n## {heading}\n")).unwrap_or_default();
    below.split("\n## ").next().unwrap_or_default()
}

/// The words in the first column of the table below a heading.
pub fn listed(heading: &str) -> BTreeSet<String> {
    let cells = section(heading).lines().filter_map(|line| line.strip_prefix("| `")?.split(" |").next());
    cells.flat_map(|cell| cell.split('`')).filter(|word| word.chars().any(char::is_alphanumeric)).map(str::to_owned).collect()
}
