//! Podman with storage, state and control groups of its own. It has no daemon: each call is one.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, bail};

use crate::leak::Scope;
use crate::scratch::Scratch;
use crate::words::words;
use crate::{Command, Output, images, needs};

/// A private Podman; its containers go when it is dropped.
#[derive(Debug)]
pub struct Podman {
    scratch: Scratch,
    runtime: String,
}

impl Podman {
    /// Podman above the OCI runtime `runtime`, with busybox loaded.
    #[track_caller]
    pub fn new(runtime: &Path) -> Self {
        needs::root();
        needs::program("podman", "podman");
        needs::program("conmon", "conmon");
        match Self::try_new(runtime) {
            Ok(podman) => podman,
            Err(error) => panic!("{error:#}"),
        }
    }

    /// The same with errors as values.
    pub fn try_new(runtime: &Path) -> Result<Self> {
        if needs::find("podman").is_none() {
            bail!("podman is not installed (cargo xtask deps)");
        }
        let podman = Self {
            scratch: Scratch::new(),
            runtime: runtime.display().to_string(),
        };
        let file = images::archive_file(&images::busybox()?)?;
        podman
            .command(&format!("load -q -i {}", file.display()))
            .checked()?;
        Ok(podman)
    }

    /// Runs `podman` with words split as a shell does.
    #[track_caller]
    pub fn call(&self, line: &str) -> Output {
        self.command(line).run()
    }

    /// `podman run` without a network, its groups below our own parent.
    #[track_caller]
    pub fn run(&self, line: &str) -> Output {
        self.call(&format!("{} {line}", self.run_words()))
    }

    /// The words `run` starts with.
    pub fn run_words(&self) -> String {
        // Podman's own limits are higher than an engine without CAP_SYS_RESOURCE may set.
        format!(
            "run --network none --ulimit nofile=1024:1024 --ulimit nproc=1024:1024 \
             --cgroup-parent {}",
            self.scope().cgroup_parent
        )
    }

    /// The command, not yet started.
    pub fn command(&self, line: &str) -> Command {
        let root = self.scratch.path();
        Command::new("podman")
            .args(["--root".as_ref(), root.join("data").as_os_str()])
            .args(["--runroot".as_ref(), root.join("run").as_os_str()])
            .args(["--tmpdir".as_ref(), root.join("tmp").as_os_str()])
            .args(["--cgroup-manager", "cgroupfs", "--events-backend", "file"])
            .args(["--runtime", &self.runtime])
            .args(words(line))
            .env("HOME", root)
            .deadline(Duration::from_secs(120))
    }

    /// The names by which everything of it is found.
    pub fn scope(&self) -> Scope {
        self.scratch.scope()
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        let removed = self.command("rm -f -a -t 0").checked();
        self.scope().clean();
        if let Err(error) = removed
            && !std::thread::panicking()
        {
            panic!("{error:#}");
        }
    }
}
