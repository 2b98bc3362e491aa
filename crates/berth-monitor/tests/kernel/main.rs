//! Real monitors with real containers. Needs root, namespaces, overlayfs and a static busybox.
//!
//! The program is its own monitor: called with the word `monitor` it is one, with `daemon` it is a daemon that launches a
//! container and waits to be killed. Otherwise it runs the tests.

// These are tests, though not by the attribute that the lint knows.
#![allow(clippy::unwrap_used)]

mod dns;
mod exec;
mod lifetime;
mod logs;
mod programs;
mod run;
mod runner;
mod stage;
mod streams;

use std::ffi::OsString;
use std::process::ExitCode;

use berth_testkit::harness;

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    match arguments.get(1).and_then(|word| word.to_str()) {
        Some("monitor") => berth_monitor::main(&arguments[2..]),
        Some("daemon") => lifetime::daemon(&arguments[2..]),
        Some("dns-daemon") => dns::daemon(&arguments[2..]),
        _ => {
            berth_sys::signal::forget_inherited().unwrap();
            harness::main(
                &[
                    dns::TESTS,
                    exec::TESTS,
                    lifetime::TESTS,
                    logs::TESTS,
                    programs::TESTS,
                    run::TESTS,
                    streams::TESTS,
                ]
                .concat(),
            )
        }
    }
}
