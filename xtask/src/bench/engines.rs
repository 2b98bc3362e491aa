//! The contenders: a daemon or a program, and how its commands are timed.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use berth_testkit::leak::Scope;
use berth_testkit::podman::Podman;
use berth_testkit::scratch::Scratch;
use berth_testkit::{Client, Daemon, Engine, Settings, images, needs, process};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde_json::Value;

/// No command of an engine takes longer, the removal of a hundred containers included.
const DEADLINE: Duration = Duration::from_secs(150);

/// Where a daemon runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// In the machine's own network, which it leaves alone: no bridge, no firewall.
    Machine,
    /// In a network of its own, with all that belongs to networks.
    Network,
}

impl Place {
    fn settings(self) -> Settings {
        Settings {
            network: self == Self::Network,
            ..Settings::default()
        }
    }
}

/// One engine with the test image loaded.
pub(super) struct Contender {
    /// Name and version, for the head of the table.
    pub(super) title: String,
    /// Programs that make it up, by name.
    pub(super) programs: &'static [&'static str],
    kind: Kind,
}

enum Kind {
    Daemon(Box<Daemon>, Client),
    Podman(Podman),
}

impl Contender {
    /// The release build.
    pub(super) fn berth(binary: &Path, place: Place) -> Result<Self> {
        let settings = Settings {
            executable: Some(binary.to_owned()),
            ..place.settings()
        };
        let daemon = Daemon::try_with(Engine::Berth, settings)?;
        let title = format!("Berth {}", env!("CARGO_PKG_VERSION"));
        Ok(Self {
            title,
            programs: &[],
            kind: Kind::Daemon(Box::new(daemon), Client::Berth),
        })
    }

    /// dockerd with its own containerd.
    pub(super) fn docker(place: Place) -> Result<Self> {
        let daemon = Daemon::try_with(Engine::Docker, place.settings())?;
        let version = daemon.api("GET", "/version", None).json();
        let title = format!(
            "Docker {}",
            short(version["Version"].as_str().unwrap_or("?"))
        );
        let programs = &[
            "docker",
            "dockerd",
            "containerd",
            "containerd-shim-runc-v2",
            "runc",
        ];
        Ok(Self {
            title,
            programs,
            kind: Kind::Daemon(Box::new(daemon), Client::Docker),
        })
    }

    /// Podman above the first of crun and runc that runs on this machine: crun refuses hybrid
    /// control groups.
    pub(super) fn podman() -> Result<Self> {
        let mut last = None;
        for name in ["crun", "runc"] {
            let runtime = needs::find(name).with_context(|| format!("{name} is not installed"))?;
            let podman = Podman::try_new(&runtime)?;
            let probe = podman.command(&format!("{} --rm busybox true", podman.run_words()));
            if let Err(error) = probe.checked() {
                last = Some(error);
                continue;
            }
            let version = podman
                .command("version -f '{{.Client.Version}}'")
                .checked()?;
            let title = format!("Podman {} ({name})", short(version.text()));
            let programs: &[&str] = if name == "crun" {
                &["podman", "conmon", "crun"]
            } else {
                &["podman", "conmon", "runc"]
            };
            return Ok(Self {
                title,
                programs,
                kind: Kind::Podman(podman),
            });
        }
        match last {
            Some(error) => Err(error.context("neither crun nor runc runs below Podman here")),
            None => bail!("neither crun nor runc is installed"),
        }
    }

    /// Whether this is Berth.
    pub(super) fn is_berth(&self) -> bool {
        matches!(self.kind, Kind::Daemon(_, Client::Berth))
    }

    /// The daemon's process id, if there is a daemon.
    pub(super) fn daemon_pid(&self) -> Option<i32> {
        match &self.kind {
            Kind::Daemon(daemon, _) => Some(daemon.pid()),
            Kind::Podman(_) => None,
        }
    }

    /// The daemon, for what goes beyond commands.
    pub(super) fn daemon(&self) -> Result<&Daemon> {
        match &self.kind {
            Kind::Daemon(daemon, _) => Ok(daemon),
            Kind::Podman(_) => bail!("{} has no daemon", self.title),
        }
    }

    /// The names by which its processes are found.
    pub(super) fn scope(&self) -> Scope {
        match &self.kind {
            Kind::Daemon(daemon, _) => daemon.scope().clone(),
            Kind::Podman(podman) => podman.scope(),
        }
    }

    /// Time of one command.
    pub(super) fn timed(&self, line: &str) -> Result<Duration> {
        let mut command = self.command(line);
        let start = Instant::now();
        let child = command
            .stderr(Stdio::piped())
            .spawn()
            .context("start the client")?;
        let ended = Children::of(vec![child]).wait(DEADLINE);
        let time = start.elapsed();
        for output in ended? {
            if !output.status.success() {
                let text = String::from_utf8_lossy(&output.stderr).into_owned();
                bail!("`{line}` ended with {}: {}", output.status, text.trim());
            }
        }
        Ok(time)
    }

    /// Time of one `run`.
    pub(super) fn timed_run(&self, line: &str) -> Result<Duration> {
        self.timed(&self.with_verb("run", line))
    }

    /// Time until `count` commands started at once have all ended.
    pub(super) fn timed_many(&self, line: &str, count: usize) -> Result<Duration> {
        self.timed_each(&vec![line.to_owned(); count])
    }

