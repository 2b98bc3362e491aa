//! The start of a container with one published port, on engines that have more and more published.
//!
//! One engine after the other: what a thousand ports of one cost (Docker's are two thousand processes) would be
//! measured with the other's starts.

use anyhow::Result;

use super::super::engines::Contender;
use super::super::table::{self, Row, Unit};
use super::super::{memory, turns};
use super::{empty, plot, titles};

/// Ports published between two points of the curve, by one container with a range.
const STEP: usize = 100;

/// Steps after the first point.
const STEPS: usize = 10;

/// The first port of the first range.
const FIRST_PORT: usize = 20_000;

/// The port of the container whose start is measured; in none of the ranges.
const PORT: usize = 19_999;

/// One engine's curve.
struct Curve {
    /// Milliseconds, by step.
    points: Vec<f64>,
    /// Processes that the published ports have added.
    processes: usize,
}

/// A table of the two ends, and the curves.
pub(super) fn measure(contenders: &[Contender], rounds: usize) -> Result<String> {
    let curves = contenders
        .iter()
        .map(|one| curve(one, rounds))
        .collect::<Result<Vec<Curve>>>()?;
    let names = titles(contenders);
    let points: Vec<Vec<f64>> = curves.iter().map(|curve| curve.points.clone()).collect();
    let published: Vec<usize> = (0..=STEPS).map(|step| step * STEP).collect();
    let mut text = plot::bars(&names, &published, &points, Unit::Milliseconds);
    text.push('\n');
    let ends: Vec<Row> = [0, STEPS]
        .map(|step| Row {
            title: title(step),
            unit: Unit::Milliseconds,
            values: curves
                .iter()
                .map(|curve| curve.points.get(step).copied())
                .collect(),
        })
        .into();
    text.push_str(&table::render(&names, &ends));
    let processes: Vec<String> = names
        .iter()
        .zip(&curves)
        .map(|(name, curve)| format!("{name} {}", curve.processes))
        .collect();
    text.push_str(&format!(
        "\n{rounds} rounds, one engine after the other. Processes of the engine that {} published ports in {STEPS} containers add: {}.\n",
        STEP * STEPS,
        processes.join(", ")
    ));
    Ok(text)
}

fn title(step: usize) -> String {
    let published = step * STEP;
    format!("`run -d -p {PORT}:80`, {published} ports published before")
}

fn curve(one: &Contender, rounds: usize) -> Result<Curve> {
    let line = format!("-d --name one -p {PORT}:80 busybox sleep 100000");
    let before = memory::members(one).len();
    let mut points = Vec::new();
    for step in 0..=STEPS {
        if let Some(last) = step.checked_sub(1) {
            let first = FIRST_PORT + last * STEP;
            let range = format!("{first}-{}", first + STEP - 1);
            one.quietly_run(&format!(
                "-d --name range{step} -p {range}:{range} busybox sleep 100000"
            ))?;
        }
        let row = turns(&title(step), std::slice::from_ref(one), rounds, |one| {
            let time = one.timed_run(&line)?;
            one.quietly_remove("one")?;
            Ok(time)
        })?;
        points.extend(row.values.into_iter().flatten());
    }
    let processes = memory::members(one).len().saturating_sub(before);
    empty(one)?;
    Ok(Curve { points, processes })
}
