//! Templates: folders of files and a manifest with typed parameters, from which a whole project is rendered.
//! The same input gives the same files. Knows nothing of repositories, tasks and generators.

use std::borrow::Cow;

use crate::text;

mod builtin;
mod catalog;
mod folder;
mod manifest;
mod parameter;
mod render;
#[cfg(test)]
mod tests;

pub use self::{
    catalog::{Catalog, CatalogError, UnknownTemplate},
    folder::LoadError,
    manifest::{Manifest, ManifestError},
    parameter::{InvalidParameter, Kind, Parameter, Value},
    render::{RenderError, RenderedFile},
};

/// Most files of a template.
pub const FILE_COUNT: usize = 2000;
/// Most bytes of one file, before and after it is rendered.
pub const FILE_BYTES: usize = 4 * 1024 * 1024;
/// Most bytes of all files of a template.
pub const TEMPLATE_BYTES: usize = 64 * 1024 * 1024;

/// A template that has been checked: its manifest is sound, and it renders.
#[derive(Debug, Clone)]
pub struct Template {
    name: String,
    manifest: Manifest,
    files: Vec<TemplateFile>,
}

/// One file of a template. A place that ends in `.j2` loses the ending, and its content is rendered;
/// placeholders in the place itself are always filled in.
#[derive(Debug, Clone)]
struct TemplateFile {
    place: String,
    content: Cow<'static, [u8]>,
    executable: bool,
}

/// What a project is to be about. Every text is clean; the name is a name for machines.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Subject {
    /// `[a-z][a-z0-9-]{0,62}`.
    pub name: String,
    /// One line. May be empty.
    pub description: String,
    /// Several lines. May be empty.
    pub requirements: String,
    /// One line each.
    pub features: Vec<String>,
}

impl Subject {
    /// Cleans the texts.
    pub fn new(name: &str, description: &str, requirements: &str, features: &[String]) -> Self {
        Self {
            name: name.to_owned(),
            description: text::clean_line(description),
            requirements: text::clean_lines(requirements),
            features: features
                .iter()
                .map(|feature| text::clean_line(feature))
                .filter(|feature| !feature.is_empty())
                .collect(),
        }
    }
}

impl Template {
    /// The name that tasks call it by.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it says about itself.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }
}
