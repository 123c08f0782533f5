//! What must hold before a deployment is begun. Everything is looked at and told together, so that
//! nobody has to come back once per missing thing.

use std::{io, net::SocketAddr, path::PathBuf};

use service_runtime::redaction;
use tokio::net::TcpListener;

use super::{Site, State};
use crate::{
    account::Prerequisite,
    name::Name,
    sites::Settings,
    spec::{MAX_INSTANCE_COUNT, Spec, TargetKind},
    verdict::Verdict,
};

/// Largest secret.
const SECRET_BYTES: u64 = 64 * 1024;

/// Something that must be there is not.
#[derive(Debug, thiserror::Error)]
pub enum Missing {
    /// A secret has no value.
    #[error("secret {name} is not in the secret store: put its value into {}", path.display())]
    Secret {
        /// Its name.
        name: String,
        /// Where its value should be.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A secret's name would lead out of the store.
    #[error("{0:?} is no name of a secret: letters, digits and '_' are allowed")]
    SecretName(String),
    /// There is no store.
    #[error("the app needs the secret {0}, and no secret store is configured")]
    SecretStore(String),
    /// The target does not answer.
    #[error("{0}")]
    Target(String),
}

/// Values of the secrets that a revision needs.
pub(super) fn read_secrets(
    settings: &Settings,
    environment: &Name,
    spec: &Spec,
) -> Result<Vec<(String, String)>, Missing> {
    spec.secrets
        .iter()
        .map(|name| read_secret(settings, environment, name))
        .collect()
}

fn read_secret(
    settings: &Settings,
    environment: &Name,
    name: &str,
) -> Result<(String, String), Missing> {
    let is_plain = |character: char| character.is_ascii_alphanumeric() || character == '_';
    if name.is_empty() || !name.chars().all(is_plain) {
        return Err(Missing::SecretName(name.to_owned()));
    }
    let Some(store) = &settings.secrets else {
        return Err(Missing::SecretStore(name.to_owned()));
    };
    let path = store.join(environment.as_str()).join(name);
    let read = std::fs::metadata(&path).and_then(|found| {
        if found.len() > SECRET_BYTES {
            return Err(io::Error::other("it is larger than 64 KiB"));
        }
        std::fs::read_to_string(&path)
    });
    match read {
        Ok(value) => {
            let value = value.trim_end_matches(['\r', '\n']);
            // The app runs on when the task is over, and its log is kept as long.
            redaction::process().register(&format!("{environment}/{name}"), value);
            Ok((name.to_owned(), value.to_owned()))
        }
        Err(source) => Err(Missing::Secret {
            name: name.to_owned(),
            path,
            source,
        }),
    }
}

impl Site {
    /// Looks at everything; changes nothing.
    pub async fn verify(&self, spec: &Spec, port: Option<u16>) -> Vec<Prerequisite> {
        let address = match self.state.try_lock() {
            Ok(state) => state.address,
            // A deployment runs, so the router has its port or is about to get it.
            Err(_) => self
                .port()
                .map(|port| SocketAddr::new(self.settings.listen, port)),
        };
        self.look(spec, port, address).await
    }

    pub(super) async fn prerequisites(
        &self,
        state: &State,
        spec: &Spec,
        port: Option<u16>,
    ) -> Vec<Prerequisite> {
        self.look(spec, port, state.address).await
    }

    async fn look(
        &self,
        spec: &Spec,
        port: Option<u16>,
        listening: Option<SocketAddr>,
    ) -> Vec<Prerequisite> {
        let mut found = vec![self.data_folder().await, instance_count(spec)];
        found.push(match spec.target {
            TargetKind::Process => start_command(spec),
            TargetKind::Docker => self.engine().await,
        });
        let wanted = port.or(self.port()).filter(|port| *port != 0);
        found.push(self.port_is_free(wanted, listening).await);
        for name in &spec.secrets {
            let read = read_secret(&self.settings, &self.environment, name);
            found.push(told(
                format!("secret {name}"),
                read.map(|_| "it has a value".to_owned())
                    .map_err(|error| error.to_string()),
            ));
        }
        found
    }

    async fn data_folder(&self) -> Prerequisite {
        let made = tokio::fs::create_dir_all(&self.folder).await;
        let probe = self.folder.join(".writable");
        let written = match made {
            Ok(()) => tokio::fs::write(&probe, b"").await,
            Err(error) => Err(error),
        };
        let _ = tokio::fs::remove_file(&probe).await;
        let folder = self.folder.display();
        told(
            "data folder",
            written
                .map(|()| format!("{folder} can be written"))
                .map_err(|error| format!("{folder} cannot be written: {error}")),
        )
    }

    async fn engine(&self) -> Prerequisite {
        let answers = match self.targets.engine() {
            Ok(engine) => engine.version().await.map_err(|error| error.to_string()),
            Err(missing) => Err(missing),
        };
        let answers = answers.map(|version| format!("Docker {version} answers"));
        missing_is_not_proven(told("container engine", answers))
    }

    async fn port_is_free(
        &self,
        wanted: Option<u16>,
        listening: Option<SocketAddr>,
    ) -> Prerequisite {
        let Some(port) = wanted else {
            let range = &self.settings.router_ports;
            let reason = format!(
                "one from {} to {} will be taken",
                range.start(),
                range.end()
            );
            return told("port of the router", Ok(reason));
        };
        let name = format!("port {port}");
        if listening.is_some_and(|listening| listening.port() == port) {
            return told(name, Ok("the app's router listens on it".to_owned()));
        }
        let address = SocketAddr::new(self.settings.listen, port);
        told(
            name,
            match TcpListener::bind(address).await {
                Ok(_) => Ok("it is free".to_owned()),
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => Err(format!(
                    "another program listens on {address}: stop it, or ask for another port"
                )),
                Err(error) => Err(format!("cannot listen on {address}: {error}")),
            },
        )
    }
}

fn instance_count(spec: &Spec) -> Prerequisite {
    let count = spec.desired_count;
    let fits = (1..=MAX_INSTANCE_COUNT).contains(&count);
    told(
        "instances",
        if fits {
            Ok(format!("{count}"))
        } else {
            Err(format!(
                "{count} instances are not between 1 and {MAX_INSTANCE_COUNT}"
            ))
        },
    )
}

fn start_command(spec: &Spec) -> Prerequisite {
    let found = match spec.command.first() {
        None => Err("nothing says how the app is started: declare app.start in \
                     .agentic/project.yaml"
            .to_owned()),
        Some(program) if program.contains('/') => {
            Ok(format!("{program} is looked for in the release"))
        }
        Some(program) => match agent_runtime::process::find_program(program) {
            Some(path) => Ok(path.display().to_string()),
            None => Err(format!("`{program}` is not installed on this machine")),
        },
    };
    let is_missing = !spec.command.is_empty();
    let told = told("start command", found);
    if is_missing {
        missing_is_not_proven(told)
    } else {
        told
    }
}

/// What this machine lacks says nothing about the app.
fn missing_is_not_proven(found: Prerequisite) -> Prerequisite {
    match found.verdict {
        Verdict::Failed => Prerequisite {
            verdict: Verdict::NotProven,
            ..found
        },
        Verdict::Passed | Verdict::NotProven => found,
    }
}

fn told(name: impl Into<String>, found: Result<String, String>) -> Prerequisite {
    let (verdict, reason) = match found {
        Ok(reason) => (Verdict::Passed, reason),
        Err(reason) => (Verdict::Failed, reason),
    };
    Prerequisite {
        name: name.into(),
        verdict,
        reason,
    }
}
