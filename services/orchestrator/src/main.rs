//! The orchestrator as a process.

use orchestrator::config::{Arguments, Config};
use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;

use service_runtime::{config, shutdown, telemetry, tls};

// Many small values that live for one step: a sixth of the work with the system's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    tls::install_crypto();
    let arguments = config::parse::<Arguments>();
    let mut checked =
        Config::new(arguments.orchestrator).unwrap_or_else(|error| config::exit_with(&error));
    if let Some(verb) = arguments.verb {
        return Ok(verb.run(checked.address, &checked.tls).await?);
    }
    let telemetry = telemetry::start("orchestrator", &arguments.telemetry)?;
    checked.registry = Some(telemetry.registry());
    let tasks = TaskTracker::new();
    let stop = shutdown::on_signal(&tasks)?;
    let (bound, _) = oneshot::channel();
    orchestrator::serve::serve(checked, stop.clone(), bound).await?;
    stop.cancel();
    telemetry.flush();
    Ok(())
}
