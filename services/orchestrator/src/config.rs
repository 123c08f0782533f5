//! Settings of the orchestrator, checked once.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, Parser};

use service_runtime::config::{ConfigError, DataArgs, ListenArgs, read_secret};
use service_runtime::health_check::Verb;
use service_runtime::telemetry::TelemetryArgs;
use service_runtime::tls::authority::Authority;
use service_runtime::tls::{Identity, Tls, TlsArgs};

use crate::access::config::{AccessArgs, AccessConfig};
use crate::artifacts::Location;
use crate::redis::Redis;

/// Where gRPC is served when nothing is said.
pub const DEFAULT_LISTEN: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 50051);
const DEFAULT_HTTP: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 3000);

/// Takes in workflows, carries them through the agents, remembers everything.
#[derive(Debug, Clone, Parser)]
#[command(name = "orchestrator", version)]
pub struct Arguments {
    /// The orchestrator's own settings.
    #[command(flatten)]
    pub orchestrator: OrchestratorArgs,
    /// Logs and traces.
    #[command(flatten)]
    pub telemetry: TelemetryArgs,
    /// Left out: serve.
    #[command(subcommand)]
    pub verb: Option<Verb>,
}

// The orchestrator's own settings. (A doc comment here would become the command's own description.)
#[derive(Debug, Clone, Args)]
pub struct OrchestratorArgs {
    /// Where and how to listen.
    #[command(flatten)]
    pub listen: ListenArgs,
    /// Who it is.
    #[command(flatten)]
    pub tls: TlsArgs,
    /// Where to keep things.
    #[command(flatten)]
    pub data: DataArgs,
    /// How agents come to certificates.
    #[command(flatten)]
    pub enrolment: EnrolmentArgs,
    /// PostgreSQL, such as `postgres://agentic@db/agentic?sslmode=require`.
    #[arg(
        long,
        env = "AGENTIC_DATABASE_URL",
        value_name = "URL",
        hide_env_values = true
    )]
    pub database_url: Option<String>,
    /// File with the password for PostgreSQL, which then need not stand in --database-url.
    #[arg(long, env = "AGENTIC_DATABASE_PASSWORD_FILE", value_name = "FILE")]
    pub database_password_file: Option<PathBuf>,
    /// Most connections to PostgreSQL, 2 to 500.
    #[arg(long, env = "AGENTIC_DATABASE_CONNECTIONS", default_value_t = 16, value_parser = clap::value_parser!(u16).range(2..=500))]
    pub database_connections: u16,
    /// Redis that replicas share for hints to each other, such as `rediss://redis:6379/0`. Left out: hints go through
    /// PostgreSQL.
    #[arg(
        long,
        env = "AGENTIC_REDIS_URL",
        value_name = "URL",
        hide_env_values = true
    )]
    pub redis_url: Option<String>,
    /// File with the password for Redis, which then need not stand in --redis-url.
    #[arg(
        long,
        env = "AGENTIC_REDIS_PASSWORD_FILE",
        value_name = "FILE",
        requires = "redis_url"
    )]
    pub redis_password_file: Option<PathBuf>,
    /// Where artifacts are kept: `file:<folder>` or `s3://<bucket>/<prefix>`. Left out: a folder below --data.
    #[arg(long, env = "AGENTIC_ARTIFACTS", value_name = "URL")]
    pub artifacts: Option<String>,
    /// How much is kept.
    #[command(flatten)]
    pub flow: FlowArgs,
    /// Who may call.
    #[command(flatten)]
    pub access: AccessArgs,
    /// File with the first token of an administrator: `agentic_` and the base64url of 32 random bytes.
    #[arg(long, env = "AGENTIC_BOOTSTRAP_TOKEN_FILE", value_name = "FILE")]
    pub bootstrap_token_file: Option<PathBuf>,
    /// File with the token that agents show, of the same form.
    #[arg(long, env = "AGENTIC_BOOTSTRAP_AGENT_TOKEN_FILE", value_name = "FILE")]
    pub bootstrap_agent_token_file: Option<PathBuf>,
}

// How much is kept. (A doc comment here would become the command's own description.)
#[derive(Debug, Clone, Args)]
pub struct FlowArgs {
    /// How long finished workflows are kept at least, with their events and artifacts, 1h to 100years; `never`: none
    /// is dropped.
    #[arg(
        long,
        env = "AGENTIC_RETENTION",
        value_name = "TIME",
        default_value = "30days"
    )]
    pub retention: Retention,
    /// Workflows of one namespace that have not ended; more are refused.
    #[arg(long, env = "AGENTIC_LIVE_WORKFLOWS", value_name = "NUMBER", default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub live_workflows: u32,
}

