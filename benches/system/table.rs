//! The table of a run: medians, spreads, ratios and goals.
//!
//! In: the samples of each measure, round by round. Out: text for a terminal, JSON, Markdown. Must not know: how the
//! samples were made.

use std::collections::HashMap;
use std::fmt::Write;

use super::rows::{Goal, Row, Unit};

/// The samples of a measure, one list per round.
pub type Samples = HashMap<&'static str, Vec<Vec<f64>>>;

/// The figures of one row.
pub struct Line {
    pub row: Row,
    pub ours: Figure,
    pub other: Option<Figure>,
    /// The median of the rounds' ratios, and the lowest and highest of them.
    pub ratio: Option<(f64, f64, f64)>,
    /// Whether the goal is met; none if the row has none.
    pub met: Option<bool>,
}

/// The median of the rounds' medians, the lowest and highest of them, and the 99th percentile of all samples.
#[derive(Clone, Copy)]
pub struct Figure {
    pub median: f64,
    pub low: f64,
    pub high: f64,
    pub p99: f64,
}

fn sorted(mut numbers: Vec<f64>) -> Vec<f64> {
    numbers.sort_by(f64::total_cmp);
    numbers
}

/// Returns the part of the sorted numbers below which `share` of them are.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    sorted[((sorted.len() - 1) as f64 * share).round() as usize]
}

/// Returns the quantile of each round.
fn of_each(rounds: &[Vec<f64>], share: f64) -> Vec<f64> {
    rounds.iter().map(|round| quantile(&sorted(round.clone()), share)).collect()
}

impl Figure {
    fn new(unit: Unit, rounds: &[Vec<f64>]) -> Figure {
        let medians = sorted(of_each(rounds, 0.5).into_iter().map(|sample| unit.figure(sample)).collect());
        // The slow end, also where a higher figure is better.
        let all = sorted(rounds.concat());
        Figure {
            median: quantile(&medians, 0.5),
            low: medians[0],
            high: medians[medians.len() - 1],
            p99: unit.figure(quantile(&all, 0.99)),
        }
    }
}

/// Computes the figures of a row. None if a measure has no samples.
pub fn line(row: Row, samples: &Samples) -> Option<Line> {
    let rounds = samples.get(row.ours)?;
    let ours = Figure::new(row.unit, rounds);
    let (mut other, mut ratio) = (None, None);
    if let Some((name, _)) = row.other {
        let others = samples.get(name)?;
        other = Some(Figure::new(row.unit, others));
        let share = if matches!(row.goal, Goal::P99AtMost(_)) { 0.99 } else { 0.5 };
        let figures = |rounds: &[Vec<f64>]| -> Vec<f64> {
            of_each(rounds, share).into_iter().map(|sample| row.unit.figure(sample)).collect()
        };
        // Both were measured in the same round, so what else the machine did affects both.
        let pairs = figures(rounds).into_iter().zip(figures(others));
        let ratios = sorted(pairs.map(|(ours, other)| ours / other).collect());
        ratio = Some((quantile(&ratios, 0.5), ratios[0], ratios[ratios.len() - 1]));
    }
    let met = match (row.goal, ratio) {
        (Goal::RatioAtMost(most), Some((ratio, ..))) => Some(ratio <= most),
        (Goal::RatioAtLeast(least), Some((ratio, ..))) => Some(ratio >= least),
        (Goal::AtMost(most), _) => Some(ours.median <= most),
        (Goal::P99AtMost(most), _) => Some(ours.p99 <= most),
        _ => None,
    };
    Some(Line { row, ours, other, ratio, met })
}

/// Formats a figure with three digits.
fn short(number: f64) -> String {
    match number.abs() {
        size if size >= 99.95 => format!("{number:.0}"),
        size if size >= 9.995 => format!("{number:.1}"),
        _ => format!("{number:.2}"),
    }
}

