//! `test-vm`: what this machine cannot show — cgroup v2 under systemd, a bare Debian, a power cut.
//!
//! The executables are static, the tests too: they are copied into the machine and run there.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use berth_testkit::random::Random;
use berth_testkit::{images, wait};
use serde_json::Value;

use crate::cargo::{cargo, output_directory, visibly};
use crate::deps;

/// Place of everything we bring into the machine.
const PLACE: &str = "/opt/berth";

/// Power cuts per run.
const CUTS: usize = 3;

/// A cut comes after this many acknowledged containers and a random number more.
const ACKNOWLEDGED: u64 = 5;

/// Runs the named parts, or all: `bare`, `tests`, `powercut`.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let parts = ["bare", "tests", "powercut"];
    if let Some(other) = arguments.iter().find(|one| !parts.contains(&one.as_str())) {
        bail!("test-vm knows {}, not {other:?}", parts.join(", "));
    }
    let wanted = |part: &str| arguments.is_empty() || arguments.iter().any(|one| one == part);
    deps::for_vm()?;
    cargo(["build", "--quiet", "--release", "--package", "berth"])?;
    let machine = Machine::create()?;
    let binary = output_directory("release")?.join("berth");
    machine.push(&[binary], PLACE)?;
    machine.inside("test -e /sys/fs/cgroup/cgroup.controllers")?;
    if wanted("bare") {
        bare(&machine)?;
    }
    if wanted("tests") {
        tests(&machine)?;
    }
    if wanted("powercut") {
        powercut(&machine)?;
    }
    println!("test-vm: all passed");
    Ok(())
}

/// The first command of README.md with nothing but the executable there.
fn bare(machine: &Machine) -> Result<()> {
    machine.inside(&format!("{PLACE}/berth run --rm berth/hello"))?;
    machine.inside(&format!("{PLACE}/berth ps -a && {PLACE}/berth info"))?;
    machine.inside("kill $(pidof -s berth) && ! test -e /sys/fs/cgroup/berth/*")
}

/// All test executables of the crates that touch the kernel, and the daemon's own.
fn tests(machine: &Machine) -> Result<()> {
    let mut wanted = Vec::new();
    for package in ["berth-sys", "berth-runtime", "berth-monitor", "berth-image"] {
        wanted.extend(executables(&["--package", package])?);
    }
    wanted.extend(executables(&[
        "--package",
        "berth",
        "--test",
        "daemon",
        "--test",
        "faults",
    ])?);
    let debug = output_directory("debug")?.join("berth");
    let tests = format!("{PLACE}/tests");
    machine.push(&[debug], &tests)?;
    let cache = format!("{PLACE}/cache");
    let mut kept = Vec::new();
    for entry in fs::read_dir(images::cache()?)?.flatten() {
        if entry.path().extension().is_some_and(|end| end == "tar") {
            kept.push(entry.path());
        }
    }
    images::archive_file(&images::busybox()?)?;
    machine.push(&kept, &cache)?;
    let mut failed = Vec::new();
    for path in wanted {
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        machine.push(&[path], &tests)?;
        // The registry and the stock client are not in a bare machine; their tests say so.
        let skipped = "--skip pull:: --skip the_api_answers --skip official";
        let line = format!(
            "cd {tests} && BERTH_BINARY={tests}/berth BERTH_TEST_CACHE={cache} BERTH_TEST_KILLS=20 \
             ./{name} --test-threads 2 {skipped}"
        );
        if machine.inside(&line).is_err() {
            failed.push(name.clone());
        }
        machine.inside(&format!("rm -f {tests}/{name}"))?;
    }
    if !failed.is_empty() {
        bail!("failed in the machine: {}", failed.join(", "));
    }
    Ok(())
}

