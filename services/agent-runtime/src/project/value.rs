//! The small values of a project's description, each parsed once and then known to be sound: durations,
//! sizes, names, paths and argument vectors. Knows nothing of the documents they appear in.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

/// Longest argument vector, and longest argument in bytes.
const MAX_ARGUMENTS: usize = 256;
const MAX_ARGUMENT_BYTES: usize = 8 * 1024;

/// Longest path, in bytes.
const MAX_PATH_BYTES: usize = 512;

/// Longest duration that a description may ask for.
const MAX_PERIOD: Duration = Duration::from_hours(24);

macro_rules! text_value {
    ($type:ident) => {
        impl TryFrom<String> for $type {
            type Error = String;

            fn try_from(text: String) -> Result<Self, String> {
                Self::parse(&text)
            }
        }

        impl From<$type> for String {
            fn from(value: $type) -> Self {
                value.to_string()
            }
        }
    };
}

/// A duration with its unit, such as `30s` or `1m 30s`; more than zero, at most 24 hours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(try_from = "String", into = "String")]
#[cfg_attr(test, schemars(extend("pattern" = "^[0-9]+\\s*[a-zA-Z]+(\\s*[0-9]+\\s*[a-zA-Z]+)*$")))]
pub struct Period(Duration);

impl Period {
    /// Parses a duration with a unit.
    pub fn parse(text: &str) -> Result<Self, String> {
        let duration = humantime::parse_duration(text).map_err(|_| {
            format!("`{text}` is not a duration with a unit, such as `30s` or `5m`")
        })?;
        if duration.is_zero() || duration > MAX_PERIOD {
            return Err(format!("`{text}` must be more than zero and at most 24h"));
        }
        Ok(Self(duration))
    }

    /// A duration that is known when this is compiled.
    pub const fn of(duration: Duration) -> Self {
        Self(duration)
    }

    /// The duration itself.
    pub const fn get(self) -> Duration {
        self.0
    }
}

impl fmt::Display for Period {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", humantime::format_duration(self.0))
    }
}

text_value!(Period);

/// An amount of memory with its unit, such as `512MiB`; at least 1 MiB, at most 1 TiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(try_from = "String", into = "String")]
#[cfg_attr(test, schemars(extend("pattern" = "^[0-9]+\\s*(KiB|MiB|GiB|KB|MB|GB)$")))]
pub struct Memory(u64);

impl Memory {
    /// Parses a whole number with a unit.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not a size with a unit, such as `512MiB` or `2GB`");
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let number: u64 = text[..digits].parse().map_err(|_| wrong())?;
        let unit: u64 = match text[digits..].trim_start() {
            "KB" => 1000,
            "MB" => 1_000_000,
            "GB" => 1_000_000_000,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            _ => return Err(wrong()),
        };
        match number.checked_mul(unit) {
            Some(bytes) if (1 << 20..=1 << 40).contains(&bytes) => Ok(Self(bytes)),
            Some(_) | None => Err(format!(
                "`{text}` must be at least 1MiB and at most 1024GiB"
            )),
        }
    }

    /// The amount in bytes.
    pub const fn bytes(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Memory {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (unit, name) in [
            (1 << 30, "GiB"),
            (1 << 20, "MiB"),
            (1 << 10, "KiB"),
            (1000, "KB"),
        ] {
            if self.0.is_multiple_of(unit) {
                return write!(formatter, "{}{name}", self.0 / unit);
            }
        }
        // Every unit that is parsed is a multiple of one that is printed.
        write!(formatter, "{}KB", self.0 / 1000)
    }
}

text_value!(Memory);

/// A name of a check, suite or environment: lower-case letters, digits, `-` and `_`, at most 63.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(try_from = "String", into = "String")]
#[cfg_attr(test, schemars(extend("pattern" = "^[a-z][a-z0-9_-]{0,62}$")))]
pub struct Name(String);

