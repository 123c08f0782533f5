//! Settings of access, checked once.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::SystemTime;

use clap::Args;
use contracts::id::TokenId;
use contracts::orchestrator::Role;
use http::HeaderValue;
use service_runtime::config::{ConfigError, read_secret};
use service_runtime::http_port;

use super::Mode;
use super::identity::Namespaces;
use super::limit::{Bounds, Rates};
use super::oidc::{self, OidcConfig};
use super::role::{ROLES, Roles, role_name};
use super::secret::Secret;
use crate::store::tokens::TokenRow;

// Who may call. (A doc comment here would become the command's own description.)
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Access")]
pub struct AccessArgs {
    /// Whether callers need a credential. Left out: they do, but on loopback without any other setting of access.
    #[arg(long, env = "AGENTIC_ACCESS", value_enum, value_name = "MODE")]
    pub access: Option<Mode>,
    /// OpenID provider whose tokens are taken, such as `https://id.example/realms/agentic`. Left out: none.
    #[arg(
        long,
        env = "AGENTIC_OIDC_ISSUER",
        value_name = "URL",
        requires = "oidc_audience"
    )]
    pub oidc_issuer: Option<String>,
    /// What its tokens must be for.
    #[arg(
        long,
        env = "AGENTIC_OIDC_AUDIENCE",
        value_name = "AUDIENCE",
        requires = "oidc_issuer"
    )]
    pub oidc_audience: Option<String>,
    /// Where its keys are. Left out: where its discovery document says.
    #[arg(long, env = "AGENTIC_OIDC_KEYS_URL", value_name = "URL")]
    pub oidc_keys_url: Option<String>,
    /// Claim with the name that stands on record. It must be one that its holder cannot choose.
    #[arg(
        long,
        env = "AGENTIC_OIDC_NAME_CLAIM",
        value_name = "CLAIM",
        default_value = "sub"
    )]
    pub oidc_name_claim: String,
    /// Claim with the roles, such as `realm_access.roles`.
    #[arg(
        long,
        env = "AGENTIC_OIDC_ROLE_CLAIM",
        value_name = "CLAIM",
        default_value = "roles"
    )]
    pub oidc_role_claim: String,
    /// What the values of that claim mean: `developers=operator,leads=approver`. Left out: they are names of roles.
    #[arg(long, env = "AGENTIC_OIDC_ROLES", value_name = "VALUE=ROLE", value_delimiter = ',', value_parser = meaning)]
    pub oidc_roles: Vec<(String, Role)>,
    /// Claim with the namespaces that its holder may name. A token without it: `default`.
    #[arg(
        long,
        env = "AGENTIC_OIDC_NAMESPACE_CLAIM",
        value_name = "CLAIM",
        default_value = "namespaces"
    )]
    pub oidc_namespace_claim: String,
    /// New workflows of one caller, a second; as many may come at once.
    #[arg(long, env = "AGENTIC_CREATE_RATE", value_name = "NUMBER", default_value_t = Rates::default().create)]
    pub create_rate: NonZeroU32,
    /// Other changes of one caller, a second.
    #[arg(long, env = "AGENTIC_WRITE_RATE", value_name = "NUMBER", default_value_t = Rates::default().write)]
    pub write_rate: NonZeroU32,
    /// Reads of one caller, a second.
    #[arg(long, env = "AGENTIC_READ_RATE", value_name = "NUMBER", default_value_t = Rates::default().read)]
    pub read_rate: NonZeroU32,
    /// Watches of one caller at once, on each replica.
    #[arg(long, env = "AGENTIC_WATCHES", value_name = "NUMBER", default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub watches: u32,
    /// Origins whose web pages may read the HTTP port, such as `https://console.example`. Left out: none.
    #[arg(long, env = "AGENTIC_CORS_ORIGINS", value_name = "ORIGINS", value_delimiter = ',', value_parser = http_port::origin)]
    pub cors_origins: Vec<HeaderValue>,
    /// Calls at once, of all callers, on each replica; more are refused. Watches and agents do not count.
    #[arg(long, env = "AGENTIC_CALLS", value_name = "NUMBER", default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub calls: u32,
}

