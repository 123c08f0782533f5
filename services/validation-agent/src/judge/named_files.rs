//! Which files of the base its check commands run: directly, through a runner's own file, or one step further inside
//! a script. Reads commands and scripts as text; runs nothing.

use std::collections::BTreeSet;

use super::test_code;

/// The files of the base that its check commands name: directly, through a runner's own file (`make`, `just`), or
/// one step further inside a script; and what stands beside a runner in a folder of tests without being a test.
/// `files` are the paths of the base, `read` gives one of them.
pub fn files_named_by<'a>(
    commands: impl IntoIterator<Item = &'a [String]>,
    files: &BTreeSet<String>,
    read: impl Fn(&str) -> Option<String>,
) -> BTreeSet<String> {
    let mut named = BTreeSet::new();
    for path in commands.into_iter().flat_map(candidates) {
        if !files.contains(&path) {
            continue;
        }
        let text = read(&path).unwrap_or_default();
        named.extend(
            commands_inside(&path, &text)
                .into_iter()
                .filter(|inner| is_script(inner) && files.contains(inner)),
        );
        if let Some((folder, _)) = path.rsplit_once('/')
            && test_code::is_test_path(&path)
        {
            let beside = |other: &&String| {
                other
                    .rsplit_once('/')
                    .is_some_and(|(place, _)| place == folder)
            };
            named.extend(files.iter().filter(beside).cloned());
        }
        named.insert(path);
    }
    // Manifests are compared by section, tests by their content.
    named.retain(|path| {
        let name = path.rsplit('/').next().unwrap_or(path);
        let is_manifest = matches!(
            name,
            "package.json" | "Cargo.toml" | "pyproject.toml" | "setup.cfg"
        );
        let is_test = || {
            test_code::is_test_path(path)
                && read(path).is_none_or(|text| !test_code::names(path, &text).is_empty())
        };
        !is_manifest && !is_test()
    });
    named
}

/// Paths that a command may mean.
fn candidates(command: &[String]) -> Vec<String> {
    let runner = command
        .first()
        .map_or("", |program| program.rsplit('/').next().unwrap_or(program));
    let of_runner: &[&str] = match runner {
        "make" | "gmake" => &["Makefile", "makefile", "GNUmakefile"],
        "just" => &["justfile", "Justfile", ".justfile"],
        "task" => &["Taskfile.yml", "Taskfile.yaml"],
        "npm" | "yarn" | "pnpm" | "bun" => &["package.json"],
        "ant" => &["build.xml"],
        _ => &[],
    };
    let module = command
        .iter()
        .skip_while(|argument| *argument != "-m")
        .nth(1);
    let of_module = module.into_iter().flat_map(|module| {
        let path = module.replace('.', "/");
        [format!("{path}.py"), format!("{path}/__main__.py")]
    });
    let direct = programs_of(command).map(|path| path.trim_start_matches("./").to_owned());
    direct
        .chain(of_runner.iter().map(|name| (*name).to_owned()))
        .chain(of_module)
        .collect()
}

/// What a command runs or is configured by: its program, an interpreter's script, the value of a flag that names a
/// file. Its other arguments are what it looks at.
fn programs_of(command: &[String]) -> impl Iterator<Item = &str> {
    const INTERPRETERS: &[&str] = &[
        "sh", "bash", "dash", "zsh", "node", "deno", "bun", "tsx", "ruby", "perl", "php", "lua",
        "pwsh",
    ];
    const FILE_FLAGS: &[&str] = &[
        "-c",
        "--config",
        "--config-file",
        "--rcfile",
        "-r",
        "--require",
        "--import",
        "--loader",
        "-f",
        "--file",
    ];
    let program = command
        .first()
        .map_or("", |program| program.rsplit('/').next().unwrap_or(program));
    let interprets = INTERPRETERS.contains(&program) || program.starts_with("python");
    let script = command
        .iter()
        .skip(1)
        .find(|argument| !argument.starts_with('-'))
        .filter(|_| {
            interprets
                && !command
                    .iter()
                    .any(|argument| matches!(argument.as_str(), "-m" | "--test"))
        });
    let flagged = command.windows(2).filter_map(|pair| match pair {
        [flag, value] if FILE_FLAGS.contains(&flag.as_str()) => Some(value),
        _ => None,
    });
    let joined = command.iter().filter_map(|argument| {
        let (flag, value) = argument.split_once('=')?;
        FILE_FLAGS.contains(&flag).then_some(value)
    });
    command
        .first()
        .into_iter()
        .chain(script)
        .chain(flagged)
        .map(String::as_str)
        .chain(joined)
}

/// Files that a script may run: of a shell or a runner's file what stands where programs and scripts stand, of other
/// languages every word that may be a path.
fn commands_inside(path: &str, text: &str) -> Vec<String> {
    let name = path.rsplit('/').next().unwrap_or(path);
    let lines: Vec<String> = match name {
        "package.json" => {
            let manifest: serde_json::Value = serde_json::from_str(text).unwrap_or_default();
            let scripts = manifest
                .get("scripts")
                .and_then(serde_json::Value::as_object)
                .cloned();
            scripts
                .unwrap_or_default()
                .values()
                .filter_map(|script| script.as_str().map(ToOwned::to_owned))
                .collect()
        }
        _ if is_shell(name, text) => text.lines().map(ToOwned::to_owned).collect(),
        _ => {
            return text
                .split(|c: char| c.is_whitespace() || "\"'`;|&()<>=,$@[]{}".contains(c))
                .map(|word| word.trim_start_matches("./").to_owned())
                .filter(|word| !word.is_empty())
                .collect();
        }
    };
    lines
        .iter()
        .flat_map(|line| line.split([';', '|', '&', '(', ')', '`']))
        .flat_map(|command| {
            let words: Vec<String> = command
                .split_whitespace()
                .map(|word| word.trim_matches(['"', '\'']).to_owned())
                .filter(|word| !word.is_empty())
                .skip_while(|word| {
                    word.contains('=')
                        || matches!(
                            word.as_str(),
                            "exec" | "env" | "if" | "then" | "do" | "else" | "time" | "!"
                        )
                })
                .collect();
            // `@` and `-` of make.
            let first = words
                .first()
                .map(|word| word.trim_start_matches(['@', '-']).to_owned());
            let words: Vec<String> = first.into_iter().chain(words.into_iter().skip(1)).collect();
            candidates(&words)
        })
        .collect()
}

fn is_shell(name: &str, text: &str) -> bool {
    let first = text.lines().next().unwrap_or_default();
    [".sh", ".bash", ".mk"]
        .iter()
        .any(|end| name.ends_with(end))
        || matches!(
            name,
            "Makefile" | "makefile" | "GNUmakefile" | "justfile" | "Justfile"
        )
        || (!name.contains('.') && (!first.starts_with("#!") || first.ends_with("sh")))
}

/// Whether it is a file that is run rather than built.
fn is_script(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    [
        ".sh", ".bash", ".py", ".js", ".mjs", ".cjs", ".rb", ".pl", ".mk", ".ps1",
    ]
    .iter()
    .any(|end| name.ends_with(end))
        || (path.contains('/') && !name.contains('.'))
}
