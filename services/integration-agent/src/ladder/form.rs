//! First rung: no file that the merge made has conflict markers, and structured files that load on both
//! sides load afterwards, without keys that stand there twice.

use std::{collections::BTreeMap, fmt, path::Path};

use serde::de::{self, Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::{
    hunks,
    ladder::{Name, Rung},
    merge::Error,
    trees::{Entry, Trees},
};

/// Larger files are not loaded: nobody writes them by hand.
const LARGEST: usize = 8 * 1024 * 1024;

/// Looks at every file whose content is on neither side.
pub fn look(objects: &git2::Repository, trees: &Trees) -> Result<Rung, Error> {
    let mut looked_at = 0;
    let mut unloadable = Vec::new();
    for (path, entry) in trees.made() {
        let content = read(objects, entry)?;
        let sides = [&trees.ours, &trees.theirs]
            .into_iter()
            .filter_map(|side| side.get(path))
            .map(|entry| read(objects, entry))
            .collect::<Result<Vec<_>, _>>()?;
        looked_at += 1;
        if let Some(line) = new_marker(&content, &sides) {
            return Ok(Rung::failed(
                Name::Form,
                format!("{}:{line} has a conflict marker", path.display()),
            ));
        }
        let Some(format) = Format::of(path) else {
            continue;
        };
        let both_load = sides.len() == 2 && sides.iter().all(|side| format.load(side).is_ok());
        if !both_load {
            unloadable.push(path.display().to_string());
            continue;
        }
        if let Err(problem) = format.load(&content) {
            return Ok(Rung::failed(
                Name::Form,
                format!(
                    "{} loads as {format} on both sides, but not after the merge: {problem}",
                    path.display()
                ),
            ));
        }
    }
    let mut reason = format!("{looked_at} files with lines of both sides are whole");
    if !unloadable.is_empty() {
        unloadable.truncate(5);
        reason = format!(
            "{reason}; not compared because a side does not load: {}",
            unloadable.join(", ")
        );
    }
    Ok(Rung::passed(Name::Form, reason))
}

fn read(objects: &git2::Repository, entry: &Entry) -> Result<Vec<u8>, Error> {
    objects
        .find_blob(entry.id)
        .map(|blob| blob.content().to_vec())
        .map_err(Error::object("read a merged file"))
}

/// The first line with a marker that neither side has as often.
fn new_marker(content: &[u8], sides: &[Vec<u8>]) -> Option<usize> {
    let mut allowed: BTreeMap<&[u8], usize> = BTreeMap::new();
    for side in sides {
        let mut own: BTreeMap<&[u8], usize> = BTreeMap::new();
        for (_, line) in markers(side) {
            *own.entry(line).or_default() += 1;
        }
        for (line, count) in own {
            let most = allowed.entry(line).or_default();
            *most = (*most).max(count);
        }
    }
    for (number, line) in markers(content) {
        match allowed.get_mut(line) {
            Some(left) if *left > 0 => *left -= 1,
            _ => return Some(number),
        }
    }
    None
}

/// Opening and closing markers; a line of `=` alone is a heading in many languages.
fn markers(content: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    content
        .split(|&byte| byte == b'\n')
        .enumerate()
        .filter(|(_, line)| matches!(hunks::marker(line, 7), Some(b'<' | b'>')))
        .map(|(index, line)| (index + 1, line))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Json,
    Toml,
    Yaml,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Json => "JSON",
            Self::Toml => "TOML",
            Self::Yaml => "YAML",
        })
    }
}

impl Format {
    fn of(path: &Path) -> Option<Self> {
        if path.file_name()? == "Cargo.lock" {
            return Some(Self::Toml);
        }
        match path.extension()?.to_str()? {
            "json" | "webmanifest" | "geojson" => Some(Self::Json),
            "toml" => Some(Self::Toml),
            "yaml" | "yml" => Some(Self::Yaml),
            _ => None,
        }
    }

    fn load(self, content: &[u8]) -> Result<(), String> {
        if content.len() > LARGEST {
            return Err("it is too large to load".to_owned());
        }
        let text = std::str::from_utf8(content).map_err(|error| error.to_string())?;
        match self {
            Self::Json => serde_json::from_str::<Unique>(text)
                .map(drop)
                .map_err(|error| error.to_string()),
            Self::Toml => toml::from_str::<toml::Table>(text)
                .map(drop)
                .map_err(|error| error.message().to_owned()),
            Self::Yaml => serde_saphyr::from_multiple::<IgnoredAny>(text)
                .map(drop)
                .map_err(|error| error.to_string().lines().next().unwrap_or("").to_owned()),
        }
    }
}

/// Any value in which no map has a key twice.
struct Unique;

impl<'de> Deserialize<'de> for Unique {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(UniqueVisitor)
    }
}

struct UniqueVisitor;

impl<'de> Visitor<'de> for UniqueVisitor {
    type Value = Unique;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E>(self, _: bool) -> Result<Unique, E> {
        Ok(Unique)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Unique, E> {
        Ok(Unique)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Unique, E> {
        Ok(Unique)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Unique, E> {
        Ok(Unique)
    }

    fn visit_str<E>(self, _: &str) -> Result<Unique, E> {
        Ok(Unique)
    }

    fn visit_unit<E>(self) -> Result<Unique, E> {
        Ok(Unique)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Unique, A::Error> {
        while items.next_element::<Unique>()?.is_some() {}
        Ok(Unique)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Unique, A::Error> {
        let mut keys = std::collections::HashSet::new();
        while let Some(key) = entries.next_key::<String>()? {
            if keys.contains(&key) {
                return Err(de::Error::custom(format!(
                    "the key {key:?} stands there twice"
                )));
            }
            keys.insert(key);
            entries.next_value::<Unique>()?;
        }
        Ok(Unique)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_stand_there_twice_are_found() {
        for (name, good, twice) in [
            (
                "a.json",
                r#"{"a": [1, {"b": null}], "c": 1.5}"#,
                r#"{"x": {"a": 1, "a": 2}}"#,
            ),
            ("a.toml", "[a]\nb = 1\n", "a = 1\na = 2\n"),
            ("Cargo.lock", "[a]\nb = 1\n", "[a]\n[a]\n"),
            ("a.yml", "a: 1\nb:\n  - c\n", "a: 1\nb: 2\na: 3\n"),
        ] {
            let format = Format::of(Path::new(name)).unwrap();
            assert_eq!(format.load(good.as_bytes()), Ok(()), "{name}");
            assert!(format.load(twice.as_bytes()).is_err(), "{name}");
            assert!(format.load(b"\xff{").is_err(), "{name}");
        }
        assert_eq!(Format::of(Path::new("a.rs")), None);
    }

    #[test]
    fn yaml_with_several_documents_loads() {
        assert_eq!(Format::Yaml.load(b"a: 1\n---\na: 2\n"), Ok(()));
    }

    #[test]
    fn markers_that_no_side_has_are_found() {
        let side = b"Title\n=======\ntext\n".to_vec();
        assert_eq!(
            new_marker(b"Title\n=======\n", std::slice::from_ref(&side)),
            None
        );
        assert_eq!(new_marker(b"a\n<<<<<<< HEAD\n", &[side]), Some(2));
        // A text about git may have them, if it had them before.
        let about = b"<<<<<<< HEAD\n>>>>>>> topic\n".to_vec();
        assert_eq!(new_marker(&about, std::slice::from_ref(&about)), None);
        let twice = [about.clone(), about.clone()].concat();
        assert_eq!(new_marker(&twice, &[about.clone(), about]), Some(3));
    }
}
