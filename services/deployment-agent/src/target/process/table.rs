//! The kernel's process table, as far as deployments need it. Empty where there is no `/proc`.

use std::fs;

/// One living process.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    pub(super) pid: i32,
    pub(super) parent: i32,
    pub(super) group: i32,
    pub(super) start_ticks: u64,
    pub(super) resident_pages: u64,
}

/// Every process but zombies, which use nothing and only wait for their parent.
pub(super) fn entries() -> Vec<Entry> {
    let Ok(folder) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    folder
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(read)
        .collect()
}

/// When a living process started, in ticks since boot.
pub(super) fn start_ticks(pid: i32) -> Option<u64> {
    read(pid).map(|entry| entry.start_ticks)
}

/// Whether the process was started with `name=value` in its environment.
pub(super) fn has_variable(pid: i32, name: &str, value: &str) -> bool {
    let wanted = format!("{name}={value}");
    fs::read(format!("/proc/{pid}/environ")).is_ok_and(|environment| {
        environment
            .split(|byte| *byte == 0)
            .any(|variable| variable == wanted.as_bytes())
    })
}

/// Reads `/proc/<pid>/stat` (proc(5)).
fn read(pid: i32) -> Option<Entry> {
    let text = fs::read(format!("/proc/{pid}/stat")).ok()?;
    parse(pid, &String::from_utf8_lossy(&text))
}

/// The command's name may hold anything, also spaces and parentheses: fields begin after the last.
fn parse(pid: i32, text: &str) -> Option<Entry> {
    let fields: Vec<&str> = text
        .get(text.rfind(')')? + 1..)?
        .split_whitespace()
        .collect();
    if matches!(*fields.first()?, "Z" | "X") {
        return None;
    }
    Some(Entry {
        pid,
        parent: fields.get(1)?.parse().ok()?,
        group: fields.get(2)?.parse().ok()?,
        start_ticks: fields.get(19)?.parse().ok()?,
        resident_pages: fields.get(21)?.parse().unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hostile_name_does_not_shift_the_fields() {
        let rest = "S 7 8 9 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 1 0 4242 1000 77 0";
        let entry = parse(5, &format!("5 (a) R 1 (b)) {rest}")).expect("it is well formed");
        assert_eq!((entry.parent, entry.group), (7, 8));
        assert_eq!((entry.start_ticks, entry.resident_pages), (4242, 77));
        assert!(parse(5, &format!("5 (a) {}", rest.replacen('S', "Z", 1))).is_none());
        assert!(parse(5, "garbage").is_none());
    }

    #[test]
    fn this_process_is_in_the_table() {
        let own = std::process::id().cast_signed();
        assert!(
            entries()
                .iter()
                .any(|entry| entry.pid == own && entry.resident_pages > 0)
        );
    }
}
