//! A virtual machine made by `tools/vm.sh`, which lives as long as its value.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use berth_testkit::{images, process};

use crate::cargo::visibly;

/// Place of the executable under test in every machine.
pub(super) const BERTH: &str = "/usr/local/bin/berth";

/// What a machine is made with.
#[derive(Debug, Default)]
pub(super) struct Recipe<'a> {
    /// Tells this run's machines apart.
    pub(super) name: &'a str,
    /// Debian packages beside the bare system.
    pub(super) packages: &'a [&'a str],
    /// A directory whose content is found at `/bring`.
    pub(super) bring: Option<&'a Path>,
    /// The executable under test.
    pub(super) berth: Option<&'a Path>,
}

/// The virtual machine; destroyed when dropped, and by itself when this process is killed.
pub(super) struct Machine {
    name: String,
}

impl Machine {
    /// Makes and boots it.
    pub(super) fn create(recipe: &Recipe<'_>) -> Result<Self> {
        let machine = Self {
            name: format!("{}-{}", recipe.name, std::process::id()),
        };
        let mut create = machine.script(&["create"]);
        create
            .env("BERTH_VM_PACKAGES", recipe.packages.join(" "))
            .env("BERTH_VM_OWNER", std::process::id().to_string());
        if let Some(directory) = recipe.bring {
            create.env("BERTH_VM_BRING", directory);
        }
        visibly(create.stdin(Stdio::null()))?;
        machine.inside("test -e /sys/fs/cgroup/cgroup.controllers && uname -r")?;
        if let Some(berth) = recipe.berth {
            machine.push(berth, BERTH)?;
        }
        Ok(machine)
    }

    /// A call of the script that is about this machine.
    pub(super) fn script(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(images::workspace().join("tools/vm.sh"));
        command.args(arguments).env("BERTH_VM_NAME", &self.name);
        command
    }

    /// Calls the script and fails when it fails.
    pub(super) fn call(&self, arguments: &[&str]) -> Result<()> {
        visibly(self.script(arguments).stdin(Stdio::null()))
    }

    /// Runs a line of shell in the machine, its output visible.
    pub(super) fn inside(&self, line: &str) -> Result<()> {
        self.call(&["run", line])
    }

    /// Runs a line of shell in the machine and gives its standard output.
    pub(super) fn output(&self, line: &str) -> Result<String> {
        let output = self
            .script(&["run", line])
            .stdin(Stdio::null())
            .output()
            .context("start vm.sh")?;
        if !output.status.success() {
            bail!(
                "`{line}` failed in the machine ({}): {}{}",
                output.status,
                String::from_utf8_lossy(&output.stdout),
                String::from_utf8_lossy(&output.stderr)
            );
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Copies a file to a path in the machine, keeping its name out of it.
    pub(super) fn push(&self, file: &Path, target: &str) -> Result<()> {
        let mut words: Vec<OsString> = vec!["push".into()];
        words.extend([file.as_os_str().to_owned(), target.into()]);
        let mut command = self.script(&[]);
        visibly(command.args(words).stdin(Stdio::null()))
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if let Err(error) = self.call(&["destroy"]) {
            eprintln!("{error:#}");
        }
    }
}

/// A directory for what this run prepares; removed when dropped.
pub(super) struct Staging {
    path: PathBuf,
}

impl Staging {
    /// A new one, on a disk and not in memory.
    pub(super) fn new(name: &str) -> Result<Self> {
        sweep(name);
        let path = home().join(format!("{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).with_context(|| format!("create {}", path.display()))?;
        Ok(Self { path })
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.path) {
            eprintln!("remove {}: {error}", self.path.display());
        }
    }
}

/// Removes what earlier runs left that were killed.
fn sweep(name: &str) {
    for entry in std::fs::read_dir(home()).into_iter().flatten().flatten() {
        let file = entry.file_name();
        let owner = file
            .to_str()
            .and_then(|text| text.strip_prefix(name)?.strip_prefix('-')?.parse().ok());
        if owner.is_some_and(|pid| !process::is_alive(pid)) {
            drop(std::fs::remove_dir_all(entry.path()));
        }
    }
}

/// Where base images and machines are; as in `tools/vm.sh`.
pub(super) fn home() -> PathBuf {
    std::env::var_os("BERTH_VM_DIR")
        .map_or_else(|| PathBuf::from("/var/tmp/berth-vm"), PathBuf::from)
}
