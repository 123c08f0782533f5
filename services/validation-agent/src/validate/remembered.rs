//! Passed checks that need not run again: what they came to is a function of tool, command and files. Knows what
//! such a result depends on; the cache knows how to keep it.

use std::{collections::BTreeMap, path::Path};

use agent_runtime::{project::PlannedCheck, test_report::TestReport};
use serde::{Deserialize, Serialize};

use super::{Job, Validator};
use crate::{
    assessment::CheckOutcome,
    assessment::ToolRecord,
    cache::CacheKey,
    coverage::Coverage,
    plan::{CheckPlan, Planned},
    run::{Run, Workshop},
    verdict::Verdict,
};

/// A passed check, as it is remembered.
#[derive(Serialize, Deserialize)]
pub(super) struct Remembered {
    pub(super) reason: String,
    pub(super) record: ToolRecord,
    pub(super) report: Option<TestReport>,
    pub(super) coverage: Option<Coverage>,
}

impl Validator {
    /// What is remembered of those checks on those files, by name.
    pub(super) async fn remembered(
        &self,
        job: &Job<'_>,
        plan: &CheckPlan,
        planned: &[&Planned],
        folder: &Path,
        tree: &str,
    ) -> BTreeMap<String, Remembered> {
        let mut known = BTreeMap::new();
        if !job.uses_cache() {
            return known;
        }
        let Ok(workshop) = Workshop::new(folder, folder, &self.toolchain, job.reporter, job.cancel)
        else {
            return known;
        };
        for planned in planned
            .iter()
            .filter(|planned| is_cacheable(plan, &planned.check))
        {
            let Some(key) = self.key(&workshop, &planned.check, tree).await else {
                continue;
            };
            if let Some(value) = self.cache.get::<Remembered>(&key) {
                known.insert(planned.check.name.to_string(), value);
            }
        }
        known
    }

    /// Tool, arguments, environment and all files of the commit; none for a tool that is not there.
    async fn key(
        &self,
        workshop: &Workshop<'_>,
        check: &PlannedCheck,
        tree: &str,
    ) -> Option<CacheKey> {
        let argv = check.step.command.as_slice();
        let is_own_program = argv
            .first()
            .is_some_and(|program| program.contains('/') && !program.starts_with('/'));
        let digest = match workshop.tool(argv).await {
            Some(tool) => tool.digest,
            None if is_own_program => String::new(),
            None => return None,
        };
        let settings = serde_json::to_string(check).ok()?;
        Some(CacheKey::of([
            "check",
            env!("CARGO_PKG_VERSION"),
            &digest,
            &settings,
            tree,
        ]))
    }

    /// Remembers a check that passed.
    pub(super) async fn remember(
        &self,
        workshop: &Workshop<'_>,
        plan: &CheckPlan,
        check: &PlannedCheck,
        tree: &str,
        (outcome, run): (&CheckOutcome, &Run),
    ) {
        if outcome.judgement.verdict != Verdict::Passed || !is_cacheable(plan, check) {
            return;
        }
        // A coverage report that cannot be read is told again each time.
        if run.coverage.as_ref().is_some_and(Result::is_err) {
            return;
        }
        let Some(key) = self.key(workshop, check, tree).await else {
            return;
        };
        let value = Remembered {
            reason: outcome.judgement.reason.clone(),
            record: run.record.clone(),
            report: outcome.report.clone(),
            coverage: run
                .coverage
                .as_ref()
                .and_then(|coverage| coverage.as_ref().ok())
                .cloned(),
        };
        self.cache.put(&key, &value);
    }
}

/// Commands that neither reach the network nor stand on something that may be another tomorrow.
fn is_cacheable(plan: &CheckPlan, check: &PlannedCheck) -> bool {
    !check.step.network && plan.is_locked()
}
