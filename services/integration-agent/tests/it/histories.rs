//! Random histories, from a seed: files that are edited, moved, removed, replaced by links and folders on two
//! sides of a common past, now and then with merges in it.

use std::{collections::BTreeMap, fmt::Write as _};

use agent_runtime::repository::CommitId;
use rand::{Rng as _, SeedableRng as _, rngs::StdRng, seq::IndexedRandom as _};

/// What a commit's tree holds: mode and content by path.
type Files = BTreeMap<String, (u32, Vec<u8>)>;

const FOLDERS: [&str; 4] = ["src", "lib", "src/deep", "docs"];
const NAMES: [&str; 8] = [
    "a.txt", "b.txt", "c.u", "d.b", "e.txt", "f.bin", "g.d", "h.txt",
];
const ATTRIBUTES: &str = "*.u merge=union\n*.b -merge\n*.d merge=special\n";

pub struct History {
    pub ours: CommitId,
    pub theirs: CommitId,
}

/// What happens to files.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    /// Everything.
    Wild,
    /// Their lines change, and little else.
    Calm,
}

/// Writes a random history into `repository`.
pub fn write(repository: &git2::Repository, seed: u64, mood: Mood) -> History {
    let mut random = StdRng::seed_from_u64(seed);
    let mut files = Files::new();
    for _ in 0..random.random_range(3..9) {
        add(&mut random, &mut files);
    }
    if random.random_bool(0.5) {
        let entry = (0o100_644, ATTRIBUTES.as_bytes().to_vec());
        files.insert(".gitattributes".to_owned(), entry);
    }
    let base = commit(repository, &files, &[]);
    let mut sides = [(files.clone(), base), (files, base)];
    for side in &mut sides {
        for _ in 0..random.random_range(1..4) {
            advance(repository, &mut random, side, mood);
        }
    }
    if random.random_bool(0.2) {
        // Both sides merged the other's beginning: two best common ancestors.
        let tips = [sides[0].1, sides[1].1];
        for (side, (left, right)) in sides
            .iter_mut()
            .zip([(tips[0], tips[1]), (tips[1], tips[0])])
        {
            change(&mut random, &mut side.0, mood);
            side.1 = commit(repository, &side.0, &[left, right]);
            advance(repository, &mut random, side, mood);
        }
    }
    History {
        ours: sides[0].1.into(),
        theirs: sides[1].1.into(),
    }
}

fn advance(
    repository: &git2::Repository,
    random: &mut StdRng,
    side: &mut (Files, git2::Oid),
    mood: Mood,
) {
    for _ in 0..random.random_range(1..4) {
        change(random, &mut side.0, mood);
    }
    side.1 = commit(repository, &side.0, &[side.1]);
}

fn some_path(random: &mut StdRng) -> String {
    let name = NAMES.choose(random).unwrap();
    if random.random_bool(0.3) {
        (*name).to_owned()
    } else {
        format!("{}/{name}", FOLDERS.choose(random).unwrap())
    }
}

fn lines(random: &mut StdRng) -> Vec<u8> {
    let topic = random.random_range(0..1000);
    let count = random.random_range(1..25);
    let mut text = String::new();
    for index in 0..count {
        // Some lines are alike, as braces are in code.
        if random.random_bool(0.25) {
            text.push_str(["}\n", "\n", "    end\n"].choose(random).unwrap());
        } else {
            let _ = writeln!(text, "{topic} line {index}");
        }
    }
    if random.random_bool(0.1) {
        text.pop();
    }
    text.into_bytes()
}

/// A file cannot stand where a folder is needed, nor the other way round.
fn put(files: &mut Files, path: &str, entry: (u32, Vec<u8>)) {
    let below = format!("{path}/");
    files.retain(|other, _| !other.starts_with(&below) && !path.starts_with(&format!("{other}/")));
    files.insert(path.to_owned(), entry);
}

fn add(random: &mut StdRng, files: &mut Files) {
    let path = some_path(random);
    let content = if path.contains(".bin") {
        let mut content = vec![0, 1, 2];
        content.extend(random.random::<[u8; 16]>());
        content
    } else {
        lines(random)
    };
    put(files, &path, (0o100_644, content));
}

