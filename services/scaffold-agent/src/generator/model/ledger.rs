//! What was done so far: one line per action, and in full what the last round gave.

use std::fmt::Write as _;

use agent_runtime::repository::TreePath;

use crate::kept::Memory;

/// Most lines that are shown; older ones are counted.
const LINES: usize = 200;
/// Most bytes of one result that are shown.
const DETAIL_BYTES: usize = 16 * 1024;
/// Most bytes of what the model said that are shown to it again.
const PLAN_BYTES: usize = 4 * 1024;

/// One action.
#[derive(Debug, Clone, Default)]
pub(super) struct Entry {
    /// What was done, and how it went.
    pub(super) line: String,
    /// What it gave. May be empty.
    pub(super) detail: String,
}

/// All actions.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    lines: Vec<String>,
    plan: String,
    latest: Vec<Entry>,
    /// Files that were read, the latest last.
    pub(super) open: Vec<TreePath>,
}

impl Ledger {
    /// What came before is history now.
    pub(super) fn begin_round(&mut self, plan: &str) {
        self.latest.clear();
        cut(plan, PLAN_BYTES).clone_into(&mut self.plan);
    }

    pub(super) fn add(&mut self, entry: Entry) {
        self.lines.push(entry.line.clone());
        self.latest.push(Entry {
            detail: cut(&entry.detail, DETAIL_BYTES).to_owned(),
            ..entry
        });
    }

    pub(super) fn note(&mut self, line: &str) {
        self.add(Entry {
            line: line.to_owned(),
            detail: String::new(),
        });
    }

    pub(super) fn last_line(&self) -> String {
        self.lines.last().cloned().unwrap_or_default()
    }

    /// What the model said last.
    pub(super) fn plan(&self) -> &str {
        &self.plan
    }

    /// What the last round gave.
    pub(super) fn latest(&self) -> impl Iterator<Item = &Entry> {
        self.latest.iter().filter(|entry| !entry.detail.is_empty())
    }

    /// Goes on from what was done before.
    pub(super) fn restore(&mut self, memory: &Memory) {
        self.lines.clone_from(&memory.lines);
        self.open = memory
            .open
            .iter()
            .filter_map(|path| TreePath::parse(path).ok())
            .collect();
    }

    /// What another attempt is to go on from.
    pub(super) fn memory(&self) -> Memory {
        Memory {
            rounds: 0,
            lines: self.lines.clone(),
            open: self.open.iter().map(ToString::to_string).collect(),
        }
    }

    /// One line per action.
    pub(super) fn history(&self) -> String {
        let hidden = self.lines.len().saturating_sub(LINES);
        let mut text = String::new();
        if hidden > 0 {
            let _ = writeln!(text, "({hidden} earlier actions)");
        }
        for (index, line) in self.lines.iter().enumerate().skip(hidden) {
            let _ = writeln!(text, "{}. {line}", index + 1);
        }
        text
    }
}

/// The text's beginning, at a character's border.
pub(super) fn cut(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}
