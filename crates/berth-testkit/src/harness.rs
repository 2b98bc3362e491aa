//! A test harness for programs that cannot have the standard one, because what they test refuses a caller with more
//! than one thread or starts the test program again.
//!
//! Speaks as much of the standard harness' command line as `cargo test` and `cargo nextest` use. Every test runs in a
//! process of its own, with a directory for temporary files that is removed after it, and has a [`LIMIT`]: one that does
//! not end is shown with all it has started ([`hang`]), killed, and failed. So is one that leaves processes behind.

#![allow(clippy::print_stdout, clippy::print_stderr)] // to report is its task

use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use crate::scratch::Scratch;
use crate::{hang, wait};

/// Longest run of one test; the slowest takes a few seconds on a quiet machine.
pub const LIMIT: Duration = Duration::from_secs(120);

/// Longest time for what a test has started to end by itself once the test has.
const AFTERMATH: Duration = Duration::from_secs(20);

/// First word of the command line of a process that is one test; its name follows.
const ALONE: &str = "alone";

/// A test.
#[derive(Debug, Clone, Copy)]
pub struct Test {
    /// Its name, with the modules' before it.
    pub name: &'static str,
    /// Panics on failure.
    pub body: fn(),
}

/// Runs the tests that the command line asks for.
pub fn main(tests: &[Test]) -> ExitCode {
    within(LIMIT, AFTERMATH, tests)
}

/// As [`main`] with other limits: of one test, and of the end of what it has started.
pub fn within(limit: Duration, aftermath: Duration, tests: &[Test]) -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [first, name] = &arguments[..]
        && first == ALONE
    {
        for test in tests.iter().filter(|test| test.name == name) {
            (test.body)();
        }
        return ExitCode::SUCCESS;
    }
    let chosen = chosen(tests, &arguments);
    let has = |word: &str| arguments.iter().any(|argument| argument == word);
    if has("--list") {
        for test in &chosen {
            println!("{}: test", test.name);
        }
        return ExitCode::SUCCESS;
    }
    hang::adopt_orphans();
    let mut failed = Vec::new();
    for test in &chosen {
        let passed = passes(test, limit, aftermath);
        println!(
            "test {} ... {}",
            test.name,
            if passed { "ok" } else { "FAILED" }
        );
        if !passed {
            failed.push(test.name);
        }
    }
    println!(
        "\ntest result: {} passed; {} failed {}",
        chosen.len() - failed.len(),
        failed.len(),
        failed.join(" ")
    );
    ExitCode::from(if failed.is_empty() { 0 } else { 101 })
}

/// The tests that the words of a command line mean; none is ever marked as ignored.
fn chosen<'a>(tests: &'a [Test], arguments: &[String]) -> Vec<&'a Test> {
    let has = |word: &str| arguments.iter().any(|argument| argument == word);
    let mut words: Vec<&str> = Vec::new();
    let mut skipped: Vec<&str> = Vec::new();
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        match argument.as_str() {
            "--skip" => skipped.extend(rest.next().map(String::as_str)),
            "--format" | "--test-threads" | "--color" | "-Z" | "--logfile" => {
                rest.next();
            }
            flag if flag.starts_with('-') => {}
            word => words.push(word),
        }
    }
    let fits = |name: &str, word: &str| {
        if has("--exact") {
            name == word
        } else {
            name.contains(word)
        }
    };
    tests
        .iter()
        .filter(|_| !has("--ignored"))
        .filter(|test| words.is_empty() || words.iter().any(|word| fits(test.name, word)))
        .filter(|test| !skipped.iter().any(|word| fits(test.name, word)))
        .collect()
}

/// Runs one test in a process of its own.
fn passes(test: &Test, limit: Duration, aftermath: Duration) -> bool {
    let scratch = Scratch::new();
    // Reaped with all others below, not by its handle.
    let id = match Command::new("/proc/self/exe")
        .args([ALONE, test.name])
        .env("TMPDIR", scratch.path())
        .stdin(Stdio::null())
        .spawn()
    {
        Ok(child) => child.id() as i32,
        Err(error) => {
            eprintln!("start {}: {error}", test.name);
            return false;
        }
    };
    let mut passed = None;
    let mut look = || {
        // Orphans as well, and at once: a PID namespace does not end before all that were in it are reaped.
        for (pid, success) in hang::reap() {
            if pid == id {
                passed = Some(success);
            }
        }
        passed
    };
    let ended = wait::within(limit, &mut look);
    if ended.is_none() {
        eprintln!(
            "{} does not end within {} s:\n{}",
            test.name,
            limit.as_secs(),
            hang::describe()
        );
        hang::end();
    }
    let alone = wait::within(aftermath, || {
        look();
        hang::descendants().is_empty().then_some(())
    });
    if alone.is_none() {
        eprintln!("{} has left behind:\n{}", test.name, hang::describe());
        hang::end();
        hang::reap();
    }
    ended == Some(true) && alone.is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_choose_tests() {
        let tests = ["a::one", "a::two", "b::one"].map(|name| Test { name, body: || {} });
        let names = |line: &str| -> Vec<&str> {
            let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
            chosen(&tests, &words)
                .iter()
                .map(|test| test.name)
                .collect()
        };
        assert_eq!(names("--nocapture").len(), 3);
        assert_eq!(names("one --format terse"), ["a::one", "b::one"]);
        assert_eq!(names("--exact a::one b"), ["a::one"]);
        assert_eq!(names("--skip one"), ["a::two"]);
        assert!(names("--ignored").is_empty());
    }
}
