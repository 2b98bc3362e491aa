//! The tests of the kernel and of the daemon on cgroup v2 under systemd and on Debian's kernel.
//!
//! The tests are static executables: built here, run there, each test by itself and with a deadline.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use berth_testkit::images;
use serde_json::Value;

use super::machine::{Machine, Recipe, Staging};
use crate::cargo::{command, visibly};

/// What the tests compare with; the executables themselves need nothing.
const PACKAGES: &[&str] = &[
    "apparmor",
    "bind9-dnsutils",
    "buildah",
    "busybox-static",
    "bzip2",
    "ca-certificates",
    "conmon",
    "crun",
    "curl",
    "db-util",
    "dbus-daemon",
    "docker-registry",
    "docker.io",
    "e2fsprogs",
    "firewalld",
    "iproute2",
    "iptables",
    "microsocks",
    "mount",
    "nfs-kernel-server",
    "nftables",
    "openssl",
    "pacman-package-manager",
    "procps",
    "podman",
    "python3-docker",
    "rpm",
    "runc",
    "samba",
    "skopeo",
    "socat",
    "sqlite3",
    "tinyproxy-bin",
    "ufw",
    "umoci",
    "wrk",
    "xz-utils",
];

/// Kernel features that Debian has: a test that misses one fails there.
const PROMISES: &str = "cgroup2 cifs dummy ipvlan macvlan nfs nfsd sctp vlan";

/// Packages whose tests touch the kernel.
const TESTED: &[&str] = &[
    "berth-sys",
    "berth-net",
    "berth-runtime",
    "berth-monitor",
    "berth-image",
    "berth",
];

/// Tests that are left out (`grep -E`), each with the reason that is shown.
const LEFT_OUT: &[(&str, &str)] = &[
    (
        " docker_on_docker::",
        "the reference engine is not what is tested here",
    ),
    (
        " library::python_on_docker$",
        "the reference engine is not what is tested here",
    ),
    (
        " many::two_hundred_thousand_files_go_in_and_out$",
        "two hundred thousand files take longer than any test may there",
    ),
    (
        " docker_on_berth::",
        "the engine is the same for either client, and berth's is tested",
    ),
    (
        " runtimes::dockerd_runs_containers_through_berth$",
        "dockerd gives its containerd 15 s, too few for an emulated machine",
    ),
];

/// Seconds one test may take. Without hardware help a machine is ten to twenty times slower.
const LIMIT: u64 = 900;

/// How much longer than usual tests wait for a condition.
const PATIENCE_FACTOR: &str = "10";

/// Kills of the daemon by the test of faults: each takes its time there.
const KILLS: &str = "10";

/// Tests side by side: more than processors, since most of a test is waiting.
const SIDE_BY_SIDE: u32 = 3;

/// Runs those whose `package.executable test` matches the pattern (`grep -E`).
pub(super) fn run(berth: &Path, pattern: &str) -> Result<()> {
    let staging = Staging::new("tests")?;
    prepare(staging.path(), berth)?;
    let machine = Machine::create(&Recipe {
        name: "tests",
        packages: PACKAGES,
        bring: Some(staging.path()),
        berth: None,
    })?;
    let except: Vec<&str> = LEFT_OUT.iter().map(|(tests, _)| *tests).collect();
    let except = except.join("|");
    let line = format!(
        "cd /bring && BERTH_BINARY=/bring/berth BERTH_TEST_CACHE=/bring/cache BERTH_TEST_KILLS={KILLS} BERTH_TEST_PROMISES='{PROMISES}' \
         BERTH_TEST_PATIENCE={PATIENCE_FACTOR} INSTA_WORKSPACE_ROOT=/bring/tree ./run-tests.sh /bring {LIMIT} {SIDE_BY_SIDE} '{pattern}' '{except}'"
    );
    let start = Instant::now();
    let mut child = machine
        .script(&["run", &line])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("start vm.sh")?;
    let mut tally = Tally::default();
    let output = child.stdout.take().context("output of vm.sh")?;
    for line in BufReader::new(output).lines() {
        let line = line.context("read the results")?;
        println!("{line}");
        tally.read(&line);
    }
    if !child.wait().context("wait for vm.sh")?.success() {
        bail!("the tests were not run to their end");
    }
    tally.tell(start.elapsed().as_secs())
}

