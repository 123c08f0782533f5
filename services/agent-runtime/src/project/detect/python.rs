//! What Python's many manifests tell.

use std::path::Path;

mod requirements;

use super::{CheckKind, Ecosystem, Language, Step, View};

const LANGUAGE: Option<Language> = Some(Language::Python);

const MANIFESTS: [&str; 5] = [
    "pyproject.toml",
    "setup.py",
    "setup.cfg",
    "requirements.txt",
    "Pipfile",
];

/// Most test files that are looked into to tell which runner they are for.
const MAX_TESTS_READ: usize = 50;

/// Folders that hold no code of the package itself.
const ASIDE: [&str; 8] = [
    "tests",
    "test",
    "docs",
    "doc",
    "examples",
    "benchmarks",
    "scripts",
    "tools",
];

pub(super) fn detect(view: &View<'_>) -> Option<Ecosystem> {
    let manifest = match view.first(&MANIFESTS) {
        Some(manifest) => manifest.to_owned(),
        // A stray script beside another language's manifest makes no Python project.
        None if view
            .first(&["Cargo.toml", "go.mod", "package.json"])
            .is_some() =>
        {
            return None;
        }
        None => view.files().find(|path| is_module(path))?.to_owned(),
    };
    let project = view.toml("pyproject.toml").unwrap_or_default();
    let mut checks = Vec::new();
    let mut add = |kind, step: Option<Step>| checks.extend(Some(kind).zip(step));

    let code = code(view);
    if !code.is_empty() {
        let mut argv = vec!["python3", "-m", "compileall", "-q"];
        argv.extend(code.iter().map(String::as_str));
        add(CheckKind::Build, view.step(LANGUAGE, &argv, &code[0]));
    }
    let types = types(view, &project, &code);
    let lint = lint(view, &project);
    let format = format(view, &project);
    let tests = tests(view, &project);
    let tools: Vec<&str> = [&types, &lint, &format]
        .into_iter()
        .filter_map(|step| tool(step.as_ref()?))
        .collect();
    let wanted = requirements::wanted(view, &project, tests.as_ref().and_then(tool), &tools);
    add(CheckKind::Types, types.clone());
    add(CheckKind::Lint, lint.clone());
    add(CheckKind::Format, format.clone());
    add(CheckKind::Tests, tests);
    Some(Ecosystem {
        language: LANGUAGE,
        manifest: view.origin(&manifest),
        dependencies: install(view, &wanted),
        checks,
    })
}

fn is_python(path: &str) -> bool {
    Path::new(path).extension().is_some_and(|end| end == "py")
}

/// A Python file at the root, or a package directly below it.
fn is_module(path: &str) -> bool {
    let depth = path.matches('/').count();
    (depth == 0 && is_python(path)) || (depth == 1 && path.ends_with("/__init__.py"))
}

/// Folders and files that hold the code of the project.
fn code(view: &View<'_>) -> Vec<String> {
    let mut code: Vec<String> = view
        .files()
        .filter_map(|path| match path.split_once('/') {
            None => is_python(path).then_some(path),
            Some(("src", rest)) => is_python(rest).then_some("src"),
            Some((folder, "__init__.py" | "__main__.py")) => Some(folder),
            Some(_) => None,
        })
        .filter(|place| !ASIDE.contains(place) && !is_test(place) && !place.starts_with('-'))
        .map(str::to_owned)
        .collect();
    code.dedup();
    code.truncate(100);
    code
}

/// The Python tool that a step runs: `mypy` of `python3 -m mypy .`, `ruff` of `ruff check .`.
fn tool(step: &Step) -> Option<&str> {
    match step.command.as_slice() {
        [program, module, name, ..] if program == "python3" && module == "-m" => Some(name),
        [program, ..] => Some(program),
        [] => None,
    }
}

fn install(view: &View<'_>, wanted: &requirements::Wanted) -> Option<Step> {
    if wanted.arguments.is_empty() {
        return None;
    }
    let mut argv = vec![
        "python3",
        "-m",
        "pip",
        "install",
        "--disable-pip-version-check",
    ];
    argv.extend(wanted.arguments.iter().map(String::as_str));
    let mut step = view.step(LANGUAGE, &argv, "")?.online();
    let origins: Vec<String> = wanted
        .origins
        .iter()
        .map(|origin| view.origin(origin))
        .collect();
    step.origin = origins.join(", ");
    Some(step)
}

fn has_tool(project: &toml::Table, names: &[&str]) -> bool {
    let mut place = project.get("tool");
    for name in names {
        place = place.and_then(|table| table.get(name));
    }
    place.is_some()
}

fn has_section(view: &View<'_>, file: &str, section: &str) -> bool {
    let header = format!("[{section}]");
    view.text(file)
        .is_some_and(|text| text.lines().any(|line| line.trim() == header))
}

