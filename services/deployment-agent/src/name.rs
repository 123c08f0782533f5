//! Names of apps and environments. They become folders and labels, so nothing but a slug gets in.

use std::fmt;

/// A lower-case letter followed by at most 62 letters, digits, `-` or `_`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(String);

/// The text is no name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a lower-case letter followed by at most 62 letters, digits, '-' or '_'")]
pub struct Invalid(String);

impl Name {
    /// Takes a name as it is.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let mut characters = text.chars();
        let first = characters
            .next()
            .is_some_and(|first| first.is_ascii_lowercase());
        let rest =
            characters.all(|character| matches!(character, 'a'..='z' | '0'..='9' | '-' | '_'));
        if first && rest && text.len() <= 63 {
            Ok(Self(text.to_owned()))
        } else {
            Err(Invalid(text.to_owned()))
        }
    }

    /// Makes a name of what people call a thing: `My Shop (v2)` becomes `my-shop-v2`.
    pub fn from_title(title: &str) -> Result<Self, Invalid> {
        let lower = title.to_lowercase();
        let words: Vec<&str> = lower
            .split(|character: char| !character.is_ascii_alphanumeric())
            .filter(|word| !word.is_empty())
            .collect();
        let slug = words.join("-");
        let slug = slug.trim_start_matches(|character: char| !character.is_ascii_lowercase());
        let slug = slug.get(..63).unwrap_or(slug).trim_end_matches('-');
        Self::parse(slug).map_err(|_| Invalid(title.to_owned()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_could_leave_its_folder_is_a_name() {
        for hostile in [
            "", "..", "../up", "a/b", "a.b", "A", "1a", "a b", "-a", "ä", "a\0",
        ] {
            assert!(Name::parse(hostile).is_err(), "{hostile:?}");
        }
        assert!(Name::parse(&"a".repeat(64)).is_err());
        assert!(Name::parse(&"a".repeat(63)).is_ok());
        assert!(Name::parse("shop-2").is_ok());
    }

    #[test]
    fn titles_become_names() {
        let named = |title: &str| Name::from_title(title).map(|name| name.to_string());
        assert_eq!(named("My Shop (v2)").as_deref(), Ok("my-shop-v2"));
        assert_eq!(named("2. Versuch").as_deref(), Ok("versuch"));
        let long = "long name ".repeat(20);
        assert_eq!(named(&long).map(|name| name.len()), Ok(63));
        assert!(named("日本").is_err());
    }
}
