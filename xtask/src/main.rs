//! Development tasks: `cargo xtask <task>`. One file per task; `just` and CI call the same.

mod bench;
mod cargo;
mod conformance;
mod deps;
mod fuzz;
mod registry;
mod test;
mod test_images;
mod test_vm;
mod tidy;
mod watch;

use std::process::ExitCode;

use anyhow::{Result, bail};

/// Name, what it does, and the function.
type Task = (&'static str, &'static str, fn(&[String]) -> Result<()>);

const TASKS: [Task; 10] = [
    (
        "test",
        "everything CI runs: deps, tidy, fmt, clippy, build, all tests",
        test::run,
    ),
    (
        "check",
        "what needs no privileges: tidy, fmt, clippy, tests beside the code",
        test::check,
    ),
    (
        "tidy",
        "rules a compiler does not check: dependencies, sizes, wording, links",
        tidy::run,
    ),
    (
        "deps",
        "install with apt-get what tests need [bench] [vm]",
        deps::run,
    ),
    (
        "test-images",
        "make the test images from Debian's packages",
        test_images::run,
    ),
    (
        "registry",
        "serve the test images on 127.0.0.1 [--port N] until ctrl-c",
        registry::run,
    ),
    (
        "conformance",
        "stock clients and engines against Berth and against Docker",
        conformance::run,
    ),
    (
        "fuzz",
        "one target of fuzz/fuzz_targets [seconds]",
        fuzz::run,
    ),
    (
        "bench",
        "Berth beside Docker and Podman, as ratios [network [part …]] [--write] [--rounds N]",
        bench::run,
    ),
    (
        "test-vm",
        "cgroup v2, bare Debian and power cuts in a virtual machine [part …]",
        test_vm::run,
    ),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match dispatch(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(arguments: &[String]) -> Result<()> {
    let Some((name, rest)) = arguments.split_first() else {
        print!("{}", usage());
        return Ok(());
    };
    match TASKS.iter().find(|(task, _, _)| task == name) {
        Some((_, _, run)) => run(rest),
        None if name == "help" || name == "--help" => {
            print!("{}", usage());
            Ok(())
        }
        None => bail!("no task called {name:?}\n{}", usage()),
    }
}

fn usage() -> String {
    let mut text = String::from("cargo xtask <task>\n\n");
    for (name, what, _) in TASKS {
        text.push_str(&format!("  {name:<12} {what}\n"));
    }
    text
}
