//! What a `Makefile` tells where no package manifest does.

use super::{CheckKind, Detected, Ecosystem, View};

const FILES: [&str; 3] = ["GNUmakefile", "makefile", "Makefile"];

/// Adds the checks that the Makefile has targets for and nothing else covers.
pub(super) fn fill_in(view: &View<'_>, detected: &mut Detected) {
    let Some(file) = view.first(&FILES) else {
        return;
    };
    let Some(text) = view.text(file) else { return };
    let targets: Vec<&str> = text.lines().filter_map(target).collect();
    let mut checks = Vec::new();
    let wanted: [(CheckKind, &[&str]); 4] = [
        (CheckKind::Build, &["build", "all"]),
        (CheckKind::Lint, &["lint"]),
        (
            CheckKind::Format,
            &["format-check", "fmt-check", "check-format"],
        ),
        (CheckKind::Tests, &["test", "tests", "check"]),
    ];
    for (kind, names) in wanted {
        if detected.checks.iter().any(|check| check.kind == kind) {
            continue;
        }
        if let Some(name) = names.iter().find(|name| targets.contains(*name)) {
            let step = view.step(None, &["make", name], &format!("{file} {name}"));
            checks.extend(Some(kind).zip(step));
        }
    }
    detected.add(
        Ecosystem {
            language: None,
            manifest: view.origin(file),
            dependencies: None,
            checks,
        },
        None,
    );
}

/// The name of the rule that a line begins, if it begins one: `test: build`, but not `A := b`.
fn target(line: &str) -> Option<&str> {
    let (name, rest) = line.split_once(':')?;
    let plain = !name.is_empty()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
    (plain && !rest.starts_with('=') && !rest.starts_with(":=")).then_some(name)
}
