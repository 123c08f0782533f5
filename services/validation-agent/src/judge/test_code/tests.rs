//! What becomes of tests, in every language that is read.

use crate::judge::{
    Class, classify,
    tests::{base, classes, file},
};

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
fn tests_that_end_their_own_process_are_seen_also_when_they_are_new() {
    for (path, text) in [
        (
            "tests/test_new.py",
            "import os\nprint('Ran 9 tests in 0.1s\\n\\nOK')\nos._exit(0)\n",
        ),
        (
            "tests/new.rs",
            "#[test]\nfn a() {\n    std::process::exit(0);\n}\n",
        ),
        ("new.test.mjs", "process.exit(0);\n"),
        (
            "new_test.go",
            "func TestA(t *testing.T) {\n\tos.Exit(0)\n}\n",
        ),
    ] {
        assert_eq!(
            classes(file(path, None, Some(text))),
            [Class::TestSkipped],
            "{path}"
        );
        assert!(
            classes(file(path, Some(text), Some(&format!("{text}\n")))).is_empty(),
            "{path}"
        );
    }
    let app = "import os\nos._exit(3)\n";
    assert!(classes(file("shop/main.py", None, Some(app))).is_empty());
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
