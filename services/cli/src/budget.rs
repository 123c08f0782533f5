//! What work may spend: how it is typed, and which budget to propose when one ran out. Pure.

use std::time::Duration;

use clap::Args;
use contracts::orchestrator::Workflow;
use contracts::task::Budget;
use contracts::wire_time;

/// Limits on the command line; each that is left out is none.
#[derive(Debug, Clone, Copy, Args)]
#[allow(clippy::struct_field_names, reason = "the flags are called so")]
pub struct BudgetArgs {
    /// Most model tokens that the whole work may spend.
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(i64).range(1..))]
    budget_tokens: Option<i64>,
    /// Most money that the whole work may spend, in US dollars.
    #[arg(long, value_name = "DOLLARS", value_parser = dollars)]
    budget_cost: Option<i64>,
    /// Most time that agents may spend on the whole work, all attempts together.
    #[arg(long, value_name = "TIME", value_parser = time)]
    budget_time: Option<Duration>,
}

impl BudgetArgs {
    /// As it is sent. `None`: no limit was given.
    pub fn wire(&self) -> Option<Budget> {
        let given = self.budget_tokens.is_some()
            || self.budget_cost.is_some()
            || self.budget_time.is_some();
        given.then(|| Budget {
            token_count: self.budget_tokens.unwrap_or_default(),
            cost_micros: self.budget_cost.unwrap_or_default(),
            wall_time: self.budget_time.map(wire_time::wire_duration),
        })
    }
}

/// Options that double each limit that the workflow has: more than what was spent, and a beginning.
pub fn doubled(workflow: &Workflow) -> String {
    let budget = workflow.budget.unwrap_or_default();
    let mut options = Vec::new();
    if budget.token_count > 0 {
        let tokens = budget.token_count.saturating_mul(2);
        options.push(format!("--budget-tokens {tokens}"));
    }
    if budget.cost_micros > 0 {
        let micros = budget.cost_micros.saturating_mul(2);
        let (dollars, rest) = (micros / 1_000_000, micros % 1_000_000);
        let rest = format!("{rest:06}");
        // Cents at least, and no digit that says nothing.
        let digits = rest.trim_end_matches('0').len().max(2);
        options.push(format!("--budget-cost {dollars}.{}", &rest[..digits]));
    }
    if let Some(wall) = budget.wall_time.and_then(wire_time::duration) {
        let wall = humantime::format_duration(wall.saturating_mul(2)).to_string();
        options.push(format!("--budget-time {}", wall.replace(' ', "")));
    }
    options.join(" ")
}

/// Millionths of a dollar.
#[allow(
    clippy::cast_possible_truncation,
    reason = "the range is checked before"
)]
fn dollars(text: &str) -> Result<i64, String> {
    let amount: f64 = text
        .trim_start_matches('$')
        .parse()
        .map_err(|_| "is not an amount such as 2.50".to_owned())?;
    let micros = (amount * 1e6).round();
    if (1.0..=1e15).contains(&micros) {
        Ok(micros as i64)
    } else {
        Err("is not between 0.000001 and 1000000000".to_owned())
    }
}

fn time(text: &str) -> Result<Duration, String> {
    let time = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if time.is_zero() {
        Err("must be more than nothing".to_owned())
    } else {
        Ok(time)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_is_read_to_the_millionth() {
        assert_eq!(dollars("2.50"), Ok(2_500_000));
        assert_eq!(dollars("$0.1"), Ok(100_000));
        for bad in ["", "two", "0", "-1", "1e12", "NaN", "inf", "1e40"] {
            assert!(dollars(bad).is_err(), "{bad}");
        }
        assert!(time("0s").is_err() && time("later").is_err());
    }

    #[test]
    fn twice_the_budget_can_be_typed_again() {
        #[derive(clap::Parser)]
        struct Cli {
            #[command(flatten)]
            budget: BudgetArgs,
        }
        for budget in [
            Budget {
                token_count: 500,
                cost_micros: 1_250_000,
                wall_time: Some(wire_time::wire_duration(Duration::from_mins(90))),
            },
            Budget {
                cost_micros: 7,
                ..Budget::default()
            },
        ] {
            let workflow = Workflow {
                budget: Some(budget),
                ..Workflow::default()
            };
            let typed = doubled(&workflow);
            let line = std::iter::once("agentic").chain(typed.split_whitespace());
            let sent = <Cli as clap::Parser>::parse_from(line)
                .budget
                .wire()
                .unwrap();
            assert_eq!(sent.token_count, 2 * budget.token_count, "{typed}");
            assert_eq!(sent.cost_micros, 2 * budget.cost_micros, "{typed}");
            let twice = |wire| wire_time::duration(wire).map(|wall: Duration| wall * 2);
            assert_eq!(
                sent.wall_time.and_then(wire_time::duration),
                budget.wall_time.and_then(twice),
                "{typed}"
            );
        }
        assert_eq!(doubled(&Workflow::default()), "");
    }
}