fn some_file(random: &mut StdRng, files: &Files) -> Option<String> {
    let paths: Vec<_> = files.keys().filter(|path| !path.starts_with('.')).collect();
    paths.choose(random).map(|path| (*path).clone())
}

fn change(random: &mut StdRng, files: &mut Files, mood: Mood) {
    let Some(path) = some_file(random, files) else {
        return add(random, files);
    };
    let most = if mood == Mood::Wild { 100 } else { 50 };
    match random.random_range(0..most) {
        0..45 => match files.get_mut(&path).unwrap() {
            (0o120_000, target) => target.push(b'x'),
            (_, content) => edit(random, content),
        },
        45..60 => add(random, files),
        60..70 => {
            files.remove(&path);
        }
        70..82 => {
            let entry = files.remove(&path).unwrap();
            let new = some_path(random);
            put(files, &new, entry);
        }
        82..90 => move_folder(random, files),
        90..94 => {
            let entry = files.get_mut(&path).unwrap();
            if entry.0 == 0o100_644 {
                entry.0 = 0o100_755;
            }
        }
        94..97 => {
            files.insert(path, (0o120_000, b"some/where".to_vec()));
        }
        _ => {
            let content = lines(random);
            put(files, &format!("{path}/inside"), (0o100_644, content));
        }
    }
}

fn edit(random: &mut StdRng, content: &mut Vec<u8>) {
    if content.first() == Some(&0) {
        content.push(random.random());
        return;
    }
    let mut lines: Vec<Vec<u8>> = content
        .split_inclusive(|&byte| byte == b'\n')
        .map(<[u8]>::to_vec)
        .collect();
    let at = random.random_range(0..=lines.len());
    let line = format!("edit {}\n", random.random_range(0..30)).into_bytes();
    match random.random_range(0..4) {
        0 => lines.insert(at, line),
        1 if !lines.is_empty() => {
            lines.remove(at.min(lines.len() - 1));
        }
        2 if lines.len() > 2 => {
            let end = (at + 3).min(lines.len());
            lines.splice(at.min(end)..end, [line.clone(), line]);
        }
        _ => match lines.get_mut(at) {
            Some(there) => *there = line,
            None => lines.push(line),
        },
    }
    *content = lines.concat();
}

fn move_folder(random: &mut StdRng, files: &mut Files) {
    let from = format!("{}/", FOLDERS.choose(random).unwrap());
    let to = ["pkg", "moved", "lib"].choose(random).unwrap();
    let inside: Vec<_> = files
        .keys()
        .filter(|path| path.starts_with(&from))
        .cloned()
        .collect();
    for path in inside {
        let entry = files.remove(&path).unwrap();
        put(files, &format!("{to}/{}", &path[from.len()..]), entry);
    }
}

fn commit(repository: &git2::Repository, files: &Files, parents: &[git2::Oid]) -> git2::Oid {
    let mut index = git2::Index::new().unwrap();
    for (path, (mode, content)) in files {
        index
            .add(&git2::IndexEntry {
                ctime: git2::IndexTime::new(0, 0),
                mtime: git2::IndexTime::new(0, 0),
                dev: 0,
                ino: 0,
                mode: *mode,
                uid: 0,
                gid: 0,
                file_size: 0,
                id: repository.blob(content).unwrap(),
                flags: 0,
                flags_extended: 0,
                path: path.as_bytes().to_vec(),
            })
            .unwrap();
    }
    let tree = index.write_tree_to(repository).unwrap();
    let tree = repository.find_tree(tree).unwrap();
    let time = git2::Time::new(1_700_000_000, 0);
    let signature = git2::Signature::new("T", "t@example.org", &time).unwrap();
    let parents: Vec<_> = parents
        .iter()
        .map(|parent| repository.find_commit(*parent).unwrap())
        .collect();
    let parents: Vec<_> = parents.iter().collect();
    repository
        .commit(None, &signature, &signature, "change\n", &tree, &parents)
        .unwrap()
}
