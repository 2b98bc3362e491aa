//! A private daemon: Berth's, or Docker's as the reference the same test must pass on.

use std::fs::{self, File};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal};
use serde_json::Value;

use crate::archive::Image;
pub use crate::executable::executable;
use crate::leak::Scope;
use crate::scratch::Scratch;
use crate::words::words;
use crate::{Command, Network, Output, cgroup, disk, http, images, needs, process, wait};

/// Version of the API that plain requests of tests name; both engines speak it.
pub const API: &str = "/v1.41";

/// Time a daemon gets to end after SIGTERM before it is killed.
const GRACE: Duration = Duration::from_secs(20);

/// Lines of a daemon's log shown when it does not start.
const LOG_LINES: usize = 30;

/// Whose daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// The executable under test.
    Berth,
    /// dockerd as Debian packages it.
    Docker,
}

/// Whose command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Client {
    /// The executable under test.
    Berth,
    /// The stock docker command.
    Docker,
}

/// How a private daemon is started.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// More arguments for the daemon.
    pub arguments: Vec<String>,
    /// Starts without the busybox image.
    pub without_images: bool,
    /// Puts the data root on a file system of this many bytes, in a mount namespace of its own.
    pub disk_bytes: Option<u64>,
    /// Puts the data root on the file system in this file, in the same way: what is on it outlives the daemon.
    pub disk_image: Option<PathBuf>,
    /// Gives the exec root a path longer than a socket's name may be.
    pub long_exec_root: bool,
    /// The network namespace it runs in, as `ip netns` names it: networks are for such daemons only. Without one
    /// there is no default bridge, and nothing of the machine's network is touched.
    pub namespace: Option<String>,
    /// Gives the daemon a network of its own, in which it may make bridges and filter.
    pub network: bool,
    /// A directory whose programs the daemon finds before all others of the same names.
    pub programs: Option<PathBuf>,
    /// Berth's executable, where it is not the one cargo built beside the test.
    pub executable: Option<PathBuf>,
}

/// A running daemon with directories, socket and control groups of its own.
#[derive(Debug)]
pub struct Daemon {
    engine: Engine,
    settings: Settings,
    scratch: Scratch,
    scope: Scope,
    child: Option<Child>,
    /// Removed after everything else.
    network: Option<Network>,
}

impl Daemon {
    /// Starts Berth's daemon with busybox loaded.
    #[track_caller]
    pub fn start() -> Self {
        Self::with(Engine::Berth, Settings::default())
    }

    /// Starts a daemon; panics with its log when it does not come up.
    #[track_caller]
    pub fn with(engine: Engine, settings: Settings) -> Self {
        needs::root();
        if engine == Engine::Docker {
            needs::program("dockerd", "docker.io");
        }
        match Self::try_with(engine, settings) {
            Ok(daemon) => daemon,
            Err(error) => panic!("{error:#}"),
        }
    }

    /// Starts a daemon, with errors as values.
    pub fn try_with(engine: Engine, mut settings: Settings) -> Result<Self> {
        let scratch = Scratch::new();
        let scope = scratch.scope();
        let without_images = settings.without_images;
        let network = settings.network.then(Network::new).transpose()?;
        if let Some(network) = &network {
            settings.namespace = Some(network.host());
        }
        let mut daemon = Self {
            engine,
            settings,
            scratch,
            scope,
            child: None,
            network,
        };
        daemon.try_launch()?;
        if !without_images {
            daemon.try_load(&images::busybox()?)?;
        }
        Ok(daemon)
    }

    /// Whose daemon it is.
    pub fn engine(&self) -> Engine {
        self.engine
    }

    /// The socket of the API.
    pub fn socket(&self) -> PathBuf {
        self.scratch.path().join("s")
    }

    /// The data root.
    pub fn data_root(&self) -> PathBuf {
        self.scratch.path().join("data")
    }

    /// The data root as the running daemon has it, also where it is in a mount namespace of its own.
    #[track_caller]
    pub fn data_root_inside(&self) -> PathBuf {
        let root = self.data_root();
        PathBuf::from(format!("/proc/{}/root{}", self.pid(), root.display()))
    }

    /// The directory of run-time state.
    pub fn exec_root(&self) -> PathBuf {
        let run = self.scratch.path().join("run");
        if self.settings.long_exec_root {
            run.join("x".repeat(100))
        } else {
            run
        }
    }

