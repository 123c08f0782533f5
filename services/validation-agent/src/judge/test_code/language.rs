//! How languages write tests, assertions and skips. Forms only: what they mean is read elsewhere.

use std::sync::LazyLock;

use regex::Regex;

/// How a language writes tests.
struct Language {
    extensions: &'static [&'static str],
    /// Where a test begins; its name is the first group.
    test: &'static str,
    /// Where an assertion begins.
    assertion: &'static str,
    /// What keeps a test from running, or of a file all but one.
    skip: &'static str,
    /// What a test may stand in; its name is the first group.
    container: &'static str,
    /// What ends the test process on the spot, before anybody counts.
    exit: &'static str,
}

const LANGUAGES: &[Language] = &[
    Language {
        extensions: &["py"],
        test: r"^\s*(?:async\s+)?def\s+(test\w*)\s*\(",
        assertion: r"^\s*(?:assert\b|with\s+(?:pytest\.raises|self\.assert\w+)|(?:self|cls)\.(?:assert\w+|fail)\s*\(|pytest\.fail\b)",
        skip: r"@\s*(?:unittest\.)?(?:skip\w*|expectedFailure)\b|\bpytest\.(?:mark\.(?:skip|skipif|xfail)|skip|xfail|importorskip)\b|\bself\.skipTest\b|\bSkipTest\b|__test__\s*=\s*False|collect_ignore",
        container: r"^\s*class\s+(\w+)",
        exit: r"\bos\.(?:_exit|abort|execv\w*)\s*\(",
    },
    Language {
        extensions: &["rs"],
        test: r"^\s*(?:pub\s+)?(?:async\s+)?fn\s+(\w+)\s*\(",
        assertion: r"(?:^|\s)(?:debug_)?(?:assert|assert_eq|assert_ne|assert_matches|prop_assert\w*|panic|unreachable)!\s*[\(\[{]|#\[should_panic|\binsta::assert\w*!",
        skip: r"#\[ignore|#\[cfg_attr\([^)]*ignore|#\[cfg\((?:any\(\)|not\(test\))\)\]",
        container: r"^\s*(?:pub(?:\([^)]*\))?\s+)?mod\s+(\w+)",
        exit: r"\bprocess::(?:exit|abort)\s*\(",
    },
    Language {
        extensions: &["js", "mjs", "cjs", "ts", "mts", "cts", "jsx", "tsx"],
        test: r#"^\s*(?:await\s+)?(?:test|it|specify|t\.test|Deno\.test)(?:\.\w+)*\s*\(\s*(?:"([^"]*)"|'([^']*)'|`([^`]*)`)"#,
        assertion: r"(?:^|\s|=>\s*|\()(?:await\s+)?(?:expect\s*\(|assert(?:\.\w+)*\s*\(|t\.(?:is|not|equal|same|deepEqual|true|false|truthy|falsy|throws|ok|assert\.\w+)\s*\(|should\.)|\.should\.",
        skip: r"\b(?:test|it|describe|suite|specify|context)\.(?:skip|todo|only|failing|fails)\b|\bx(?:it|describe|test|specify)\s*\(|\bf(?:it|describe)\s*\(|\bskip\s*:\s*(?:true|['\x22`])|\btodo\s*:\s*(?:true|['\x22`])|\bonly\s*:\s*true|\b(?:t|this)\.skip\s*\(",
        container: r#"^\s*(?:describe|suite|context)(?:\.\w+)*\s*\(\s*["'`]([^"'`]*)["'`]"#,
        exit: r"\bprocess\.(?:exit|abort|reallyExit|kill)\s*\(|\bprocess\.exitCode\s*=|\bDeno\.exit\s*\(",
    },
    Language {
        extensions: &["go"],
        test: r"^func\s+((?:Test|Fuzz|Example)\w*)\s*\(",
        assertion: r"\b\w+\.(?:Error|Errorf|Fatal|Fatalf|Fail|FailNow)\s*\(|\b(?:require|assert)\.\w+\s*\(",
        skip: r"\b\w+\.(?:Skip|Skipf|SkipNow)\s*\(|^//go:build\s+ignore|^//\s*\+build\s+ignore",
        container: r"^type\s+(\w+Suite)\b",
        exit: r"\bos\.Exit\s*\(|\bsyscall\.Exit\s*\(",
    },
    Language {
        extensions: &["java", "kt", "cs", "rb", "php", "swift", "scala"],
        test: r#"^\s*(?:public\s+|private\s+)?(?:void|fun|func|function|def|async Task|Task)\s+(test\w*|`[^`]+`)\s*\(|^\s*(?:it|test)\s+["']([^"']+)["']"#,
        assertion: r"(?:^|\s)(?:Assert(?:ions)?\.\w+|assert\w*|verify|expect|XCTAssert\w*|\$this->assert\w+)\s*[\( ]",
        skip: r"@(?:Disabled|Ignore|Ignored)\b|\[Ignore|\[Fact\(Skip|\bxit\b|\bpending\b|markTestSkipped|XCTSkip",
        container: r"^\s*(?:public\s+|internal\s+|final\s+|abstract\s+)*class\s+(\w+)",
        exit: r"\bSystem\.exit\s*\(|\bRuntime\.getRuntime\(\)\.(?:exit|halt)\b|\bEnvironment\.Exit\s*\(|\bexit!\s*\(",
    },
];

/// The forms of one language, ready to be looked for.
pub(super) struct Forms {
    extensions: &'static [&'static str],
    pub(super) test: Regex,
    pub(super) assertion: Regex,
    pub(super) skip: Regex,
    pub(super) container: Regex,
    pub(super) exit: Regex,
}

static FORMS: LazyLock<Vec<Forms>> = LazyLock::new(|| {
    LANGUAGES
        .iter()
        .filter_map(|language| {
            Some(Forms {
                extensions: language.extensions,
                test: Regex::new(language.test).ok()?,
                assertion: Regex::new(language.assertion).ok()?,
                skip: Regex::new(language.skip).ok()?,
                container: Regex::new(language.container).ok()?,
                exit: Regex::new(language.exit).ok()?,
            })
        })
        .collect()
});

/// What can be compared with: texts, numbers, truth values.
pub(super) static LITERAL: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(
        r#""(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|`[^`]*`|\b\d[\d_]*(?:\.\d+)?\b|\b(?:True|False|None|true|false|null|nil|undefined)\b"#,
    )
    .ok()
});

/// The forms that files of that name are written in.
pub(super) fn of(path: &str) -> Option<&'static Forms> {
    let extension = path.rsplit_once('.')?.1;
    FORMS
        .iter()
        .find(|forms| forms.extensions.contains(&extension))
}

#[cfg(test)]
mod tests {
    use super::{FORMS, LANGUAGES, LITERAL};

    #[test]
    fn every_form_is_a_regular_expression() {
        assert_eq!(FORMS.len(), LANGUAGES.len());
        assert!(LITERAL.is_some());
    }
}
