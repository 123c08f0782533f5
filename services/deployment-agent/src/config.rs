//! Settings of the deployment agent, read once and checked.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    ops::RangeInclusive,
    path::{Path, PathBuf},
};

use agent_runtime::serve::{AgentArgs, AgentConfig};
use clap::{Args, Parser};
use service_runtime::{config::ConfigError, health_check::Verb, telemetry::TelemetryArgs};

use crate::{
    engine::{Builder, Credentials, Engine},
    router::Limits,
    sites,
};

/// Port of this agent where nothing else is said.
pub const PORT: u16 = 50065;

/// Brings revisions of an app to a target, watches them, and takes them back.
#[derive(Debug, Clone, Parser)]
#[command(name = "deployment-agent", version)]
pub struct Cli {
    /// What every agent has.
    #[command(flatten)]
    pub agent: AgentArgs,
    /// What this one has.
    #[command(flatten)]
    pub deployment: DeploymentArgs,
    /// Logs and traces.
    #[command(flatten)]
    pub telemetry: TelemetryArgs,
    /// Left out: serve.
    #[command(subcommand)]
    pub verb: Option<Verb>,
}

/// Settings of this agent only.
#[derive(Debug, Clone, Args)]
pub struct DeploymentArgs {
    /// Address that deployed apps are served on.
    #[arg(long, env = "AGENTIC_ROUTER_LISTEN", value_name = "ADDRESS", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    pub router_listen: IpAddr,
    /// Host in the URLs of deployed apps. Left out: the address that they are served on.
    #[arg(long, env = "AGENTIC_ROUTER_HOST", value_name = "HOST")]
    pub router_host: Option<String>,
    /// Ports of deployed apps; each keeps the first free one that it gets.
    #[arg(long, env = "AGENTIC_ROUTER_PORTS", value_name = "FIRST-LAST", default_value = "18080-18179", value_parser = ports)]
    pub router_ports: RangeInclusive<u16>,
    /// Ports of the instances behind them, on loopback only.
    #[arg(long, env = "AGENTIC_INSTANCE_PORTS", value_name = "FIRST-LAST", default_value = "20000-29999", value_parser = ports)]
    pub instance_ports: RangeInclusive<u16>,
    /// Folder of secrets of deployed apps: ENVIRONMENT/NAME, one value a file. Left out: apps that need secrets are not deployed.
    #[arg(long, env = "AGENTIC_SECRETS", value_name = "FOLDER")]
    pub secrets: Option<PathBuf>,
    /// Container engine, such as `unix:///var/run/docker.sock` or `tcp://host:2375`; `off`: none.
    #[arg(
        long,
        env = "AGENTIC_DOCKER",
        value_name = "ADDRESS",
        default_value = "unix:///var/run/docker.sock"
    )]
    pub docker: String,
    /// Builder of images: `automatic` takes BuildKit where the engine does so by itself.
    #[arg(long, env = "AGENTIC_IMAGE_BUILDER", value_name = "NAME", default_value = "automatic", value_parser = ["automatic", "legacy", "buildkit"])]
    pub image_builder: String,
    /// Credentials of registries, in the format of docker's config.json. Left out: none.
    #[arg(long, env = "AGENTIC_REGISTRY_CREDENTIALS", value_name = "FILE")]
    pub registry_credentials: Option<PathBuf>,
    /// Releases that are kept per app, beside those that can be gone back to.
    #[arg(long, env = "AGENTIC_KEPT_RELEASES", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=100))]
    pub kept_releases: u16,
}

/// What the agent itself needs.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How it deploys.
    pub sites: sites::Settings,
    /// Ports of instances.
    pub instance_ports: RangeInclusive<u16>,
    /// Container engine.
    pub engine: Option<Engine>,
    /// Folder for copies of repositories.
    pub cache: PathBuf,
}

/// Everything, checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// What every agent has.
    pub agent: AgentConfig,
    /// What this one has.
    pub deployment: Settings,
}

