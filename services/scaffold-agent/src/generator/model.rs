//! The generator that works with a language model: asks, carries out what it calls, and asks again, until the work
//! is done or something runs out. Everything it is told is built anew for each round from the task, the files and
//! the ledger; there is no chat that grows.

use std::{collections::HashMap, time::Duration};

use contracts::task::{Budget, BudgetLimit, ClarificationRequest, Usage};
use futures::future::BoxFuture;
use tokio::time::{Instant, sleep, timeout_at};

use super::{Draft, Error, Generator, Order, Stop};
use crate::{
    brief::Brief,
    kept::Memory,
    model::{Answer, Ended, Model, Request, canonical},
    text,
};

mod files;
mod ledger;
mod prompt;
mod tools;
mod workbench;

use self::{
    ledger::{Entry, Ledger},
    tools::{Finish, Outcome},
    workbench::Workbench,
};

/// Most rounds.
const ROUNDS: u32 = 40;
/// Most calls of one answer that are carried out.
const CALLS: usize = 16;
/// Most tokens of one answer.
const OUTPUT_TOKENS: u32 = 8192;
/// A token is at least this many bytes of source text; used to reserve before a call.
const BYTES_PER_TOKEN: usize = 3;
/// The same action with the same result this often means that nothing moves any more.
const STUCK: usize = 3;
/// How often a provider that is away is asked again, and how long to wait before, unless it says.
const RETRIES: u32 = 4;
const FIRST_DELAY: Duration = Duration::from_secs(1);
const LONGEST_DELAY: Duration = Duration::from_mins(1);
/// Questions that one workflow may ask (task.proto).
const QUESTIONS: usize = 3;
/// Left for committing and publishing.
const TIME_TO_PUBLISH: Duration = Duration::from_secs(10);

/// Opens the model anew for each draft, so that drafts do not share what they were answered.
pub type OpenModel = Box<dyn Fn() -> Box<dyn Model> + Send + Sync>;

/// Works with a language model.
pub struct ModelGenerator {
    backend: &'static str,
    open: OpenModel,
}

impl ModelGenerator {
    /// A generator by the name `backend`.
    pub fn new(backend: &'static str, open: OpenModel) -> Self {
        Self { backend, open }
    }
}

impl Generator for ModelGenerator {
    fn backend(&self) -> &'static str {
        self.backend
    }

    fn check(&self, _brief: &Brief) -> Result<(), Error> {
        Ok(())
    }

    fn is_repeatable(&self) -> bool {
        false
    }

    fn draft<'a>(&'a self, order: Order<'a>) -> BoxFuture<'a, Result<Draft, Error>> {
        Box::pin(async move {
            let model = (self.open)();
            let mut session = Session::new(order, &*model);
            let end = session.run().await?;
            Ok(session.draft(end))
        })
    }
}

/// Why the loop ended.
enum End {
    Stopped(Stop),
    Finished(Finish),
    Asked(ClarificationRequest),
    /// A limit, and what of the budget is missing, in a sentence.
    Exhausted(BudgetLimit, String),
}

/// One draft in the making.
struct Session<'a> {
    order: Order<'a>,
    model: &'a dyn Model,
    bench: Workbench<'a>,
    ledger: Ledger,
    usage: Usage,
    rounds: u32,
    deadline: Instant,
    // Whether it is the budget that ends the time, and not the task.
    wall_is_budget: bool,
    // How often each action gave each result.
    repeated: HashMap<(String, String), usize>,
}

impl<'a> Session<'a> {
    fn new(order: Order<'a>, model: &'a dyn Model) -> Self {
        let by_budget = order
            .budget
            .and_then(|budget| budget.wall_time)
            .and_then(contracts::wire_time::duration)
            .filter(|wall| !wall.is_zero())
            .map(|wall| Instant::now() + wall);
        let by_task = order
            .deadline
            .checked_sub(TIME_TO_PUBLISH)
            .unwrap_or(order.deadline);
        let mut bench = Workbench::new(order.source);
        let mut ledger = Ledger::default();
        let mut rounds = 0;
        if let Some(kept) = order.kept {
            bench.restore(&kept.changes);
            ledger.restore(&kept.memory);
            rounds = kept.memory.rounds;
        }
        Self {
            order,
            model,
            bench,
            ledger,
            usage: Usage::default(),
            rounds,
            deadline: by_budget.map_or(by_task, |wall| wall.min(by_task)),
            wall_is_budget: by_budget.is_some_and(|wall| wall < by_task),
            repeated: HashMap::new(),
        }
    }

