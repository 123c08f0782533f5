//! Measures a real orchestrator process on a real, durable PostgreSQL with no-op agents, always
//! beside the floor: bare durable commits of the same run. Prints one Markdown table and writes
//! `target/bench/summary.json`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a benchmark that cannot go on stops, and its output is its purpose"
)]

mod floor;
mod load;
mod machine;
mod measures;
mod peer;
mod plans;
mod replicas;
mod report;
mod telemetry;

use std::time::Duration;

use service_runtime::embedded_postgres::{EmbeddedPostgres, Options};

use machine::Machine;
use peer::Peer;
use report::Report;

// The load is to cost little beside what it loads.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    service_runtime::tls::install_crypto();
    // `cargo bench` adds a flag of its own.
    let (flags, wanted): (Vec<_>, Vec<_>) = std::env::args()
        .skip(1)
        .filter(|argument| argument != "--bench")
        .partition(|argument| argument == "--peers");
    let peer = (!flags.is_empty()).then(Peer::installed);
    if let Some(unknown) = wanted
        .iter()
        .find(|name| !measures::NAMES.contains(&name.as_str()))
    {
        eprintln!(
            "there is no measure {unknown:?}; there are: {}",
            measures::NAMES.join(" ")
        );
        std::process::exit(2);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let folder = tempfile::tempdir().unwrap();
        let options = testkit::cluster::options(Options {
            connections_limit: 300,
            ..Options::durable(folder.path().join("postgres"))
        });
        let postgres = EmbeddedPostgres::start(options).await.unwrap();
        let machine = Machine::new(&postgres, folder.path(), peer);
        let mut report = Report::default();
        Box::pin(measures::run(&machine, &wanted, &mut report)).await;
        postgres.stop().await.unwrap();
        report.print();
        report.write();
    });
    runtime.shutdown_timeout(Duration::from_secs(5));
}
