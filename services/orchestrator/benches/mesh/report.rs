//! The table for people and the file for programs.

use serde_json::{Value, json};

use testkit::requirement::build_folder;

/// One measure.
#[derive(Debug, Clone)]
pub struct Row {
    measure: String,
    value: f64,
    unit: &'static str,
    floor: Option<f64>,
    peer: Option<(&'static str, f64)>,
    target: &'static str,
    note: String,
}

impl Row {
    /// A value and its unit.
    pub fn new(measure: &str, value: f64, unit: &'static str) -> Self {
        Self {
            measure: measure.to_owned(),
            value,
            unit,
            floor: None,
            peer: None,
            target: "",
            note: String::new(),
        }
    }

    /// The baseline of the same run.
    pub fn floor(mut self, floor: f64) -> Self {
        self.floor = Some(floor);
        self
    }

    /// The same of another system, in the same run and on the same database server.
    pub fn peer(mut self, peer: Option<(&'static str, f64)>) -> Self {
        self.peer = peer;
        self
    }

    /// What the budget asks for.
    pub fn target(mut self, target: &'static str) -> Self {
        self.target = target;
        self
    }

    /// What else is to be said.
    pub fn note(mut self, note: String) -> Self {
        self.note = note;
        self
    }

    fn ratio(&self) -> Option<f64> {
        self.floor
            .filter(|floor| *floor > 0.0)
            .map(|floor| self.value / floor)
    }
}

/// All measures of a run.
#[derive(Debug, Default)]
pub struct Report {
    rows: Vec<Row>,
}

impl Report {
    /// Adds one.
    pub fn add(&mut self, row: Row) {
        eprintln!("  {} = {:.2} {}", row.measure, row.value, row.unit);
        self.rows.push(row);
    }

    /// Prints the table.
    pub fn print(&self) {
        println!("| measure | value | unit | floor | ratio | target | peer | note |");
        println!("|---|---:|---|---:|---:|---|---|---|");
        for row in &self.rows {
            let number =
                |value: Option<f64>| value.map_or(String::new(), |value| format!("{value:.2}"));
            println!(
                "| {} | {:.2} | {} | {} | {} | {} | {} | {} |",
                row.measure,
                row.value,
                row.unit,
                number(row.floor),
                number(row.ratio()),
                row.target,
                row.peer
                    .map_or(String::new(), |(name, value)| format!("{name}: {value:.2}")),
                row.note,
            );
        }
    }

    /// Writes the file.
    pub fn write(&self) {
        let rows: Vec<Value> = self
            .rows
            .iter()
            .map(|row| {
                json!({
                    "measure": row.measure,
                    "value": row.value,
                    "unit": row.unit,
                    "floor": row.floor,
                    "ratio": row.ratio(),
                    "peer": row.peer.map(|(name, _)| name),
                    "peer_value": row.peer.map(|(_, value)| value),
                })
            })
            .collect();
        let folder = build_folder().join("bench");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(
            folder.join("summary.json"),
            format!("{:#}\n", Value::Array(rows)),
        )
        .unwrap();
    }
}
