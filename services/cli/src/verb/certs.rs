//! `agentic certs`: an authority, and a certificate for every service of a mesh, as files. Making them needs no
//! mesh: it works where nothing runs yet.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand};
use contracts::agent::{AGENT_TYPES, type_name};
use serde_json::json;
use service_runtime::tls::Identity;
use service_runtime::tls::authority::{Authority, AuthorityError, Issued, Subject};

use crate::error::Error;
use crate::exit::Exit;
use crate::surroundings::Surroundings;
use crate::words;

mod revoke;

const AFTER_HELP: &str = "\
Makes ca, orchestrator, scaffold-agent, validation-agent, e2e-agent, integration-agent, deployment-agent,
edge and postgres: NAME.crt and NAME.key in PEM, readable by their owner alone. Services know each other by
the identity in the certificate (spiffe://agentic/orchestrator, spiffe://agentic/agent/TYPE); people's
clients know the orchestrator and the edge by their host names.

Examples:
  agentic certs --folder certs
  agentic certs --folder certs --host mesh.example.com --host 10.0.0.7
  agentic certs --folder certs --renew --lifetime 30days
  agentic certs revoke certs/e2e-agent.crt";

const AUTHORITY: &str = "ca";
// The authority outlives what it signs by far: to replace it means to visit every machine.
const AUTHORITY_LIFETIME: Duration = Duration::from_hours(24 * 365 * 10);

/// Arguments of `certs`.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP, args_conflicts_with_subcommands = true)]
pub struct CertsArgs {
    /// Left out: make them.
    #[command(subcommand)]
    verb: Option<CertsVerb>,
    /// Folder for the files; made where it is not there. Left out: `certs` in the data folder.
    #[arg(long, value_name = "FOLDER")]
    folder: Option<PathBuf>,
    /// Host name or address, besides localhost, that clients reach the mesh by. May be repeated.
    #[arg(long = "host", value_name = "NAME")]
    hosts: Vec<String>,
    /// How long the certificates hold.
    #[arg(long, value_name = "TIME", default_value = "365days", value_parser = humantime::parse_duration)]
    lifetime: Duration,
    /// Make new certificates by the authority that is there; running services take them by themselves.
    #[arg(long, conflicts_with = "force")]
    renew: bool,
    /// Replace everything that is there, the authority too.
    #[arg(long)]
    force: bool,
}

/// What is done but making them.
#[derive(Debug, Subcommand)]
enum CertsVerb {
    /// Have every orchestrator refuse certificates of agents before their time.
    Revoke(revoke::RevokeArgs),
}

/// Does what was asked.
pub async fn run(mut args: CertsArgs, surroundings: &Surroundings) -> Result<Exit, Error> {
    match args.verb.take() {
        Some(CertsVerb::Revoke(args)) => revoke::run(args, surroundings).await,
        None => make(&args, surroundings),
    }
}

// All of the files, or none.
fn make(args: &CertsArgs, surroundings: &Surroundings) -> Result<Exit, Error> {
    let lifetime = signed(args.lifetime)?;
    let folder = args
        .folder
        .clone()
        .unwrap_or_else(|| surroundings.place.data.join("certs"));
    let subjects = subjects(&args.hosts);
    if !args.force && !args.renew {
        let names = subjects.iter().map(|(name, _)| name.as_str());
        refuse_to_overwrite(&folder, names.chain([AUTHORITY]))?;
    }
    let (authority, own) = if args.renew {
        (existing(&folder)?, None)
    } else {
        let made = Authority::create("agentic mesh authority", signed(AUTHORITY_LIFETIME)?);
        made.map(|(authority, own)| (authority, Some(own)))
            .map_err(failed)?
    };
    let mut issued = Vec::new();
    for (name, subject) in &subjects {
        let files = authority.issue(subject, lifetime).map_err(failed)?;
        issued.push((name, subject, files));
    }
    make_folder(&folder)?;
    if let Some(own) = own {
        write(&folder, AUTHORITY, &own)?;
    }
    for (name, subject, files) in issued {
        write(&folder, name, &files)?;
        tell(surroundings, &folder, name, subject)?;
    }
    surroundings.output.note(format!(
        "in {}, good for {}; whoever has {AUTHORITY}.key can be anyone in this mesh",
        folder.display(),
        words::duration(args.lifetime)
    ));
    Ok(Exit::Succeeded)
}

fn tell(
    surroundings: &Surroundings,
    folder: &Path,
    name: &str,
    subject: &Subject,
) -> Result<(), Error> {
    let identity = subject.identity.as_ref().map(ToString::to_string);
    if surroundings.output.is_json() {
        let line = json!({
            "name": name,
            "certificate": path(folder, name, "crt"),
            "key": path(folder, name, "key"),
            "authority": path(folder, AUTHORITY, "crt"),
            "identity": identity,
            "hosts": subject.hosts,
        });
        return surroundings.output.line(line.to_string());
    }
    let known_by = identity.unwrap_or_else(|| subject.hosts.join(", "));
    surroundings.output.line(format!("{name}: {known_by}"))
}

fn subjects(hosts: &[String]) -> Vec<(String, Subject)> {
    let reached = |own: &str| {
        [own, "localhost", "127.0.0.1", "::1"]
            .into_iter()
            .map(str::to_owned)
            .chain(hosts.iter().cloned())
            .collect::<Vec<_>>()
    };
    let subject = |name: &str, identity, hosts| {
        let common_name = format!("agentic {name}");
        let subject = Subject {
            common_name,
            identity,
            hosts,
        };
        (name.to_owned(), subject)
    };
    let agents = AGENT_TYPES.into_iter().map(|agent_type| {
        let name = format!("{}-agent", type_name(agent_type));
        subject(&name, Some(Identity::agent(agent_type)), vec![name.clone()])
    });
    std::iter::once(subject(
        "orchestrator",
        Some(Identity::Orchestrator),
        reached("orchestrator"),
    ))
    .chain(agents)
    .chain([
        subject("edge", None, reached("edge")),
        subject("postgres", None, reached("postgres")),
    ])
    .collect()
}

fn refuse_to_overwrite<'a>(
    folder: &Path,
    names: impl Iterator<Item = &'a str>,
) -> Result<(), Error> {
    for name in names {
        for kind in ["crt", "key"] {
            let path = path(folder, name, kind);
            if path.exists() {
                return Err(Error::Usage(format!(
                    "{} is there already: --renew makes new certificates by the same authority, \
                     --force replaces everything",
                    path.display()
                )));
            }
        }
    }
    Ok(())
}

