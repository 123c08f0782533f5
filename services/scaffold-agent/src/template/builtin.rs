//! The templates that are in the binary.

use std::{borrow::Cow, collections::BTreeMap};

use super::{Template, TemplateFile, folder::LoadError};

mod embedded {
    include!(concat!(env!("OUT_DIR"), "/builtin.rs"));
}

/// All of them, checked like anybody else's.
pub(super) fn templates() -> Result<Vec<Template>, LoadError> {
    let mut parts: BTreeMap<&str, Vec<(&str, &'static [u8])>> = BTreeMap::new();
    for (place, content) in embedded::FILES {
        if let Some((name, rest)) = place.split_once('/') {
            parts.entry(name).or_default().push((rest, content));
        }
    }
    parts
        .into_iter()
        .map(|(name, files)| {
            let manifest = files
                .iter()
                .find(|(place, _)| *place == "template.yaml")
                .map_or(Cow::Borrowed(""), |(_, content)| {
                    String::from_utf8_lossy(content)
                });
            let files = files
                .iter()
                .filter_map(|(place, content)| {
                    Some(TemplateFile {
                        place: place.strip_prefix("files/")?.to_owned(),
                        content: Cow::Borrowed(*content),
                        executable: false,
                    })
                })
                .collect();
            Template::check(name, &manifest, files)
        })
        .collect()
}
