//! Tells real secrets from placeholders, documented examples, hashes and ordinary words. Knows
//! characters and paths, and no token format.

/// Words that only stand in for a secret.
const PLACEHOLDERS: &[&str] = &[
    "example",
    "placeholder",
    "dummy",
    "changeme",
    "change_me",
    "change-me",
    "redacted",
    "xxxx",
    "****",
    "....",
    "your_",
    "your-",
    "yourtoken",
    "yourkey",
    "insert",
    "replace",
    "fake",
    "sample",
    "notreal",
    "not-real",
    "not_real",
    "deadbeef",
    "todo",
    "<",
    ">",
    "${",
    "{{",
    "#{",
    "%(",
    "$(",
    "process.env",
    "os.environ",
];

/// Shannon entropy of the characters, in bits per character.
pub(super) fn entropy(text: &str) -> f64 {
    let mut counts = std::collections::HashMap::new();
    let mut total = 0_u32;
    for character in text.chars() {
        *counts.entry(character).or_insert(0_u32) += 1;
        total += 1;
    }
    counts.values().fold(0.0, |sum, &count| {
        let share = f64::from(count) / f64::from(total);
        share.mul_add(-share.log2(), sum)
    })
}

/// Whether the random part of a token looks drawn by a machine: enough entropy, no counting up, no stand-in word.
pub(super) fn is_random(text: &str, minimum_entropy: f64) -> bool {
    !is_placeholder(text) && entropy(text) >= minimum_entropy
}

/// Whether it stands in for a secret.
pub(super) fn is_placeholder(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    PLACEHOLDERS.iter().any(|word| lower.contains(word)) || is_counting(&lower)
}

/// `abcdefgh…`, `1234567890…`: most characters follow their neighbour.
fn is_counting(text: &str) -> bool {
    let bytes = text.as_bytes();
    let steps = bytes
        .windows(2)
        .filter(|pair| matches!(pair, [a, b] if i16::from(*b) - i16::from(*a) == 1 || (*a == b'9' && *b == b'0')))
        .count();
    bytes.len() >= 8 && steps * 2 >= bytes.len()
}

/// Whether the value of an assignment called `name` is a secret that a person or machine chose.
pub(super) fn is_assigned_secret(name: &str, value: &str) -> bool {
    const HARMLESS_NAMES: &[&str] = &[
        "public",
        "hash",
        "digest",
        "checksum",
        "fingerprint",
        "sha1",
        "sha256",
        "sha512",
        "md5",
        "url",
        "uri",
        "path",
        "file",
        "_name",
        "type",
        "length",
        "header",
        "field",
        "regex",
        "pattern",
        "label",
        "placeholder",
        "expected",
        "example",
        "prefix",
        "suffix",
        "selector",
        "arn",
        "integrity",
        "etag",
        "tokenizer",
        "endpoint",
    ];
    let name = name.to_ascii_lowercase();
    if HARMLESS_NAMES.iter().any(|word| name.contains(word)) {
        return false;
    }
    let has = |test: fn(&char) -> bool| value.chars().any(|character| test(&character));
    let looks_like_place =
        value.contains("://") || value.starts_with(['/', '.', '@', '$', '%', '#']);
    let looks_like_code = value.contains(['(', ')', '[', ']', '{', '}', ' ', ';']);
    if looks_like_place || looks_like_code || !value.is_ascii() {
        return false;
    }
    let is_versioned_word = value.split(['-', '_', '.', ':', '/']).all(|word| {
        word.len() <= 12 && (word.chars().all(|c| c.is_ascii_lowercase()) || word.len() <= 3)
    });
    if is_versioned_word {
        return false;
    }
    has(char::is_ascii_digit) && has(char::is_ascii_alphabetic) && is_random(value, 3.5)
}

/// Places where assignments show how something is used: documents, tests, fixtures, lock files.
pub(super) fn is_example_place(path: &str) -> bool {
    const FOLDERS: &[&str] = &[
        "test",
        "tests",
        "spec",
        "specs",
        "__tests__",
        "testdata",
        "fixtures",
        "fixture",
        "examples",
        "example",
        "docs",
        "doc",
        "vectors",
        "testing",
        "mocks",
        "__mocks__",
        "e2e",
    ];
    const LOCKS: &[&str] = &[
        "cargo.lock",
        "package-lock.json",
        "npm-shrinkwrap.json",
        "yarn.lock",
        "pnpm-lock.yaml",
        "go.sum",
        "poetry.lock",
        "uv.lock",
        "pipfile.lock",
        "composer.lock",
        "gemfile.lock",
        "flake.lock",
    ];
    let path = path.to_ascii_lowercase();
    let (folders, file) = path.rsplit_once('/').unwrap_or(("", &path));
    folders.split('/').any(|folder| FOLDERS.contains(&folder))
        || LOCKS.contains(&file)
        || [".md", ".rst", ".adoc", ".min.js", ".map", ".svg"]
            .iter()
            .any(|end| file.ends_with(end))
        || file.starts_with("test_")
        || ["_test.", ".test.", ".spec.", "_spec."]
            .iter()
            .any(|part| file.contains(part))
        || file.contains("vector")
}