impl Name {
    /// Parses a name.
    pub fn parse(text: &str) -> Result<Self, String> {
        let sound = text.len() <= 63
            && text.starts_with(|first: char| first.is_ascii_lowercase())
            && text
                .bytes()
                .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-'));
        if !sound {
            return Err(format!(
                "`{text}` is not a name: a lower-case letter, then at most 62 lower-case letters, digits, `-` or `_`"
            ));
        }
        Ok(Self(text.to_owned()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

text_value!(Name);

/// The name of an environment variable. Names that begin with `AGENTIC_` are ours.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(try_from = "String", into = "String")]
#[cfg_attr(test, schemars(extend("pattern" = "^(?!AGENTIC_)[A-Za-z_][A-Za-z0-9_]{0,127}$")))]
pub struct Variable(String);

impl Variable {
    /// Parses a variable's name.
    pub fn parse(text: &str) -> Result<Self, String> {
        let sound = text.len() <= 128
            && text.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
            && text
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if !sound {
            return Err(format!(
                "`{text}` is not the name of an environment variable"
            ));
        }
        if text.starts_with("AGENTIC_") {
            return Err(format!(
                "`{text}`: names that begin with `AGENTIC_` are reserved"
            ));
        }
        Ok(Self(text.to_owned()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Variable {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

text_value!(Variable);

impl Variable {
    /// `PORT`, which tells most apps where to listen.
    pub fn port() -> Self {
        Self("PORT".to_owned())
    }
}

/// A path within the repository: relative, without `..`, without the `.git` folder.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(try_from = "String", into = "String")]
#[cfg_attr(test, schemars(extend("minLength" = 1, "maxLength" = 512, "pattern" = "^[^/]")))]
pub struct ConfinedPath(String);

impl ConfinedPath {
    /// Parses a path; `./` and double slashes are taken out.
    pub fn parse(text: &str) -> Result<Self, String> {
        confined(text).map(Self)
    }

    /// The path as text, with `/` between its parts.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ConfinedPath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

text_value!(ConfinedPath);

/// A pattern for files of the repository, such as `e2e/*.hurl`: `*`, `?`, `[…]`, `{a,b}`, and `**` for any
/// depth; confined like a path.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(try_from = "String", into = "String")]
#[cfg_attr(test, schemars(extend("minLength" = 1, "maxLength" = 512, "pattern" = "^[^/]")))]
pub struct FilePattern(String);

impl FilePattern {
    /// Parses a pattern.
    pub fn parse(text: &str) -> Result<Self, String> {
        let pattern = Self(confined(text)?);
        pattern
            .matcher()
            .map_err(|problem| format!("`{text}` is not a file pattern: {problem}"))?;
        Ok(pattern)
    }

    /// Whether `path`, relative to the root of the repository, matches.
    pub fn matches(&self, path: &str) -> bool {
        // It was compiled when it was parsed.
        self.matcher().is_ok_and(|matcher| matcher.is_match(path))
    }

    fn matcher(&self) -> Result<globset::GlobMatcher, String> {
        globset::GlobBuilder::new(&self.0)
            .literal_separator(true)
            .build()
            .map(|glob| glob.compile_matcher())
            .map_err(|error| error.kind().to_string())
    }
}

impl fmt::Display for FilePattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

text_value!(FilePattern);

fn confined(text: &str) -> Result<String, String> {
    if text.is_empty() || text.len() > MAX_PATH_BYTES {
        return Err(format!("a path has 1 to {MAX_PATH_BYTES} bytes"));
    }
    if text.starts_with('/') || text.starts_with('~') {
        return Err(format!(
            "`{text}` is not relative to the root of the repository"
        ));
    }
    if text.contains('\\') || text.chars().any(char::is_control) {
        return Err(format!(
            "{text:?} contains a backslash or a control character"
        ));
    }
    let parts: Vec<&str> = text
        .split('/')
        .filter(|part| !matches!(*part, "" | "."))
        .collect();
    if parts.contains(&"..") {
        return Err(format!("`{text}` leaves the repository"));
    }
    if parts.iter().any(|part| part.eq_ignore_ascii_case(".git")) {
        return Err(format!("`{text}` is inside git's own folder"));
    }
    if parts.is_empty() {
        return Ok(".".to_owned());
    }
    Ok(parts.join("/"))
}

/// A program and its arguments, never a shell string. The program is in `PATH`, or a file of the repository.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(try_from = "Vec<String>", into = "Vec<String>")]
#[cfg_attr(test, schemars(extend("minItems" = 1, "maxItems" = 256)))]
pub struct Argv(Vec<String>);

impl Argv {
    /// Checks an argument vector.
    pub fn parse(argv: Vec<String>) -> Result<Self, String> {
        let Some(program) = argv.first() else {
            return Err(
                "a command is a list of a program and its arguments; this one is empty".into(),
            );
        };
        if program.trim().is_empty() {
            return Err("the program of a command is empty".into());
        }
        if argv.len() > MAX_ARGUMENTS {
            return Err(format!("a command has at most {MAX_ARGUMENTS} arguments"));
        }
        if let Some(long) = argv
            .iter()
            .position(|argument| argument.len() > MAX_ARGUMENT_BYTES)
        {
            return Err(format!(
                "argument {long} has more than {MAX_ARGUMENT_BYTES} bytes"
            ));
        }
        if argv.iter().any(|argument| argument.contains('\0')) {
            return Err("an argument contains a zero byte".into());
        }
        if program.contains('/') {
            confined(program)?;
        }
        Ok(Self(argv))
    }

    /// The arguments as text, the program first.
    pub fn as_slice(&self) -> &[String] {
        &self.0
    }
}

impl TryFrom<Vec<String>> for Argv {
    type Error = String;

    fn try_from(argv: Vec<String>) -> Result<Self, String> {
        Self::parse(argv)
    }
}

impl From<Argv> for Vec<String> {
    fn from(argv: Argv) -> Self {
        argv.0
    }
}

impl fmt::Display for Argv {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, argument) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { " " };
            if argument.is_empty()
                || argument.contains([' ', '\t', '\n', '"', '\'', '$', '&', '|', ';'])
            {
                write!(
                    formatter,
                    "{separator}'{}'",
                    argument.replace('\'', r"'\''")
                )?;
            } else {
                write!(formatter, "{separator}{argument}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_a_unit_and_stay_in_bounds() {
        assert_eq!(
            Period::parse("1m 30s").unwrap().get(),
            Duration::from_secs(90)
        );
        assert_eq!(Period::parse("250ms").unwrap().to_string(), "250ms");
        for wrong in [
            "30",
            "",
            "0s",
            "25h",
            "-1s",
            "1 fortnight",
            "99999999999999999999s",
        ] {
            assert!(Period::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn sizes_need_a_unit_and_print_as_they_parse() {
        for text in ["512MiB", "2GiB", "1500KB", "1024KiB"] {
            let size = Memory::parse(text).unwrap();
            assert_eq!(Memory::parse(&size.to_string()).unwrap(), size, "{text}");
        }
        for wrong in [
            "512",
            "1KiB",
            "MiB",
            "2TiB",
            "99999999999GiB",
            "1.5GiB",
            "-1GB",
        ] {
            assert!(Memory::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn paths_stay_in_the_repository() {
        assert_eq!(ConfinedPath::parse("./a//b/./c").unwrap().as_str(), "a/b/c");
        assert_eq!(ConfinedPath::parse("./").unwrap().as_str(), ".");
        for wrong in [
            "/etc/passwd",
            "..",
            "a/../../b",
            "~/x",
            "",
            ".git/config",
            "x/.GIT/y",
            "a\\b",
            "a\nb",
        ] {
            assert!(ConfinedPath::parse(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn patterns_match_files_and_do_not_cross_folders_by_accident() {
        let pattern = FilePattern::parse("e2e/*.hurl").unwrap();
        assert!(pattern.matches("e2e/a.hurl"));
        assert!(!pattern.matches("e2e/deep/a.hurl"));
        assert!(
            FilePattern::parse("**/*.hurl")
                .unwrap()
                .matches("e2e/deep/a.hurl")
        );
        assert!(FilePattern::parse("e2e/[").is_err());
        assert!(FilePattern::parse("../*.hurl").is_err());
    }

    #[test]
    fn a_program_is_in_path_or_in_the_repository() {
        let argv = |program: &str| Argv::parse(vec![program.to_owned()]);
        assert!(argv("python3").is_ok());
        assert!(argv("./smoke").is_ok());
        assert!(argv("scripts/smoke").is_ok());
        for wrong in ["", " ", "/bin/sh", "../evil", "a\0b"] {
            assert!(argv(wrong).is_err(), "{wrong:?}");
        }
        assert!(Argv::parse(Vec::new()).is_err());
        assert!(Argv::parse(vec!["x".into(); 300]).is_err());
    }

    #[test]
    fn names_are_plain() {
        assert!(Name::parse("unit-tests_2").is_ok());
        for wrong in ["", "Unit", "2x", "a b", "a/b", &"x".repeat(64)] {
            assert!(Name::parse(wrong).is_err(), "{wrong:?}");
        }
        assert!(Variable::parse("PORT").is_ok());
        for wrong in ["", "1A", "A-B", "AGENTIC_TOKEN", "A=B"] {
            assert!(Variable::parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
