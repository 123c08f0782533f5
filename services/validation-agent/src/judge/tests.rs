//! Every class is seen on a change that has it, and on its honest neighbour that has not.

use std::collections::BTreeSet;

use super::{BaseJudge, ChangedFile, Class, classify, files_named_by};

pub(super) fn file(path: &str, before: Option<&str>, after: Option<&str>) -> ChangedFile {
    ChangedFile {
        path: path.to_owned(),
        old_path: None,
        before: before.map(ToOwned::to_owned),
        after: after.map(ToOwned::to_owned),
    }
}

pub(super) fn base() -> BaseJudge {
    BaseJudge {
        named_files: BTreeSet::from(["tools/check.sh".to_owned()]),
        has_checks: true,
        has_policy: true,
    }
}

pub(super) fn classes(file: ChangedFile) -> Vec<Class> {
    classify(&[file], &base())
        .into_iter()
        .map(|change| change.class)
        .collect()
}

#[test]
fn what_configures_the_judge_is_seen() {
    for (path, class) in [
        (".agentic/gates.yaml", Class::Policy),
        (".agentic/project.yaml", Class::ProjectDescription),
        (".github/workflows/ci.yaml", Class::Ci),
        ("tools/check.sh", Class::CheckCommand),
        ("pytest.ini", Class::RunnerConfiguration),
        ("sub/jest.config.mjs", Class::RunnerConfiguration),
        (".cargo/config.toml", Class::RunnerConfiguration),
        ("conftest.py", Class::StartupCode),
        ("sitecustomize.py", Class::StartupCode),
        ("unittest/__init__.py", Class::StartupCode),
        ("tests/json.py", Class::StartupCode),
        ("evil.pth", Class::StartupCode),
        ("node_modules/mocha/index.js", Class::StartupCode),
    ] {
        assert_eq!(classes(file(path, None, Some("x"))), [class], "new {path}");
        assert_eq!(
            classes(file(path, Some("x"), Some("y"))),
            [class],
            "changed {path}"
        );
    }
}

#[test]
fn ordinary_files_are_not_the_judge() {
    for path in [
        "src/app.py",
        "shop/json.py",
        "README.md",
        "src/check.sh",
        "static/index.html",
        "shop/types/a.py",
    ] {
        assert!(
            classes(file(path, Some("x"), Some("y"))).is_empty(),
            "{path}"
        );
        assert!(classes(file(path, None, Some("y"))).is_empty(), "{path}");
    }
}

#[test]
fn a_new_app_brings_its_own_judge() {
    let files = [
        file(".agentic/gates.yaml", None, Some("x")),
        file("conftest.py", None, Some("x")),
    ];
    assert!(classify(&files, &BaseJudge::default()).is_empty());
}