    /// The daemon's own network; panics when it has none.
    #[track_caller]
    pub fn network(&self) -> &Network {
        match &self.network {
            Some(network) => network,
            None => panic!("the daemon was started without a network of its own"),
        }
    }

    /// A directory the test may use.
    pub fn scratch(&self) -> &Scratch {
        &self.scratch
    }

    /// The names by which everything of this daemon is found.
    pub fn scope(&self) -> &Scope {
        &self.scope
    }

    /// Process id of the daemon; panics when it is not running.
    #[track_caller]
    pub fn pid(&self) -> i32 {
        match &self.child {
            Some(child) => Pid::from_child(child).as_raw_nonzero().get(),
            None => panic!("the daemon is not running"),
        }
    }

    /// What the daemon wrote to its standard error so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    // ---- life and death

    /// Starts the daemon on the same directories again.
    #[track_caller]
    pub fn launch(&mut self) {
        if let Err(error) = self.try_launch() {
            panic!("{error:#}");
        }
    }

    /// Kills the daemon without a chance to put anything in order.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            drop(child.kill());
            drop(child.wait());
        }
    }

    /// Asks the daemon to end; panics unless it does so with exit code 0.
    #[track_caller]
    pub fn terminate(&mut self) {
        let pid = self.pid();
        assert!(
            process::end(pid, Signal::TERM, GRACE),
            "no end after SIGTERM: {}",
            self.tail()
        );
        if let Some(mut child) = self.child.take() {
            let status = child.wait().map(|status| status.code());
            assert!(
                matches!(status, Ok(Some(0))),
                "{status:?} after SIGTERM: {}",
                self.tail()
            );
        }
    }

    /// Kills the daemon and starts it again.
    #[track_caller]
    pub fn crash_and_restart(&mut self) {
        self.kill();
        self.launch();
    }

    fn try_launch(&mut self) -> Result<()> {
        for directory in [self.data_root(), self.exec_root()] {
            fs::create_dir_all(&directory)
                .with_context(|| format!("create {}", directory.display()))?;
        }
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log_path())
            .with_context(|| format!("open {}", self.log_path().display()))?;
        // A killed daemon leaves its socket; the next one has to cope with that by itself.
        let mut command = self.daemon_command()?.into_inner();
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::from(
                log.try_clone().context("copy the log's descriptor")?,
            ))
            .stderr(Stdio::from(log))
            .spawn()
            .with_context(|| format!("start {command:?}"))?;
        self.child = Some(child);
        let up = wait::within(wait::PATIENCE, || {
            let ended = !matches!(self.child.as_mut().map(Child::try_wait), Some(Ok(None)));
            if ended {
                return Some(false);
            }
            let answer = http::request(self.connect().ok()?, "GET", "/_ping", &[], b"").ok()?;
            (answer.status == 200).then_some(true)
        });
        if up != Some(true) {
            self.kill();
            bail!("{:?} did not come up: {}", self.engine, self.tail());
        }
        Ok(())
    }

    fn daemon_command(&self) -> Result<Command> {
        let root = self.scratch.path();
        let program = match self.engine {
            Engine::Berth => self.executable()?,
            Engine::Docker => match needs::find("dockerd") {
                Some(path) => path,
                None => bail!("dockerd is not installed (cargo xtask deps)"),
            },
        };
        let mut words: Vec<String> = Vec::new();
        if let Some(name) = &self.settings.namespace {
            words.extend(["nsenter".to_owned(), format!("--net=/run/netns/{name}")]);
        }
        words.push(program.display().to_string());
        if self.engine == Engine::Berth {
            words.push("daemon".into());
        }
        for (flag, path) in [
            ("--data-root", self.data_root()),
            ("--exec-root", self.exec_root()),
            ("--pidfile", root.join("pid")),
        ] {
            words.extend([flag.to_owned(), path.display().to_string()]);
        }
        words.extend(["-H".into(), format!("unix://{}", self.socket().display())]);
        words.extend(["--cgroup-parent".into(), self.scope.cgroup_parent.clone()]);
        // Docker's own choice under systemd takes no parent that is not a unit.
        if self.engine == Engine::Docker {
            words.push("--exec-opt=native.cgroupdriver=cgroupfs".to_owned());
        }
        if self.settings.namespace.is_none() {
            words.push("--bridge=none".to_owned());
            if self.engine == Engine::Docker {
                words.extend(["--iptables=false", "--ip6tables=false"].map(str::to_owned));
            }
        }
        words.extend(self.settings.arguments.iter().cloned());

        let disk = disk::arguments(self.settings.disk_bytes, self.settings.disk_image.as_ref());
        let command = match disk {
            None => Command::new(&words[0]).args(&words[1..]),
            Some(disk) => disk::run_on(&disk, &self.data_root(), &words),
        };
        let command = match &self.settings.programs {
            None => command,
            Some(programs) => {
                let others = std::env::var("PATH").unwrap_or_default();
                command.env("PATH", format!("{}:{others}", programs.display()))
            }
        };
        Ok(command.without_user_settings())
    }

    fn executable(&self) -> Result<PathBuf> {
        self.settings.executable.clone().map_or_else(executable, Ok)
    }

    fn log_path(&self) -> PathBuf {
        self.scratch.path().join("log")
    }

    fn tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
    }

    // ---- talking to it

    /// Runs `berth` with words split as a shell does.
    #[track_caller]
    pub fn berth(&self, line: &str) -> Output {
        self.command(Client::Berth, line).run()
    }

    /// Runs the stock `docker` with words split as a shell does.
    #[track_caller]
    pub fn docker(&self, line: &str) -> Output {
        self.command(Client::Docker, line).run()
    }

    /// A client's command that talks to this daemon.
    #[track_caller]
    pub fn command(&self, client: Client, line: &str) -> Command {
        match self.try_command(client) {
            Ok(command) => command.args(words(line)),
            Err(error) => panic!("{error:#}"),
        }
    }

    fn try_command(&self, client: Client) -> Result<Command> {
        let program = match client {
            Client::Berth => self.executable()?,
            Client::Docker => match needs::find("docker") {
                Some(path) => path,
                None => bail!("this test needs docker (cargo xtask deps)"),
            },
        };
        let home = self.scratch.path();
        Ok(Command::new(program)
            .without_user_settings()
            .env("DOCKER_CONFIG", home.join("config"))
            .env("HOME", home)
            .args(["-H", &format!("unix://{}", self.socket().display())]))
    }

    /// A new connection to the API.
    pub fn connect(&self) -> Result<UnixStream> {
        http::unix(&self.socket())
    }

    /// One request of the API; `target` starts behind the version.
    #[track_caller]
    pub fn api(&self, method: &str, target: &str, body: Option<&Value>) -> http::Response {
        let bytes = body
            .map(|value| value.to_string().into_bytes())
            .unwrap_or_default();
        self.api_bytes(method, target, &bytes)
    }

    /// The same with a body that need not be JSON.
    #[track_caller]
    pub fn api_bytes(&self, method: &str, target: &str, body: &[u8]) -> http::Response {
        let kind = [("Content-Type", "application/json")];
        let answer = self
            .connect()
            .and_then(|c| http::request(c, method, &format!("{API}{target}"), &kind, body));
        match answer {
            Ok(answer) => answer,
            Err(error) => panic!("{method} {target}: {error:#}\n{}", self.tail()),
        }
    }

    /// What inspect says of a container.
    #[track_caller]
    pub fn inspect(&self, container: &str) -> Value {
        self.api("GET", &format!("/containers/{container}/json"), None)
            .expect(200)
            .json()
    }

    /// `State.Status` of a container, empty when there is none.
    #[track_caller]
    pub fn status(&self, container: &str) -> String {
        let answer = self.api("GET", &format!("/containers/{container}/json"), None);
        if answer.status == 404 {
            return String::new();
        }
        answer.expect(200).json()["State"]["Status"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }

    /// Waits until a container's status is `status`; the empty string means gone.
    #[track_caller]
    pub fn wait_for(&self, container: &str, status: &str) {
        wait::until(&format!("{container} is {status:?}"), || {
            self.status(container) == status
        });
    }

    /// Process id of a container's first process.
    #[track_caller]
    pub fn container_pid(&self, container: &str) -> i32 {
        self.inspect(container)["State"]["Pid"]
            .as_i64()
            .unwrap_or(0) as i32
    }

    /// Ids of all containers, running or not.
    #[track_caller]
    pub fn containers(&self) -> Vec<String> {
        match self.try_containers() {
            Ok(ids) => ids,
            Err(error) => panic!("{error:#}\n{}", self.tail()),
        }
    }

    fn try_containers(&self) -> Result<Vec<String>> {
        let target = format!("{API}/containers/json?all=1");
        let answer = http::request(self.connect()?, "GET", &target, &[], b"")?;
        if answer.status != 200 {
            bail!("{} for GET {target}: {}", answer.status, answer.text());
        }
        let list: Vec<Value> = serde_json::from_slice(&answer.body).context("container list")?;
        Ok(list
            .iter()
            .filter_map(|one| Some(one["Id"].as_str()?.to_owned()))
            .collect())
    }

    /// Removes every container by force.
    #[track_caller]
    pub fn remove_all(&self) {
        if let Err(error) = self.try_remove_all() {
            panic!("{error:#}\n{}", self.tail());
        }
    }

    fn try_remove_all(&self) -> Result<()> {
        for id in self.try_containers()? {
            let target = format!("{API}/containers/{id}?force=1&v=1");
            let answer = http::request(self.connect()?, "DELETE", &target, &[], b"")?;
            // 404: gone by itself (--rm); 409: its removal is already under way.
            if !matches!(answer.status, 204 | 404 | 409) {
                bail!("{} for DELETE {target}: {}", answer.status, answer.text());
            }
        }
        let gone = wait::within(wait::PATIENCE, || {
            matches!(self.try_containers(), Ok(left) if left.is_empty()).then_some(())
        });
        gone.context("containers stay after their removal")
    }

    /// Loads an image.
    #[track_caller]
    pub fn load(&self, image: &Image) {
        if let Err(error) = self.try_load(image) {
            panic!("{error:#}\n{}", self.tail());
        }
    }

    fn try_load(&self, image: &Image) -> Result<()> {
        let client = match self.engine {
            Engine::Berth => Client::Berth,
            Engine::Docker => Client::Docker,
        };
        let file = images::archive_file(image)?;
        self.try_command(client)?
            .args(["load", "-q", "-i"])
            .arg(file)
            .checked()?;
        Ok(())
    }

    /// Directory of a container's control group in a controller's hierarchy.
    #[track_caller]
    pub fn cgroup(&self, container: &str, controller: &str) -> PathBuf {
        let id = self.inspect(container)["Id"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        match cgroup::of_container(&self.scope.cgroup_parent, &id, controller) {
            Some(path) => path,
            None => panic!("{container} has no control group of {controller}"),
        }
    }

    // ---- leaving nothing behind

    /// Removes all containers and panics if anything of them is left on the machine.
    #[track_caller]
    pub fn assert_clean(&self) {
        self.remove_all();
        if let Some(left) = self.left_over() {
            panic!(
                "left behind after all containers were removed:\n{left}\n{}",
                self.tail()
            );
        }
    }

    /// What stays of containers that are all removed, once it had time to go.
    fn left_over(&self) -> Option<String> {
        let mut last = Vec::new();
        let gone = wait::within(wait::PATIENCE, || {
            let mut known = vec![self.pid()];
            let mut below = process::descendants(self.pid());
            if self.engine == Engine::Berth {
                // Monitors that wait for a container, and belong to none.
                below.retain(|pid| process::name(*pid) == "berth-spare");
            }
            known.extend(below);
            last = self.scope.leaks(&known);
            last.extend(self.container_directories());
            last.is_empty().then_some(())
        });
        gone.is_none().then(|| last.join("\n"))
    }

    fn container_directories(&self) -> Vec<String> {
        let places = match self.engine {
            Engine::Berth => vec![self.data_root(), self.exec_root()],
            Engine::Docker => vec![self.data_root()],
        };
        places
            .iter()
            .flat_map(|place| fs::read_dir(place.join("containers")).into_iter().flatten())
            .flatten()
            .map(|entry| format!("directory {}", entry.path().display()))
            .collect()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let panicking = std::thread::panicking();
        let mut complaint = None;
        if self.child.is_some() {
            if let Err(error) = self.try_remove_all() {
                complaint = Some(format!("{error:#}"));
            } else if !panicking {
                complaint = self.left_over();
            }
            process::end(self.pid(), Signal::TERM, GRACE);
        }
        let tail = self.tail();
        self.kill();
        self.scope.clean();
        match complaint {
            Some(text) if !panicking => {
                panic!("left behind at the end of the test:\n{text}\n{tail}")
            }
            _ if panicking => {
                // The test's own message says what failed; this helps to see why.
                let text = format!("--- log of the daemon\n{tail}\n");
                let mut stderr = std::io::stderr();
                drop(std::io::Write::write_all(&mut stderr, text.as_bytes()));
            }
            _ => {}
        }
    }
}

/// Whether the file system path exists, a dangling link included.
pub fn exists(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}
