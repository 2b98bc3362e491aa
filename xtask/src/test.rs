//! `test`: the one command for everything CI runs; `check`: the part that needs no privileges.

use std::process::Command;
use std::time::Instant;

use anyhow::{Result, bail};
use berth_testkit::{images, needs, scratch};

use crate::cargo::{cargo, command};
use crate::{deps, tidy, watch};

/// Tests wait for other processes most of the time: more of them than there are processors.
const THREADS_PER_PROCESSOR: usize = 3;

/// The major version of the stock client whose words Berth's client has.
const STOCK_CLIENT: u32 = 28;

/// Everything: dependencies, rules, lints, build, tests; and nothing is left on the machine.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    if !arguments.is_empty() {
        bail!("test takes no arguments; one test is `cargo test -p CRATE NAME`");
    }
    let start = Instant::now();
    step(start, "what the tests need", || deps::run(&[]))?;
    rules(start)?;
    // Made before the clock of any test runs, and only once.
    step(start, "test images", || {
        images::archive_file(&images::busybox()?)?;
        images::archive_file(&images::debian()?)?;
        Ok(())
    })?;
    for path in scratch::sweep() {
        eprintln!("removed what an earlier run left in {}", path.display());
    }
    let tests = step(start, "tests", || {
        watch::tests(&mut cargo_test(&["--workspace", "--no-fail-fast"]))
    });
    let left = scratch::sweep();
    tests?;
    if !left.is_empty() {
        bail!("tests left something in {left:?}");
    }
    let docker = needs::docker_client();
    if docker < STOCK_CLIENT {
        eprintln!(
            "== the docker command here is of version {docker}: what takes the words of version {STOCK_CLIENT} was tested with \
             Berth's own client alone"
        );
    }
    eprintln!("== all passed after {} s", start.elapsed().as_secs());
    Ok(())
}

/// Rules, lints and the tests beside the code.
pub(crate) fn check(arguments: &[String]) -> Result<()> {
    if !arguments.is_empty() {
        bail!("check takes no arguments");
    }
    let start = Instant::now();
    rules(start)?;
    step(start, "tests beside the code", || {
        watch::tests(&mut cargo_test(&["--workspace", "--lib"]))
    })
}

fn rules(start: Instant) -> Result<()> {
    step(start, "tidy", || tidy::run(&[]))?;
    step(start, "formatting", || cargo(["fmt", "--all", "--check"]))?;
    step(start, "lints", || {
        let own = [
            "clippy",
            "--quiet",
            "--workspace",
            "--all-targets",
            "--",
            "-D",
            "warnings",
        ];
        cargo(own)
    })
}

fn cargo_test(arguments: &[&str]) -> Command {
    let processors = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    let mut command = command();
    command
        .arg("test")
        .args(arguments)
        .env(
            "RUST_TEST_THREADS",
            (processors * THREADS_PER_PROCESSOR).to_string(),
        )
        .stdin(std::process::Stdio::null());
    command
}

fn step(start: Instant, what: &str, work: impl FnOnce() -> Result<()>) -> Result<()> {
    eprintln!("== {what} (after {} s)", start.elapsed().as_secs());
    work()
}
