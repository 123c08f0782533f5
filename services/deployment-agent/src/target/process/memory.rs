//! Watches what a process tree keeps in memory. The kernel's own limits are per process (RLIMIT) or
//! need rights over cgroups; a look twice a second at the whole tree needs neither.

use std::{collections::HashSet, time::Duration};

use super::table::{self, Entry};

const LOOK_EVERY: Duration = Duration::from_millis(500);

/// More than allowed.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error(
    "memory limit of {} MiB exceeded: it used {} MiB", .limit / (1024 * 1024), .used / (1024 * 1024)
)]
pub(super) struct Exceeded {
    limit: u64,
    used: u64,
}

/// Waits until the tree of `leader` uses more than `limit`; for ever without a limit.
pub(super) async fn exceeded(leader: i32, limit: Option<u64>) -> Exceeded {
    let Some(limit) = limit else {
        return std::future::pending().await;
    };
    let mut looks = tokio::time::interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        let look = move || resident_bytes(&table::entries(), leader);
        match tokio::task::spawn_blocking(look).await {
            Ok(used) if used > limit => return Exceeded { limit, used },
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "cannot look at the memory of an instance"),
        }
    }
}

fn resident_bytes(entries: &[Entry], leader: i32) -> u64 {
    let mut tree: HashSet<i32> = entries
        .iter()
        .filter(|entry| entry.pid == leader || entry.group == leader)
        .map(|entry| entry.pid)
        .collect();
    loop {
        let known = tree.len();
        tree.extend(
            entries
                .iter()
                .filter(|e| tree.contains(&e.parent))
                .map(|e| e.pid)
                .collect::<Vec<_>>(),
        );
        if tree.len() == known {
            break;
        }
    }
    let pages: u64 = entries
        .iter()
        .filter(|e| tree.contains(&e.pid))
        .map(|e| e.resident_pages)
        .sum();
    pages * page_bytes()
}

fn page_bytes() -> u64 {
    nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE)
        .ok()
        .flatten()
        .and_then(|bytes| u64::try_from(bytes).ok())
        .unwrap_or(4096)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(pid: i32, parent: i32, group: i32, resident_pages: u64) -> Entry {
        Entry {
            pid,
            parent,
            group,
            start_ticks: 0,
            resident_pages,
        }
    }

    #[test]
    fn children_in_other_groups_count_and_strangers_do_not() {
        let table = [
            entry(10, 1, 10, 1),
            entry(11, 10, 10, 2),
            entry(12, 11, 12, 4),
            entry(13, 12, 13, 8),
            entry(20, 1, 20, 1000),
        ];
        assert_eq!(resident_bytes(&table, 10), 15 * page_bytes());
    }
}