fn goal(goal: Goal, unit: Unit) -> String {
    match goal {
        Goal::RatioAtMost(most) => format!("≤ {most}"),
        Goal::RatioAtLeast(least) => format!("≥ {least}"),
        Goal::AtMost(most) => format!("≤ {most} {}", unit.symbol()),
        Goal::P99AtMost(most) => format!("p99 ≤ {most} {}", unit.symbol()),
        Goal::None => String::new(),
    }
}

fn met(line: &Line) -> &'static str {
    match line.met {
        Some(true) => "met",
        Some(false) => "MISSED",
        None => "",
    }
}

/// The figure of a cell: the 99th percentile where the goal is about it.
fn figure(line: &Line, figure: Figure) -> String {
    match line.row.goal {
        Goal::P99AtMost(_) => format!("{} {}", short(figure.p99), line.row.unit.symbol()),
        _ => format!("{} {}", short(figure.median), line.row.unit.symbol()),
    }
}

fn spread(line: &Line) -> String {
    let (low, high) = (short(line.ours.low), short(line.ours.high));
    if line.row.unit.rises() || matches!(line.row.unit, Unit::MiB | Unit::KiB) {
        return format!("{low}–{high}");
    }
    format!("{low}–{high}, p99 {}", short(line.ours.p99))
}

/// The whole table for a terminal.
pub fn text(lines: &[Line]) -> String {
    let mut cells: Vec<[String; 8]> =
        vec![["measure", "gvm", "rounds", "beside it", "", "ratio", "goal", ""].map(String::from)];
    for line in lines {
        let other = line.other.map_or(String::new(), |other| figure(line, other));
        let called = line.row.other.map_or("", |(_, called)| called);
        let ratio = line.ratio.map_or(String::new(), |(ratio, low, high)| {
            format!("{} ({}–{})", short(ratio), short(low), short(high))
        });
        cells.push([
            line.row.title.into(),
            figure(line, line.ours),
            spread(line),
            other,
            called.into(),
            ratio,
            goal(line.row.goal, line.row.unit),
            met(line).into(),
        ]);
    }
    let mut widths = [0; 8];
    for row in &cells {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for row in cells {
        let row: Vec<String> =
            row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        let _ = writeln!(text, "{}", row.join("  ").trim_end());
    }
    let missed: Vec<&str> =
        lines.iter().filter(|line| line.met == Some(false)).map(|line| line.row.title).collect();
    let with_goal = lines.iter().filter(|line| line.met.is_some()).count();
    let _ = writeln!(text, "\n{} of {with_goal} goals are met.", with_goal - missed.len());
    text
}

/// The main rows for the README.
pub fn markdown(lines: &[Line]) -> String {
    let mut text = String::from("| measure | GVM | beside it | ratio |\n| --- | --- | --- | --- |\n");
    for line in lines.iter().filter(|line| line.row.main) {
        let other = match (line.other, line.row.other) {
            (Some(other), Some((_, called))) => format!("{called} {}", figure(line, other)),
            _ => String::new(),
        };
        let ratio = line.ratio.map_or(String::new(), |(ratio, ..)| short(ratio));
        let _ = writeln!(text, "| {} | {} | {other} | {ratio} |", line.row.title, figure(line, line.ours));
    }
    text
}

/// Everything, for programs.
pub fn json(lines: &[Line], machine: &str, rounds: usize, skipped: &[String]) -> serde_json::Value {
    let figure = |figure: Figure| serde_json::json!({ "median": figure.median, "low": figure.low, "high": figure.high, "p99": figure.p99 });
    let rows: Vec<serde_json::Value> = lines
        .iter()
        .map(|line| {
            serde_json::json!({
                "measure": line.row.title,
                "unit": line.row.unit.symbol(),
                "gvm": figure(line.ours),
                "beside": line.row.other.map(|(_, called)| called),
                "other": line.other.map(figure),
                "ratio": line.ratio.map(|(ratio, ..)| ratio),
                "ratios": line.ratio.map(|(_, low, high)| [low, high]),
                "goal": goal(line.row.goal, line.row.unit),
                "met": line.met,
            })
        })
        .collect();
    serde_json::json!({ "machine": machine, "rounds": rounds, "rows": rows, "skipped": skipped })
}
