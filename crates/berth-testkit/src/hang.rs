//! What a test that does not end waits for, and its end.
//!
//! Without this a lost wake-up is silence: all that a test has started is shown, each process with its command line
//! and the place in the kernel where it sleeps, and then killed.
//!
//! Orphans belong to it as well as long as this process is their reaper: see [`adopt_orphans`].

use std::fmt::Write;
use std::fs;
use std::time::Duration;

use rustix::process::{Signal, WaitOptions};

use crate::{process, wait};

/// Longest time for what was killed to be gone.
const END: Duration = Duration::from_secs(10);

/// From now on, orphans among this process' descendants become its children.
pub fn adopt_orphans() {
    // A kernel without it would only show and end less.
    let _unknown = rustix::process::set_child_subreaper(Some(rustix::process::getpid()));
}

/// Living descendants of this process, parents before children, each with its distance.
pub fn descendants() -> Vec<(i32, usize)> {
    family(std::process::id() as i32)
}

fn family(of: i32) -> Vec<(i32, usize)> {
    let parents: Vec<(i32, i32)> = process::all()
        .into_iter()
        .filter_map(|pid| {
            let (parent, state) = process::parent_and_state(pid)?;
            (!matches!(state, 'Z' | 'X')).then_some((pid, parent))
        })
        .collect();
    let mut found = Vec::new();
    let mut waiting = vec![(of, 0)];
    while let Some((parent, depth)) = waiting.pop() {
        if depth > 0 {
            found.push((parent, depth));
        }
        let children = parents.iter().filter(|(_, of)| *of == parent);
        waiting.extend(children.map(|(pid, _)| (*pid, depth + 1)));
    }
    found
}

/// All descendants in words: command line, state, and for every thread the system call, `wchan` and the kernel's
/// stack (proc(5)).
pub fn describe() -> String {
    describe_all(descendants())
}

/// As [`describe`], of a process and its descendants.
pub fn describe_with(process: i32) -> String {
    let mut members = vec![(process, 0)];
    members.extend(family(process));
    describe_all(members)
}

fn describe_all(members: Vec<(i32, usize)>) -> String {
    let mut text = String::new();
    for (pid, depth) in members {
        let indent = "  ".repeat(depth);
        let state = process::parent_and_state(pid).map_or('?', |(_, state)| state);
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{indent}{pid} {state} {}", process::command_line(pid));
        for thread in fs::read_dir(format!("/proc/{pid}/task"))
            .into_iter()
            .flatten()
            .flatten()
        {
            let read =
                |name: &str| fs::read_to_string(thread.path().join(name)).unwrap_or_default();
            let _ = writeln!(
                text,
                "{indent}  thread {} {}: in {}, system call {}",
                thread.file_name().to_string_lossy(),
                read("comm").trim(),
                read("wchan").trim(),
                read("syscall").trim()
            );
            for line in read("stack").lines() {
                let _ = writeln!(text, "{indent}    {line}");
            }
        }
    }
    text
}

/// Kills all descendants, also those made meanwhile; true when none is left.
pub fn end() -> bool {
    wait::within(END, || {
        let left = descendants();
        for (pid, _) in &left {
            process::send(*pid, Signal::KILL);
        }
        left.is_empty().then_some(())
    })
    .is_some()
}

/// Reaps children that have ended; their ids and whether they succeeded. Not for a process that waits for children
/// elsewhere at the same time.
pub fn reap() -> Vec<(i32, bool)> {
    let mut ended = Vec::new();
    while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
        ended.push((pid.as_raw_nonzero().get(), status.exit_status() == Some(0)));
    }
    ended
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_family_is_shown() {
        let mut child = std::process::Command::new("sh")
            .args(["-c", "sleep 600 & wait"])
            .spawn()
            .unwrap();
        let shell = child.id() as i32;
        // The shell's own command line has these words as well.
        let sleeper = wait::until_some("it has a child", || {
            process::descendants(shell)
                .into_iter()
                .find(|pid| process::command_line(*pid) == "sleep 600")
        });
        let shown = |pid: i32| describe().contains(&format!("{pid} S sleep 600"));
        wait::until("it sleeps", || shown(sleeper));
        process::send(sleeper, Signal::KILL);
        child.wait().unwrap();
        assert!(!shown(sleeper));
    }
}