    /// Time until all of these, each a `run`, started at once, have ended.
    pub(super) fn timed_each(&self, lines: &[String]) -> Result<Duration> {
        let lines: Vec<String> = lines.iter().map(|one| self.with_verb("run", one)).collect();
        let mut commands: Vec<Command> = lines.iter().map(|line| self.command(line)).collect();
        let mut children = Children::of(Vec::new());
        let start = Instant::now();
        for command in &mut commands {
            children
                .0
                .push(command.spawn().context("start the client")?);
        }
        let ended = children.wait(DEADLINE);
        let time = start.elapsed();
        let failures = ended?.iter().filter(|one| !one.status.success()).count();
        if failures > 0 {
            bail!("{failures} of {} failed", lines.len());
        }
        Ok(time)
    }

    /// What a command prints.
    pub(super) fn printed(&self, line: &str) -> Result<String> {
        let command = match &self.kind {
            Kind::Daemon(daemon, client) => daemon.command(*client, line),
            Kind::Podman(podman) => podman.command(line),
        };
        Ok(command.deadline(DEADLINE).checked()?.stdout)
    }

    /// A command whose time does not count.
    pub(super) fn quietly(&self, line: &str) -> Result<()> {
        self.timed(line).map(drop)
    }

    /// A `run` whose time does not count.
    pub(super) fn quietly_run(&self, line: &str) -> Result<()> {
        self.timed_run(line).map(drop)
    }

    /// A `create` whose time does not count.
    pub(super) fn quietly_create(&self, line: &str) -> Result<()> {
        self.quietly(&self.with_verb("create", line))
    }

    /// Removes a running container; Podman would stop it first and wait for that.
    pub(super) fn quietly_remove(&self, name: &str) -> Result<()> {
        let flags = match self.kind {
            Kind::Daemon(..) => "-f",
            Kind::Podman(_) => "-f -t 0",
        };
        self.quietly(&format!("rm {flags} {name}"))
    }

    fn with_verb(&self, verb: &str, line: &str) -> String {
        match &self.kind {
            Kind::Daemon(..) => format!("{verb} {line}"),
            Kind::Podman(podman) => {
                // The later of two --network wins nothing in Podman: only one may be given.
                let words = podman.run_words().replacen("run --network none", verb, 1);
                format!("{words} {line}")
            }
        }
    }

    fn command(&self, line: &str) -> Command {
        let command = match &self.kind {
            Kind::Daemon(daemon, client) => daemon.command(*client, line),
            Kind::Podman(podman) => podman.command(line),
        };
        let mut plain = command.into_inner();
        plain
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        plain
    }
}

/// Clients that run; killed when dropped before they ended.
struct Children(Vec<Child>);

impl Children {
    fn of(children: Vec<Child>) -> Self {
        Self(children)
    }

    /// Waits until all have ended.
    fn wait(mut self, limit: Duration) -> Result<Vec<Output>> {
        let end = Instant::now() + limit;
        for child in &self.0 {
            let descriptor = pidfd_open(Pid::from_child(child), PidfdFlags::empty())
                .context("open a process descriptor")?;
            let left = end.saturating_duration_since(Instant::now());
            if !process::wait_for_end(&descriptor, left) {
                bail!("a client has not ended within {} s", limit.as_secs());
            }
        }
        std::mem::take(&mut self.0)
            .into_iter()
            .map(|child| child.wait_with_output().context("wait for the client"))
            .collect()
    }
}

impl Drop for Children {
    fn drop(&mut self) {
        for child in &mut self.0 {
            drop(child.kill());
            drop(child.wait());
        }
    }
}

/// An OCI bundle of the test image that runs `true`.
pub(super) struct Bundle {
    scratch: Scratch,
}

impl Bundle {
    /// Unpacks the image and writes the configuration `runc spec` gives, without a terminal.
    pub(super) fn new() -> Result<Self> {
        let scratch = Scratch::new();
        let root = scratch.path().join("rootfs");
        fs::create_dir(&root).with_context(|| format!("create {}", root.display()))?;
        for layer in images::busybox()?.layers {
            berth_testkit::Command::new("tar")
                .args(["-x", "-C"])
                .arg(&root)
                .stdin(layer)
                .checked()?;
        }
        berth_testkit::Command::new("runc")
            .arg("spec")
            .directory(scratch.path())
            .checked()?;
        let path = scratch.path().join("config.json");
        let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        let mut config: Value = serde_json::from_str(&text).context("read config.json")?;
        config["process"]["terminal"] = false.into();
        config["process"]["args"] = serde_json::json!(["true"]);
        config["linux"]["cgroupsPath"] = format!("{}/bundle", scratch.scope().cgroup_parent).into();
        fs::write(&path, config.to_string())
            .with_context(|| format!("write {}", path.display()))?;
        Ok(Self { scratch })
    }

    /// Runs it through the runtime named by `words`.
    pub(super) fn run(&self, words: &[String]) -> Result<()> {
        let output = Command::new(&words[0])
            .args(&words[1..])
            .arg("--root")
            .arg(self.scratch.path().join("state"))
            .args(["run", "--bundle"])
            .arg(self.scratch.path())
            .arg("measured")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .output()
            .with_context(|| format!("start {}", words[0]))?;
        if !output.status.success() {
            bail!(
                "{}: {}",
                output.status,
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        Ok(())
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        self.scratch.scope().clean();
    }
}

/// The first two numbers of a version.
fn short(version: &str) -> String {
    version
        .split(['.', '+'])
        .take(2)
        .collect::<Vec<_>>()
        .join(".")
}
