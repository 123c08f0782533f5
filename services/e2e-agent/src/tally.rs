//! Counts tests by our own looks at them, never by what a tool sums up: what was seen at the change, and
//! what was seen at its base. Knows no tool, no process and no clock.

use contracts::e2e::TestStatus;

/// What one look at one test showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// It held.
    Passed,
    /// It did not hold.
    Failed {
        /// What went wrong.
        message: String,
        /// Step within the test; empty: the whole.
        step: String,
    },
    /// It was left out.
    Skipped,
    /// Something else broke, so that nothing is known.
    Infrastructure {
        /// What broke.
        message: String,
    },
}

impl Seen {
    /// A failure as a whole.
    pub fn failed(message: impl Into<String>) -> Self {
        Self::Failed {
            message: message.into(),
            step: String::new(),
        }
    }
}

/// One test and every look at it.
#[derive(Debug, Clone, Default)]
pub struct Test {
    /// Its name, unique within its suite.
    pub name: String,
    /// Looks at the change.
    pub head: Vec<Seen>,
    /// Looks at the base.
    pub base: Vec<Seen>,
}

impl Test {
    /// How it ended at the change.
    pub fn status(&self) -> TestStatus {
        let passed = self.head.contains(&Seen::Passed);
        let failed = self
            .head
            .iter()
            .any(|seen| matches!(seen, Seen::Failed { .. }));
        let broke = self
            .head
            .iter()
            .any(|seen| matches!(seen, Seen::Infrastructure { .. }));
        match (passed, failed) {
            (true, true) => TestStatus::Flaky,
            (true, false) => TestStatus::Passed,
            (false, true) => TestStatus::Failed,
            (false, false) if broke => TestStatus::Infrastructure,
            (false, false) => TestStatus::NotRun,
        }
    }

    /// Whether it was seen to fail at the base.
    pub fn fails_at_base(&self) -> bool {
        self.base
            .iter()
            .any(|seen| matches!(seen, Seen::Failed { .. }))
    }

    /// Whether it ran at the base.
    pub fn ran_at_base(&self) -> bool {
        self.fails_at_base() || self.base.contains(&Seen::Passed)
    }

    /// Whether it was left out at the change.
    pub fn is_skipped(&self) -> bool {
        self.status() == TestStatus::NotRun && self.head.contains(&Seen::Skipped)
    }

    /// The newest thing that went wrong: message and step.
    pub fn complaint(&self) -> Option<(&str, &str)> {
        self.head.iter().rev().find_map(|seen| match seen {
            Seen::Failed { message, step } => Some((message.as_str(), step.as_str())),
            Seen::Infrastructure { message } => Some((message.as_str(), "")),
            Seen::Passed | Seen::Skipped => None,
        })
    }
}

/// The tests of one suite, in the order in which they first appeared.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    tests: Vec<Test>,
}

/// At which commit a look was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    /// The change.
    Head,
    /// What it is judged against.
    Base,
}

impl Tally {
    /// Adds what one run showed. Tests of the same name within one run are told apart by their order.
    pub fn add(&mut self, at: At, seen: impl IntoIterator<Item = (String, Seen)>) {
        let mut names: Vec<String> = Vec::new();
        for (name, seen) in seen {
            let earlier = names.iter().filter(|other| **other == name).count();
            names.push(name.clone());
            let name = if earlier == 0 {
                name
            } else {
                format!("{name} #{}", earlier + 1)
            };
            let index = self.tests.iter().position(|test| test.name == name);
            let test = match (index, at) {
                (Some(index), _) => &mut self.tests[index],
                // A test that only the base has is not one of the change's.
                (None, At::Base) => continue,
                (None, At::Head) => {
                    self.tests.push(Test {
                        name,
                        ..Test::default()
                    });
                    let last = self.tests.len() - 1;
                    &mut self.tests[last]
                }
            };
            match at {
                At::Head => test.head.push(seen),
                At::Base => test.base.push(seen),
            }
        }
    }

    /// Every test.
    pub fn tests(&self) -> &[Test] {
        &self.tests
    }

    /// How many tests ended so.
    pub fn count(&self, status: TestStatus) -> usize {
        self.tests
            .iter()
            .filter(|test| test.status() == status)
            .count()
    }

    /// How many tests were left out.
    pub fn skipped_count(&self) -> usize {
        self.tests.iter().filter(|test| test.is_skipped()).count()
    }

    /// How many tests really ran.
    pub fn executed_count(&self) -> usize {
        self.count(TestStatus::Passed)
            + self.count(TestStatus::Failed)
            + self.count(TestStatus::Flaky)
    }

    /// Names of tests that never passed and should be looked at again.
    pub fn never_passed(&self) -> Vec<String> {
        self.names(|test| {
            matches!(
                test.status(),
                TestStatus::Failed | TestStatus::Infrastructure
            )
        })
    }

    /// Names of tests that the base can tell something about: failed, flaky, or left out.
    pub fn in_question(&self) -> Vec<String> {
        self.names(|test| {
            matches!(test.status(), TestStatus::Failed | TestStatus::Flaky) || test.is_skipped()
        })
    }

    fn names(&self, wanted: impl Fn(&Test) -> bool) -> Vec<String> {
        self.tests
            .iter()
            .filter(|test| wanted(test))
            .map(|test| test.name.clone())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn test(head: &[Seen], base: &[Seen]) -> Test {
        Test {
            name: "t".into(),
            head: head.to_vec(),
            base: base.to_vec(),
        }
    }

    #[test]
    fn a_test_is_what_its_looks_say_together() {
        let broke = || Seen::Infrastructure {
            message: "x".into(),
        };
        let bad = || Seen::failed("no");
        for (head, status) in [
            (vec![], TestStatus::NotRun),
            (vec![Seen::Skipped], TestStatus::NotRun),
            (vec![Seen::Passed], TestStatus::Passed),
            (vec![bad(), bad()], TestStatus::Failed),
            (vec![bad(), Seen::Passed], TestStatus::Flaky),
            (vec![Seen::Passed, bad()], TestStatus::Flaky),
            (vec![broke()], TestStatus::Infrastructure),
            (vec![broke(), Seen::Passed], TestStatus::Passed),
            (vec![broke(), bad()], TestStatus::Failed),
        ] {
            assert_eq!(test(&head, &[]).status(), status, "{head:?}");
        }
    }

    #[test]
    fn the_base_tells_what_is_old_and_what_is_new() {
        let bad = || Seen::failed("no");
        assert!(test(&[bad()], &[bad()]).fails_at_base());
        assert!(test(&[bad()], &[Seen::Passed, bad()]).fails_at_base());
        assert!(!test(&[bad()], &[Seen::Passed]).fails_at_base());
        assert!(test(&[Seen::Skipped], &[Seen::Passed]).ran_at_base());
        assert!(!test(&[Seen::Skipped], &[Seen::Skipped]).ran_at_base());
    }

    #[test]
    fn tests_of_the_same_name_are_told_apart_and_met_again() {
        let mut tally = Tally::default();
        let run = |second: Seen| vec![("a".to_owned(), Seen::Passed), ("a".to_owned(), second)];
        tally.add(At::Head, run(Seen::failed("no")));
        tally.add(At::Head, run(Seen::failed("no")));
        assert_eq!(tally.never_passed(), ["a #2"]);
        assert_eq!((tally.tests().len(), tally.executed_count()), (2, 2));
        tally.add(At::Base, vec![("only there".to_owned(), Seen::Passed)]);
        assert_eq!(tally.tests().len(), 2);
    }
}