// What a value of the claim of roles means.
fn meaning(text: &str) -> Result<(String, Role), String> {
    let (value, name) = text
        .rsplit_once('=')
        .filter(|(value, _)| !value.is_empty())
        .ok_or_else(|| format!("{text:?} is not VALUE=ROLE"))?;
    let role = ROLES.into_iter().find(|role| role_name(*role) == name);
    let role = role.ok_or_else(|| {
        let names = ROLES.map(role_name).join(", ");
        format!("{name:?} is no role: {names}")
    })?;
    Ok((value.to_owned(), role))
}

impl AccessArgs {
    fn oidc(&self) -> Result<Option<OidcConfig>, ConfigError> {
        let (Some(issuer), Some(audience)) = (&self.oidc_issuer, &self.oidc_audience) else {
            return Ok(None);
        };
        for (setting, url) in [
            ("--oidc-issuer", Some(issuer)),
            ("--oidc-keys-url", self.oidc_keys_url.as_ref()),
        ] {
            if let Some(url) = url
                && !oidc::is_private(url)
            {
                let problem = format!("{url:?} is not an https URL; http is for this machine only");
                return Err(ConfigError::invalid(setting, problem));
            }
        }
        Ok(Some(OidcConfig {
            issuer: issuer.clone(),
            audience: audience.clone(),
            keys_url: self.oidc_keys_url.clone(),
            name_claim: self.oidc_name_claim.clone(),
            role_claim: self.oidc_role_claim.clone(),
            roles: self.oidc_roles.clone(),
            namespace_claim: self.oidc_namespace_claim.clone(),
        }))
    }

    fn rates(&self) -> Rates {
        Rates {
            create: self.create_rate,
            write: self.write_rate,
            read: self.read_rate,
        }
    }

    fn bounds(&self) -> Bounds {
        let number = |number| usize::try_from(number).unwrap_or(usize::MAX);
        Bounds {
            calls: number(self.calls),
            watches: number(self.watches),
        }
    }
}

/// Checked settings.
#[derive(Debug, Clone, Default)]
pub struct AccessConfig {
    /// What must be shown.
    pub mode: Mode,
    /// Whose JWTs are taken.
    pub oidc: Option<OidcConfig>,
    /// How often one caller may call.
    pub rates: Rates,
    /// How much may be under way.
    pub bounds: Bounds,
    /// Whose web pages may read the HTTP port.
    pub origins: Vec<HeaderValue>,
    /// Tokens that the process is started with.
    pub bootstrap: Vec<BootstrapToken>,
}

/// A token that the process is started with. It does not run out.
#[derive(Debug, Clone)]
pub struct BootstrapToken {
    /// Who holds it.
    pub name: &'static str,
    /// What it may do.
    pub role: Role,
    /// What is shown.
    pub secret: Secret,
}

impl BootstrapToken {
    /// As it is stored.
    pub fn row(&self) -> TokenRow {
        TokenRow {
            token_id: TokenId::new(),
            name: self.name.to_owned(),
            roles: Roles::of(&[self.role]),
            namespaces: Namespaces::All,
            creator: "settings".to_owned(),
            create_time: SystemTime::now(),
            expire_time: None,
            revoke_time: None,
        }
    }
}

impl AccessConfig {
    /// Checks the settings. The files hold the token of an administrator and that of agents.
    pub fn new(
        args: &AccessArgs,
        [admin, agent]: [Option<PathBuf>; 2],
        address: SocketAddr,
    ) -> Result<Self, ConfigError> {
        let mut bootstrap = Vec::new();
        for (setting, file, name, role) in [
            (
                "--bootstrap-token-file",
                admin,
                "administrator",
                Role::Admin,
            ),
            ("--bootstrap-agent-token-file", agent, "agents", Role::Agent),
        ] {
            let Some(file) = file else { continue };
            let text = read_secret(setting, &file)?;
            let secret = Secret::parse(&text).map_err(|problem| {
                ConfigError::invalid(setting, format!("{}: it {problem}", file.display()))
            })?;
            bootstrap.push(BootstrapToken { name, role, secret });
        }
        let oidc = args.oidc()?;
        let is_configured =
            oidc.is_some() || bootstrap.iter().any(|token| token.role == Role::Admin);
        let mode = match args.access {
            Some(mode) => mode,
            None if is_configured => Mode::Restricted,
            None if address.ip().is_loopback() => Mode::Open,
            None => return Err(undecided(address)),
        };
        Ok(Self {
            mode,
            oidc,
            rates: args.rates(),
            bounds: args.bounds(),
            origins: args.cors_origins.clone(),
            bootstrap,
        })
    }
}

