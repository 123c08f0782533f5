//! Python projects, and what is found in them.

use super::{checks, read, start};

#[test]
fn python_tests_are_run_with_what_they_are_written_for() {
    let unittest = read(&[
        ("shop/__init__.py", ""),
        ("tests/__init__.py", ""),
        ("tests/test_shop.py", "import unittest\n"),
    ]);
    assert_eq!(
        checks(&unittest),
        [
            "build: python3 -m compileall -q shop <- shop",
            "tests: python3 -m unittest discover -s tests -t . <- tests/test_shop.py",
        ]
    );
    for (file, content, origin) in [
        ("tests/conftest.py", "", "tests/conftest.py"),
        ("pytest.ini", "", "pytest.ini"),
        (
            "pyproject.toml",
            "[tool.pytest.ini_options]\n",
            "pyproject.toml tool.pytest",
        ),
        ("tox.ini", "[pytest]\n", "tox.ini pytest"),
        ("setup.cfg", "[tool:pytest]\n", "setup.cfg tool:pytest"),
        ("tests/test_b.py", "import pytest\n", "tests/test_b.py"),
        (
            "tests/test_c.py",
            "def test_x():\n    pass\n",
            "tests/test_c.py",
        ),
    ] {
        let project = read(&[
            ("shop/__init__.py", ""),
            ("tests/test_a.py", "import unittest\n"),
            (file, content),
        ]);
        let expected = format!("tests: python3 -m pytest <- {origin}");
        assert!(
            checks(&project).contains(&expected),
            "{:?}",
            checks(&project)
        );
    }
}

#[test]
fn python_with_a_source_folder_is_found_by_its_tests() {
    let project = read(&[
        ("pyproject.toml", ""),
        ("src/shop/__init__.py", ""),
        ("tests/test_a.py", "import pytest"),
    ]);
    let tests = project.checks.last().unwrap();
    assert_eq!(tests.step.environment.values().collect::<Vec<_>>(), ["src"]);
}

#[test]
fn python_linters_run_only_where_they_are_configured() {
    let project = read(&[
        (
            "pyproject.toml",
            "[tool.ruff]\n[tool.black]\n[tool.mypy]\n[project]\ndependencies = [\"flask\"]\n",
        ),
        ("x.py", ""),
    ]);
    assert_eq!(
        checks(&project),
        [
            "build: python3 -m compileall -q x.py <- x.py",
            "types: python3 -m mypy x.py <- pyproject.toml tool.mypy",
            "lint: ruff check --no-fix . <- pyproject.toml tool.ruff",
            "format: black --check . <- pyproject.toml tool.black",
        ]
    );
    assert!(
        project.dependencies[0]
            .origin
            .contains("project.dependencies")
    );
}

#[test]
fn python_installs_what_the_project_its_tests_and_its_checkers_need() {
    let installed = |files: &[(&str, &str)]| {
        let project = read(files);
        let step = &project.dependencies.first()?;
        let command = step.command.to_string();
        let packages = command
            .strip_prefix("python3 -m pip install --disable-pip-version-check ")
            .unwrap();
        Some(format!("{packages} <- {}", step.origin))
    };
    let test = ("tests/test_a.py", "import pytest\n");
    let grouped = "[project]\nname = 'x'\n[dependency-groups]\ntests = ['freezegun', {include-group = 'runner'}]\n\
                   runner = ['pytest>=8']\ntyping = ['mypy==1.2', '--evil']\n[tool.mypy]\nfiles = ['src']\n";
    let pyproject = ("pyproject.toml", grouped);
    let package = ("src/x/__init__.py", "");
    assert_eq!(
        installed(&[pyproject, package, test]).unwrap(),
        "--editable=. freezegun 'pytest>=8' mypy==1.2 <- src, pyproject.toml dependency-groups.tests, \
         pyproject.toml dependency-groups.typing"
            .replace("'pytest>=8'", "pytest>=8")
    );
    let plain = installed(&[("x.py", ""), test]).unwrap();
    assert_eq!(plain, "pytest <- its tests");
    let files = [
        ("requirements.txt", "flask\n"),
        ("requirements/testing.txt", "pytest\n"),
        (
            "requirements/development.txt",
            "# tools\nruff==0.9  # pinned\n",
        ),
        ("ruff.toml", ""),
        ("x.py", ""),
        test,
    ];
    assert_eq!(
        installed(&files).unwrap(),
        "--requirement=requirements.txt --requirement=requirements/testing.txt ruff==0.9 <- \
         requirements.txt, requirements/testing.txt, requirements/development.txt"
    );
    assert_eq!(
        installed(&[("x.py", ""), ("tests/test_a.py", "import unittest\n")]),
        None
    );
}

#[test]
fn python_apps_are_recognised_by_what_they_make() {
    let flask = read(&[
        ("requirements.txt", "flask\n"),
        ("app.py", "app = Flask(__name__)\n"),
    ]);
    assert!(start(&flask).unwrap().contains("flask --app app"));
    let plain = read(&[(
        "server.py",
        "import os\nHTTPServer(('', int(os.environ['PORT'])), H)\n",
    )]);
    assert!(start(&plain).unwrap().contains("server.py"));
    let library = read(&[
        ("setup.py", ""),
        ("flask/app.py", "app = Flask(__name__)\n"),
    ]);
    assert_eq!(start(&library), None);
}

#[test]
fn bare_names_are_installed_in_the_versions_of_the_lock_file() {
    let project = read(&[
        (
            "pyproject.toml",
            "[project]\nname = \"shop\"\n[dependency-groups]\ntests = [\"pytest\", \"Free_zegun\", \"two\", \"other>=1\"]\n[tool.pytest.ini_options]\n",
        ),
        (
            "uv.lock",
            "version = 1\n[[package]]\nname = \"pytest\"\nversion = \"8.3.4\"\n[[package]]\nname = \"free-zegun\"\nversion = \"1.5\"\n[[package]]\nname = \"two\"\nversion = \"1\"\n[[package]]\nname = \"two\"\nversion = \"2\"\n[[package]]\nname = \"other\"\nversion = \"3\"\n",
        ),
        ("src/shop/__init__.py", ""),
        ("tests/test_a.py", "import pytest\n"),
    ]);
    let step = &project.dependencies[0];
    assert_eq!(
        step.command.to_string(),
        "python3 -m pip install --disable-pip-version-check --editable=. pytest==8.3.4 Free_zegun==1.5 two other>=1"
    );
    assert!(step.origin.ends_with("uv.lock"), "{}", step.origin);
}
