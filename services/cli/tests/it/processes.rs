//! What runs on this machine, for tests that must leave nothing behind.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A process, told from a later one with the same number by when it started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    pid: i32,
    started: u64,
    command: String,
}

impl Process {
    /// Whether it still runs. One that only waits to be reaped does not.
    pub fn is_alive(&self) -> bool {
        status(self.pid).is_some_and(|status| status.started == self.started && !status.is_dead)
    }
}

/// Ends, when the test does, whatever has this among its arguments: an app outlives an agent that is killed.
#[derive(Debug)]
pub struct EndedWithTest(String);

impl EndedWithTest {
    /// From now on.
    pub fn new(argument: &str) -> Self {
        Self(argument.to_owned())
    }
}

impl Drop for EndedWithTest {
    fn drop(&mut self) {
        for process in with_argument(&self.0) {
            // It may be gone already.
            let _ = kill(Pid::from_raw(process.pid), Signal::SIGKILL);
        }
    }
}

struct Status {
    parent: i32,
    started: u64,
    is_dead: bool,
}

/// Processes with this among their arguments, whoever started them.
pub fn with_argument(argument: &str) -> Vec<Process> {
    all()
        .into_iter()
        .filter(|process| process.command.split(' ').any(|word| word == argument))
        .collect()
}

/// Processes that work in a folder or below.
pub fn working_in(folder: &Path) -> Vec<Process> {
    all()
        .into_iter()
        .filter(|process| {
            let at = fs::read_link(PathBuf::from(format!("/proc/{}/cwd", process.pid)));
            at.is_ok_and(|at| at.starts_with(folder))
        })
        .collect()
}

/// What a process has started, and what that has, and so on.
pub fn below(pid: i32) -> Vec<Process> {
    let all = all();
    let parents: BTreeMap<i32, i32> = all
        .iter()
        .filter_map(|process| Some((process.pid, status(process.pid)?.parent)))
        .collect();
    let is_below = |process: &Process| {
        let mut at = process.pid;
        while let Some(parent) = parents.get(&at) {
            if *parent == pid {
                return true;
            }
            at = *parent;
        }
        false
    };
    all.into_iter().filter(is_below).collect()
}

fn all() -> Vec<Process> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let status = status(pid).filter(|status| !status.is_dead)?;
            let line = fs::read(entry.path().join("cmdline")).ok()?;
            let command = String::from_utf8_lossy(&line).replace('\0', " ");
            Some(Process {
                pid,
                started: status.started,
                command: command.trim_end().to_owned(),
            })
        })
        .collect()
}

// As proc(5) has it: the name in parentheses may have anything in it.
fn status(pid: i32) -> Option<Status> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = text.rsplit_once(") ")?.1.split(' ');
    let state = fields.next()?;
    let parent = fields.next()?.parse().ok()?;
    let started = fields.nth(17)?.parse().ok()?;
    Some(Status {
        parent,
        started,
        is_dead: matches!(state, "Z" | "X"),
    })
}
