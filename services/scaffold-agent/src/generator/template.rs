//! The template generator: offline, the same every time. It makes new projects, and knows nothing of changing
//! those that are there.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use agent_runtime::repository::{FileChange, FileKind, FileWrite, TreePath};
use futures::future::BoxFuture;

use super::{Draft, Error, Generator, Order, Stop};
use crate::{
    brief::{Action, Brief},
    config::TEMPLATE,
    source::Source,
    template::{Catalog, RenderedFile, Template, Value},
};

/// Files that people have before there is a project, and that stay as they are.
const KEPT: [&str; 6] = [
    "README.md",
    "README",
    "LICENSE",
    "LICENSE.md",
    "CODEOWNERS",
    ".gitattributes",
];
/// The file whose lines are joined with those that are there.
const IGNORED_PATHS: &str = ".gitignore";

/// Makes projects from templates.
pub struct TemplateGenerator {
    catalog: Arc<Catalog>,
    default: String,
}

impl TemplateGenerator {
    /// A generator that takes `default` where a task names no template.
    pub fn new(catalog: Arc<Catalog>, default: &str) -> Self {
        Self {
            catalog,
            default: default.to_owned(),
        }
    }

    async fn generate(&self, order: Order<'_>) -> Result<Draft, Error> {
        let Order { brief, source, .. } = order;
        if brief.action == Action::Repair {
            return Ok(decline_repair(brief));
        }
        let (template, values) = self.choose(brief)?;
        let files = template
            .render(&brief.subject, &values)
            .map_err(|source| Error::Render {
                template: template.name().to_owned(),
                source: Box::new(source),
            })?;
        (order.progress)(
            0.5,
            format!("{} gives {} files", template.name(), files.len()),
        );
        let laid = lay(source, files).await?;
        Ok(draft(template, brief, laid))
    }

    fn choose(&self, brief: &Brief) -> Result<(&Template, BTreeMap<String, Value>), Error> {
        let template = self
            .catalog
            .get(brief.template.as_deref().unwrap_or(&self.default))?;
        let values = template
            .manifest()
            .resolve(&brief.parameters)
            .map_err(Error::Parameters)?;
        Ok((template, values))
    }
}

impl Generator for TemplateGenerator {
    fn backend(&self) -> &'static str {
        TEMPLATE
    }

    fn check(&self, brief: &Brief) -> Result<(), Error> {
        match brief.action {
            Action::Generate => self.choose(brief).map(drop),
            Action::Repair => Ok(()),
            Action::Implement | Action::Fix => Err(Error::Unable {
                backend: self.backend(),
                action: brief.action.verb(),
                hint: "it makes new projects only; name a generator that works with a model",
            }),
        }
    }

    fn is_repeatable(&self) -> bool {
        true
    }

    fn draft<'a>(&'a self, order: Order<'a>) -> BoxFuture<'a, Result<Draft, Error>> {
        Box::pin(self.generate(order))
    }
}

/// Says what stands, so that whoever asked for the repair sees it.
fn decline_repair(brief: &Brief) -> Draft {
    let first = brief.findings.first().map_or(String::new(), |finding| {
        format!("; the first is {}: {}", finding.rule, finding.message)
    });
    let count = brief.findings.len();
    Draft {
        summary: format!(
            "The template generator cannot repair, so {count} finding(s) stand{first}"
        ),
        confidence: 1.0,
        ..Draft::empty(Stop::Refused)
    }
}

/// How rendered files go together with those that are there.
#[derive(Debug, Default)]
struct Laid {
    changes: Vec<FileChange>,
    kept: Vec<TreePath>,
    taken: Vec<TreePath>,
}

