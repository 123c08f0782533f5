//! The `agentic` command: a client of the mesh like any other, and the whole mesh in one process
//! for those who have none.

mod adapt;
pub mod arguments;
mod budget;
mod describe;
pub mod error;
pub mod exit;
mod follow;
mod input;
pub mod mesh;
mod outcome;
pub mod output;
mod pages;
mod pick;
mod pipeline_file;
mod progress;
mod question;
mod request_id;
mod setting;
mod surroundings;
mod verb;
mod view;
mod watcher;
mod words;

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

use tracing::Instrument;

use arguments::Arguments;
use error::Error;
use exit::Exit;
use surroundings::Surroundings;

// What is left at the end are reads of the terminal, which nothing can call off.
const LEFTOVERS: Duration = Duration::from_millis(100);

/// Runs the command line and says how it ended.
pub fn main(arguments: &[OsString]) -> ExitCode {
    service_runtime::tls::install_crypto();
    let (arguments, telemetry) = match arguments::parse(arguments) {
        Ok(parsed) => parsed,
        Err(exit) => return exit.into(),
    };
    let surroundings = Surroundings::of_process(&arguments.global);
    let exit = serve(arguments, &surroundings, &telemetry).unwrap_or_else(|error| {
        surroundings.output.error(&error);
        error.exit()
    });
    exit.into()
}

fn serve(
    arguments: Arguments,
    surroundings: &Surroundings,
    telemetry: &service_runtime::telemetry::TelemetryArgs,
) -> Result<Exit, Error> {
    let cannot_start = |source| Error::System {
        doing: "cannot start",
        source,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(cannot_start)?;
    // Of its own: what the verb left behind holds spans open, which must end before they can be sent.
    let sending = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(cannot_start)?;
    let started = {
        let _sending = sending.enter();
        service_runtime::telemetry::start("agentic", telemetry)
    };
    let telemetry = started.map_err(|error| Error::Configuration(chain(&error)))?;
    // The root of the trace that goes on in every service.
    let span = if arguments.verb.is_service() {
        tracing::Span::none()
    } else {
        let name = format!("agentic {}", arguments.verb.name());
        tracing::info_span!("agentic", otel.name = name)
    };
    let running = verb::run(arguments.verb, surroundings, &telemetry).instrument(span);
    let ended = runtime.block_on(running);
    runtime.shutdown_timeout(LEFTOVERS);
    drop(telemetry);
    sending.shutdown_background();
    ended
}

/// An error with all its causes, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(source) = cause {
        text.push_str(": ");
        text.push_str(&source.to_string());
        cause = source.source();
    }
    text
}
