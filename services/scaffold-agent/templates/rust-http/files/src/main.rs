//! Starts the service; `server healthcheck` asks a running one.

use std::process::ExitCode;

use app::{healthcheck, server::Server, settings::Settings, signals};

fn main() -> ExitCode {
    let settings = match Settings::from_environment() {
        Ok(settings) => settings,
        Err(problem) => {
            eprintln!("{problem}");
            return ExitCode::from(64);
        }
    };
    match std::env::args().nth(1).as_deref() {
        None => serve(&settings),
        Some("healthcheck") if healthcheck::is_healthy(settings.port) => ExitCode::SUCCESS,
        Some("healthcheck") => ExitCode::FAILURE,
        Some(other) => {
            eprintln!("unknown argument {other:?}: there is only `healthcheck`");
            ExitCode::from(64)
        }
    }
}

fn serve(settings: &Settings) -> ExitCode {
    let server = match Server::bind(settings) {
        Ok(server) => server,
        Err(error) => {
            let Settings { host, port } = settings;
            eprintln!("cannot listen on {host}:{port}: {error}");
            return ExitCode::FAILURE;
        }
    };
    let stop = server.stop();
    if let Err(error) = signals::on_stop(move || stop.now()) {
        eprintln!("cannot listen for signals: {error}");
        return ExitCode::FAILURE;
    }
    println!("listening on http://{}", server.address());
    server.serve();
    println!("stopped");
    ExitCode::SUCCESS
}