async fn lay(source: &Source, files: Vec<RenderedFile>) -> Result<Laid, Error> {
    let mut laid = Laid::default();
    let folders: BTreeSet<TreePath> = source.files().keys().flat_map(above).collect();
    for file in files {
        let there = source.files().get(&file.path).copied();
        let blocked = folders.contains(&file.path)
            || above(&file.path)
                .iter()
                .any(|folder| source.files().contains_key(folder));
        if blocked {
            laid.taken.push(file.path);
            continue;
        }
        let kind = if file.executable {
            FileKind::Executable
        } else {
            FileKind::File
        };
        let old = source.content(&file.path).await?;
        let content = match (there, old) {
            (None, _) => file.content,
            (Some(there), Some(old)) if there == kind && old == file.content => continue,
            (Some(_), _)
                if KEPT
                    .iter()
                    .any(|kept| file.path.as_path().as_os_str() == *kept) =>
            {
                laid.kept.push(file.path);
                continue;
            }
            (Some(_), Some(old)) if file.path.as_path().as_os_str() == IGNORED_PATHS => {
                match joined_lines(&old, &file.content) {
                    Some(joined) => joined,
                    None => continue,
                }
            }
            (Some(_), _) => {
                laid.taken.push(file.path);
                continue;
            }
        };
        laid.changes.push(FileChange {
            path: file.path,
            write: FileWrite::File {
                content,
                executable: file.executable,
            },
        });
    }
    Ok(laid)
}

fn above(path: &TreePath) -> Vec<TreePath> {
    path.as_path()
        .ancestors()
        .skip(1)
        .filter_map(|folder| TreePath::parse(folder).ok())
        .collect()
}

/// The old lines, and those of the new ones that are not among them. `None`: all are.
fn joined_lines(old: &[u8], new: &[u8]) -> Option<Vec<u8>> {
    let known: BTreeSet<&[u8]> = old
        .split(|&byte| byte == b'\n')
        .map(<[u8]>::trim_ascii)
        .collect();
    let missing: Vec<&[u8]> = new
        .split(|&byte| byte == b'\n')
        .map(<[u8]>::trim_ascii)
        .filter(|line| !line.is_empty() && !known.contains(line))
        .collect();
    if missing.is_empty() {
        return None;
    }
    let mut joined = old.to_vec();
    if !joined.is_empty() && !joined.ends_with(b"\n") {
        joined.push(b'\n');
    }
    for line in missing {
        joined.extend_from_slice(line);
        joined.push(b'\n');
    }
    Some(joined)
}

fn draft(template: &Template, brief: &Brief, laid: Laid) -> Draft {
    let name = &brief.subject.name;
    let manifest = template.manifest();
    let mut analysis = format!("Template {}: {}.", template.name(), manifest.description);
    let wanted = !brief.subject.requirements.is_empty() || !brief.subject.features.is_empty();
    if wanted {
        analysis += " Requirements and features are recorded in README.md; a template does not implement them.";
    }
    if !laid.kept.is_empty() {
        analysis.push_str(" Left as they were: ");
        analysis.push_str(&listed(&laid.kept));
        analysis.push('.');
    }
    let (stop, summary) = if !laid.taken.is_empty() {
        let count = laid.taken.len();
        let places = listed(&laid.taken);
        let summary = format!(
            "The repository has other content where template {} puts {count} file(s): {places}",
            template.name()
        );
        (Stop::Refused, summary)
    } else if laid.changes.is_empty() {
        let summary = format!("{name} from template {} is there already", template.name());
        (Stop::Done, summary)
    } else {
        let count = laid.changes.len();
        let summary = format!(
            "{name} made from template {}: {count} files",
            template.name()
        );
        (Stop::Done, summary)
    };
    Draft {
        changes: if stop == Stop::Done {
            laid.changes
        } else {
            Vec::new()
        },
        analysis,
        summary,
        dependencies: manifest.dependencies.clone(),
        scripts: manifest.scripts.clone(),
        template: template.name().to_owned(),
        round_count: 1,
        confidence: 1.0,
        ..Draft::empty(stop)
    }
}

/// The first few paths.
fn listed(paths: &[TreePath]) -> String {
    const SHOWN: usize = 5;
    let shown: Vec<String> = paths.iter().take(SHOWN).map(ToString::to_string).collect();
    let more = if paths.len() > SHOWN { ", …" } else { "" };
    format!("{}{more}", shown.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ignored_paths_are_joined_without_doubles() {
        let joined = |old: &str, new: &str| {
            joined_lines(old.as_bytes(), new.as_bytes())
                .map(|bytes| String::from_utf8(bytes).unwrap())
        };
        assert_eq!(joined("a\nb", "b\nc\n").as_deref(), Some("a\nb\nc\n"));
        assert_eq!(joined("", "c\n").as_deref(), Some("c\n"));
        assert_eq!(joined("c\r\na\n", "a\nc\n"), None);
    }
}