// One sentence, with every way out.
fn undecided(address: SocketAddr) -> ConfigError {
    ConfigError::invalid(
        "--access",
        format!(
            "will not serve without credentials on {address}, which other machines can reach: give \
             --bootstrap-token-file (AGENTIC_BOOTSTRAP_TOKEN_FILE) or --oidc-issuer, or say --access restricted \
             (AGENTIC_ACCESS=restricted) where tokens are stored already, or --access open"
        ),
    )
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Example {
        #[command(flatten)]
        access: AccessArgs,
    }

    fn mode(access: Option<Mode>, admin: Option<PathBuf>, address: &str) -> Result<Mode, String> {
        let args = Example::try_parse_from(["x"]).unwrap().access;
        let args = AccessArgs { access, ..args };
        AccessConfig::new(&args, [admin, None], address.parse().unwrap())
            .map(|config| config.mode)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn access_is_open_only_on_loopback_or_when_told_so_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        std::fs::write(&file, Secret::random().reveal()).unwrap();
        let admin = || Some(file.clone());
        let (inside, outside) = ("127.0.0.1:50051", "0.0.0.0:50051");
        assert_eq!(mode(None, None, inside), Ok(Mode::Open));
        assert_eq!(mode(None, admin(), inside), Ok(Mode::Restricted));
        assert_eq!(mode(None, admin(), outside), Ok(Mode::Restricted));
        assert_eq!(mode(Some(Mode::Open), None, outside), Ok(Mode::Open));
        assert_eq!(
            mode(Some(Mode::Restricted), None, inside),
            Ok(Mode::Restricted)
        );
        let said = mode(None, None, outside).unwrap_err();
        assert!(
            said.contains("0.0.0.0:50051") && said.contains("--access open"),
            "{said}"
        );
        assert!(!said.contains('\n'), "{said}");
    }

    #[test]
    fn a_first_token_that_could_be_guessed_is_refused_and_not_printed() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        std::fs::write(&file, "hunter2\n").unwrap();
        let said = mode(None, Some(file.clone()), "127.0.0.1:1").unwrap_err();
        assert!(
            said.contains("--bootstrap-token-file") && !said.contains("hunter2"),
            "{said}"
        );
        let missing = mode(None, Some(folder.path().join("none")), "127.0.0.1:1");
        assert!(missing.unwrap_err().contains("none"));
    }

    #[test]
    fn a_provider_needs_an_audience_https_and_roles_that_there_are() {
        let read = |arguments: &[&str]| Example::try_parse_from([&["x"], arguments].concat());
        let issuer = ["--oidc-issuer", "https://id.example"];
        assert!(read(&issuer).is_err());
        let all = [&issuer[..], &["--oidc-audience", "agentic"]].concat();
        let mapped = [&all[..], &["--oidc-roles", "a=b=operator,c=admin"]].concat();
        let config = read(&mapped).unwrap().access.oidc().unwrap().unwrap();
        let expected = [
            ("a=b".to_owned(), Role::Operator),
            ("c".to_owned(), Role::Admin),
        ];
        assert_eq!(config.roles, expected);
        for roles in ["developers", "=admin", "developers=root"] {
            assert!(
                read(&[&all[..], &["--oidc-roles", roles]].concat()).is_err(),
                "{roles}"
            );
        }
        let clear = ["--oidc-issuer", "http://id.example", "--oidc-audience", "x"];
        let said = read(&clear).unwrap().access.oidc().unwrap_err().to_string();
        assert!(said.contains("--oidc-issuer"), "{said}");
    }
}
