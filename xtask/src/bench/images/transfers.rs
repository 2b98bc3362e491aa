//! How long it takes to pull, save, load and push.

use std::time::Duration;

use anyhow::{Context, Result};
use berth_testkit::bulk::Bulk;
use berth_testkit::registry::Registry;

use super::super::engines::{Contender, Place};
use super::super::table::{Row, Unit};
use super::super::{Options, median, quiet, table};
use super::disk::Disk;

/// What is measured, in this order, by each engine that has the command.
const STEPS: [&str; 5] = [
    "`pull`, cold: 40 layers, 940 MB unpacked",
    "`pull`, cold: one layer, 590 MB unpacked",
    "`save -o FILE` of the 40 layers",
    "`load -i FILE` of the same",
    "`push` of the one layer to a registry without it",
];

/// The engines that are wanted, by name.
pub(super) fn engines(options: &Options) -> Vec<&'static str> {
    ["berth", "docker", "podman"]
        .into_iter()
        .filter(|name| options.wants(name))
        .collect()
}

/// Starts one.
pub(super) fn start(name: &str, options: &Options) -> Result<Contender> {
    match name {
        "berth" => Contender::berth(&options.berth()?, Place::Machine),
        "docker" => Contender::docker(Place::Machine),
        _ => Contender::podman(),
    }
}

/// `pull` as this engine wants it for a registry without TLS.
pub(super) fn pull_line(name: &str, image: &str) -> String {
    let plain = if name == "podman" {
        "--tls-verify=false "
    } else {
        ""
    };
    format!("pull -q {plain}{image}")
}

pub(super) fn measure(options: &Options, registry: &Registry, rounds: usize) -> Result<String> {
    let engines = engines(options);
    let mut titles = vec![String::new(); engines.len()];
    let mut times = vec![vec![Vec::new(); STEPS.len()]; engines.len()];
    for round in 0..rounds {
        eprintln!("transfers, round {} of {rounds}", round + 1);
        for (at, name) in engines.iter().enumerate() {
            let disk = Disk::new()?;
            let one = start(name, options)?;
            titles[at].clone_from(&one.title);
            let taken = turn(name, &one, registry, &disk).with_context(|| one.title.clone())?;
            for (step, time) in taken.into_iter().enumerate() {
                times[at][step].extend(time);
            }
        }
    }
    let rows: Vec<Row> = STEPS
        .iter()
        .enumerate()
        .map(|(step, title)| Row {
            title: (*title).to_owned(),
            unit: Unit::Seconds,
            values: times
                .iter()
                .map(|steps| &steps[step])
                .map(|times| (!times.is_empty()).then(|| median(times) / 1000.0))
                .collect(),
        })
        .collect();
    Ok(format!(
        "{}\n{rounds} rounds.\n",
        table::render(&titles, &rows)
    ))
}

/// One engine, once through all steps.
fn turn(
    name: &str,
    one: &Contender,
    registry: &Registry,
    disk: &Disk,
) -> Result<Vec<Option<Duration>>> {
    let image =
        |bulk: Bulk| -> Result<String> { Ok(format!("{}/{}", registry.host(), bulk.name()?)) };
    let (many, large) = (image(Bulk::Many)?, image(Bulk::Large)?);
    let timed = |line: &str| {
        quiet::wait();
        one.timed(line)
    };
    let mut taken = vec![
        Some(timed(&pull_line(name, &many))?),
        Some(timed(&pull_line(name, &large))?),
        None,
        None,
        None,
    ];
    let has = |command: &str| one.quietly(&format!("{command} --help")).is_ok();
    if has("save") {
        let file = disk.path().join("saved.tar").display().to_string();
        taken[2] = Some(timed(&format!("save -o {file} {many}"))?);
        one.quietly(&format!("rmi -f {many}"))?;
        taken[3] = Some(timed(&format!("load -q -i {file}"))?);
    }
    if has("push") {
        let storage = disk.path().join("registry");
        let empty = Registry::serve_empty(&storage)?;
        let target = format!("{}/bulk/pushed:1", empty.host());
        one.quietly(&format!("tag {large} {target}"))?;
        let plain = if name == "podman" {
            "--tls-verify=false "
        } else {
            ""
        };
        taken[4] = Some(timed(&format!("push -q {plain}{target}"))?);
    }
    Ok(taken)
}
