//! `agentic audit`: who did what, and whether that is all of it.

use std::io::BufRead;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use contracts::audit::Chain;
use contracts::orchestrator::{AuditEntry, ListAuditEntriesRequest, ListAuditEntriesResponse};

use crate::error::Error;
use crate::exit::Exit;
use crate::mesh::{Mesh, call};
use crate::output::{Output, Table, clean};
use crate::surroundings::Surroundings;
use crate::words;

const AFTER_HELP: &str = "\
Examples:
  agentic audit list --actor ada
  agentic audit export > audit.jsonl
  agentic audit verify
  agentic audit verify audit.jsonl";

const LIST_HELP: &str = "\
Examples:
  agentic audit list
  agentic audit list --actor ada --outcome PERMISSION_DENIED
  agentic audit list --subject workflow/0198c0de-0000-7000-8000-000000000000";

const EXPORT_HELP: &str = "\
Examples:
  agentic audit export > audit.jsonl";

const VERIFY_HELP: &str = "\
Examples:
  agentic audit verify
  agentic audit verify audit.jsonl
  agentic audit verify --head 5feceb66ffc86f38d952786c6d696c79c2dbc239dd4e91b46729d73a27fb57e9";

const PAGE: i32 = 1000;

/// Arguments of `audit`.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct AuditArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// List entries, oldest first.
    #[command(visible_alias = "ls", after_help = LIST_HELP)]
    List(ListArgs),
    /// Print the whole log, one JSON object a line, and check it on the way.
    #[command(after_help = EXPORT_HELP)]
    Export,
    /// Check that no entry was changed, removed or put in: of the mesh, or of an export.
    #[command(after_help = VERIFY_HELP)]
    Verify {
        /// File that `export` wrote. Left out: the log of the mesh.
        file: Option<PathBuf>,
        /// Hash of an entry that must be in it, noted down earlier.
        #[arg(long, value_name = "HASH")]
        head: Option<String>,
    },
}

#[derive(Debug, Args)]
struct ListArgs {
    /// Only of this caller.
    #[arg(long, default_value = "", hide_default_value = true)]
    actor: String,
    /// Only of this method, such as agentic.orchestrator.v1.DecisionService/ResolveDecision.
    #[arg(long, default_value = "", hide_default_value = true)]
    method: String,
    /// Only about this, such as decision/ID.
    #[arg(long, default_value = "", hide_default_value = true)]
    subject: String,
    /// Only with this outcome, such as `PERMISSION_DENIED`.
    #[arg(long, default_value = "", hide_default_value = true)]
    outcome: String,
}

/// Lists, exports or checks the log.
pub async fn run(args: AuditArgs, surroundings: &Surroundings) -> Result<Exit, Error> {
    let output = &surroundings.output;
    match args.what {
        What::List(args) => list(&surroundings.mesh()?, args, output).await,
        What::Export => {
            let mesh = surroundings.mesh()?;
            let mut checked = Checked::default();
            let end = read(&mesh, ListAuditEntriesRequest::default(), |entry| {
                output.line(contracts::json::to_line(entry)?)?;
                checked.add(entry);
                Ok(())
            })
            .await?;
            tell(checked.end(Some(&end)), output)
        }
        What::Verify { file: None, head } => {
            let mesh = surroundings.mesh()?;
            let mut checked = Checked::expecting(head);
            let end = read(&mesh, ListAuditEntriesRequest::default(), |entry| {
                checked.add(entry);
                Ok(())
            })
            .await?;
            tell(checked.end(Some(&end)), output)
        }
        What::Verify {
            file: Some(file),
            head,
        } => tell(verify_file(&file, head)?, output),
    }
}

// A log as far as it was read, and the first thing that is wrong with it.
#[derive(Debug, Default)]
struct Checked {
    chain: Chain,
    wrong: Option<String>,
    expected: Option<String>,
}

impl Checked {
    fn expecting(head: Option<String>) -> Self {
        Self {
            expected: head,
            ..Self::default()
        }
    }

    fn add(&mut self, entry: &AuditEntry) {
        if self.wrong.is_some() {
            return;
        }
        match self.chain.check(entry) {
            Ok(()) if self.expected.as_ref() == Some(&entry.hash) => self.expected = None,
            Ok(()) => {}
            Err(broken) => self.wrong = Some(broken.to_string()),
        }
    }

    // Without what the mesh says about the end, a cut end shows only in `--head`.
    fn end(self, end: Option<&ListAuditEntriesResponse>) -> Result<Chain, String> {
        if let Some(wrong) = self.wrong {
            return Err(wrong);
        }
        if let Some(end) = end {
            self.chain
                .check_end(end.total_count, &end.head_hash)
                .map_err(|broken| broken.to_string())?;
        }
        match self.expected {
            Some(hash) => Err(format!("no entry has the hash {hash}")),
            None => Ok(self.chain),
        }
    }
}

