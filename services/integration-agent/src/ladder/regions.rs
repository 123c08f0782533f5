//! Second rung: the merge has nothing that no side has, and lost nothing that both sides kept. Looks at the
//! four trees afresh, whatever made the merge.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    path::{Path, PathBuf},
};

use crate::{
    conflict::is_binary,
    ladder::{Name, Rung},
    merge::Error,
    trees::{Entry, Trees},
};

/// Looks at every path of the four trees. `settled` are paths where somebody chose a side.
pub fn look(
    objects: &git2::Repository,
    trees: &Trees,
    settled: &BTreeSet<PathBuf>,
) -> Result<Rung, Error> {
    let failed = |path: &Path, what: &str| {
        Ok(Rung::failed(
            Name::Regions,
            format!("{} {what}", path.display()),
        ))
    };
    for (path, ours) in &trees.ours {
        let Some(theirs) = trees.theirs.get(path).filter(|_| !settled.contains(path)) else {
            continue;
        };
        // Neither side moved it, so it is still here, as the side that changed it has it.
        let Some(merged) = trees.merged.get(path) else {
            return failed(path, "is on both sides, and lost in the merge");
        };
        let base = trees.base.get(path);
        let expected = if ours == theirs || base == Some(theirs) {
            ours
        } else if base == Some(ours) {
            theirs
        } else {
            continue;
        };
        if merged != expected {
            return failed(
                path,
                "was changed by one side only, and is different in the merge",
            );
        }
    }
    let known: HashSet<&Entry> = trees.ours.values().chain(trees.theirs.values()).collect();
    for (path, merged) in &trees.merged {
        let mode_alone = known.iter().any(|entry| entry.id == merged.id);
        if settled.contains(path) || known.contains(merged) || mode_alone {
            continue;
        }
        if let Some(line) = strange_line(objects, trees, path, merged)? {
            return failed(
                path,
                &format!("has a line in the merge that no side has: {line:?}"),
            );
        }
    }
    Ok(Rung::passed(
        Name::Regions,
        format!(
            "{} paths compared: the merge has nothing of its own",
            trees.merged.len()
        ),
    ))
}

/// A line of a merged file that stands there more often than both sides together account for.
fn strange_line(
    objects: &git2::Repository,
    trees: &Trees,
    path: &Path,
    merged: &Entry,
) -> Result<Option<String>, Error> {
    let content = |id| {
        objects
            .find_blob(id)
            .map(|blob| blob.content().to_vec())
            .map_err(Error::object("read a merged file"))
    };
    let merged = content(merged.id)?;
    if is_binary(&merged) {
        return Ok(Some("binary content".to_owned()));
    }
    // A file that one side renamed has another name on the other side: then any file in which the sides
    // differ may have given it a line.
    let side = |tree: &BTreeMap<PathBuf, Entry>| -> Result<Vec<u8>, Error> {
        match tree.get(path) {
            Some(entry) => content(entry.id),
            None => Ok(Vec::new()),
        }
    };
    let everywhere = [&trees.ours, &trees.theirs]
        .iter()
        .any(|tree| !tree.contains_key(path));
    let (ours, theirs) = (side(&trees.ours)?, side(&trees.theirs)?);
    let (ours, theirs) = (count(&ours), count(&theirs));
    for (line, times) in count(&merged) {
        let of = |side: &BTreeMap<&[u8], usize>| side.get(line).copied().unwrap_or(0);
        let most = of(&ours) + of(&theirs);
        if times > most && !(everywhere && anywhere(objects, trees, line)?) {
            let shown = String::from_utf8_lossy(line);
            return Ok(Some(shown.chars().take(120).collect()));
        }
    }
    Ok(None)
}

fn anywhere(objects: &git2::Repository, trees: &Trees, line: &[u8]) -> Result<bool, Error> {
    for entry in trees.differing() {
        let blob = objects
            .find_blob(entry.id)
            .map_err(Error::object("read a side"))?;
        if lines(blob.content()).any(|other| other == line) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn count(content: &[u8]) -> BTreeMap<&[u8], usize> {
    let mut counts = BTreeMap::new();
    for line in lines(content) {
        *counts.entry(line).or_default() += 1;
    }
    counts
}

/// Lines without their ends: a merge may give a last line its end.
fn lines(content: &[u8]) -> impl Iterator<Item = &[u8]> {
    content
        .split(|&byte| byte == b'\n')
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line))
        .filter(|line| !line.is_empty())
}
