//! What happened: calls by kind, outcomes, faults of the product.
//!
//! In: one record per call, also as JSON from another process. Out: sums, a line of progress and a table. Must not know: who calls.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use serde_json::{Value as Json, json};

use crate::growth::Used;

/// The faults that are kept; a broken product has very many.
const FAULTS: usize = 50;

#[derive(Default)]
pub struct Tally {
    /// Calls and their worst time, by kind.
    pub calls: BTreeMap<String, (u64, Duration)>,
    /// By code and class, `ok` among them.
    pub outcomes: BTreeMap<String, u64>,
    /// Kills, cuts and stops.
    pub events: BTreeMap<String, u64>,
    /// What was measured, as lines of a table.
    pub measured: Vec<String>,
    pub faults: Vec<String>,
    /// What processes used when they were killed.
    pub lives: BTreeMap<&'static str, Vec<Used>>,
}

impl Tally {
    pub fn call(&mut self, kind: &str, took: Duration, outcome: &str) {
        let (count, worst) = self.calls.entry(kind.to_owned()).or_default();
        *count += 1;
        *worst = (*worst).max(took);
        *self.outcomes.entry(outcome.to_owned()).or_default() += 1;
    }

    pub fn event(&mut self, what: &str) {
        *self.events.entry(what.to_owned()).or_default() += 1;
    }

    pub fn fault(&mut self, what: String) {
        if self.faults.len() < FAULTS {
            eprintln!("fault: {what}");
            self.faults.push(what);
        }
    }

    /// Returns everything as JSON, and forgets it.
    pub fn take(&mut self) -> Json {
        let taken = std::mem::take(self);
        let calls: BTreeMap<_, _> = taken
            .calls
            .into_iter()
            .map(|(kind, (count, worst))| (kind, (count, worst.as_secs_f64())))
            .collect();
        json!({"calls": calls, "outcomes": taken.outcomes, "faults": taken.faults})
    }

    /// Adds what another process has counted.
    pub fn add(&mut self, from: &str, counted: &Json) {
        for (kind, both) in counted["calls"].as_object().into_iter().flatten() {
            let (count, worst) = self.calls.entry(kind.clone()).or_default();
            *count += both[0].as_u64().unwrap();
            *worst = (*worst).max(Duration::from_secs_f64(both[1].as_f64().unwrap()));
        }
        for (outcome, count) in counted["outcomes"].as_object().into_iter().flatten() {
            *self.outcomes.entry(outcome.clone()).or_default() += count.as_u64().unwrap();
        }
        for fault in counted["faults"].as_array().into_iter().flatten() {
            self.fault(format!("{from}: {}", fault.as_str().unwrap()));
        }
    }

    fn sum(&self) -> u64 {
        self.calls.values().map(|(count, _)| count).sum()
    }

    /// Returns one line about everything.
    pub fn line(&self) -> String {
        let ok = self.outcomes.get("ok").copied().unwrap_or_default();
        let worst = self.calls.values().map(|(_, worst)| *worst).max().unwrap_or_default();
        let kills: u64 =
            self.events.iter().filter(|(what, _)| what.starts_with("kill")).map(|(_, count)| count).sum();
        format!(
            "{} calls, {ok} with a result, worst {:.1} s; {kills} kills; {} faults",
            self.sum(),
            worst.as_secs_f64(),
            self.faults.len()
        )
    }

    /// Returns the table for the end.
    pub fn table(&self, time: Duration) -> String {
        let mut table = format!("\n{} calls in {:.0} s\n", self.sum(), time.as_secs_f64());
        let _ = writeln!(table, "\n{:<44} {:>10} {:>10}", "calls", "count", "worst s");
        for (kind, (count, worst)) in &self.calls {
            let _ = writeln!(table, "{kind:<44} {count:>10} {:>10.2}", worst.as_secs_f64());
        }
        for (title, counts) in [("outcomes", &self.outcomes), ("what was done to them", &self.events)] {
            let _ = writeln!(table, "\n{title:<44} {:>10}", "count");
            for (what, count) in counts {
                let _ = writeln!(table, "{what:<44} {count:>10}");
            }
        }
        let _ = writeln!(table, "\nfirst measurement → last\n{}", self.measured.join("\n"));
        let _ = writeln!(table, "\nfaults: {}", self.faults.len());
        table
    }
}
