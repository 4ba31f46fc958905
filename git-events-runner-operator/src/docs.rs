//! What the docs tell of, to compare with what there is.

use std::collections::BTreeSet;

const WHAT_CAN_GO_WRONG: &str = include_str!("../../docs/guides/what-can-go-wrong.md");

/// The words in the first column of the table below a heading.
pub fn listed(heading: &str) -> BTreeSet<String> {
    let (_, below) = WHAT_CAN_GO_WRONG.split_once(&format!("\n## {heading}\n")).unwrap_or_default();
    let section = below.split("\n## ").next().unwrap_or_default();
    let cells = section.lines().filter_map(|line| line.strip_prefix("| `")?.split(" |").next());
    cells.flat_map(|cell| cell.split('`')).filter(|word| word.chars().any(char::is_alphanumeric)).map(str::to_owned).collect()
}