fn executables(selection: &[&str]) -> Result<Vec<PathBuf>> {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(program)
        .args(["test", "--no-run", "--message-format", "json"])
        .args(selection)
        .current_dir(images::workspace())
        .stderr(Stdio::inherit())
        .output()
        .context("start cargo")?;
    if !output.status.success() {
        bail!("the tests of {} do not build", selection.join(" "));
    }
    Ok(String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|message| message["profile"]["test"] == true)
        .filter_map(|message| Some(PathBuf::from(message["executable"].as_str()?)))
        .collect())
}

/// Creates containers, pulls the plug among them, and asks after the boot for each that was
/// acknowledged.
fn powercut(machine: &Machine) -> Result<()> {
    let (mut random, _) = Random::from_environment();
    let berth = format!("{PLACE}/berth");
    let mut acknowledged: Vec<String> = Vec::new();
    machine.inside(&format!("{berth} run --rm berth/hello >/dev/null"))?;
    for cut in 1..=CUTS {
        let line =
            format!("while id=$({berth} create --network none berth/hello); do echo $id; done");
        let mut child = machine
            .script(&["run", &line])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("start vm.sh")?;
        let enough = ACKNOWLEDGED + random.below(10);
        let reader = BufReader::new(child.stdout.take().context("output of vm.sh")?);
        let mut count = 0;
        for line in reader.lines() {
            // What arrives after the cut had been sent before it: acknowledged all the same.
            acknowledged.push(line.context("read an id")?.trim().to_owned());
            count += 1;
            if count == enough {
                wait::within(Duration::from_millis(random.below(300)), || None::<()>);
                machine.call(&["powercut"])?;
            }
        }
        child.wait().context("wait for vm.sh")?;
        if count < enough {
            bail!("creating ended by itself after {count}");
        }
        machine.call(&["start"])?;
        machine.inside(&format!("{berth} run --rm berth/hello >/dev/null"))?;
        let listed = machine.output(&format!("{berth} ps -aq --no-trunc"))?;
        let lost: Vec<&String> = acknowledged
            .iter()
            .filter(|id| !listed.lines().any(|line| line == id.as_str()))
            .collect();
        if !lost.is_empty() {
            bail!("cut {cut}: acknowledged and lost: {lost:?}");
        }
        let last = acknowledged.last().context("an acknowledged container")?;
        machine.inside(&format!(
            "{berth} start -a {last} >/dev/null && {berth} inspect {last} >/dev/null"
        ))?;
        println!(
            "cut {cut}: {} acknowledged containers are there",
            acknowledged.len()
        );
    }
    machine.inside(&format!(
        "{berth} rm -f $({berth} ps -aq) >/dev/null && test -z \"$({berth} ps -aq)\""
    ))
}

/// The virtual machine; destroyed when dropped.
struct Machine {
    script: PathBuf,
}

impl Machine {
    fn create() -> Result<Self> {
        let machine = Self {
            script: images::workspace().join("tools/vm.sh"),
        };
        machine.call(&["create"])?;
        Ok(machine)
    }

    fn script(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.script);
        command.args(arguments);
        command
    }

    fn call(&self, arguments: &[&str]) -> Result<()> {
        visibly(self.script(arguments).stdin(Stdio::null()))
    }

    fn inside(&self, line: &str) -> Result<()> {
        self.call(&["run", line])
    }

    fn output(&self, line: &str) -> Result<String> {
        let output = self
            .script(&["run", line])
            .stdin(Stdio::null())
            .output()
            .context("start vm.sh")?;
        if !output.status.success() {
            bail!(
                "`{line}` failed in the machine: {}",
                String::from_utf8_lossy(&output.stderr)
            );
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn push(&self, files: &[PathBuf], place: &str) -> Result<()> {
        let mut command = self.script(&["push"]);
        command
            .args(files.iter().map(|path| -> &Path { path }))
            .arg(place);
        visibly(command.stdin(Stdio::null()))
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if let Err(error) = self.call(&["destroy"]) {
            eprintln!("{error:#}");
        }
    }
}
