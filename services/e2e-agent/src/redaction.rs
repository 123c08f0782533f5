//! Takes the values of secrets out of what leaves the agent. Knows values, and nothing of where they appear.

use std::borrow::Cow;

use contracts::e2e::E2eResult;

/// Shorter values are words of ordinary texts; taking them out would only show where they are.
const MIN_SECRET_BYTES: usize = 6;

/// The secrets of one app.
#[derive(Clone, Default)]
pub struct Redaction {
    secrets: Vec<(String, String)>,
}

impl Redaction {
    /// Knows these secrets, by name and value.
    pub fn of(secrets: &[(String, String)]) -> Self {
        let mut secrets: Vec<(String, String)> = secrets
            .iter()
            .filter(|(_, value)| value.len() >= MIN_SECRET_BYTES)
            .cloned()
            .collect();
        // One secret may contain another.
        secrets.sort_by_key(|(_, value)| std::cmp::Reverse(value.len()));
        Self { secrets }
    }

    /// The text without the values.
    pub fn clean<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let mut text = Cow::Borrowed(text);
        for (name, value) in &self.secrets {
            if text.contains(value.as_str()) {
                text = Cow::Owned(text.replace(value.as_str(), &format!("[secret {name}]")));
            }
        }
        text
    }

    /// Cleans every text of a result that may quote the app.
    pub fn clean_result(&self, result: &mut E2eResult) {
        let clean = |text: &mut String| {
            if let Cow::Owned(cleaned) = self.clean(text) {
                *text = cleaned;
            }
        };
        if let Some(outcome) = &mut result.outcome {
            clean(&mut outcome.summary);
            outcome
                .findings
                .iter_mut()
                .for_each(|finding| clean(&mut finding.message));
        }
        for suite in &mut result.suites {
            clean(&mut suite.reason);
            suite
                .failures
                .iter_mut()
                .for_each(|failure| clean(&mut failure.message));
        }
        if let Some(app) = &mut result.app {
            clean(&mut app.log_tail);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_replaced_by_names_and_the_longest_first() {
        let secrets = [
            ("SHORT".to_owned(), "abc".to_owned()),
            ("INNER".to_owned(), "hunter2".to_owned()),
            ("OUTER".to_owned(), "my-hunter2-key".to_owned()),
        ];
        let redaction = Redaction::of(&secrets);
        assert_eq!(
            redaction.clean("abc hunter2 my-hunter2-key"),
            "abc [secret INNER] [secret OUTER]"
        );
        assert!(matches!(redaction.clean("nothing here"), Cow::Borrowed(_)));
    }
}
