//! All templates that an agent knows: those in the binary, and those of the folder that its configuration names.

use std::{collections::BTreeMap, path::Path};

use super::{LoadError, Template, builtin, folder};

/// Templates by name.
#[derive(Debug, Clone, Default)]
pub struct Catalog {
    templates: BTreeMap<String, Template>,
}

/// Why the templates cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// One of them is wrong.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// Two have one name.
    #[error("template {0} is there twice: give the one in your folder another name")]
    Twice(String),
}

/// A task named a template that is not there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no template {asked:?}{}; there are {}", near(.nearest.as_ref()), .known.join(", "))]
pub struct UnknownTemplate {
    /// What was asked for.
    pub asked: String,
    /// The name that is nearest, if any is near.
    pub nearest: Option<String>,
    /// All names.
    pub known: Vec<String>,
}

fn near(nearest: Option<&String>) -> String {
    nearest.map_or(String::new(), |name| format!(" (did you mean {name}?)"))
}

impl Catalog {
    /// The built-in templates, and those below `folder`.
    pub fn load(folder: Option<&Path>) -> Result<Self, CatalogError> {
        let mut catalog = Self::default();
        let own = folder.map_or(Ok(Vec::new()), folder::templates)?;
        for template in builtin::templates()?.into_iter().chain(own) {
            let name = template.name().to_owned();
            if catalog.templates.insert(name.clone(), template).is_some() {
                return Err(CatalogError::Twice(name));
            }
        }
        Ok(catalog)
    }

    /// The template of that name.
    pub fn get(&self, name: &str) -> Result<&Template, UnknownTemplate> {
        self.templates.get(name).ok_or_else(|| UnknownTemplate {
            asked: name.chars().take(64).collect(),
            nearest: contracts::parse::nearest(name, self.names()).map(str::to_owned),
            known: self.names().map(str::to_owned).collect(),
        })
    }

    /// All names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.templates.keys().map(String::as_str)
    }

    /// All templates, sorted by name.
    pub fn templates(&self) -> impl Iterator<Item = &Template> {
        self.templates.values()
    }
}
