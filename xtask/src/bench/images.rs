//! `bench images`: moving images, Berth beside Docker and Podman on one registry on loopback.
//!
//! Every engine begins each round with nothing, on a file system of its own that is made for it: what one deleted
//! before is not put on the next one's bill. The page cache is warm with what the registry sends.

mod disk;
mod floor;
mod memory;
mod transfers;

use anyhow::{Result, bail};
use berth_testkit::bulk::Bulk;
use berth_testkit::registry::Registry;

use super::{Options, page, table};

/// Rounds unless told otherwise: each takes a minute.
const ROUNDS: usize = 3;

/// Name, which is also that of its place in the page, and the measurement, which gives the text for it.
type Part = (
    &'static str,
    fn(&Options, &Registry, usize) -> Result<String>,
);

const PARTS: [Part; 3] = [
    ("transfers", transfers::measure),
    ("memory", memory::measure),
    ("floor", floor::measure),
];

/// The names of all parts.
pub(super) fn names() -> Vec<&'static str> {
    PARTS.map(|(name, _)| name).to_vec()
}

/// Measures the parts named, all if none is.
pub(super) fn run(options: &Options, wanted: &[String]) -> Result<()> {
    if let Some(unknown) = wanted.iter().find(|one| !names().contains(&one.as_str())) {
        bail!("bench images knows {}, not {unknown:?}", names().join(", "));
    }
    let rounds = if options.rounds == super::ROUNDS {
        ROUNDS
    } else {
        options.rounds
    };
    disk::sweep();
    eprintln!("making images, or finding them");
    let registry = Registry::serve_bulk(&[Bulk::Many, Bulk::Large, Bulk::Small])?;
    for (name, measure) in PARTS {
        if !wanted.is_empty() && !wanted.iter().any(|one| one == name) {
            continue;
        }
        let mut text = measure(options, &registry, rounds)?;
        text.push_str(&format!("\nMedians, on {}.\n", table::machine()));
        println!("{text}");
        if options.write {
            page::replace(&format!("images {name}"), &text)?;
        }
    }
    Ok(())
}
