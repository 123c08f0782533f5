//! Finds and ends every descendant of a run: by process group, by parentage, and by a marker in the
//! environment that also survives `setsid` and daemonising. A process that clears its environment and
//! detaches between two looks escapes; sandbox tiers close that gap.

use std::{
    collections::{HashMap, HashSet},
    fs,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::environment::MARKER_VARIABLE;

/// How long killed processes may take to disappear; the kernel frees memory and files meanwhile.
const DISAPPEAR_WITHIN: Duration = Duration::from_secs(10);

const POLL: Duration = Duration::from_millis(10);

/// A process in the middle of `exec` shows no environment for a moment. One that was started after the
/// run and shows none is looked at this often before it counts as somebody else's.
const DOUBTS: usize = 5;

/// A process, told apart from a later one with the same number by when it started.
pub(super) type Identity = (i32, u64);

/// The processes of one run.
#[derive(Debug, Clone)]
pub(super) struct Tree {
    leader: i32,
    /// When the leader started, in the kernel's ticks; nothing of the run is older.
    start: u64,
    marker: String,
    /// Seen before; parentage is lost when a parent dies, so it is remembered.
    known: HashSet<Identity>,
    /// Whether the last look met a process that may or may not belong to the run.
    in_doubt: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mark {
    Ours,
    Foreign,
    Unclear,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    parent: i32,
    group: i32,
    start: u64,
}

impl Tree {
    pub(super) fn new(leader: u32, marker: String) -> Self {
        let leader = leader.cast_signed();
        Self {
            leader,
            start: stat(leader).map_or(0, |entry| entry.start),
            marker,
            known: HashSet::new(),
            in_doubt: false,
        }
    }

    /// Every living process of the run.
    pub(super) fn members(&mut self) -> Vec<Pid> {
        let table = process_table();
        let own = std::process::id().cast_signed();
        let mut found = HashSet::new();
        self.in_doubt = false;
        for (pid, entry) in &table {
            if entry.start < self.start {
                continue;
            }
            if *pid == self.leader
                || entry.group == self.leader
                || self.known.contains(&(*pid, entry.start))
            {
                found.insert(*pid);
                continue;
            }
            match mark_of(*pid, &self.marker) {
                Mark::Ours => {
                    found.insert(*pid);
                }
                Mark::Unclear => self.in_doubt = true,
                Mark::Foreign => {}
            }
        }
        loop {
            let children: Vec<i32> = table
                .iter()
                .filter(|(pid, entry)| found.contains(&entry.parent) && !found.contains(pid))
                .map(|(pid, _)| *pid)
                .collect();
            if children.is_empty() {
                break;
            }
            found.extend(children);
        }
        found.remove(&own);
        self.known = found
            .iter()
            .filter_map(|pid| Some((*pid, table.get(pid)?.start)))
            .collect();
        found.into_iter().map(Pid::from_raw).collect()
    }

    /// Sends a signal to every member and says how many there were.
    pub(super) fn signal(&mut self, signal: Signal) -> usize {
        let members = self.members();
        for member in &members {
            // Gone meanwhile, or not ours to signal: the next look tells.
            let _ = kill(*member, signal);
        }
        members.len()
    }

    /// Waits until every member is gone by itself.
    pub(super) async fn gone(&mut self) {
        let mut doubts = 0;
        while !self.members().is_empty() || (self.in_doubt && doubts < DOUBTS) {
            doubts += 1;
            tokio::time::sleep(POLL).await;
        }
    }

    /// Asks, waits for `grace`, then forces until nothing is left.
    pub(super) async fn end(&mut self, grace: Duration) {
        if !grace.is_zero() {
            self.signal(Signal::SIGTERM);
            // A stopped process would never see the request.
            self.signal(Signal::SIGCONT);
            if tokio::time::timeout(grace, self.gone()).await.is_ok() {
                return;
            }
        }
        let forced = Instant::now();
        let mut doubts = 0;
        while self.signal(Signal::SIGKILL) > 0 || (self.in_doubt && doubts < DOUBTS) {
            doubts += 1;
            if forced.elapsed() > DISAPPEAR_WITHIN {
                tracing::error!(leader = self.leader, "processes survive SIGKILL");
                return;
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Forces at once, for when nobody can wait: what is left after the first blow is hunted down by a thread.
    pub(super) fn end_now(mut self) {
        if self.signal(Signal::SIGKILL) == 0 && !self.in_doubt {
            return;
        }
        let hunt = move || {
            let forced = Instant::now();
            let mut doubts = 0;
            while (self.signal(Signal::SIGKILL) > 0 || (self.in_doubt && doubts < DOUBTS))
                && forced.elapsed() < DISAPPEAR_WITHIN
            {
                doubts += 1;
                std::thread::sleep(POLL);
            }
        };
        if let Err(error) = std::thread::Builder::new()
            .name("process-tree-end".into())
            .spawn(hunt)
        {
            tracing::error!(%error, "cannot follow up on a killed process tree");
        }
    }
}

/// Every process of the machine that is not a zombie. Empty where there is no `/proc`.
pub(super) fn processes() -> Vec<Identity> {
    let identity = |(pid, entry): (i32, Entry)| (pid, entry.start);
    process_table().into_iter().map(identity).collect()
}

/// What a process was started with as this variable. `None`: it shows no environment for the moment, or
/// never does, as the kernel's own.
pub(super) fn variables(pid: i32, name: &str) -> Option<Vec<Vec<u8>>> {
    // Unreadable: gone, or another user's.
    let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_else(|_| vec![0]);
    if environment.is_empty() {
        return None;
    }
    let values = environment
        .split(|byte| *byte == 0)
        .filter_map(|variable| variable.strip_prefix(name.as_bytes())?.strip_prefix(b"="))
        .map(<[u8]>::to_vec);
    Some(values.collect())
}

fn process_table() -> HashMap<i32, Entry> {
    let Ok(folder) = fs::read_dir("/proc") else {
        return HashMap::new();
    };
    folder
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(|pid: i32| Some((pid, stat(pid)?)))
        .collect()
}

/// Reads `/proc/<pid>/stat` (proc(5)); none for zombies, which only wait for their parent.
fn stat(pid: i32) -> Option<Entry> {
    let text = fs::read(format!("/proc/{pid}/stat")).ok()?;
    let text = String::from_utf8_lossy(&text);
    // The command name may contain anything, also parentheses and spaces: fields begin after the last one.
    let fields: Vec<&str> = text[text.rfind(')')? + 1..].split_whitespace().collect();
    if matches!(*fields.first()?, "Z" | "X") {
        return None;
    }
    Some(Entry {
        parent: fields.get(1)?.parse().ok()?,
        group: fields.get(2)?.parse().ok()?,
        start: fields.get(19)?.parse().ok()?,
    })
}

fn mark_of(pid: i32, marker: &str) -> Mark {
    let Some(values) = variables(pid, MARKER_VARIABLE) else {
        return Mark::Unclear;
    };
    let is_ours = values.iter().any(|ids| {
        ids.split(|byte| *byte == b':')
            .any(|id| id == marker.as_bytes())
    });
    if is_ours { Mark::Ours } else { Mark::Foreign }
}
