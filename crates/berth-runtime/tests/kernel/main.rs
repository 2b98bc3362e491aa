//! Kernel tests of the runtime: real namespaces, mounts, control groups and filters.
//!
//! They have a harness of their own, because the runtime clones the calling process and therefore refuses a caller
//! with more than one thread, which the standard harness has. It speaks as much of that one's command line as
//! `cargo test` and `cargo nextest` use. Every test runs in a process of its own.

#![allow(clippy::print_stdout, clippy::print_stderr)]
#![allow(clippy::unwrap_used)] // in tests it states the expectation

mod command_line;
mod devices;
mod exec;
mod fixture;
mod hooks;
mod lifecycle;
mod mounts;
mod namespaces;
mod process;
mod security;

/// A test: its name and its body, which panics on failure.
type Test = (&'static str, fn());

/// Makes the list of a module's tests, each name with the module's before it.
#[macro_export]
macro_rules! tests {
    ($($name:ident),* $(,)?) => {
        pub(crate) const TESTS: &[(&str, fn())] = &[
            $((concat!(module_path!(), "::", stringify!($name)), $name)),*
        ];
    };
}

fn main() -> std::process::ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // The tests of the command line start this program as the runtime.
    if arguments.first().is_some_and(|word| word == "runtime") {
        return berth_runtime::main(std::env::args_os().skip(2).collect());
    }
    run_tests(&arguments);
    std::process::ExitCode::SUCCESS
}

fn run_tests(arguments: &[String]) {
    let tests: Vec<Test> = [
        command_line::TESTS,
        devices::TESTS,
        exec::TESTS,
        hooks::TESTS,
        lifecycle::TESTS,
        mounts::TESTS,
        namespaces::TESTS,
        process::TESTS,
        security::TESTS,
    ]
    .concat()
    .into_iter()
    .map(|(name, body)| (name.strip_prefix("kernel::").unwrap_or(name), body))
    .collect();
    let has = |word: &str| arguments.iter().any(|argument| argument == word);
    if has("--list") {
        // None is marked as ignored.
        if !has("--ignored") {
            for (name, _) in &tests {
                println!("{name}: test");
            }
        }
        return;
    }
    let filters: Vec<&String> = arguments
        .iter()
        .filter(|argument| !argument.starts_with('-'))
        .collect();
    let chosen: Vec<&Test> = tests
        .iter()
        .filter(|(name, _)| {
            filters.is_empty()
                || filters.iter().any(|filter| {
                    if has("--exact") {
                        name == filter
                    } else {
                        name.contains(filter.as_str())
                    }
                })
        })
        .collect();
    fixture::require_root();
    if let [(_, body)] = chosen[..] {
        body();
        return;
    }
    let mut failed = Vec::new();
    for (name, _) in &chosen {
        let passed = std::process::Command::new("/proc/self/exe")
            .args([name, "--exact"])
            .status()
            .unwrap()
            .success();
        println!("test {name} ... {}", if passed { "ok" } else { "FAILED" });
        if !passed {
            failed.push(*name);
        }
    }
    println!(
        "{} passed, {} failed",
        chosen.len() - failed.len(),
        failed.len()
    );
    if !failed.is_empty() {
        std::process::exit(101);
    }
}
