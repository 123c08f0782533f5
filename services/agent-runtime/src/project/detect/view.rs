//! A folder of the project as detection sees it: which files there are, and small texts out of them.

use std::collections::BTreeMap;

use super::{Language, Step};
use crate::project::{
    source::{Content, Source},
    value::{Argv, ConfinedPath, Variable},
};

/// Largest manifest that is read, in bytes.
const MAX_TEXT_BYTES: usize = 1024 * 1024;

/// A folder of the project.
pub(super) struct View<'a> {
    source: &'a dyn Source,
    /// Empty for the root, else with `/` at its end.
    prefix: String,
}

impl<'a> View<'a> {
    pub(super) fn root(source: &'a dyn Source) -> Self {
        Self {
            source,
            prefix: String::new(),
        }
    }

    pub(super) fn below(&self, folder: &str) -> Self {
        Self {
            source: self.source,
            prefix: format!("{}{folder}/", self.prefix),
        }
    }

    /// Whether there is such a file here.
    pub(super) fn has(&self, path: &str) -> bool {
        self.source
            .files()
            .contains(&format!("{}{path}", self.prefix))
    }

    /// The first of these files that is here.
    pub(super) fn first<'n>(&self, paths: &[&'n str]) -> Option<&'n str> {
        paths.iter().copied().find(|path| self.has(path))
    }

    /// A file as text. What is missing, too large or not UTF-8 tells nothing.
    pub(super) fn text(&self, path: &str) -> Option<String> {
        match self
            .source
            .read(&format!("{}{path}", self.prefix), MAX_TEXT_BYTES)
        {
            Ok(Content::Bytes(bytes)) => String::from_utf8(bytes).ok(),
            Ok(Content::Absent | Content::Irregular | Content::TooLarge) | Err(_) => None,
        }
    }

    pub(super) fn toml(&self, path: &str) -> Option<toml::Table> {
        self.text(path)?.parse().ok()
    }

    pub(super) fn json(&self, path: &str) -> Option<serde_json::Value> {
        serde_json::from_str(&self.text(path)?).ok()
    }

    /// Every file below here, relative to here.
    pub(super) fn files(&self) -> impl Iterator<Item = &str> {
        self.source
            .files()
            .range(self.prefix.clone()..)
            .map_while(|path| path.strip_prefix(&self.prefix))
    }

    /// Folders that are directly here, without hidden ones.
    pub(super) fn folders(&self) -> Vec<String> {
        let mut folders: Vec<String> = self
            .files()
            .filter_map(|path| Some(path.split_once('/')?.0))
            .filter(|folder| !folder.starts_with('.'))
            .map(str::to_owned)
            .collect();
        folders.dedup();
        folders
    }

    /// Where something here is, for people.
    pub(super) fn origin(&self, place: &str) -> String {
        format!("{}{place}", self.prefix)
    }

    /// A command to run here.
    pub(super) fn step(
        &self,
        language: Option<Language>,
        argv: &[&str],
        origin: &str,
    ) -> Option<Step> {
        let command = argv.iter().map(|argument| (*argument).to_owned()).collect();
        let directory = match self.prefix.trim_end_matches('/') {
            "" => None,
            folder => Some(ConfinedPath::parse(folder).ok()?),
        };
        Some(Step {
            command: Argv::parse(command).ok()?,
            directory,
            environment: BTreeMap::new(),
            timeout: None,
            network: false,
            language,
            origin: self.origin(origin),
        })
    }
}

impl Step {
    /// The same with a variable.
    pub(super) fn with(mut self, name: &str, value: &str) -> Self {
        if let Ok(name) = Variable::parse(name) {
            self.environment.insert(name, value.to_owned());
        }
        self
    }

    /// The same with the network.
    pub(super) fn online(mut self) -> Self {
        self.network = true;
        self
    }
}
