//! Fuzzing one target: libFuzzer from a crate, coverage from the compiler's own pass, a directory of its own.

use std::process::Command;

use anyhow::{Context, Result, bail};
use berth_testkit::images;

use crate::cargo::{command, visibly};

/// Seconds when none are given.
const SECONDS: u64 = 300;

/// What makes the compiler count edges, as cargo-fuzz asks for it; no nightly compiler is needed for these.
const COVERAGE: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares --cfg fuzzing";

/// Memory of one input, in MiB: what parsers may need is bounded.
const MEMORY: &str = "-rss_limit_mb=1024";

pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let (target, seconds) = match arguments {
        [target] => (target, SECONDS),
        [target, seconds] => {
            let seconds = seconds.parse();
            (
                target,
                seconds.with_context(|| "the time is no number of seconds")?,
            )
        }
        _ => bail!("fuzz takes a target of fuzz/fuzz_targets, and seconds"),
    };
    let fuzz = images::workspace().join("fuzz");
    if !fuzz.join(format!("fuzz_targets/{target}.rs")).is_file() {
        bail!("there is no target {target:?} in fuzz/fuzz_targets");
    }
    // Procedural macros and build scripts are built for the host, without these flags, since a target is named.
    let triple = host_triple()?;
    let place = images::workspace().join("target/fuzz");
    visibly(
        command()
            .args(["build", "--release", "--package", "berth-fuzz"])
            .args([
                "--features",
                "libfuzzer",
                "--bin",
                target,
                "--target",
                &triple,
            ])
            .arg("--target-dir")
            .arg(&place)
            .env("RUSTFLAGS", format!("{COVERAGE} -Cdebug-assertions"))
            .env("CARGO_PROFILE_RELEASE_LTO", "off")
            .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16")
            .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "2")
            .env("CARGO_PROFILE_RELEASE_PANIC", "abort"),
    )?;
    let corpus = place.join("corpus").join(target);
    let artifacts = fuzz.join("artifacts").join(target);
    for directory in [&corpus, &artifacts] {
        make_directory(directory)?;
    }
    visibly(
        Command::new(place.join(&triple).join("release").join(target))
            // What is found goes to the first; the committed one is only read.
            .arg(&corpus)
            .arg(fuzz.join("corpus").join(target))
            .arg(format!("-artifact_prefix={}/", artifacts.display()))
            .arg(format!("-max_total_time={seconds}"))
            .args([MEMORY, "-timeout=20", "-print_final_stats=1"]),
    )
}

fn make_directory(directory: &std::path::Path) -> Result<()> {
    std::fs::create_dir_all(directory).with_context(|| format!("make {}", directory.display()))
}

/// The compiler's own triple.
fn host_triple() -> Result<String> {
    let output = Command::new("rustc")
        .arg("-vV")
        .output()
        .context("run rustc")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let triple = text.lines().find_map(|line| line.strip_prefix("host: "));
    triple.map(str::to_owned).context("rustc names no host")
}
