//! Panics in the log: cleaned as all that is logged, with the trace that they end. What Rust prints by itself would show
//! whatever a message holds.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::panic::{self, PanicHookInfo};

/// Shows them whatever else the log does not: nothing must hide the reason of an end.
pub(super) const DIRECTIVE: &str = "panic=error";

/// Tells of panics from now on.
pub(super) fn report() {
    panic::set_hook(Box::new(tell));
}

fn tell(panic: &PanicHookInfo<'_>) {
    let message = panic.payload_as_str().unwrap_or("no text");
    let thread = std::thread::current();
    let thread = thread.name().unwrap_or("unnamed");
    let location = panic.location().map(ToString::to_string);
    // Only when RUST_BACKTRACE asks for one.
    let backtrace = Backtrace::capture();
    let backtrace =
        (backtrace.status() == BacktraceStatus::Captured).then(|| backtrace.to_string());
    tracing::error!(target: "panic", thread, location, backtrace, "panicked: {message}");
}
