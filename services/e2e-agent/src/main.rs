//! The end-to-end agent as a process.

use e2e_agent::config::{Cli, Config};
use service_runtime::{config, shutdown, telemetry, tls};
use tokio_util::task::TaskTracker;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    tls::install_crypto();
    let cli: Cli = config::parse();
    let mut config = match Config::new(cli.agent, cli.e2e) {
        Ok(config) => config,
        Err(error) => config::exit_with(&error),
    };
    if let Some(verb) = cli.verb {
        return Ok(verb.run(config.agent.address, &config.agent.tls).await?);
    }
    let telemetry = telemetry::start("e2e-agent", &cli.telemetry)?;
    config.agent.registry = Some(telemetry.registry());
    let stop = shutdown::on_signal(&TaskTracker::new())?;
    e2e_agent::serve(config, None, stop).await?;
    telemetry.flush();
    Ok(())
}
