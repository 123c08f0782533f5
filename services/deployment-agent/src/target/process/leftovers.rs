//! Ends what an agent that died left running: by the process groups that it wrote down, and by the
//! owner that every descendant carries in its environment, however it detached itself.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{OWNER_VARIABLE, table};
use crate::target::Mark;

/// How long killed processes may take to disappear.
const DISAPPEAR_WITHIN: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Kills everything of this owner and says how many processes there were. Must not be called while
/// the owner runs anything that is to stay.
pub async fn end(owner: &str, marks: &[Mark]) -> usize {
    let (owner, marks) = (owner.to_owned(), marks.to_vec());
    let ended = tokio::task::spawn_blocking(move || end_now(&owner, &marks)).await;
    ended.unwrap_or_else(|error| {
        tracing::error!(%error, "the search for leftovers broke off");
        0
    })
}

fn end_now(owner: &str, marks: &[Mark]) -> usize {
    let begun = Instant::now();
    let mut ended = HashSet::new();
    loop {
        let found = find(owner, marks);
        if found.is_empty() || begun.elapsed() > DISAPPEAR_WITHIN {
            if !found.is_empty() {
                tracing::error!(?found, "leftover processes survive SIGKILL");
            }
            return ended.len();
        }
        for pid in &found {
            // Gone meanwhile is as good as killed.
            let _ = kill(Pid::from_raw(*pid), Signal::SIGKILL);
        }
        ended.extend(found);
        std::thread::sleep(LOOK_EVERY);
    }
}

fn find(owner: &str, marks: &[Mark]) -> Vec<i32> {
    let entries = table::entries();
    // A group is ours while its leader is the process that was written down. Once the leader is
    // gone its number may be anybody's, and only the owner in the environment tells.
    let groups: HashSet<i32> = marks
        .iter()
        .filter_map(|mark| match mark {
            Mark::Process { group, start_ticks } => entries
                .iter()
                .any(|entry| entry.pid == *group && entry.start_ticks == *start_ticks)
                .then_some(*group),
            Mark::Container { .. } => None,
        })
        .collect();
    let own = std::process::id().cast_signed();
    entries
        .iter()
        .filter(|entry| entry.pid != own)
        .filter(|entry| {
            groups.contains(&entry.group) || table::has_variable(entry.pid, OWNER_VARIABLE, owner)
        })
        .map(|entry| entry.pid)
        .collect()
}
