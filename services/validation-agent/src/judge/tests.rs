//! Every class is seen on a change that has it, and on its honest neighbour that has not.

use std::collections::BTreeSet;

use super::{BaseJudge, ChangedFile, Class, classify, files_named_by};

fn file(path: &str, before: Option<&str>, after: Option<&str>) -> ChangedFile {
    ChangedFile {
        path: path.to_owned(),
        old_path: None,
        before: before.map(ToOwned::to_owned),
        after: after.map(ToOwned::to_owned),
    }
}

fn base() -> BaseJudge {
    BaseJudge {
        named_files: BTreeSet::from(["tools/check.sh".to_owned()]),
        has_checks: true,
        has_policy: true,
    }
}

fn classes(file: ChangedFile) -> Vec<Class> {
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

const PYTHON: &str = "import unittest\n\nclass Prices(unittest.TestCase):\n    def test_add(self):\n        self.assertEqual(add(1, 2), 3)\n        self.assertTrue(ok())\n\n    def test_tax(self):\n        assert tax(10) == 2\n";
const RUST: &str = "pub fn add() {}\n#[cfg(test)]\nmod tests {\n    #[test]\n    fn adds() {\n        assert_eq!(add(1, 2), 3);\n    }\n    #[tokio::test]\n    async fn taxes() {\n        assert!(tax(10) == 2);\n    }\n}\n";
const NODE: &str = "test('adds', () => {\n  assert.equal(add(1, 2), 3);\n});\nit(\"taxes\", async () => {\n  expect(tax(10)).toBe(2);\n});\n";
const GO: &str = "package a\nfunc TestAdd(t *testing.T) {\n\tif add(1, 2) != 3 {\n\t\tt.Fatalf(\"want 3\")\n\t}\n}\nfunc TestTax(t *testing.T) {\n\trequire.Equal(t, 2, tax(10))\n}\n";

#[test]
fn deleted_tests_are_seen_in_every_language() {
    for (path, before, from) in [
        ("tests/test_a.py", PYTHON, "    def test_tax"),
        ("src/lib.rs", RUST, "    #[tokio::test]"),
        ("a.test.js", NODE, "it(\"taxes\""),
        ("a_test.go", GO, "func TestTax"),
    ] {
        let (kept, _) = before.split_once(from).unwrap();
        assert_eq!(
            classes(file(path, Some(before), Some(kept))),
            [Class::TestDeleted],
            "{path}"
        );
        assert_eq!(
            classes(file(path, Some(before), None)),
            [Class::TestDeleted],
            "{path}"
        );
        assert!(
            classes(file(path, Some(before), Some(&format!("{before}\n")))).is_empty(),
            "{path}"
        );
        assert!(
            classes(file(path, Some(kept), Some(before))).is_empty(),
            "{path}: added"
        );
    }
}

#[test]
fn a_test_that_moved_or_was_renamed_is_not_gone() {
    let moved = [
        file("tests/test_a.py", Some(PYTHON), None),
        file("tests/unit/test_a.py", None, Some(PYTHON)),
    ];
    assert!(classify(&moved, &base()).is_empty());
    let renamed = PYTHON.replace("test_tax", "test_sales_tax");
    assert!(classes(file("tests/test_a.py", Some(PYTHON), Some(&renamed))).is_empty());
}

#[test]
fn skipped_tests_are_seen_in_every_language() {
    for (path, before, from, to) in [
        (
            "tests/test_a.py",
            PYTHON,
            "    def test_tax",
            "    @unittest.skip('later')\n    def test_tax",
        ),
        (
            "tests/test_a.py",
            PYTHON,
            "        assert tax",
            "        self.skipTest('x')\n        assert tax",
        ),
        (
            "tests/test_a.py",
            PYTHON,
            "        assert tax",
            "        return\n        assert tax",
        ),
        (
            "src/lib.rs",
            RUST,
            "    async fn taxes",
            "    #[ignore]\n    async fn taxes",
        ),
        ("a.test.js", NODE, "test('adds'", "test.skip('adds'"),
        ("a.test.js", NODE, "test('adds'", "test.only('adds'"),
        (
            "a.test.js",
            NODE,
            "test('adds', ",
            "test('adds', { skip: true }, ",
        ),
        (
            "a_test.go",
            GO,
            "\trequire",
            "\tt.Skip(\"later\")\n\trequire",
        ),
    ] {
        let after = before.replace(from, to);
        assert_ne!(before, after);
        assert_eq!(
            classes(file(path, Some(before), Some(&after))),
            [Class::TestSkipped],
            "{path}: {to}"
        );
    }
}

#[test]
fn weakened_tests_are_seen_in_every_language() {
    for (path, before, from, to) in [
        (
            "tests/test_a.py",
            PYTHON,
            "        self.assertTrue(ok())\n",
            "",
        ),
        (
            "tests/test_a.py",
            PYTHON,
            "assertEqual(add(1, 2), 3)",
            "assertTrue(True)",
        ),
        ("tests/test_a.py", PYTHON, "tax(10) == 2", "tax(10)"),
        ("tests/test_a.py", PYTHON, "tax(10) == 2", "tax(10) == 3"),
        (
            "tests/test_a.py",
            PYTHON,
            "        assert tax(10) == 2",
            "        # assert tax(10) == 2\n        pass",
        ),
        (
            "src/lib.rs",
            RUST,
            "assert_eq!(add(1, 2), 3)",
            "assert_eq!(add(1, 2), 4)",
        ),
        ("src/lib.rs", RUST, "assert_eq!(add(1, 2), 3);", ""),
        ("a.test.js", NODE, "toBe(2)", "toBeTruthy()"),
        (
            "a.test.js",
            NODE,
            "assert.equal(add(1, 2), 3)",
            "assert.ok(add(1, 2))",
        ),
        (
            "a_test.go",
            GO,
            "require.Equal(t, 2, tax(10))",
            "require.NotNil(t, tax(10))",
        ),
    ] {
        let after = before.replace(from, to);
        assert_ne!(before, after);
        assert_eq!(
            classes(file(path, Some(before), Some(&after))),
            [Class::TestWeakened],
            "{path}: {to}"
        );
    }
}

#[test]
fn honest_edits_of_tests_are_not_weakening() {
    for (path, before, from, to) in [
        ("tests/test_a.py", PYTHON, "tax(10)", "sales_tax(10)"),
        (
            "tests/test_a.py",
            PYTHON,
            "self.assertEqual(add(1, 2), 3)",
            "self.assertEqual(\n            add(1, 2), 3)",
        ),
        (
            "tests/test_a.py",
            PYTHON,
            "        assert tax",
            "        assert tax(0) == 0\n        assert tax",
        ),
        (
            "src/lib.rs",
            RUST,
            "pub fn add() {}",
            "pub fn add() -> u8 { 1 }",
        ),
        ("a.test.js", NODE, "add(", "sum("),
    ] {
        let after = before.replace(from, to);
        assert_ne!(before, after);
        let found = classify(&[file(path, Some(before), Some(&after))], &base());
        assert!(found.is_empty(), "{path}: {to}: {found:?}");
    }
}

#[test]
fn tests_of_the_same_name_are_told_apart() {
    let class = |name: &str, expected: u32| {
        format!(
            "class {name}(TestCase):\n    def test_negative(self):\n        self.assertEqual(f(), {expected})\n"
        )
    };
    let before = format!("{}{}", class("A", 1), class("C", 3));
    let after = format!("{}{}{}", class("A", 1), class("B", 2), class("C", 3));
    assert!(classes(file("tests/test_a.py", Some(&before), Some(&after))).is_empty());
    let weaker = format!("{}{}", class("A", 1), class("C", 4));
    let weakened = classes(file("tests/test_a.py", Some(&before), Some(&weaker)));
    assert_eq!(weakened, [Class::TestWeakened]);
    let fewer = classes(file("tests/test_a.py", Some(&before), Some(&class("C", 3))));
    assert_eq!(fewer, [Class::TestDeleted]);
}

#[test]
fn a_new_test_may_be_skipped_where_it_cannot_run() {
    for (path, before, added) in [
        (
            "tests/test_a.py",
            PYTHON,
            "\n    @unittest.skipIf(WINDOWS, 'no')\n    def test_new(self):\n        self.assertTrue(new())\n",
        ),
        (
            "a_test.go",
            GO,
            "func TestNew(t *testing.T) {\n\tif testing.Short() {\n\t\tt.Skip(\"slow\")\n\t\treturn\n\t}\n}\n",
        ),
        (
            "a.test.js",
            NODE,
            "test('new', { skip: true }, () => {});\n",
        ),
    ] {
        let after = format!("{before}{added}");
        let found = classify(&[file(path, Some(before), Some(&after))], &base());
        assert!(found.is_empty(), "{path}: {found:?}");
    }
}

#[test]
fn what_stands_around_tests_keeps_them_from_running_too() {
    for (path, before, from, to) in [
        (
            "tests/test_a.py",
            PYTHON,
            "class Prices",
            "@unittest.skip('later')\nclass Prices",
        ),
        (
            "tests/test_a.py",
            PYTHON,
            "import unittest\n",
            "import unittest\npytestmark = pytest.mark.skip\n",
        ),
        (
            "src/lib.rs",
            RUST,
            "#[cfg(test)]\nmod tests",
            "#[cfg(any())]\nmod tests",
        ),
        (
            "a_test.go",
            GO,
            "package a\n",
            "//go:build ignore\npackage a\n",
        ),
    ] {
        let after = before.replace(from, to);
        assert_ne!(before, after);
        let found = classes(file(path, Some(before), Some(&after)));
        assert!(
            !found.is_empty() && found.iter().all(|class| *class == Class::TestSkipped),
            "{path}: {found:?}"
        );
    }
}

#[test]
fn brackets_in_texts_end_no_statement() {
    let before =
        "def test_a():\n    assert f(1) == \"\\x1b[31m\"\n    g(2)\n\ndef helper():\n    return\n";
    let after = before
        .replace("g(2)", "h(3)")
        .replace("    return\n", "    if x:\n        return\n    return\n");
    assert!(classes(file("tests/test_a.py", Some(before), Some(&after))).is_empty());
}

#[test]
fn changed_snapshots_are_another_expectation() {
    assert_eq!(
        classes(file("a/__snapshots__/x.snap", Some("1"), Some("2"))),
        [Class::TestWeakened]
    );
    assert_eq!(
        classes(file("a/__snapshots__/x.snap", Some("1"), None)),
        [Class::TestDeleted]
    );
    assert!(classes(file("a/__snapshots__/x.snap", None, Some("2"))).is_empty());
}

#[test]
fn test_main_decides_which_tests_run() {
    let after = format!("{GO}func TestMain(m *testing.M) {{ os.Exit(0) }}\n");
    let found = classes(file("a_test.go", Some(GO), Some(&after)));
    assert!(found.contains(&Class::StartupCode), "{found:?}");
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
