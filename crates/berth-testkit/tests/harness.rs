//! The harness of tests with processes of their own: what fails, hangs or leaves something behind is told.

#![allow(clippy::unwrap_used)]

use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use berth_testkit::harness::{self, Test};

/// The tests that the tests below run in a harness of their own.
const SUBJECTS: &[Test] = &[
    Test {
        name: "passes",
        body: || {},
    },
    Test {
        name: "panics",
        body: || panic!("on purpose"),
    },
    Test {
        name: "hangs",
        body: || {
            Command::new("sleep").arg("700").status().unwrap();
        },
    },
    Test {
        name: "leaves",
        body: || {
            let script = "setsid sleep 701 & setsid sleep 702 &";
            Command::new("sh").args(["-c", script]).status().unwrap();
        },
    },
];

const TESTS: &[Test] = &[
    Test {
        name: "results_are_told",
        body: || {
            let (text, code) = run("passes");
            assert_eq!((text.contains("1 passed; 0 failed"), code), (true, 0));
            let (text, code) = run("s");
            assert_eq!(code, 101);
            assert!(text.contains("test passes ... ok"), "{text}");
            assert!(text.contains("test panics ... FAILED"), "{text}");
        },
    },
    Test {
        name: "what_hangs_is_shown_and_ended",
        body: || {
            let (text, code) = run("hangs");
            assert_eq!(code, 101);
            assert!(text.contains("hangs does not end within 1 s"), "{text}");
            assert!(text.contains(" sleep 700\n"), "{text}");
        },
    },
    Test {
        name: "what_is_left_is_shown_and_ended",
        body: || {
            let (text, code) = run("leaves");
            assert_eq!(code, 101);
            assert!(text.contains("leaves has left behind"), "{text}");
            assert!(text.contains(" sleep 702\n"), "{text}");
        },
    },
];

fn main() -> ExitCode {
    if std::env::var_os("BERTH_HARNESS_SUBJECTS").is_some() {
        return harness::within(Duration::from_secs(1), Duration::from_secs(1), SUBJECTS);
    }
    harness::main(TESTS)
}

/// Runs the subjects that a word means; all that was said, and the exit code.
fn run(word: &str) -> (String, i32) {
    let output = Command::new("/proc/self/exe")
        .arg(word)
        .env("BERTH_HARNESS_SUBJECTS", "1")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    (text, output.status.code().unwrap())
}
