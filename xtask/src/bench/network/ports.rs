//! The start of a container with one published port, on engines that have more and more published.

use anyhow::Result;

use super::super::engines::Contender;
use super::super::table::{self, Row, Unit};
use super::super::{memory, turns};
use super::{plot, titles};

/// Ports published between two points of the curve, by one container with a range.
const STEP: usize = 100;

/// Steps after the first point.
const STEPS: usize = 10;

/// The first port of the first range.
const FIRST_PORT: usize = 20_000;

/// The port of the container whose start is measured; in none of the ranges.
const PORT: usize = 19_999;

/// A table of the two ends, and the curves.
pub(super) fn measure(contenders: &[Contender], rounds: usize) -> Result<String> {
    let line = format!("-d --name one -p {PORT}:80 busybox sleep 100000");
    let mut points: Vec<Row> = Vec::new();
    let mut before = Vec::new();
    for step in 0..=STEPS {
        if let Some(last) = step.checked_sub(1) {
            let first = FIRST_PORT + last * STEP;
            let range = format!("{first}-{}", first + STEP - 1);
            for one in contenders {
                one.quietly_run(&format!(
                    "-d --name range{step} -p {range}:{range} busybox sleep 100000"
                ))?;
            }
        } else {
            before = contenders.iter().map(memory::members).collect();
        }
        let title = format!(
            "`run -d -p {PORT}:80`, {} ports published before",
            step * STEP
        );
        points.push(turns(&title, contenders, rounds, |one| {
            let time = one.timed_run(&line)?;
            one.quietly_remove("one")?;
            Ok(time)
        })?);
    }
    let processes: Vec<String> = contenders
        .iter()
        .zip(&before)
        .map(|(one, before)| {
            let more = memory::members(one).len().saturating_sub(before.len());
            format!("{} {more}", one.title)
        })
        .collect();

    let names = titles(contenders);
    let curves: Vec<Vec<f64>> = (0..contenders.len())
        .map(|at| points.iter().filter_map(|row| row.values[at]).collect())
        .collect();
    let published: Vec<usize> = (0..=STEPS).map(|step| step * STEP).collect();
    let mut text = plot::bars(&names, &published, &curves, Unit::Milliseconds);
    points.drain(1..STEPS);
    text.push('\n');
    text.push_str(&table::render(&names, &points));
    text.push_str(&format!(
        "\n{rounds} rounds. Processes of the engine that {} published ports in {STEPS} containers add: {}.\n",
        STEP * STEPS,
        processes.join(", ")
    ));
    Ok(text)
}
