//! From what was counted to verdicts. Pure: no clock, no process. Three verdicts, never two.

use contracts::{e2e::TestStatus, task::Verdict};

use crate::{suites::Doubt, tally::Tally};

/// What the base could tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BaseLook {
    /// It was not asked: nothing was in question.
    NotNeeded,
    /// There is no base.
    NoBase,
    /// It could not be asked.
    Unavailable(String),
    /// It was asked, and the tally has what was seen.
    Looked,
}

/// A verdict and why, in one sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judgement {
    /// The verdict.
    pub verdict: Verdict,
    /// Why.
    pub reason: String,
}

impl Judgement {
    /// A judgement.
    pub fn new(verdict: Verdict, reason: impl Into<String>) -> Self {
        Self {
            verdict,
            reason: reason.into(),
        }
    }
}

/// Judges one suite.
pub fn suite(tally: &Tally, doubt: Option<&Doubt>, base: &BaseLook) -> Judgement {
    let executed = tally.executed_count();
    if let Some(doubt) = doubt {
        return Judgement::new(Verdict::NotProven, doubt.to_string());
    }
    let failed = tally.count(TestStatus::Failed);
    if failed > 0 {
        return Judgement::new(Verdict::Failed, failures(tally, failed, executed, base));
    }
    if executed == 0 {
        let skipped = tally.skipped_count();
        let broke = tally.count(TestStatus::Infrastructure);
        let reason = match (skipped, broke) {
            (0, 0) => "there is no test".to_owned(),
            (_, 0) => format!("no test ran: all {skipped} were skipped"),
            (_, _) => format!("no test ran: {broke} broke for other reasons"),
        };
        return Judgement::new(Verdict::NotProven, reason);
    }
    let flaky: Vec<_> = tally
        .tests()
        .iter()
        .filter(|test| test.status() == TestStatus::Flaky)
        .collect();
    let (old, new): (Vec<_>, Vec<_>) = flaky.into_iter().partition(|test| test.fails_at_base());
    if let Some(first) = new.first() {
        let why = match base {
            BaseLook::Looked => "the change made them flaky: they pass at the base".to_owned(),
            BaseLook::NoBase | BaseLook::NotNeeded => {
                "there is no base to compare them with".to_owned()
            }
            BaseLook::Unavailable(why) => format!("the base cannot tell ({why})"),
        };
        return Judgement::new(
            Verdict::Failed,
            format!(
                "{} tests are flaky, such as `{}`; {why}",
                new.len(),
                first.name
            ),
        );
    }
    let broke = tally.count(TestStatus::Infrastructure);
    if broke > 0 {
        return Judgement::new(
            Verdict::NotProven,
            format!("{broke} tests broke for other reasons"),
        );
    }
    let dropped = tally
        .tests()
        .iter()
        .find(|test| test.is_skipped() && test.ran_at_base());
    if let Some(test) = dropped {
        let reason = format!(
            "the change skips tests that run at the base, such as `{}`",
            test.name
        );
        return Judgement::new(Verdict::NotProven, reason);
    }
    let mut reasons = vec![format!("{executed} tests passed")];
    if !old.is_empty() {
        reasons.push(format!(
            "{} of them are flaky, and were at the base already",
            old.len()
        ));
    }
    if tally.skipped_count() > 0 {
        reasons.push(format!("{} were skipped", tally.skipped_count()));
    }
    Judgement::new(Verdict::Passed, reasons.join("; "))
}

fn failures(tally: &Tally, failed: usize, executed: usize, base: &BaseLook) -> String {
    let first = tally
        .tests()
        .iter()
        .find(|test| test.status() == TestStatus::Failed);
    let example = first.map_or_else(String::new, |test| {
        let complaint = test.complaint().map_or("", |(message, _)| message);
        let line = complaint.lines().next().unwrap_or_default();
        format!(": `{}`: {line}", test.name)
    });
    let old = tally
        .tests()
        .iter()
        .filter(|test| test.status() == TestStatus::Failed && test.fails_at_base())
        .count();
    let compared = match base {
        BaseLook::Looked if old == failed => "; all of them fail at the base, too".to_owned(),
        BaseLook::Looked if old > 0 => format!("; {old} of them fail at the base, too"),
        BaseLook::Looked => "; none of them fails at the base".to_owned(),
        BaseLook::Unavailable(why) => format!("; the base cannot tell ({why})"),
        BaseLook::NoBase | BaseLook::NotNeeded => String::new(),
    };
    format!("{failed} of {executed} tests failed{example}{compared}")
}

