//! What a test needs from the machine. A test whose need is not met is skipped loudly, and fails where somebody said that the
//! machine must have it: `AGENTIC_REQUIRE_DOCKER=1` and its like, or `AGENTIC_REQUIRE_ALL=1`.

use std::{
    env,
    io::{self, Write},
    path::PathBuf,
    process::{Command, Stdio},
};

/// Something outside the mesh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Thing {
    /// A Docker engine that answers.
    Docker,
    /// The `git` program.
    Git,
    /// The `cargo` program.
    Cargo,
    /// The `node` program.
    Node,
    /// The `python3` program.
    Python,
    /// The `go` program.
    Go,
    /// The `hurl` program.
    Hurl,
    /// The `bwrap` program.
    Bubblewrap,
    /// A Chromium browser.
    Chromium,
    /// `moto_server`, an independent stand-in for S3 and other AWS services.
    Moto,
    /// `rotel`, an OpenTelemetry collector.
    Rotel,
    /// The `faketime` program.
    Faketime,
    /// The `redis-server` program.
    Redis,
    /// The `prometheus` program.
    Prometheus,
}

impl Thing {
    /// End of the variable that makes it obligatory.
    pub fn name(self) -> &'static str {
        match self {
            Self::Docker => "DOCKER",
            Self::Git => "GIT",
            Self::Cargo => "CARGO",
            Self::Node => "NODE",
            Self::Python => "PYTHON",
            Self::Go => "GO",
            Self::Hurl => "HURL",
            Self::Bubblewrap => "BUBBLEWRAP",
            Self::Chromium => "CHROMIUM",
            Self::Moto => "MOTO",
            Self::Rotel => "ROTEL",
            Self::Faketime => "FAKETIME",
            Self::Redis => "REDIS",
            Self::Prometheus => "PROMETHEUS",
        }
    }

    /// Why this machine does not have it; `Ok` when it does.
    fn missing(self) -> Result<(), String> {
        match self {
            Self::Docker => answers("docker", &["version", "--format", "{{.Server.Version}}"]),
            Self::Git => answers("git", &["--version"]),
            Self::Cargo => answers("cargo", &["--version"]),
            Self::Node => answers("node", &["--version"]),
            Self::Python => answers("python3", &["--version"]),
            Self::Go => answers("go", &["version"]),
            Self::Hurl => answers("hurl", &["--version"]),
            Self::Bubblewrap => answers("bwrap", &["--version"]),
            Self::Chromium => answers("chromium", &["--version"])
                .or_else(|_| answers("google-chrome", &["--version"])),
            Self::Moto => installed("moto_server"),
            Self::Rotel => installed("rotel"),
            Self::Faketime => answers("faketime", &["-f", "+1h", "true"]),
            Self::Prometheus => answers("prometheus", &["--version"]),
            Self::Redis => {
                let program = peer_program("redis-server");
                answers(&program.to_string_lossy(), &["--version"])
            }
        }
    }
}

/// Whether the machine has what a test needs; says so when it does not.
///
/// # Panics
///
/// When the thing is missing and was said to be obligatory.
pub fn is_met(thing: Thing) -> bool {
    let missing = thing.missing();
    is_given(
        missing.is_ok(),
        thing.name(),
        &missing.err().unwrap_or_default(),
    )
}

/// The same for a need that the test looked for itself, such as a privilege.
///
/// # Panics
///
/// When it is not given and was said to be obligatory.
pub fn is_given(given: bool, name: &str, reason: &str) -> bool {
    if given {
        return true;
    }
    let obligatory = ["ALL", name]
        .iter()
        .any(|end| env::var_os(format!("AGENTIC_REQUIRE_{end}")).is_some());
    assert!(!obligatory, "this machine must have {name}: {reason}");
    // Not `eprintln!`, whose words the test harness keeps to itself when a test passes.
    let _ = writeln!(io::stderr(), "SKIPPED: needs {name}: {reason}");
    false
}

/// Ends the test here unless the machine has the thing. A second argument is what to return from the test then.
#[macro_export]
macro_rules! require {
    ($thing:ident) => {
        $crate::require!($thing, ())
    };
    ($thing:ident, $skipped:expr) => {
        if !$crate::requirement::is_met($crate::requirement::Thing::$thing) {
            return $skipped;
        }
    };
}

/// Where programs that only tests need are installed by `scripts/test`: `bin` of a virtual environment under the build folder.
pub fn peer_program(name: &str) -> PathBuf {
    let installed = build_folder().join("peers/bin").join(name);
    if installed.exists() {
        installed
    } else {
        PathBuf::from(name)
    }
}

/// The workspace's build folder.
pub fn build_folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../target")
}

fn installed(name: &str) -> Result<(), String> {
    let program = peer_program(name);
    answers(&program.to_string_lossy(), &["--help"])
}

fn answers(program: &str, arguments: &[&str]) -> Result<(), String> {
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("`{program}` does not run: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!(
        "`{program} {}` failed: {}",
        arguments.join(" "),
        said.trim()
    ))
}

#[cfg(test)]
mod tests {
    use super::{Thing, answers, is_met};

    #[test]
    fn a_program_that_is_not_there_or_fails_does_not_answer() {
        assert!(
            answers("no-such-program-anywhere", &[])
                .unwrap_err()
                .contains("does not run")
        );
        assert!(
            answers("sh", &["-c", "echo broken >&2; exit 1"])
                .unwrap_err()
                .ends_with("broken")
        );
        assert!(answers("sh", &["-c", "exit 0"]).is_ok());
    }

    #[test]
    fn what_builds_this_test_is_there() {
        assert!(is_met(Thing::Cargo));
    }
}