#[test]
fn only_judging_sections_of_manifests_count() {
    let cargo = "[package]\nname = \"a\"\nversion = \"1\"\n[dependencies]\n";
    assert!(
        classes(file(
            "Cargo.toml",
            Some(cargo),
            Some(&cargo.replace('1', "2"))
        ))
        .is_empty()
    );
    for added in [
        "[lib]\ntest = false\n",
        "[[test]]\nname = \"t\"\nharness = false\n",
        "[profile.test]\nx = 1\n",
    ] {
        let after = format!("{cargo}{added}");
        assert_eq!(
            classes(file("Cargo.toml", Some(cargo), Some(&after))),
            [Class::RunnerConfiguration],
            "{added}"
        );
    }
    let workspace = "[workspace]\nmembers = [\n  \"a\",\n  \"b\",\n]\n";
    assert!(
        classes(file(
            "Cargo.toml",
            Some(workspace),
            Some(&workspace.replace("\"b\"", "\"b\", \"c\""))
        ))
        .is_empty()
    );
    assert_eq!(
        classes(file(
            "Cargo.toml",
            Some(workspace),
            Some(&workspace.replace("  \"b\",\n", ""))
        )),
        [Class::RunnerConfiguration]
    );
    let package = r#"{"version": "1", "scripts": {"test": "node --test"}}"#;
    assert!(
        classes(file(
            "package.json",
            Some(package),
            Some(&package.replace("\"1\"", "\"2\""))
        ))
        .is_empty()
    );
    for after in [
        r#"{"version": "1", "scripts": {"test": "true"}}"#,
        r#"{"version": "1", "scripts": {"test": "node --test", "pretest": "node x.js"}}"#,
        r#"{"version": "1", "scripts": {"test": "node --test"}, "jest": {"bail": true}}"#,
    ] {
        assert_eq!(
            classes(file("package.json", Some(package), Some(after))),
            [Class::RunnerConfiguration],
            "{after}"
        );
    }
    let pyproject = "[project]\nname = 'a'\n[tool.pytest.ini_options]\naddopts = '-x'\n";
    assert!(
        classes(file(
            "pyproject.toml",
            Some(pyproject),
            Some(&pyproject.replace("'a'", "'b'"))
        ))
        .is_empty()
    );
    assert_eq!(
        classes(file(
            "pyproject.toml",
            Some(pyproject),
            Some(&pyproject.replace("'-x'", "'-k nothing'"))
        )),
        [Class::RunnerConfiguration]
    );
}

#[test]
fn check_commands_name_their_files() {
    let read = |path: &str| match path {
        "Makefile" => {
            Some("test:\n\t@./tools/run.sh --fast\n\tpython3 -m tools.check\n".to_owned())
        }
        "tools/run.sh" => Some("python3 tools/check.py \"$@\"\n".to_owned()),
        "tests/test_a.py" | "checks/tests/test_b.py" => {
            Some("def test_a():\n    assert True\n".to_owned())
        }
        "checks/tests/__main__.py"
        | "checks/tests/junit.py"
        | "tools/check.py"
        | "src/app.py"
        | "tools/run.js" => Some(String::new()),
        "package.json" => Some(r#"{"scripts": {"test": "node tools/run.js"}}"#.to_owned()),
        _ => None,
    };
    let files = [
        "Makefile",
        "tools/run.sh",
        "tools/check.py",
        "tests/test_a.py",
        "src/app.py",
        "package.json",
        "tools/run.js",
        "checks/tests/__main__.py",
        "checks/tests/junit.py",
        "checks/tests/test_b.py",
    ];
    let named = |argv: &[&str]| {
        let argv: Vec<String> = argv.iter().map(|word| (*word).to_owned()).collect();
        let files = files.iter().map(|path| (*path).to_owned()).collect();
        files_named_by([argv.as_slice()], &files, read)
            .into_iter()
            .collect::<Vec<_>>()
    };
    assert_eq!(
        named(&["make", "test"]),
        ["Makefile", "tools/check.py", "tools/run.sh"]
    );
    assert_eq!(
        named(&["./tools/run.sh"]),
        ["tools/check.py", "tools/run.sh"]
    );
    assert_eq!(named(&["npm", "test"]), ["tools/run.js"]);
    assert_eq!(named(&["python3", "-m", "tools.check"]), ["tools/check.py"]);
    assert!(named(&["python3", "-m", "unittest", "tests/test_a.py"]).is_empty());
    assert_eq!(
        named(&["python3", "-m", "checks.tests"]),
        ["checks/tests/__main__.py", "checks/tests/junit.py"]
    );
    assert!(
        named(&["python3", "-m", "compileall", "src/app.py"]).is_empty(),
        "looked at, not run"
    );
    assert_eq!(
        named(&["bash", "-e", "tools/run.sh"]),
        ["tools/check.py", "tools/run.sh"]
    );
    assert_eq!(
        named(&["lint", "--config=tools/run.js", "src/app.py"]),
        ["tools/run.js"]
    );
}
