//! What becomes of attempts: leases, results, errors, losses, and how often they are repeated. Knows
//! how an attempt ended, not why the work behind it did.

use std::time::Duration;

use contracts::id::InstanceId;

use super::event::{Command, Delay, Entry, ErrorClass, Rejected, RetryClass, StageOutcome};
use super::state::{StageState, TaskKind, TaskState, Verdict};
use super::step::{Retry, Step};

/// Refusals in a row before a task is given up: nothing is repeated for ever.
pub(super) const REFUSALS_MOST: u32 = 1000;
/// First delay after a refusal; another agent may have room.
const REFUSAL_BACKOFF: Duration = Duration::from_millis(100);
/// Longest delay that an agent may ask for.
const RETRY_AFTER_MOST: Duration = Duration::from_hours(1);

impl Step<'_> {
    pub fn lease_granted(
        &mut self,
        name: &str,
        epoch: i64,
        instance: InstanceId,
    ) -> Result<(), Rejected> {
        let index = self.index(name)?;
        let stage = &self.state.stages[index];
        if stage.task != TaskState::Waiting {
            return Err(self.stage_state(index, "it has no task that waits for an agent"));
        }
        if epoch <= stage.lease_epoch {
            return Err(self.stale(index, epoch));
        }
        self.state.started = true;
        let stage = self.stage(index);
        stage.task = TaskState::Leased;
        stage.lease_epoch = epoch;
        stage.attempt += 1;
        if stage.kind != TaskKind::Undo {
            stage.state = StageState::Running;
        }
        let attempt = stage.attempt;
        self.record(Entry::StageStarted {
            stage: name.to_owned(),
            attempt,
            epoch,
            instance,
        });
        Ok(())
    }

    pub fn lease_adopted(&mut self, name: &str, epoch: i64) -> Result<(), Rejected> {
        let index = self.index(name)?;
        let stage = &self.state.stages[index];
        if stage.task != TaskState::Leased {
            return Err(self.stage_state(index, "no agent has its task"));
        }
        if epoch <= stage.lease_epoch {
            return Err(self.stale(index, epoch));
        }
        let stage = self.stage(index);
        stage.lease_epoch = epoch;
        let stopping = stage.stopping;
        self.record(Entry::LeaseChanged {
            stage: name.to_owned(),
            epoch,
            reason: "another server goes on with the attempt".to_owned(),
            adopted: true,
        });
        if stopping {
            self.command(Command::StopTask {
                stage: name.to_owned(),
                epoch,
            });
        }
        Ok(())
    }

    pub fn refused(&mut self, name: &str, epoch: i64, reason: &str) -> Result<(), Rejected> {
        let index = self.release(name, epoch)?;
        // Nothing ran: it was no attempt.
        self.stage(index).attempt -= 1;
        if self.is_stopping(index) {
            self.stopped(index, None);
            return Ok(());
        }
        self.elsewhere(index, reason);
        Ok(())
    }

    pub fn handed_back(&mut self, name: &str, epoch: i64, reason: &str) -> Result<(), Rejected> {
        let index = self.release(name, epoch)?;
        if self.is_stopping(index) {
            self.stopped(index, None);
        } else {
            self.elsewhere(index, reason);
        }
        Ok(())
    }

    pub fn result_accepted(
        &mut self,
        name: &str,
        epoch: i64,
        outcome: &StageOutcome,
    ) -> Result<(), Rejected> {
        let index = self.release(name, epoch)?;
        if self.state.stages[index].kind == TaskKind::Undo {
            self.undo_ended(index, outcome.verdict, outcome.summary.clone());
            return Ok(());
        }
        if let Some(is_app) = outcome.project_is_app {
            self.state.project_is_app = Some(is_app);
        }
        let stage = self.stage(index);
        stage.verdict = Some(outcome.verdict);
        stage.summary.clone_from(&outcome.summary);
        if self.is_stopping(index) {
            self.stopped(index, Some(outcome));
            return Ok(());
        }
        let optional = self.definition(index).optional;
        match (outcome.verdict, outcome.decision) {
            (Verdict::Passed, None) => self.succeed(index),
            (Verdict::Failed, _) if self.may_be_repaired(index) => {
                self.request_repair(index, outcome.finding_count);
            }
            (Verdict::Passed, Some(ask)) => self.wait_for_decision(index, Some(ask)),
            (Verdict::Failed | Verdict::NotProven, Some(ask)) if !optional => {
                self.wait_for_decision(index, Some(ask));
            }
            (verdict @ (Verdict::Failed | Verdict::NotProven), _) => {
                let summary = self.after_repairs(index, verdict, &outcome.summary);
                self.fail(index, verdict, summary);
            }
        }
        Ok(())
    }

    pub fn attempt_failed(
        &mut self,
        name: &str,
        epoch: i64,
        class: ErrorClass,
        reason: &str,
        retry_after: Option<Duration>,
    ) -> Result<(), Rejected> {
        let index = self.release(name, epoch)?;
        self.stage(index).failed_count += 1;
        if self.is_stopping(index) {
            self.stopped(index, None);
            return Ok(());
        }
        let retry = match class {
            ErrorClass::Permanent => {
                self.give_up(index, reason.to_owned());
                return Ok(());
            }
            ErrorClass::Retryable => RetryClass::Retryable,
            ErrorClass::TimedOut => RetryClass::TimedOut,
        };
        let policy = self.definition(index).retry;
        let stage = self.stage(index);
        stage.charges.failed += 1;
        let count = stage.charges.failed;
        if count >= policy.max_attempts {
            let summary = match count {
                1 => reason.to_owned(),
                _ => format!("{count} attempts failed; the last: {reason}"),
            };
            self.give_up(index, summary);
            return Ok(());
        }
        let delay = match retry_after {
            Some(delay) => Delay::Exactly(delay.min(RETRY_AFTER_MOST)),
            None => Delay::Backoff {
                most: backoff(policy.initial_backoff, policy.max_backoff, count),
            },
        };
        self.again(index, retry, reason, delay);
        Ok(())
    }

    pub fn attempt_lost(&mut self, name: &str, epoch: i64, reason: &str) -> Result<(), Rejected> {
        let index = self.release(name, epoch)?;
        self.record(Entry::LeaseChanged {
            stage: name.to_owned(),
            epoch: epoch.saturating_add(1),
            reason: reason.to_owned(),
            adopted: false,
        });
        self.lost(index, reason);
        Ok(())
    }

    pub fn attempt_cancelled(&mut self, name: &str, epoch: i64) -> Result<(), Rejected> {
        let index = self.release(name, epoch)?;
        if self.is_stopping(index) {
            self.stopped(index, None);
        } else {
            self.lost(index, "its agent stopped it, and nobody had asked for that");
        }
        Ok(())
    }

    pub fn budget_exhausted(
        &mut self,
        name: &str,
        epoch: i64,
        reason: &str,
    ) -> Result<(), Rejected> {
        let index = self.release(name, epoch)?;
        if self.state.stages[index].kind == TaskKind::Undo {
            self.undo_ended(index, Verdict::NotProven, reason.to_owned());
        } else if self.is_stopping(index) {
            self.stopped(index, None);
        } else {
            let stage = self.stage(index);
            stage.state = StageState::Ready;
            reason.clone_into(&mut stage.summary);
            if !self.state.awaiting_budget {
                self.state.awaiting_budget = true;
                self.record(Entry::Paused {
                    reason: reason.to_owned(),
                });
            }
        }
        Ok(())
    }

    pub fn schedule_timed_out(&mut self, name: &str) -> Result<(), Rejected> {
        let index = self.index(name)?;
        if self.state.stages[index].task != TaskState::Waiting {
            return Err(self.stage_state(index, "it has no task that waits for an agent"));
        }
        self.withdraw(index);
        let definition = self.definition(index);
        let limit = definition.schedule_timeout.as_secs_f64();
        let kind = contracts::agent::type_name(definition.agent_type);
        self.give_up(index, format!("no {kind} agent took it within {limit} s"));
        Ok(())
    }

    /// The attempt that holds the lease is over.
    pub fn release(&mut self, name: &str, epoch: i64) -> Result<usize, Rejected> {
        let index = self.index(name)?;
        let stage = &self.state.stages[index];
        if stage.task != TaskState::Leased || stage.lease_epoch != epoch {
            return Err(self.stale(index, epoch));
        }
        self.stage(index).task = TaskState::Absent;
        Ok(index)
    }

    pub fn is_stopping(&self, index: usize) -> bool {
        self.state.stages[index].stopping
    }

    /// An attempt that was told to stop is over. If it passed all the same, what it did stands.
    pub fn stopped(&mut self, index: usize, outcome: Option<&StageOutcome>) {
        let passed = outcome.is_some_and(|outcome| {
            outcome.verdict == Verdict::Passed && outcome.decision.is_none()
        });
        match (self.state.stop.is_some(), passed) {
            (true, true) => self.succeed(index),
            (true, false) => self.end(index, StageState::Cancelled),
            (false, passed) => {
                if passed {
                    self.has_effect(index);
                }
                self.reset(index);
            }
        }
    }

    fn lost(&mut self, index: usize, reason: &str) {
        self.stage(index).lost_count += 1;
        if self.is_stopping(index) {
            self.stopped(index, None);
            return;
        }
        let policy = self.definition(index).retry;
        let stage = self.stage(index);
        stage.charges.lost += 1;
        let count = stage.charges.lost;
        let stage_runs = stage.kind != TaskKind::Undo;
        if count >= policy.max_lost {
            let mut summary = format!("{count} attempts were lost; the last: {reason}");
            if self.definition(index).undo.is_some() && stage_runs {
                summary.push_str("; what they did outside is not known, and was not undone");
            }
            self.give_up(index, summary);
        } else {
            let most = backoff(policy.initial_backoff, policy.max_backoff, count);
            self.again(index, RetryClass::Lost, reason, Delay::Backoff { most });
        }
    }

    /// Another agent may take the task, at no charge, though not for ever.
    fn elsewhere(&mut self, index: usize, reason: &str) {
        let policy = self.definition(index).retry;
        let stage = self.stage(index);
        stage.charges.refused += 1;
        let count = stage.charges.refused;
        if count >= REFUSALS_MOST {
            let summary = format!("agents refused the task {count} times; the last: {reason}");
            self.give_up(index, summary);
        } else {
            let most = backoff(REFUSAL_BACKOFF, policy.max_backoff, count);
            self.again(index, RetryClass::Refused, reason, Delay::Backoff { most });
        }
    }

    /// No further attempt: nobody knows whether the work is good.
    fn give_up(&mut self, index: usize, summary: String) {
        if self.state.stages[index].kind == TaskKind::Undo {
            self.undo_ended(index, Verdict::NotProven, summary);
        } else {
            self.fail(index, Verdict::NotProven, summary);
        }
    }

    fn again(&mut self, index: usize, class: RetryClass, reason: &str, delay: Delay) {
        let stage = self.stage(index);
        if stage.kind != TaskKind::Undo {
            stage.state = StageState::Ready;
            reason.clone_into(&mut stage.summary);
        }
        self.retry = Some(Retry {
            stage: index,
            class,
            reason: reason.to_owned(),
            delay,
        });
    }

    fn stale(&self, index: usize, epoch: i64) -> Rejected {
        let stage = &self.state.stages[index];
        Rejected::StaleLease {
            stage: stage.name.clone(),
            epoch,
            held: stage.lease_epoch,
        }
    }
}

/// The longest delay before the try after the `count`-th: doubled each time.
fn backoff(initial: Duration, most: Duration, count: u32) -> Duration {
    let factor = 1_u32
        .checked_shl(count.saturating_sub(1))
        .unwrap_or(u32::MAX);
    initial.saturating_mul(factor).min(most)
}
