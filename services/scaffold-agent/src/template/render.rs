//! Renders a template: strict about names that do not exist, confined to the project's folder, and the same
//! every time.

use std::collections::{BTreeMap, BTreeSet};

use agent_runtime::repository::TreePath;
use minijinja::{AutoEscape, Environment, UndefinedBehavior, syntax::SyntaxConfig};

use super::{FILE_BYTES, Subject, Template, TemplateFile, Value};
use crate::text;

/// A file of the project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RenderedFile {
    /// Where it goes.
    pub path: TreePath,
    /// What is in it.
    pub content: Vec<u8>,
    /// Whether it may be run.
    pub executable: bool,
}

/// Why a template does not render.
#[derive(Debug, thiserror::Error)]
pub enum RenderError {
    /// A placeholder names nothing, or something is wrong with the template's syntax.
    #[error("{place}: {problem}")]
    Content {
        /// Which file of the template.
        place: String,
        /// What is wrong, with the line.
        problem: String,
    },
    /// A place, once filled in, is not one inside the project.
    #[error("{place}: its rendered path is refused")]
    Path {
        /// Which file of the template.
        place: String,
        /// Why.
        #[source]
        source: agent_runtime::repository::Error,
    },
    /// Two files have one place, or a file stands where another needs a folder.
    #[error("{place}: {path} is taken by another file of the template")]
    Taken {
        /// Which file of the template.
        place: String,
        /// Where it wanted to go.
        path: String,
    },
    /// A file is too large.
    #[error("{place}: has {bytes} bytes when rendered, at most {FILE_BYTES}")]
    TooLarge {
        /// Which file of the template.
        place: String,
        /// Its size.
        bytes: usize,
    },
}

impl Template {
    /// Renders the whole project, sorted by path.
    pub fn render(
        &self,
        subject: &Subject,
        values: &BTreeMap<String, Value>,
    ) -> Result<Vec<RenderedFile>, RenderError> {
        let environment = environment().map_err(|error| RenderError::Content {
            place: "template syntax".to_owned(),
            problem: sentence(&error),
        })?;
        let names = names(subject, values);
        let mut files: BTreeMap<TreePath, RenderedFile> = BTreeMap::new();
        let mut folders: BTreeSet<TreePath> = BTreeSet::new();
        for file in self.files.iter().filter(|file| self.wants(file, values)) {
            let rendered = render(&environment, file, &names)?;
            let above = folders_of(&rendered.path);
            let clash = files.contains_key(&rendered.path)
                || folders.contains(&rendered.path)
                || above.iter().any(|folder| files.contains_key(folder));
            if clash {
                return Err(RenderError::Taken {
                    place: file.place.clone(),
                    path: rendered.path.to_string(),
                });
            }
            folders.extend(above);
            files.insert(rendered.path.clone(), rendered);
        }
        Ok(files.into_values().collect())
    }

    fn wants(&self, file: &TemplateFile, values: &BTreeMap<String, Value>) -> bool {
        self.manifest
            .optional
            .iter()
            .filter(|optional| match optional.path.strip_suffix('/') {
                Some(_) => file.place.starts_with(&optional.path),
                None => file.place.strip_suffix(".j2").unwrap_or(&file.place) == optional.path,
            })
            .all(|optional| values.get(&optional.when) == Some(&Value::Boolean(true)))
    }
}

fn render(
    environment: &Environment<'_>,
    file: &TemplateFile,
    names: &minijinja::Value,
) -> Result<RenderedFile, RenderError> {
    let wrong = |problem: String| RenderError::Content {
        place: file.place.clone(),
        problem,
    };
    let (place, is_rendered) = match file.place.strip_suffix(".j2") {
        Some(place) => (place, true),
        None => (&*file.place, false),
    };
    let path = environment
        .render_named_str("the path", place, names)
        .map_err(|error| wrong(sentence(&error)))?;
    let path = TreePath::parse(&path).map_err(|source| RenderError::Path {
        place: file.place.clone(),
        source,
    })?;
    let content = if is_rendered {
        let source = std::str::from_utf8(&file.content)
            .map_err(|error| wrong(format!("is not UTF-8: {error}")))?;
        environment
            .render_named_str(place, source, names)
            .map_err(|error| wrong(sentence(&error)))?
            .into_bytes()
    } else {
        file.content.to_vec()
    };
    if content.len() > FILE_BYTES {
        return Err(RenderError::TooLarge {
            place: file.place.clone(),
            bytes: content.len(),
        });
    }
    Ok(RenderedFile {
        path,
        content,
        executable: file.executable,
    })
}

/// What placeholders may name.
fn names(subject: &Subject, values: &BTreeMap<String, Value>) -> minijinja::Value {
    let text = |text: &str| minijinja::Value::from(text);
    let values = values.iter().map(|(name, value)| {
        let value = match value {
            Value::Text(value) => text(value),
            Value::Integer(value) => (*value).into(),
            Value::Boolean(value) => (*value).into(),
        };
        (name.as_str(), value)
    });
    let features: minijinja::Value = subject.features.iter().map(|line| text(line)).collect();
    minijinja::Value::from_pairs(values.chain([
        ("name", text(&subject.name)),
        ("description", text(&subject.description)),
        ("requirements", text(&subject.requirements)),
        ("features", features),
    ]))
}

fn environment() -> Result<Environment<'static>, minijinja::Error> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_syntax(
        SyntaxConfig::builder()
            .keep_trailing_newline(true)
            .build()?,
    );
    environment.set_auto_escape_callback(|name| {
        let end = name.rsplit('.').next().unwrap_or_default();
        if ["html", "htm", "xhtml", "xml", "svg"].contains(&end) {
            AutoEscape::Html
        } else {
            AutoEscape::None
        }
    });
    environment.add_filter("json", |text: String| text::json(&text));
    environment.add_filter("toml", |text: String| text::toml(&text));
    environment.add_filter("markdown", |text: String| text::markdown(&text));
    environment.add_filter("fenced", |text: String| text::fenced(&text));
    Ok(environment)
}

fn sentence(error: &minijinja::Error) -> String {
    let what = error.detail().map_or_else(
        || error.kind().to_string(),
        |detail| format!("{}: {detail}", error.kind()),
    );
    match error.line() {
        Some(line) => format!("line {line}: {what}"),
        None => what,
    }
}

fn folders_of(path: &TreePath) -> Vec<TreePath> {
    path.as_path()
        .ancestors()
        .skip(1)
        .filter_map(|folder| TreePath::parse(folder).ok())
        .collect()
}
