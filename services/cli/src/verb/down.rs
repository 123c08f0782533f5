//! `agentic down`: stops the mesh that `up` runs on the data folder.

use std::time::Duration;

use clap::Args;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::error::Error;
use crate::exit::Exit;
use crate::mesh::file;
use crate::surroundings::Surroundings;
use crate::words;

const AFTER_HELP: &str = "\
Examples:
  agentic down
  agentic down --data ./mesh --within 2m";

/// Arguments of `down`.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct DownArgs {
    /// How long the mesh may take to stop.
    #[arg(long, value_name = "TIME", default_value = "1m", value_parser = humantime::parse_duration)]
    within: Duration,
}

/// Stops the mesh.
pub async fn run(args: DownArgs, surroundings: &Surroundings) -> Result<Exit, Error> {
    let output = &surroundings.output;
    let data = surroundings.place.data.clone();
    if !file::is_held(&data)? {
        output.note(format!("no mesh runs on {}", data.display()));
        return Ok(Exit::Succeeded);
    }
    let pid = file::holder(&data)?.ok_or_else(|| {
        Error::Failed(format!(
            "the mesh on {} is starting; try again",
            data.display()
        ))
    })?;
    kill(Pid::from_raw(pid), Signal::SIGTERM).map_err(|error| Error::System {
        doing: "cannot stop the mesh",
        source: error.into(),
    })?;
    let place = data.clone();
    let free = tokio::task::spawn_blocking(move || file::wait_until_free(&place));
    match tokio::time::timeout(args.within, free).await {
        Ok(Ok(Ok(()))) => {
            output.note(format!("the mesh on {} has stopped", data.display()));
            Ok(Exit::Succeeded)
        }
        Ok(Ok(Err(source))) => Err(Error::File {
            doing: "cannot wait for",
            path: data,
            source,
        }),
        Ok(Err(error)) => Err(Error::Failed(error.to_string())),
        Err(_) => Err(Error::Failed(format!(
            "the mesh has not stopped within {}; end it the hard way with `kill -9 {pid}`: nothing that was committed is lost",
            words::duration(args.within)
        ))),
    }
}
