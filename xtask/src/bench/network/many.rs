//! Many containers with a published port each, started at once.

use anyhow::Result;

use super::super::engines::Contender;
use super::super::{table, turns};
use super::titles;

/// Containers started at once.
const AT_ONCE: usize = 100;

/// The first of the ports; below those the kernel gives out by itself.
const FIRST_PORT: usize = 20_000;

/// More rounds than this take minutes with the slowest engine.
const ROUNDS: usize = 3;

/// A table with one row.
pub(super) fn measure(contenders: &[Contender], rounds: usize) -> Result<String> {
    let rounds = rounds.min(ROUNDS);
    let lines: Vec<String> = (0..AT_ONCE)
        .map(|number| {
            let port = FIRST_PORT + number;
            format!("-d --name many{number} -p {port}:80 busybox sleep 100000")
        })
        .collect();
    let names: Vec<String> = (0..AT_ONCE).map(|number| format!("many{number}")).collect();
    let title = format!("{AT_ONCE} × `run -d -p …:80 busybox sleep` at once");
    let row = turns(&title, contenders, rounds, |one| {
        let time = one.timed_each(&lines)?;
        one.quietly_remove(&names.join(" "))?;
        Ok(time)
    })?;
    Ok(table::render(&titles(contenders), &[row]) + &format!("\n{rounds} rounds.\n"))
}