    async fn run(&mut self) -> Result<End, Error> {
        loop {
            if self.rounds >= ROUNDS {
                return Ok(End::Stopped(Stop::Rounds));
            }
            let request = self.request().await?;
            if let Some(end) = self.exhausted(&request) {
                return Ok(end);
            }
            self.rounds += 1;
            let Ok(answered) = timeout_at(self.deadline, self.ask(&request)).await else {
                return Ok(self.out_of_time());
            };
            let answer = answered?;
            answer.spent.settle(&mut self.usage);
            (self.order.spent)(self.usage);
            match answer.ended {
                Ended::Complete => {}
                Ended::Refused => return Ok(End::Stopped(Stop::Refused)),
                Ended::ContextOverflow => return Ok(End::Stopped(Stop::Context)),
                Ended::Truncated => {
                    self.ledger.note("The last answer was cut off, and nothing of it was carried out: do less at once.");
                    if self.is_stuck("truncated", "") {
                        return Ok(End::Stopped(Stop::Stuck));
                    }
                    continue;
                }
            }
            if let Some(end) = self.carry_out(answer).await? {
                return Ok(end);
            }
            let share = f64::from(self.rounds) / f64::from(ROUNDS);
            (self.order.progress)(share, self.ledger.last_line());
        }
    }

    async fn request(&self) -> Result<Request, Error> {
        Ok(Request {
            model: self.model.name().to_owned(),
            system: prompt::SYSTEM.to_owned(),
            prompt: prompt::build(self.order.brief, &self.bench, &self.ledger).await?,
            tools: tools::all(self.may_ask()),
            max_output_tokens: OUTPUT_TOKENS,
        })
    }

    fn may_ask(&self) -> bool {
        self.order.brief.clarifications.len() < QUESTIONS
    }

    fn out_of_time(&self) -> End {
        if self.wall_is_budget {
            End::Exhausted(BudgetLimit::WallTime, "more of it is needed".to_owned())
        } else {
            End::Stopped(Stop::WallTime)
        }
    }

    /// Reserves what the call can cost; what is not there is not spent.
    fn exhausted(&self, request: &Request) -> Option<End> {
        if Instant::now() >= self.deadline {
            return Some(self.out_of_time());
        }
        let unlimited = Budget::default();
        let budget = self.order.budget.unwrap_or(&unlimited);
        let bytes = canonical::text(&canonical::value(request)).len();
        let input = i64::try_from(bytes / BYTES_PER_TOKEN).unwrap_or(i64::MAX);
        let reserved = input.saturating_add(i64::from(request.max_output_tokens));
        let used = self.usage.input_token_count + self.usage.output_token_count;
        if budget.token_count > 0 && used.saturating_add(reserved) > budget.token_count {
            let left = budget.token_count.saturating_sub(used).max(0);
            let missing = format!("the next call may need {reserved}, and {left} are left");
            return Some(End::Exhausted(BudgetLimit::Tokens, missing));
        }
        if budget.cost_micros > 0 && self.usage.cost_micros >= budget.cost_micros {
            return Some(End::Exhausted(
                BudgetLimit::Cost,
                "nothing of it is left".to_owned(),
            ));
        }
        None
    }

    async fn ask(&self, request: &Request) -> Result<Answer, Error> {
        let mut delay = FIRST_DELAY;
        for _ in 0..RETRIES {
            match self.model.answer(request).await {
                Err(error) if error.is_retryable() => {
                    let asked = error.retry_after().unwrap_or(delay).min(LONGEST_DELAY);
                    (self.order.progress)(0.0, format!("{error}; waiting {} s", asked.as_secs()));
                    sleep(asked).await;
                    delay = (delay * 2).min(LONGEST_DELAY);
                }
                answered => return answered.map_err(|error| Error::Model(Box::new(error))),
            }
        }
        self.model
            .answer(request)
            .await
            .map_err(|error| Error::Model(Box::new(error)))
    }