/// Fills the directory that the machine is given.
fn prepare(place: &Path, berth: &Path) -> Result<()> {
    let mut selection = vec!["test", "--no-run", "--message-format", "json"];
    for package in TESTED {
        selection.extend(["--package", package]);
    }
    for (name, path) in executables(&selection)? {
        // Most of an unstripped one is for debuggers.
        let target = place.join(format!("{name}.test"));
        strip(&path, &target)?;
    }
    strip(berth, &place.join("berth"))?;
    let cache = place.join("cache");
    fs::create_dir(&cache).with_context(|| format!("create {}", cache.display()))?;
    images::archive_file(&images::busybox()?)?;
    images::archive_file(&images::debian()?)?;
    for entry in fs::read_dir(images::cache()?)
        .context("read the image cache")?
        .flatten()
    {
        if entry.path().extension().is_some_and(|end| end == "tar") {
            fs::copy(entry.path(), cache.join(entry.file_name()))
                .with_context(|| format!("copy {}", entry.path().display()))?;
        }
    }
    // Tests compare with recorded snapshots.
    let tree = place.join("tree");
    fs::create_dir(&tree).with_context(|| format!("create {}", tree.display()))?;
    visibly(
        Command::new("find")
            .args([
                "crates",
                "-name",
                "*.snap",
                "-exec",
                "cp",
                "--parents",
                "-t",
            ])
            .arg(&tree)
            .args(["{}", "+"])
            .current_dir(images::workspace()),
    )?;
    let script = place.join("run-tests.sh");
    fs::write(&script, include_str!("run-tests.sh"))
        .with_context(|| format!("write {}", script.display()))?;
    visibly(Command::new("chmod").arg("755").arg(&script))
}

fn strip(from: &Path, to: &Path) -> Result<()> {
    let status = Command::new("strip")
        .arg("-o")
        .args([to, from])
        .status()
        .context("start strip (package binutils)")?;
    if !status.success() {
        bail!("strip {} failed ({status})", from.display());
    }
    Ok(())
}

/// Builds tests; gives each executable with the name `package.target`.
fn executables(selection: &[&str]) -> Result<Vec<(String, PathBuf)>> {
    let output = command()
        .args(selection)
        .stderr(Stdio::inherit())
        .output()
        .context("start cargo")?;
    if !output.status.success() {
        bail!("the tests do not build");
    }
    let named = |message: &Value| {
        let path = message["executable"].as_str()?;
        let manifest = Path::new(message["manifest_path"].as_str()?);
        let package = manifest.parent()?.file_name()?.to_string_lossy();
        let target = match message["target"]["kind"][0].as_str()? {
            "test" => message["target"]["name"].as_str()?,
            kind => kind,
        };
        Some((format!("{package}.{target}"), PathBuf::from(path)))
    };
    Ok(String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|message| message["profile"]["test"] == true)
        .filter_map(|message| named(&message))
        .collect())
}

/// What came of the tests.
#[derive(Debug, Default)]
struct Tally {
    chosen: usize,
    passed: usize,
    failed: Vec<String>,
    skipped: Vec<String>,
}

impl Tally {
    fn read(&mut self, line: &str) {
        let Some((word, rest)) = line.split_once(' ') else {
            return;
        };
        match word {
            "CHOSEN" => self.chosen = rest.parse().unwrap_or(0),
            "SKIPPED" => self.skipped.push(rest.to_owned()),
            "IGNORED" => self.skipped.push(format!("{rest} is marked as ignored")),
            "RESULT" if rest.starts_with("0 ") => self.passed += 1,
            "RESULT" => self.failed.push(rest.to_owned()),
            _ => {}
        }
    }

    fn tell(&self, seconds: u64) -> Result<()> {
        println!(
            "{} of {} tests passed in {seconds} s",
            self.passed, self.chosen
        );
        for (tests, reason) in LEFT_OUT {
            println!("left out:{tests} {reason}");
        }
        for skipped in &self.skipped {
            println!("skipped: {skipped}");
        }
        if self.chosen == 0 {
            bail!("no test has been run");
        }
        if !self.failed.is_empty() || self.passed != self.chosen {
            bail!(
                "failed in the machine (exit code, seconds, test):\n{}",
                self.failed.join("\n")
            );
        }
        Ok(())
    }
}