fn types(view: &View<'_>, project: &toml::Table, code: &[String]) -> Option<Step> {
    let (origin, names_files) = if let Some(file) = view.first(&["mypy.ini", ".mypy.ini"]) {
        (file.to_owned(), names_files(view, file))
    } else if let Some(mypy) = project.get("tool").and_then(|tool| tool.get("mypy")) {
        let named = ["files", "packages", "modules"]
            .iter()
            .any(|key| mypy.get(key).is_some());
        ("pyproject.toml tool.mypy".to_owned(), named)
    } else if has_section(view, "setup.cfg", "mypy") {
        ("setup.cfg mypy".to_owned(), names_files(view, "setup.cfg"))
    } else if view.has("pyrightconfig.json") {
        return view.step(LANGUAGE, &["pyright"], "pyrightconfig.json");
    } else if has_tool(project, &["pyright"]) {
        return view.step(LANGUAGE, &["pyright"], "pyproject.toml tool.pyright");
    } else {
        return None;
    };
    let mut argv = vec!["python3", "-m", "mypy"];
    // Naming files on the command line would override the configuration.
    if !names_files {
        argv.extend(code.iter().map(String::as_str));
        if code.is_empty() {
            argv.push(".");
        }
    }
    view.step(LANGUAGE, &argv, &origin)
}

/// Whether an ini file tells mypy itself what to look at.
fn names_files(view: &View<'_>, file: &str) -> bool {
    let text = view.text(file).unwrap_or_default();
    let mut in_section = false;
    text.lines().map(str::trim).any(|line| {
        if line.starts_with('[') {
            in_section = line == "[mypy]";
        }
        let key = line.split('=').next().unwrap_or_default().trim();
        in_section && matches!(key, "files" | "packages" | "modules")
    })
}

fn lint(view: &View<'_>, project: &toml::Table) -> Option<Step> {
    // A configuration may ask for fixes; a check must not change what it looks at.
    let ruff = ["ruff", "check", "--no-fix", "."];
    let flake8 = ["python3", "-m", "flake8"];
    if let Some(origin) = view.first(&["ruff.toml", ".ruff.toml"]) {
        view.step(LANGUAGE, &ruff, origin)
    } else if has_tool(project, &["ruff"]) {
        view.step(LANGUAGE, &ruff, "pyproject.toml tool.ruff")
    } else if view.has(".flake8") {
        view.step(LANGUAGE, &flake8, ".flake8")
    } else if let Some(file) = ["setup.cfg", "tox.ini"]
        .into_iter()
        .find(|file| has_section(view, file, "flake8"))
    {
        view.step(LANGUAGE, &flake8, &format!("{file} flake8"))
    } else {
        None
    }
}

fn format(view: &View<'_>, project: &toml::Table) -> Option<Step> {
    if has_tool(project, &["black"]) {
        view.step(
            LANGUAGE,
            &["black", "--check", "."],
            "pyproject.toml tool.black",
        )
    } else if has_tool(project, &["ruff", "format"]) {
        view.step(
            LANGUAGE,
            &["ruff", "format", "--check", "."],
            "pyproject.toml tool.ruff.format",
        )
    } else {
        None
    }
}

fn is_test(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    name.strip_suffix(".py").is_some_and(|stem| {
        stem.starts_with("test_") || stem.ends_with("_test") || stem == "tests" || stem == "test"
    })
}

fn tests(view: &View<'_>, project: &toml::Table) -> Option<Step> {
    let files: Vec<&str> = view.files().filter(|path| is_test(path)).collect();
    let sources = view
        .files()
        .any(|path| path.starts_with("src/") && is_python(path));
    let finish = |step: Step| {
        if sources {
            step.with("PYTHONPATH", "src")
        } else {
            step
        }
    };
    if let Some(origin) = pytest_origin(view, project, &files) {
        return view
            .step(LANGUAGE, &["python3", "-m", "pytest"], &origin)
            .map(finish);
    }
    let first = files.first()?;
    let folder = first.split_once('/').map_or(".", |(folder, _)| folder);
    let mut argv = vec!["python3", "-m", "unittest", "discover"];
    if folder != "." {
        argv.extend(["-s", folder]);
        if view.has(&format!("{folder}/__init__.py")) {
            argv.extend(["-t", "."]);
        }
    }
    if !files.iter().any(|path| {
        path.rsplit('/')
            .next()
            .is_some_and(|name| name.starts_with("test"))
    }) {
        argv.extend(["-p", "*_test.py"]);
    }
    view.step(LANGUAGE, &argv, first).map(finish)
}

/// Where the project says, or shows, that its tests are for pytest.
fn pytest_origin(view: &View<'_>, project: &toml::Table, tests: &[&str]) -> Option<String> {
    if let Some(file) = view.first(&["pytest.ini", ".pytest.ini"]) {
        return Some(file.to_owned());
    }
    if has_tool(project, &["pytest"]) {
        return Some("pyproject.toml tool.pytest".to_owned());
    }
    for (file, section) in [("setup.cfg", "tool:pytest"), ("tox.ini", "pytest")] {
        if has_section(view, file, section) {
            return Some(format!("{file} {section}"));
        }
    }
    if let Some(file) = view
        .files()
        .find(|path| path.rsplit('/').next() == Some("conftest.py"))
    {
        return Some(file.to_owned());
    }
    let uses = |path: &&&str| {
        view.text(path).is_some_and(|text| {
            text.lines().any(|line| {
                let line = line.trim_start();
                line.starts_with("import pytest") || line.starts_with("from pytest")
            })
        })
    };
    let read = &tests[..tests.len().min(MAX_TESTS_READ)];
    if let Some(file) = read.iter().find(uses) {
        return Some((*file).to_owned());
    }
    // Test functions outside any class mean nothing to unittest.
    let plain = |path: &&&str| {
        view.text(path).is_some_and(|text| {
            text.lines().any(|line| line.starts_with("def test_")) && !text.contains("unittest")
        })
    };
    read.iter().find(plain).map(|file| (*file).to_owned())
}