/// Judges the whole: the worst verdict wins, and nothing tested proves nothing.
pub fn whole<'a>(suites: impl IntoIterator<Item = (&'a str, &'a Judgement)>) -> Judgement {
    let suites: Vec<_> = suites.into_iter().collect();
    let worst = |verdict| {
        suites
            .iter()
            .find(|(_, judgement)| judgement.verdict == verdict)
    };
    if let Some((name, judgement)) = worst(Verdict::Failed) {
        return Judgement::new(Verdict::Failed, format!("{name}: {}", judgement.reason));
    }
    if let Some((name, judgement)) = suites
        .iter()
        .find(|(_, judgement)| judgement.verdict != Verdict::Passed)
    {
        return Judgement::new(Verdict::NotProven, format!("{name}: {}", judgement.reason));
    }
    if suites.is_empty() {
        return Judgement::new(Verdict::NotProven, "nothing was tested");
    }
    let reasons: Vec<String> = suites
        .iter()
        .map(|(name, judgement)| format!("{name}: {}", judgement.reason))
        .collect();
    Judgement::new(Verdict::Passed, reasons.join(" · "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tally::{At, Seen};

    fn tally(head: &[&[(&str, Seen)]], base: &[&[(&str, Seen)]]) -> Tally {
        let mut tally = Tally::default();
        let owned = |run: &[(&str, Seen)]| -> Vec<(String, Seen)> {
            run.iter()
                .map(|(name, seen)| ((*name).to_owned(), seen.clone()))
                .collect()
        };
        for run in head {
            tally.add(At::Head, owned(run));
        }
        for run in base {
            tally.add(At::Base, owned(run));
        }
        tally
    }

    fn bad() -> Seen {
        Seen::failed("no")
    }

    #[test]
    fn a_suite_passes_only_when_tests_ran_and_all_held() {
        use Seen::{Passed, Skipped};
        let looked = BaseLook::Looked;
        let broke = Seen::Infrastructure {
            message: "x".into(),
        };
        let table: Vec<(Tally, BaseLook, Verdict, &str)> = vec![
            (
                tally(&[&[("a", Passed)]], &[]),
                BaseLook::NotNeeded,
                Verdict::Passed,
                "1 tests passed",
            ),
            (
                tally(&[], &[]),
                BaseLook::NotNeeded,
                Verdict::NotProven,
                "there is no test",
            ),
            (
                tally(&[&[("a", Skipped)]], &[]),
                BaseLook::NoBase,
                Verdict::NotProven,
                "all 1 were skipped",
            ),
            (
                tally(&[&[("a", bad())]], &[]),
                BaseLook::NoBase,
                Verdict::Failed,
                "1 of 1",
            ),
            (
                tally(&[&[("a", bad())]], &[&[("a", bad())]]),
                looked.clone(),
                Verdict::Failed,
                "fail at the base, too",
            ),
            (
                tally(&[&[("a", bad())]], &[&[("a", Passed)]]),
                looked.clone(),
                Verdict::Failed,
                "none of them fails at the base",
            ),
            (
                tally(&[&[("a", bad())], &[("a", Passed)]], &[]),
                BaseLook::NoBase,
                Verdict::Failed,
                "flaky",
            ),
            (
                tally(&[&[("a", bad())], &[("a", Passed)]], &[&[("a", Passed)]]),
                looked.clone(),
                Verdict::Failed,
                "made them flaky",
            ),
            (
                tally(&[&[("a", bad())], &[("a", Passed)]], &[&[("a", bad())]]),
                looked.clone(),
                Verdict::Passed,
                "at the base already",
            ),
            (
                tally(&[&[("a", Passed), ("b", broke.clone())]], &[]),
                BaseLook::NoBase,
                Verdict::NotProven,
                "other reasons",
            ),
            (
                tally(&[&[("a", Passed), ("b", Skipped)]], &[&[("b", Passed)]]),
                looked.clone(),
                Verdict::NotProven,
                "skips tests",
            ),
            (
                tally(&[&[("a", Passed), ("b", Skipped)]], &[&[("b", Skipped)]]),
                looked,
                Verdict::Passed,
                "1 were skipped",
            ),
        ];
        for (tally, base, verdict, part) in table {
            let judgement = suite(&tally, None, &base);
            assert_eq!(judgement.verdict, verdict, "{tally:?} {judgement:?}");
            assert!(
                judgement.reason.contains(part),
                "{judgement:?} lacks {part:?}"
            );
        }
    }

    #[test]
    fn a_doubt_proves_nothing_whatever_was_counted() {
        let good = tally(&[&[("a", Seen::Passed)]], &[]);
        let doubt = Doubt::Hung(std::time::Duration::from_secs(3));
        assert_eq!(
            suite(&good, Some(&doubt), &BaseLook::NotNeeded).verdict,
            Verdict::NotProven
        );
    }

    #[test]
    fn the_worst_suite_decides_and_nothing_tested_proves_nothing() {
        let judgement = |verdict| Judgement::new(verdict, "r");
        let (good, bad, unknown) = (
            judgement(Verdict::Passed),
            judgement(Verdict::Failed),
            judgement(Verdict::NotProven),
        );
        assert_eq!(whole([("a", &good)]).verdict, Verdict::Passed);
        assert_eq!(
            whole([("a", &good), ("b", &unknown), ("c", &bad)]).verdict,
            Verdict::Failed
        );
        assert_eq!(
            whole([("a", &good), ("b", &unknown)]).verdict,
            Verdict::NotProven
        );
        assert_eq!(whole([]).verdict, Verdict::NotProven);
    }
}