/// Whether `user:password` in a URL is a real pair: no template, no stock password, no host that is only an example.
pub(super) fn is_real_login(password: &str, host: &str) -> bool {
    const STOCK: &[&str] = &[
        "password", "passwd", "pass", "pw", "secret", "postgres", "mysql", "root", "admin",
        "guest", "test", "user", "username", "token", "minio", "redis", "rabbitmq", "mongo",
        "hunter2", "letmein", "qwerty", "1234", "12345", "123456", "foo", "bar", "p4ssw0rd",
        "passw0rd", "pwd",
    ];
    let host = host
        .split([':', '/', '?', ','])
        .next()
        .unwrap_or_default()
        .to_ascii_lowercase();
    let password_lower = password.to_ascii_lowercase();
    let is_example_host = host == "localhost"
        || host == "host"
        || host == "hostname"
        || host.starts_with("127.")
        || host == "[" // [::1]
        || host == "0.0.0.0"
        || ["example.com", "example.org", "example.net", ".example", ".test", ".invalid", ".localhost"]
            .iter()
            .any(|end| host.ends_with(end));
    password.len() >= 6
        && !is_example_host
        && !STOCK.contains(&password_lower.as_str())
        && !password.contains(['$', '{', '}', '<', '>', '*', '%'])
        && !is_placeholder(password)
        && entropy(password) >= 2.3
}

#[cfg(test)]
mod tests {
    use super::{entropy, is_assigned_secret, is_example_place, is_placeholder, is_real_login};

    #[test]
    fn entropy_grows_with_variety() {
        assert!(entropy("aaaaaaaa") < 0.01);
        assert!((entropy("abab") - 1.0).abs() < 1e-9);
        assert!(entropy("q7Zk29xVb4LmWt8R") > 3.5);
    }

    #[test]
    fn stand_ins_are_recognised() {
        for stand_in in [
            "abcdefghijklmnop",
            "12345678901234567890",
            "XXXXXXXXXXXX",
            "<your token>",
            "MY-EXAMPLE-KEY",
        ] {
            assert!(is_placeholder(stand_in), "{stand_in}");
        }
        assert!(!is_placeholder("q7Zk29xVb4LmWt8R"));
    }

    #[test]
    fn assigned_values_are_told_apart() {
        assert!(is_assigned_secret("db_password", "k9#Vq2!mZx7Lp0Tt"));
        assert!(is_assigned_secret(
            "API_TOKEN",
            "9f8a7c6b5d4e3f2a1b0c9d8e7f6a5b4c"
        ));
        for (name, value) in [
            ("password", "correct-horse-battery"),
            ("token_url", "q7Zk29xVb4LmWt8R"),
            ("token", "https://example.org/a1b2c3d4e5"),
            ("secret", "get_secret(name1)"),
            ("password_sha256", "9f86d081884c7d659a2feaa0c55ad015"),
            ("tokenType", "q7Zk29xVb4LmWt8R"),
            ("api_key_version", "api-v2-beta-01"),
        ] {
            assert!(!is_assigned_secret(name, value), "{name}={value}");
        }
    }

    #[test]
    fn places_that_show_examples_are_known() {
        for place in [
            "tests/a.py",
            "docs/x.txt",
            "src/a.test.ts",
            "README.md",
            "Cargo.lock",
            "pkg/a_test.go",
        ] {
            assert!(is_example_place(place), "{place}");
        }
        for place in [
            "src/config.py",
            ".env",
            "deploy/values.yaml",
            "contest/a.py",
        ] {
            assert!(!is_example_place(place), "{place}");
        }
    }

    #[test]
    fn stock_logins_are_none() {
        assert!(is_real_login("k9Vq2mZx", "db.prod.internal:5432/shop"));
        assert!(!is_real_login("postgres", "db"));
        assert!(!is_real_login("k9Vq2mZx", "localhost:5432/shop"));
        assert!(!is_real_login("${PASSWORD}", "db"));
    }
}
