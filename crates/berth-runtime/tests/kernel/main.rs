//! Kernel tests of the runtime: real namespaces, mounts, control groups and filters.
//!
//! They have a harness of their own, because the runtime clones the calling process and therefore refuses a caller
//! with more than one thread, which the standard harness has.

#![allow(clippy::unwrap_used)] // in tests it states the expectation

mod command_line;
mod devices;
mod exec;
mod fixture;
mod hooks;
mod lifecycle;
mod mounts;
mod namespaces;
mod net_devices;
mod process;
mod security;

use std::process::ExitCode;

use berth_testkit::harness::{self, Test};

/// Makes the list of a module's tests, each name with the module's before it.
#[macro_export]
macro_rules! tests {
    ($($name:ident),* $(,)?) => {
        pub(crate) const TESTS: &[(&str, fn())] = &[
            $((concat!(module_path!(), "::", stringify!($name)), $name)),*
        ];
    };
}

fn main() -> ExitCode {
    // The tests of the command line start this program as the runtime.
    if std::env::args()
        .nth(1)
        .is_some_and(|word| word == "runtime")
    {
        return berth_runtime::main(std::env::args_os().skip(2).collect());
    }
    fixture::require_root();
    berth_sys::signal::forget_inherited().unwrap();
    // Users of the containers read the bundles.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    let tests: Vec<Test> = [
        command_line::TESTS,
        devices::TESTS,
        exec::TESTS,
        hooks::TESTS,
        lifecycle::TESTS,
        mounts::TESTS,
        namespaces::TESTS,
        net_devices::TESTS,
        process::TESTS,
        security::TESTS,
    ]
    .concat()
    .into_iter()
    .map(|(name, body)| Test {
        name: name.strip_prefix("kernel::").unwrap_or(name),
        body,
    })
    .collect();
    harness::main(&tests)
}
