//! Watching over test programs: one that hangs is shown with everything it waits for, ended, and a failure.
//!
//! Without this a lost wake-up is hours of silence on a machine where nobody can look.

use std::collections::HashMap;
use std::fs;
use std::os::fd::OwnedFd;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use berth_testkit::{hang, process};

/// Longest life of one test program; the slowest takes about a minute on two quiet processors.
const LIMIT: Duration = Duration::from_secs(600);

/// Time between two looks.
const STEP: Duration = Duration::from_secs(1);

/// Runs `cargo test …` as [`visibly`](crate::cargo::visibly) does; a test program that lives for too long is ended.
pub(crate) fn tests(command: &mut Command) -> Result<()> {
    within(LIMIT, command)
}

fn within(limit: Duration, command: &mut Command) -> Result<()> {
    let line = crate::cargo::line_of(command);
    eprintln!("+ {line}");
    let mut cargo = command.spawn().with_context(|| format!("start `{line}`"))?;
    let id = i32::try_from(cargo.id()).context("the id of cargo")?;
    let handle = handle_of(id).with_context(|| format!("open a handle of `{line}`"))?;
    let mut first_seen: HashMap<i32, Instant> = HashMap::new();
    let mut hung = Vec::new();
    while !process::wait_for_end(&handle, STEP) {
        let programs: Vec<i32> = process::children(id)
            .into_iter()
            .filter(|child| is_test(*child))
            .collect();
        first_seen.retain(|seen, _| programs.contains(seen));
        for program in programs {
            let since = *first_seen.entry(program).or_insert_with(Instant::now);
            if since.elapsed() > limit {
                hung.push(process::command_line(program));
                show_and_end(program);
                first_seen.remove(&program);
            }
        }
    }
    let status = cargo.wait().with_context(|| format!("wait for `{line}`"))?;
    if !hung.is_empty() {
        bail!(
            "ended after {} s without an end of their own: {}",
            limit.as_secs(),
            hung.join("; ")
        );
    }
    if !status.success() {
        bail!("`{line}` failed ({status})");
    }
    Ok(())
}

fn handle_of(id: i32) -> Option<OwnedFd> {
    use rustix::process::{Pid, PidfdFlags, pidfd_open};
    pidfd_open(Pid::from_raw(id)?, PidfdFlags::empty()).ok()
}

/// Cargo's children are compilers and what they made; the latter lie in a directory `deps`.
fn is_test(id: i32) -> bool {
    fs::read_link(format!("/proc/{id}/exe"))
        .is_ok_and(|path| path.parent().is_some_and(|parent| parent.ends_with("deps")))
}

/// Prints the program and all it started, each with what it waits for in the kernel; then kills them.
fn show_and_end(program: i32) {
    eprintln!("== hangs:\n{}", hang::describe_with(program));
    let mut family = vec![program];
    family.extend(process::descendants(program));
    for member in family {
        process::send(member, process::Signal::KILL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_hangs_is_ended_and_what_ends_is_left_alone() {
        let scratch = berth_testkit::scratch::Scratch::new();
        let program = scratch.path().join("deps").join("hangs");
        fs::create_dir(program.parent().unwrap()).unwrap();
        fs::copy("/bin/sleep", &program).unwrap();
        let run = |seconds: &str| {
            let script = format!("{} {seconds}; true", program.display());
            within(
                Duration::from_secs(1),
                Command::new("sh").args(["-c", &script]),
            )
        };
        run("0").unwrap();
        let told = run("600").unwrap_err().to_string();
        assert!(told.contains("deps/hangs 600"), "{told}");
    }
}
