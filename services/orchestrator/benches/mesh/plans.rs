//! What the database does for the statements of a mesh at work: their plans, as the server's own
//! `auto_explain` writes them down. No statement is named here, so that none is left out.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

use serde_json::Value;

use testkit::database::Connection;
use testkit::requirement::build_folder;

/// Tables that grow with finished work, or parts of them.
const HISTORY: &[&str] = &[
    "workflows",
    "submissions",
    "results",
    "events",
    "attempts",
    "requests",
    "decisions",
    "clarifications",
    "artifacts",
];
// A list counts what matches up to 10 000, however that is reached.
const COUNTED: f64 = 10_000.0;
// What runs for every workflow, or every second. What was asked once depends on which rows it met.
const HOT: u64 = 5;
// Statements of a few pages differ by one or two from run to run.
const SOME_PAGES: f64 = 8.0;

/// What one statement did, over all its executions.
#[derive(Debug, Default, Clone)]
struct Statement {
    executions: u64,
    pages: u64,
    // How it reaches the tables.
    accesses: BTreeSet<String>,
    // History that it reads as a whole.
    whole: BTreeSet<String>,
}

/// The statements of a run, by their text.
#[derive(Debug, Default, Clone)]
pub struct Plans {
    statements: BTreeMap<String, Statement>,
}

/// Makes new connections write down the plan of everything that they run, or no longer.
pub async fn write_down(url: &str, on: bool) {
    let connection = Connection::open(url).await.unwrap();
    let row = connection.query_one("SELECT current_database()", &[]);
    let database: String = row.await.unwrap().get(0);
    let change = if on {
        "SET session_preload_libraries = auto_explain"
    } else {
        "RESET session_preload_libraries"
    };
    let mut statements = vec![format!("ALTER DATABASE {database} {change}")];
    for setting in [
        "log_min_duration = 0",
        "log_analyze = on",
        "log_buffers = on",
        "log_timing = off",
        "log_format = json",
    ] {
        statements.push(format!(
            "ALTER DATABASE {database} SET auto_explain.{setting}"
        ));
    }
    for statement in statements {
        connection.batch_execute(&statement).await.unwrap();
    }
}

impl Plans {
    /// From the server's log, after so many bytes.
    pub fn read(log: &Path, after: u64) -> Self {
        let bytes = std::fs::read(log).unwrap();
        let text = String::from_utf8_lossy(&bytes[usize::try_from(after).unwrap()..]);
        let mut plans = Self::default();
        for entry in text.split("  plan:\n").skip(1) {
            // An entry ends before the first line that does not begin with a tab.
            let json: String = entry
                .lines()
                .take_while(|line| line.starts_with('\t'))
                .collect();
            let plan: Value = serde_json::from_str(&json).unwrap();
            plans.add(&plan);
        }
        assert!(
            !plans.statements.is_empty(),
            "the server wrote no plan down"
        );
        plans
    }

    fn add(&mut self, plan: &Value) {
        let text = plan["Query Text"].as_str().unwrap();
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let statement = self.statements.entry(text).or_default();
        statement.executions += 1;
        statement.node(&plan["Plan"], "");
    }

    /// What became worse since a run with less history: what was read as a whole, or more pages.
    pub fn grown(&self, before: &Self) -> Vec<String> {
        let mut grown = Vec::new();
        for (text, statement) in &self.statements {
            for table in &statement.whole {
                grown.push(format!("{table} is read as a whole by: {text}"));
            }
            if let Some(earlier) = before.statements.get(text)
                && statement.executions.min(earlier.executions) >= HOT
                && statement.each() > 1.5 * earlier.each() + SOME_PAGES
            {
                grown.push(format!(
                    "{:.1} pages have become {:.1} in: {text}",
                    earlier.each(),
                    statement.each()
                ));
            }
        }
        grown
    }
}

impl Statement {
    fn each(&self) -> f64 {
        self.pages as f64 / self.executions.max(1) as f64
    }

    // Adds a node and what is below it; answers the pages of both.
    fn node(&mut self, node: &Value, above: &str) -> u64 {
        let number = |name: &str| node[name].as_u64().unwrap_or(0);
        let kind = node["Node Type"].as_str().unwrap_or_default();
        let own = node["Relation Name"].as_str().unwrap_or_default();
        // Bitmaps of indices do not say whose they are.
        let table = if own.is_empty() && kind.starts_with("Bitmap") {
            above
        } else {
            own
        };
        let below: u64 = node["Plans"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|node| self.node(node, table))
            .sum();
        let pages = number("Shared Hit Blocks") + number("Shared Read Blocks");
        let history = |name: &str| table == name || table.starts_with(&format!("{name}_"));
        let is_history = HISTORY.iter().any(|name| history(name));
        // Whoever reads a CTE first is shown with its pages. How many pages the other tables have says how much came and
        // went since the last vacuum, and nothing of history.
        if kind != "CTE Scan" && (table.is_empty() || is_history) {
            self.pages += pages.saturating_sub(below);
        }
        let part = |name: &str| node[name].as_f64().unwrap_or(0.0);
        let seen = part("Actual Rows") + part("Rows Removed by Filter");
        if kind.ends_with("Scan") && !own.is_empty() {
            let index = node["Index Name"].as_str().unwrap_or("-");
            self.accesses.insert(format!("{kind} {table} {index}"));
            if kind == "Seq Scan" && seen > COUNTED && is_history {
                self.whole.insert(table.to_owned());
            }
        }
        pages
    }
}

/// Writes what each statement did at each size of the history, for people.
pub fn write(runs: &[(u32, Plans)]) {
    let mut text = String::from(
        "# What the database does for a mesh at work, by finished workflows\n\n\
         Pages are those of tables with history that one execution touches, on average; `auto_explain` of the same run.\n",
    );
    let statements: BTreeSet<&String> = runs
        .iter()
        .flat_map(|(_, plans)| plans.statements.keys())
        .collect();
    for statement in statements {
        let _ = writeln!(text, "\n```sql\n{statement}\n```\n");
        for (finished, plans) in runs {
            let Some(found) = plans.statements.get(statement) else {
                continue;
            };
            let accesses: Vec<_> = found.accesses.iter().map(String::as_str).collect();
            let _ = writeln!(
                text,
                "- {finished}: {} executions, {:.1} pages each; {}",
                found.executions,
                found.each(),
                accesses.join(", ")
            );
        }
    }
    let folder = build_folder().join("bench");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("plans.md"), text).unwrap();
}
