//! Finds the symbolic links of a tree that lead out of it, without asking a file system. Pure.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    path::{Component, Path, PathBuf},
};

/// As many links as Linux follows before it gives up.
const MOST_HOPS: usize = 40;

/// The links of `links` (path to target) that lead out of the tree, or in circles.
pub(super) fn escaping(links: &BTreeMap<PathBuf, PathBuf>) -> Vec<PathBuf> {
    links
        .keys()
        .filter(|link| !stays_inside(links, link))
        .cloned()
        .collect()
}

fn stays_inside(links: &BTreeMap<PathBuf, PathBuf>, link: &Path) -> bool {
    // What is still to be walked, next name last.
    let mut rest: Vec<OsString> = Vec::new();
    let mut at = PathBuf::new();
    let mut hops = 0;
    push(&mut rest, link);
    while let Some(name) = rest.pop() {
        if name == ".." {
            if !at.pop() {
                return false;
            }
            continue;
        }
        at.push(&name);
        let Some(target) = links.get(&at) else {
            continue;
        };
        hops += 1;
        if hops > MOST_HOPS || target.is_absolute() || target.as_os_str().is_empty() {
            return false;
        }
        at.pop();
        push(&mut rest, target);
    }
    true
}

fn push(rest: &mut Vec<OsString>, path: &Path) {
    rest.extend(path.components().rev().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some(OsString::from("..")),
        Component::CurDir | Component::RootDir | Component::Prefix(_) => None,
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn escaping_of(links: &[(&str, &str)]) -> Vec<String> {
        let links = links
            .iter()
            .map(|(path, target)| (PathBuf::from(path), PathBuf::from(target)))
            .collect();
        escaping(&links)
            .into_iter()
            .map(|path| path.to_string_lossy().into_owned())
            .collect()
    }

    #[test]
    fn links_within_the_tree_stay() {
        assert!(
            escaping_of(&[
                ("a", "b"),
                ("docs/readme", "../README.md"),
                ("current", "releases/1"),
                ("deep/er/link", "../../x/./y"),
                ("self", "."),
                ("dangling", "not/there"),
            ])
            .is_empty()
        );
    }

    #[test]
    fn links_out_of_the_tree_are_found() {
        for target in ["/etc/passwd", "..", "../x", "a/../../x", "../../../../etc"] {
            assert_eq!(escaping_of(&[("link", target)]), ["link"], "{target}");
        }
    }

    #[test]
    fn a_link_that_leaves_through_another_link_is_found() {
        // p/q/s is the root, so q/s/.. is outside although the text looks inside.
        let found = escaping_of(&[("p/q/s", "../.."), ("p/l", "q/s/../secret")]);
        assert_eq!(found, ["p/l"]);
    }

    #[test]
    fn circles_are_found() {
        assert_eq!(escaping_of(&[("a", "b"), ("b", "a")]), ["a", "b"]);
        assert_eq!(escaping_of(&[("a", "a/x")]), ["a"]);
    }
}
