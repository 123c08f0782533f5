//! Reads templates from a folder: `<name>/template.yaml` and `<name>/files/…`. Links and whatever is neither
//! file nor folder are refused, so that nothing outside gets in.

use std::{
    borrow::Cow,
    fs, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use contracts::parse::is_slug;

use super::{
    FILE_BYTES, FILE_COUNT, Manifest, ManifestError, RenderError, Subject, TEMPLATE_BYTES,
    Template, TemplateFile,
};

/// Why a template cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The folder's name is not one for a template.
    #[error(
        "{0:?} is not a template's name: a lower-case letter, then at most 62 letters, digits or '-'"
    )]
    Name(String),
    /// Its manifest.
    #[error("template {name}")]
    Manifest {
        /// Which template.
        name: String,
        /// What is wrong.
        #[source]
        source: ManifestError,
    },
    /// It does not render even with its own defaults.
    #[error("template {name} does not render")]
    Render {
        /// Which template.
        name: String,
        /// What is wrong.
        #[source]
        source: Box<RenderError>,
    },
    /// It has no file.
    #[error("template {0} has no file below files/")]
    Empty(String),
    /// It is too large.
    #[error("template {name} has more than {limit}")]
    TooLarge {
        /// Which template.
        name: String,
        /// Which limit.
        limit: String,
    },
    /// Something in it is neither file nor folder.
    #[error("{0} is neither a file nor a folder; links are not followed")]
    Special(PathBuf),
    /// A name in it is not UTF-8.
    #[error("{0:?} is not named in UTF-8")]
    NotUtf8(PathBuf),
    /// Something could not be read.
    #[error("cannot read {path}")]
    Io {
        /// What.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl Template {
    /// Checks the parts of a template, and that it renders.
    pub(super) fn check(
        name: &str,
        manifest: &str,
        mut files: Vec<TemplateFile>,
    ) -> Result<Self, LoadError> {
        if !is_slug(name) {
            return Err(LoadError::Name(name.to_owned()));
        }
        let manifest = Manifest::parse(manifest).map_err(|source| LoadError::Manifest {
            name: name.to_owned(),
            source,
        })?;
        if files.is_empty() {
            return Err(LoadError::Empty(name.to_owned()));
        }
        files.sort_by(|a, b| a.place.cmp(&b.place));
        let template = Self {
            name: name.to_owned(),
            manifest,
            files,
        };
        let subject = Subject::new("sample", "A sample", "Be a sample", &["One".to_owned()]);
        template
            .render(&subject, &template.manifest.samples())
            .map_err(|source| LoadError::Render {
                name: name.to_owned(),
                source: Box::new(source),
            })?;
        Ok(template)
    }
}

/// Reads every template below `root`, sorted. Plain files beside the templates are left alone.
pub(super) fn templates(root: &Path) -> Result<Vec<Template>, LoadError> {
    let mut templates = Vec::new();
    for (path, name) in entries(root)? {
        if kind(&path)?.is_file() {
            continue;
        }
        templates.push(read(&path, &name)?);
    }
    Ok(templates)
}

fn read(folder: &Path, name: &str) -> Result<Template, LoadError> {
    let place = folder.join("template.yaml");
    kind(&place)?;
    let manifest = fs::read_to_string(&place).map_err(io_error(&place))?;
    let mut reading = Reading {
        name,
        files: Vec::new(),
        bytes: 0,
    };
    reading.collect(&folder.join("files"), "")?;
    Template::check(name, &manifest, reading.files)
}

struct Reading<'a> {
    name: &'a str,
    files: Vec<TemplateFile>,
    bytes: usize,
}

impl Reading<'_> {
    fn collect(&mut self, folder: &Path, prefix: &str) -> Result<(), LoadError> {
        for (path, name) in entries(folder)? {
            let place = format!("{prefix}{name}");
            let kind = kind(&path)?;
            if kind.is_dir() {
                self.collect(&path, &format!("{place}/"))?;
                continue;
            }
            self.bound(kind.len() as usize > FILE_BYTES, || {
                format!("{FILE_BYTES} bytes in {place}")
            })?;
            let content = fs::read(&path).map_err(io_error(&path))?;
            self.bytes += content.len();
            self.bound(self.bytes > TEMPLATE_BYTES, || {
                format!("{TEMPLATE_BYTES} bytes")
            })?;
            self.bound(self.files.len() >= FILE_COUNT, || {
                format!("{FILE_COUNT} files")
            })?;
            self.files.push(TemplateFile {
                place,
                content: Cow::Owned(content),
                executable: kind.permissions().mode() & 0o111 != 0,
            });
        }
        Ok(())
    }

    fn bound(&self, exceeded: bool, limit: impl FnOnce() -> String) -> Result<(), LoadError> {
        if exceeded {
            return Err(LoadError::TooLarge {
                name: self.name.to_owned(),
                limit: limit(),
            });
        }
        Ok(())
    }
}

/// What is in a folder, sorted by name.
fn entries(folder: &Path) -> Result<Vec<(PathBuf, String)>, LoadError> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(folder).map_err(io_error(folder))? {
        let entry = entry.map_err(io_error(folder))?;
        let name = entry
            .file_name()
            .into_string()
            .map_err(|_| LoadError::NotUtf8(entry.path()))?;
        entries.push((entry.path(), name));
    }
    entries.sort();
    Ok(entries)
}

fn kind(path: &Path) -> Result<fs::Metadata, LoadError> {
    let kind = fs::symlink_metadata(path).map_err(io_error(path))?;
    if kind.is_file() || kind.is_dir() {
        Ok(kind)
    } else {
        Err(LoadError::Special(path.to_owned()))
    }
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> LoadError {
    let path = path.to_owned();
    move |source| LoadError::Io { path, source }
}