impl Config {
    /// Checks the settings.
    pub fn new(agent: AgentArgs, deployment: DeploymentArgs) -> Result<Self, ConfigError> {
        let data = absolute("--data", &agent.data.data)?.join("deployment");
        let default = SocketAddr::from(([127, 0, 0, 1], PORT));
        let mut agent = AgentConfig::new(agent, "deployment", default)?;
        agent.data.clone_from(&data);
        let advertise = match deployment.router_host {
            Some(host) if host.is_empty() || host.contains(['/', ' ', ':']) => {
                let problem = format!("{host:?} is not a host name");
                return Err(ConfigError::invalid("--router-host", problem));
            }
            Some(host) => host,
            None => host_of(deployment.router_listen),
        };
        let overlap = deployment.router_ports.start() <= deployment.instance_ports.end()
            && deployment.instance_ports.start() <= deployment.router_ports.end();
        if overlap {
            let problem = "overlaps the ports of the routers (--router-ports)";
            return Err(ConfigError::invalid("--instance-ports", problem));
        }
        let secrets = deployment.secrets.as_deref();
        let secrets = secrets
            .map(|folder| absolute("--secrets", folder))
            .transpose()?;
        Ok(Self {
            deployment: Settings {
                sites: sites::Settings {
                    data: data.clone(),
                    listen: deployment.router_listen,
                    advertise,
                    router_ports: deployment.router_ports,
                    secrets,
                    kept_releases: usize::from(deployment.kept_releases),
                    router_limits: Limits::default(),
                },
                instance_ports: deployment.instance_ports,
                engine: engine(
                    &deployment.docker,
                    &deployment.image_builder,
                    deployment.registry_credentials,
                )?,
                cache: data.join("cache"),
            },
            agent,
        })
    }
}

fn engine(
    address: &str,
    builder: &str,
    credentials: Option<PathBuf>,
) -> Result<Option<Engine>, ConfigError> {
    if address == "off" {
        return Ok(None);
    }
    if !(address.starts_with("unix:///") || address.starts_with("tcp://")) {
        let problem = format!("{address:?} is neither unix:///path, tcp://host:port nor off");
        return Err(ConfigError::invalid("--docker", problem));
    }
    let builder = match builder {
        "legacy" => Builder::Legacy,
        "buildkit" => Builder::BuildKit,
        _ => Builder::Automatic,
    };
    Ok(Some(Engine::new(
        address,
        builder,
        Credentials::new(credentials),
    )))
}

/// Releases are run from absolute paths, whatever the working directory is.
fn absolute(setting: &str, folder: &Path) -> Result<PathBuf, ConfigError> {
    std::path::absolute(folder)
        .map_err(|error| ConfigError::invalid(setting, format!("{}: {error}", folder.display())))
}

fn host_of(address: IpAddr) -> String {
    match address {
        address if address.is_unspecified() => "localhost".to_owned(),
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    }
}

fn ports(text: &str) -> Result<RangeInclusive<u16>, String> {
    let wrong = || format!("{text:?} is not two ports with '-' between them, such as 18080-18179");
    let (first, last) = text.split_once('-').ok_or_else(wrong)?;
    let first: u16 = first.trim().parse().map_err(|_| wrong())?;
    let last: u16 = last.trim().parse().map_err(|_| wrong())?;
    if first == 0 || last < first {
        return Err(wrong());
    }
    Ok(first..=last)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(arguments: &[&str]) -> Result<Config, String> {
        let arguments = ["deployment-agent", "--data", "data"]
            .iter()
            .chain(arguments);
        let cli = Cli::try_parse_from(arguments).map_err(|error| error.to_string())?;
        Config::new(cli.agent, cli.deployment).map_err(|error| error.to_string())
    }

    #[test]
    fn folders_are_absolute_and_ports_are_ranges() {
        let config = config(&["--router-ports", "9000-9001", "--secrets", "s"]).unwrap();
        let sites = config.deployment.sites;
        assert!(sites.data.is_absolute() && sites.data.ends_with("data/deployment"));
        assert!(sites.secrets.unwrap().is_absolute());
        assert_eq!(sites.router_ports, 9000..=9001);
        assert_eq!(sites.advertise, "127.0.0.1");
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for wrong in ["9000", "0-5", "9001-9000", "a-b", "1-70000"] {
            assert!(config(&["--router-ports", wrong]).is_err(), "{wrong}");
        }
        assert!(
            config(&["--router-ports", "20000-20001"])
                .unwrap_err()
                .contains("overlaps")
        );
        assert!(config(&["--router-host", "http://x"]).is_err());
        assert!(config(&["--kept-releases", "0"]).is_err());
        assert!(config(&["--docker", "/var/run/docker.sock"]).is_err());
        assert!(config(&["--image-builder", "other"]).is_err());
        assert!(
            config(&["--docker", "off"])
                .unwrap()
                .deployment
                .engine
                .is_none()
        );
    }
}
