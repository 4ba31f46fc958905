//! A page of the docs and its blocks.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

/// A block between fences.
#[derive(Clone, Debug)]
pub struct Block {
    /// What stands behind the first fence, such as `sh`.
    pub info: String,
    pub text: String,
    /// The number of the line with the first fence, from 1.
    pub line: usize,
}

/// A page, which can be written anew.
pub struct Page {
    path: PathBuf,
    text: String,
}

impl Page {
    pub fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))?;
        Ok(Self { path: path.to_owned(), text })
    }

    pub fn name(&self) -> String {
        self.path.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// Its blocks, in their order.
    pub fn blocks(&self) -> Vec<Block> {
        let mut blocks = vec![];
        let mut lines = self.text.lines().zip(1..);
        while let Some((fence, line)) = lines.find(|(text, _)| text.starts_with("```")) {
            let text = lines.by_ref().map(|(text, _)| text).take_while(|text| *text != "```").map(|text| format!("{text}\n")).collect();
            blocks.push(Block { info: fence.trim_start_matches('`').to_owned(), text, line });
        }
        blocks
    }

    /// Writes other texts into some of the blocks.
    pub fn update(&self, changes: &[(Block, String)]) -> Result<()> {
        let mut lines: Vec<_> = self.text.lines().map(str::to_owned).collect();
        for (block, text) in changes.iter().rev() {
            let end = block.line + block.text.lines().count();
            lines.splice(block.line..end, text.lines().map(str::to_owned));
        }
        Ok(fs::write(&self.path, lines.join("\n") + "\n")?)
    }
}