fn tell(checked: Result<Chain, String>, output: &Output) -> Result<Exit, Error> {
    let chain = checked
        .map_err(|wrong| Error::Failed(format!("the audit log was tampered with: {wrong}")))?;
    output.note(format!(
        "{} entries, none of them changed; the last one's hash is {}",
        chain.sequence, chain.hash
    ));
    Ok(Exit::Succeeded)
}

fn verify_file(file: &Path, head: Option<String>) -> Result<Result<Chain, String>, Error> {
    let failed = |source| Error::File {
        doing: "cannot read",
        path: file.to_owned(),
        source,
    };
    let mut checked = Checked::expecting(head);
    let lines = std::io::BufReader::new(std::fs::File::open(file).map_err(failed)?).lines();
    for (number, line) in lines.enumerate() {
        let line = line.map_err(failed)?;
        let entry = serde_json::from_str(&line)
            .map_err(|error| error.to_string())
            .and_then(|value| {
                contracts::json::from_value::<AuditEntry>(value).map_err(|error| error.to_string())
            })
            .map_err(|error| {
                Error::Failed(format!("{}:{}: {error}", file.display(), number + 1))
            })?;
        checked.add(&entry);
    }
    Ok(checked.end(None))
}

async fn list(mesh: &Mesh, args: ListArgs, output: &Output) -> Result<Exit, Error> {
    let mut table = Table::new(["#", "time", "who", "from", "what", "about", "outcome"]);
    let request = ListAuditEntriesRequest {
        actor: args.actor,
        method: args.method,
        subject: args.subject,
        outcome: args.outcome,
        ..ListAuditEntriesRequest::default()
    };
    read(mesh, request, |entry| {
        if output.is_json() {
            return output.message(entry);
        }
        let method = entry.method.rsplit('/').next().unwrap_or_default();
        table.row([
            entry.sequence.to_string(),
            words::moment(entry.time),
            clean(&entry.actor),
            clean(&entry.address),
            clean(method),
            clean(&entry.subject),
            clean(&entry.outcome),
        ]);
        Ok(())
    })
    .await?;
    if !output.is_json() {
        for line in table.lines() {
            output.line(line)?;
        }
    }
    Ok(Exit::Succeeded)
}

// All pages; the last one says where the log ended when it was read.
async fn read(
    mesh: &Mesh,
    request: ListAuditEntriesRequest,
    mut each: impl FnMut(&AuditEntry) -> Result<(), Error>,
) -> Result<ListAuditEntriesResponse, Error> {
    let mut page_token = String::new();
    loop {
        let request = ListAuditEntriesRequest {
            page_size: PAGE,
            page_token: page_token.clone(),
            ..request.clone()
        };
        let page = call!(mesh, audit.list_audit_entries(request))?;
        for entry in &page.entries {
            each(entry)?;
        }
        if page.next_page_token.is_empty() {
            return Ok(page);
        }
        if page.next_page_token == page_token || page.entries.is_empty() {
            return Err(Error::Answer("its pages do not end".to_owned()));
        }
        page_token = page.next_page_token;
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn export(lines: usize, change: impl Fn(&mut AuditEntry)) -> (tempfile::NamedTempFile, Chain) {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let mut chain = Chain::default();
        for n in 0..lines {
            let mut entry = AuditEntry {
                time: Some(prost_types::Timestamp {
                    seconds: 1,
                    nanos: 5000,
                }),
                actor: format!("ada{n}"),
                outcome: "OK".into(),
                ..AuditEntry::default()
            };
            chain.seal(&mut entry);
            change(&mut entry);
            writeln!(file, "{}", contracts::json::to_line(&entry).unwrap()).unwrap();
        }
        (file, chain)
    }

    #[test]
    fn an_export_is_checked_without_the_mesh() {
        let (file, head) = export(4, |_| {});
        let path = file.path().to_owned();
        assert_eq!(verify_file(&path, None).unwrap(), Ok(head.clone()));
        assert_eq!(
            verify_file(&path, Some(head.hash.clone())).unwrap(),
            Ok(head)
        );
        let other = verify_file(&path, Some("ab".repeat(32)))
            .unwrap()
            .unwrap_err();
        assert!(other.contains("no entry has the hash"), "{other}");
        let (file, _) = export(4, |entry| {
            if entry.sequence == 2 {
                entry.outcome = "PERMISSION_DENIED".into();
            }
        });
        let wrong = verify_file(file.path(), None).unwrap().unwrap_err();
        assert!(wrong.starts_with("entry 2 was changed"), "{wrong}");
    }
}