/// How long finished workflows are kept; `None`: for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention(pub Option<Duration>);

impl FromStr for Retention {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "never" {
            return Ok(Self(None));
        }
        let time = humantime::parse_duration(text).map_err(|error| error.to_string())?;
        // Shorter, and clocks that disagree could make workflows that have passed it already.
        if !(Duration::from_hours(1)..=Duration::from_hours(24 * 36500)).contains(&time) {
            return Err("is neither `never` nor between 1h and 100years".to_owned());
        }
        Ok(Self(Some(time)))
    }
}

// How agents come to certificates. (A doc comment here would become the command's own description.)
#[derive(Debug, Clone, Args)]
pub struct EnrolmentArgs {
    /// File with the certificate of the authority that issues certificates to agents. Left out: none are issued.
    #[arg(long, env = "AGENTIC_ENROLMENT_CA_CERT", value_name = "FILE")]
    pub enrolment_ca_cert: Option<PathBuf>,
    /// File with the key of --enrolment-ca-cert.
    #[arg(long, env = "AGENTIC_ENROLMENT_CA_KEY", value_name = "FILE")]
    pub enrolment_ca_key: Option<PathBuf>,
    /// How long the certificates of agents hold, 5s to 30days. Agents renew them in time.
    #[arg(long, env = "AGENTIC_ENROLMENT_LIFETIME", value_name = "TIME", default_value = "24h", value_parser = humantime::parse_duration)]
    pub enrolment_lifetime: Duration,
}

impl Default for EnrolmentArgs {
    fn default() -> Self {
        Self {
            enrolment_ca_cert: None,
            enrolment_ca_key: None,
            enrolment_lifetime: Duration::from_hours(24),
        }
    }
}

/// Issues certificates to agents.
#[derive(Clone)]
pub struct Enrolment {
    /// Who signs.
    pub authority: Arc<Authority>,
    /// For how long.
    pub lifetime: Duration,
}

impl std::fmt::Debug for Enrolment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Enrolment for {:?}", self.lifetime)
    }
}

impl EnrolmentArgs {
    fn check(self) -> Result<Option<Enrolment>, ConfigError> {
        let lifetime = self.enrolment_lifetime;
        if !(Duration::from_secs(5)..=Duration::from_hours(24 * 30)).contains(&lifetime) {
            let problem = "is not between 5s and 30days";
            return Err(ConfigError::invalid("--enrolment-lifetime", problem));
        }
        let (certificate, key) = match (self.enrolment_ca_cert, self.enrolment_ca_key) {
            (None, None) => return Ok(None),
            (Some(certificate), Some(key)) => (certificate, key),
            (Some(_), None) => {
                let problem = "is required (AGENTIC_ENROLMENT_CA_KEY) with --enrolment-ca-cert";
                return Err(ConfigError::invalid("--enrolment-ca-key", problem));
            }
            (None, Some(_)) => {
                let problem = "is required (AGENTIC_ENROLMENT_CA_CERT) with --enrolment-ca-key";
                return Err(ConfigError::invalid("--enrolment-ca-cert", problem));
            }
        };
        let read = |setting: &str, file: &Path| {
            std::fs::read_to_string(file).map_err(|error| {
                ConfigError::invalid(setting, format!("{}: {error}", file.display()))
            })
        };
        let authority = Authority::read(
            &read("--enrolment-ca-cert", &certificate)?,
            &read("--enrolment-ca-key", &key)?,
        )
        .map_err(|error| ConfigError::invalid("--enrolment-ca-cert", error.to_string()))?;
        Ok(Some(Enrolment {
            authority: Arc::new(authority),
            lifetime,
        }))
    }
}

/// Checked settings.
#[derive(Debug, Clone)]
pub struct Config {
    /// Address for gRPC; port 0: a free one.
    pub address: SocketAddr,
    /// Address for HTTP; `None`: none is served.
    pub http_address: Option<SocketAddr>,
    /// Who it is, and whom it trusts.
    pub tls: Tls,
    /// Serve HTTP with the certificate, too.
    pub http_tls: bool,
    /// Issues certificates to agents; `None`: nobody does here.
    pub enrolment: Option<Enrolment>,
    /// Connection string of PostgreSQL.
    pub database_url: String,
    /// Most connections.
    pub connections: usize,
    /// What replicas share that may be lost.
    pub redis: Option<Redis>,
    /// Where artifacts are kept.
    pub artifacts: Location,
    /// How long finished workflows are kept.
    pub retention: Retention,
    /// How many workflows of one namespace may live at once.
    pub live_workflows: u32,
    /// How long calls in flight may go on after a stop was asked for.
    pub shutdown_grace: Duration,
    /// Who may call.
    pub access: AccessConfig,
    /// Serve reflection.
    pub reflection: bool,
    /// All agents are parts of this process: when it starts, those of its earlier life are dead.
    pub agents_are_ours: bool,
    /// What `/metrics` shows.
    pub registry: Option<prometheus::Registry>,
}

