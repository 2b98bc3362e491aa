//! The two commands of README.md, as they stand there, where nothing but Debian, Rust and a C compiler is.
//!
//! Both run in a fresh Debian of its own root, process ids and mounts, at this machine's speed. The first runs once
//! more in a virtual machine, with what has been built: under systemd, on cgroup v2 and on Debian's kernel. To build
//! there as well would take hours without hardware help.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use berth_testkit::images;

use super::machine::{Machine, Recipe, Staging};
use crate::cargo::visibly;

/// Beside Debian's smallest system: a C compiler, and what any download needs, Rust's own included.
const PACKAGES: &str = "gcc,libc6-dev,ca-certificates";

/// Where Rust is put.
const RUST: &str = "opt/rust";

/// Where the fresh clone is put.
const CLONE: &str = "root/berth";

/// Runs both commands, or with `which` only the `first` or the `second`.
pub(super) fn run(which: Option<&str>) -> Result<()> {
    if which.is_some_and(|word| word != "first" && word != "second") {
        bail!("readme has a first and a second command");
    }
    let commands = commands()?;
    let staging = Staging::new("readme")?;
    let root = staging.path().join("root");
    debian(&root)?;
    rust(&root)?;
    let from = images::workspace();
    visibly(
        Command::new("git")
            .args(["clone", "--quiet", "--no-hardlinks"])
            .args([&from, &root.join(CLONE)]),
    )?;
    if which != Some("second") {
        enter(&staging, &root, &commands[0])?;
        in_machine(&root, &commands[0])?;
    }
    if which != Some("first") {
        enter(&staging, &root, &commands[1])?;
    }
    Ok(())
}

/// The two commands of the page's section that is named for them.
fn commands() -> Result<Vec<String>> {
    let page = images::workspace().join("README.md");
    let text = fs::read_to_string(&page).with_context(|| format!("read {}", page.display()))?;
    let section = text
        .split("\n## ")
        .find(|section| section.starts_with("Two commands"))
        .context("README.md has no section of two commands")?;
    let found: Vec<String> = section
        .lines()
        .filter(|line| line.starts_with("cargo "))
        .map(str::to_owned)
        .collect();
    if found.len() != 2 {
        bail!("README.md shows {} commands and not two", found.len());
    }
    Ok(found)
}

fn debian(root: &Path) -> Result<()> {
    let suite = std::env::var("BERTH_VM_SUITE").unwrap_or_else(|_| "bookworm".into());
    visibly(
        Command::new("mmdebstrap")
            .args(["--quiet", "--variant=minbase"])
            .arg(format!("--include={PACKAGES}"))
            .arg(suite)
            .arg(root)
            .stdin(Stdio::null()),
    )?;
    // A machine behind a proxy that reads along trusts more certificates than Debian ships.
    for file in ["etc/resolv.conf", "etc/ssl/certs/ca-certificates.crt"] {
        let from = Path::new("/").join(file);
        fs::copy(&from, root.join(file)).with_context(|| format!("copy {}", from.display()))?;
    }
    Ok(())
}

/// Brings the toolchain that builds this.
fn rust(root: &Path) -> Result<()> {
    let program = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(program)
        .args(["--print", "sysroot"])
        .output()
        .context("start rustc")?;
    let sysroot = String::from_utf8(output.stdout).context("path of the toolchain")?;
    let target = root.join(RUST);
    fs::create_dir_all(&target).with_context(|| format!("create {}", target.display()))?;
    for part in ["bin", "lib", "libexec"] {
        let from = Path::new(sysroot.trim()).join(part);
        if from.exists() {
            visibly(Command::new("cp").arg("-a").args([&from, &target]))?;
        }
    }
    Ok(())
}

fn enter(staging: &Staging, root: &Path, command: &str) -> Result<()> {
    let script = staging.path().join("enter.sh");
    fs::write(&script, include_str!("enter.sh"))
        .with_context(|| format!("write {}", script.display()))?;
    let start = Instant::now();
    visibly(
        Command::new("sh")
            .arg(&script)
            .arg(root)
            .arg(format!("cd /{CLONE} && {command}"))
            .stdin(Stdio::null()),
    )?;
    println!(
        "`{command}` on a bare Debian: {} s",
        start.elapsed().as_secs()
    );
    Ok(())
}

fn in_machine(root: &Path, command: &str) -> Result<()> {
    let machine = Machine::create(&Recipe {
        name: "readme",
        bring: Some(root),
        ..Recipe::default()
    })?;
    // The same paths as where it was built, or cargo would begin anew.
    for place in [RUST, CLONE, "root/.cargo"] {
        machine.inside(&format!(
            "mkdir -p /{place} && mount --bind /bring/{place} /{place}"
        ))?;
    }
    let start = Instant::now();
    let said = machine.output(&format!(
        "export PATH=/{RUST}/bin:$PATH && cd /{CLONE} && {command} 2>&1"
    ))?;
    print!("{said}");
    if said.contains("Compiling") {
        bail!("the machine compiled what it had been given");
    }
    println!(
        "`{command}` in the machine, built before: {} s",
        start.elapsed().as_secs()
    );
    Ok(())
}