    async fn carry_out(&mut self, answer: Answer) -> Result<Option<End>, Error> {
        self.ledger.begin_round(&answer.text);
        if answer.calls.is_empty() {
            self.ledger
                .note("The last answer called no tool: call one, or `done`.");
            return Ok(self
                .is_stuck("no call", "")
                .then_some(End::Stopped(Stop::Stuck)));
        }
        let may_ask = self.may_ask();
        for call in answer.calls.into_iter().take(CALLS) {
            let action = format!("{} {}", call.tool, canonical::text(&call.input));
            let outcome = tools::call(&mut self.bench, &mut self.ledger, call, may_ask).await?;
            let Entry { line, detail } = match outcome {
                Outcome::Finished(finish) => return Ok(Some(End::Finished(finish))),
                Outcome::Asked(question) => {
                    self.ledger
                        .note(&format!("ask: {}", text::clean_line(&question.question)));
                    return Ok(Some(End::Asked(question)));
                }
                Outcome::Went(entry) => entry,
            };
            let result = format!("{line}\n{detail}");
            self.ledger.add(Entry { line, detail });
            if self.is_stuck(&action, &result) {
                return Ok(Some(End::Stopped(Stop::Stuck)));
            }
        }
        Ok(None)
    }

    fn is_stuck(&mut self, action: &str, result: &str) -> bool {
        let count = self
            .repeated
            .entry((action.to_owned(), result.to_owned()))
            .or_default();
        *count += 1;
        *count >= STUCK
    }

    fn draft(self, end: End) -> Draft {
        let changes = self.bench.changes();
        let rounds = self.rounds;
        let memory = Memory {
            rounds,
            ..self.ledger.memory()
        };
        let base = Draft {
            model: self.model.name().to_owned(),
            usage: self.usage,
            round_count: rounds,
            ..Draft::empty(Stop::Done)
        };
        match end {
            End::Finished(finish) => Draft {
                summary: if finish.summary.is_empty() {
                    format!("{} files changed", changes.len())
                } else {
                    finish.summary
                },
                analysis: finish.analysis,
                confidence: finish.confidence,
                changes,
                ..base
            },
            End::Stopped(stop) => Draft {
                summary: format!("{} after {rounds} round(s)", reason(stop)),
                stop,
                changes,
                ..base
            },
            End::Asked(question) => Draft {
                summary: format!("Asks: {}", text::clean_line(&question.question)),
                stop: Stop::Asked,
                question: Some(question),
                changes,
                memory,
                ..base
            },
            End::Exhausted(exhausted, missing) => {
                let stop = match exhausted {
                    BudgetLimit::Tokens => Stop::Tokens,
                    BudgetLimit::Cost => Stop::Cost,
                    BudgetLimit::WallTime | BudgetLimit::Unspecified => Stop::WallTime,
                };
                Draft {
                    summary: format!(
                        "{} of the budget ran out after {rounds} round(s): {missing}",
                        part(exhausted)
                    ),
                    stop,
                    exhausted,
                    changes,
                    memory,
                    ..base
                }
            }
        }
    }
}

fn part(limit: BudgetLimit) -> &'static str {
    match limit {
        BudgetLimit::Unspecified => "Something",
        BudgetLimit::Tokens => "The tokens",
        BudgetLimit::Cost => "The money",
        BudgetLimit::WallTime => "The time",
    }
}

fn reason(stop: Stop) -> &'static str {
    match stop {
        Stop::Done => "Done",
        Stop::Rounds => "The rounds ran out",
        Stop::Tokens => "The tokens ran out",
        Stop::Cost => "The money ran out",
        Stop::WallTime => "The time ran out",
        Stop::Stuck => "The model did the same with the same result three times",
        Stop::Refused => "The model refused",
        Stop::Context => "There was more to tell the model than it can take",
        Stop::Asked => "The model asked",
    }
}
