//! `test-vm`: what this machine cannot show — cgroup v2 under systemd, a bare Debian, a power cut.
//!
//! The executables are static, the tests too: they are copied into the machine and run there.

mod machine;
mod powercut;
mod readme;
mod service;
mod tests;

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Result, bail};

use self::machine::{Machine, Recipe};
use crate::cargo::{cargo, output_directory};
use crate::deps;

/// A part: its name, and what it shows.
const PARTS: [&str; 5] = ["bare", "service", "powercut", "tests", "readme"];

/// Runs the named parts, or all; `tests=PATTERN` runs the tests that match, `readme=first` one of the two commands.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let name_of = |argument: &str| argument.split('=').next().unwrap_or_default().to_owned();
    if let Some(other) = arguments
        .iter()
        .find(|one| !PARTS.contains(&name_of(one).as_str()))
    {
        bail!("test-vm knows {}, not {other:?}", PARTS.join(", "));
    }
    let chosen =
        |part: &str| arguments.is_empty() || arguments.iter().any(|one| name_of(one) == part);
    deps::for_vm()?;
    if chosen("bare") || chosen("service") || chosen("powercut") {
        let berth = executable()?;
        let machine = Machine::create(&Recipe {
            name: "bare",
            berth: Some(&berth),
            ..Recipe::default()
        })?;
        part(chosen("bare"), "bare", || bare(&machine))?;
        part(chosen("service"), "service", || service::run(&machine))?;
        part(chosen("powercut"), "powercut", || powercut::run(&machine))?;
    }
    let word = |prefix| arguments.iter().find_map(|one| one.strip_prefix(prefix));
    part(chosen("tests"), "tests", || {
        tests::run(&executable()?, word("tests=").unwrap_or("."))
    })?;
    part(chosen("readme"), "readme", || readme::run(word("readme=")))?;
    println!("test-vm: all passed");
    Ok(())
}

fn part(chosen: bool, name: &str, work: impl FnOnce() -> Result<()>) -> Result<()> {
    if !chosen {
        return Ok(());
    }
    let start = Instant::now();
    println!("== {name}");
    work()?;
    println!("== {name}: passed after {} s", start.elapsed().as_secs());
    Ok(())
}

/// The executable of `BERTH_BINARY`, else a fresh one.
fn executable() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("BERTH_BINARY") {
        return Ok(path.into());
    }
    cargo(["build", "--quiet", "--release", "--package", "berth"])?;
    Ok(output_directory("release")?.join("berth"))
}

/// The first command of README.md with nothing but the executable there.
fn bare(machine: &Machine) -> Result<()> {
    machine.inside("berth run --rm berth/hello")?;
    machine.inside("berth ps -a && berth info")?;
    service::no_group(machine)?;
    // The monitor that is kept ready goes with the daemon. Brackets, so that the pattern does not find itself.
    machine.inside(
        "kill $(pgrep -f '[b]erth daemon') && \
         timeout 60 sh -c 'while pidof -q berth; do sleep 0.1; done'",
    )
}
