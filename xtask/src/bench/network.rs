//! `bench network`: what networks cost, Berth beside Docker.
//!
//! Each daemon runs in a network namespace of its own, which plays its host, with another one that plays a machine
//! outside; the machine's own network stays as it is. Podman is left out: it has no default bridge that could be
//! kept in such a namespace.

mod many;
mod plot;
mod ports;
mod runs;
mod traffic;

use anyhow::{Context, Result, bail};
use berth_testkit::wait;

use super::engines::{Contender, Place};
use super::{Options, page, table};

/// Name, which is also that of its place in the page, and the measurement, which gives the text for it.
type Part = (&'static str, fn(&[Contender], usize) -> Result<String>);

const PARTS: [Part; 4] = [
    ("runs", runs::measure),
    ("many", many::measure),
    ("ports", ports::measure),
    ("traffic", traffic::measure),
];

/// The names of all parts.
pub(super) fn names() -> Vec<&'static str> {
    PARTS.map(|(name, _)| name).to_vec()
}

/// Measures the parts named, all if none is.
pub(super) fn run(options: &Options, wanted: &[String]) -> Result<()> {
    if let Some(unknown) = wanted.iter().find(|one| !names().contains(&one.as_str())) {
        bail!(
            "bench network knows {}, not {unknown:?}",
            names().join(", ")
        );
    }
    let mut contenders = Vec::new();
    if options.wants("berth") {
        contenders.push(Contender::berth(&options.berth()?, Place::Network)?);
    }
    if options.wants("docker") {
        contenders.push(Contender::docker(Place::Network)?);
    }
    for (name, measure) in PARTS {
        if !wanted.is_empty() && !wanted.iter().any(|one| one == name) {
            continue;
        }
        let rounds = options.rounds;
        let mut text = measure(&contenders, rounds).with_context(|| format!("measure {name}"))?;
        text.push_str(&format!("\nMedians, on {}.\n", table::machine()));
        println!("{text}");
        if options.write {
            page::replace(&format!("network {name}"), &text)?;
        }
        for one in &contenders {
            empty(one).with_context(|| format!("after {name}"))?;
        }
    }
    Ok(())
}

/// The next part finds no container of the last.
fn empty(one: &Contender) -> Result<()> {
    let daemon = one.daemon()?;
    for id in daemon.containers() {
        one.quietly_remove(&id)?;
    }
    wait::within(wait::PATIENCE, || {
        daemon.containers().is_empty().then_some(())
    })
    .with_context(|| format!("{}: containers stay", one.title))
}

fn titles(contenders: &[Contender]) -> Vec<String> {
    contenders.iter().map(|one| one.title.clone()).collect()
}