impl Config {
    /// Checks the settings.
    pub fn new(args: OrchestratorArgs) -> Result<Self, ConfigError> {
        let tls = args.tls.service()?;
        let secure = tls.can_serve();
        if secure && tls.identity() != Some(Identity::Orchestrator) {
            let problem = format!("must be one that names {}", Identity::Orchestrator);
            return Err(ConfigError::invalid("--tls-cert", problem));
        }
        let database_url = args.database_url.ok_or_else(|| {
            ConfigError::invalid(
                "--database-url",
                "is required (AGENTIC_DATABASE_URL); `agentic up` brings its own PostgreSQL",
            )
        })?;
        let database_url = match args.database_password_file {
            Some(file) => with_password(
                &database_url,
                &read_secret("--database-password-file", &file)?,
            ),
            None => database_url,
        };
        let redis = args
            .redis_url
            .map(|url| Redis::new(&url, args.redis_password_file.as_deref()))
            .transpose()?;
        let data: PathBuf = args.data.data;
        let artifacts = match args.artifacts {
            Some(url) => url
                .parse()
                .map_err(|error| ConfigError::invalid("--artifacts", format!("{error}")))?,
            None => Location::Folder(data.join("artifacts")),
        };
        let address = args.listen.address(DEFAULT_LISTEN, secure)?;
        let access = AccessConfig::new(
            &args.access,
            [args.bootstrap_token_file, args.bootstrap_agent_token_file],
            address,
        )?;
        Ok(Self {
            address,
            access,
            http_address: args.listen.http_address(Some(DEFAULT_HTTP), secure)?,
            tls,
            http_tls: args.listen.http_tls,
            enrolment: args.enrolment.check()?,
            database_url,
            connections: usize::from(args.database_connections),
            redis,
            artifacts,
            retention: args.flow.retention,
            live_workflows: args.flow.live_workflows,
            shutdown_grace: args.listen.shutdown_grace,
            reflection: args.listen.reflection,
            agents_are_ours: false,
            registry: None,
        })
    }
}

// Both forms of libpq's connection strings, URL and key/value, may name the password last.
fn with_password(url: &str, password: &str) -> String {
    if !url.contains("://") {
        let quoted = password.replace('\\', "\\\\").replace('\'', "\\'");
        return format!("{url} password='{quoted}'");
    }
    let separator = if url.contains('?') { '&' } else { '?' };
    let encoded = password.bytes().fold(String::new(), |text, byte| {
        if byte.is_ascii_alphanumeric() {
            text + char::from(byte).encode_utf8(&mut [0; 4])
        } else {
            text + &format!("%{byte:02X}")
        }
    });
    format!("{url}{separator}password={encoded}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retention_is_a_time_or_never() {
        assert_eq!("never".parse(), Ok(Retention(None)));
        let month = Duration::from_hours(30 * 24);
        assert_eq!("30days".parse(), Ok(Retention(Some(month))));
        for wrong in ["", "0", "59m", "101years", "always", "-1h"] {
            assert!(wrong.parse::<Retention>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_password_of_a_file_reaches_the_database_whole() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("password");
        let hostile = "p&ss=w%rd '\\/@:?# ü";
        std::fs::write(&file, format!("{hostile}\n")).unwrap();
        let password = read_secret("--database-password-file", &file).unwrap();
        for url in [
            "postgres://agentic@db/agentic",
            "postgres://agentic@db/agentic?sslmode=disable",
            "host=db user=agentic dbname=agentic",
        ] {
            let config = tokio_postgres::Config::from_str(&with_password(url, &password)).unwrap();
            assert_eq!(config.get_password(), Some(hostile.as_bytes()), "{url}");
            assert_eq!(config.get_user(), Some("agentic"));
            assert_eq!(config.get_dbname(), Some("agentic"));
        }
    }

    #[test]
    fn an_empty_or_missing_password_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("password");
        assert!(read_secret("--redis-password-file", &file).is_err());
        std::fs::write(&file, "\n").unwrap();
        let said = read_secret("--redis-password-file", &file)
            .unwrap_err()
            .to_string();
        assert!(said.ends_with("it is empty"), "{said}");
    }
}