fn existing(folder: &Path) -> Result<Authority, Error> {
    let read = |kind| {
        let path = path(folder, AUTHORITY, kind);
        fs::read_to_string(&path).map_err(|source| Error::File {
            doing: "cannot read",
            path,
            source,
        })
    };
    Authority::read(&read("crt")?, &read("key")?).map_err(failed)
}

// The key last: a service that looks in between keeps what it has until both are there.
fn write(folder: &Path, name: &str, files: &Issued) -> Result<(), Error> {
    write_file(&path(folder, name, "crt"), &files.certificate)?;
    write_file(&path(folder, name, "key"), &files.key)
}

fn write_file(path: &Path, text: &str) -> Result<(), Error> {
    let new = path.with_extension("new");
    let written = || -> std::io::Result<()> {
        match fs::remove_file(&new) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&new)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, path)
    };
    written().map_err(|source| Error::File {
        doing: "cannot write",
        path: path.to_owned(),
        source,
    })
}

fn make_folder(folder: &Path) -> Result<(), Error> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(|source| Error::File {
            doing: "cannot make",
            path: folder.to_owned(),
            source,
        })
}

fn path(folder: &Path, name: &str, kind: &str) -> PathBuf {
    folder.join(format!("{name}.{kind}"))
}

fn signed(lifetime: Duration) -> Result<time::Duration, Error> {
    time::Duration::try_from(lifetime)
        .ok()
        .filter(|lifetime| (time::Duration::MINUTE..=time::Duration::days(3653)).contains(lifetime))
        .ok_or_else(|| Error::Usage("--lifetime: is not between 1 minute and 10 years".to_owned()))
}

fn failed(error: AuthorityError) -> Error {
    if let AuthorityError::Certificate(problem) = error {
        return Error::Usage(format!("certificate: {problem}"));
    }
    Error::Failed(error.to_string())
}
