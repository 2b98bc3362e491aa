//! What a container needs around it: a root file system, directories, a control group, and their removal.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use berth_monitor::log::{LogReader, LogSettings, ReadRequest};
use berth_monitor::{
    Created, ExitRecord, LaunchRequest, MonitorError, MonitorEvent, MonitorHandle, RuntimeChoice,
    Streams, read_exit_record,
};
use berth_sys::mount::overlay::Overlay;
use serde_json::json;
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;

static NUMBER: AtomicU32 = AtomicU32::new(0);

pub(crate) struct Stage {
    directory: tempfile::TempDir,
    pub(crate) id: String,
    group: String,
    pub(crate) request: LaunchRequest,
    config: serde_json::Value,
}

impl Stage {
    /// A container that runs `script` in a shell.
    pub(crate) fn shell(script: &str) -> Self {
        Self::command(&["/bin/sh", "-c", script])
    }

    pub(crate) fn command(arguments: &[&str]) -> Self {
        let directory = tempfile::Builder::new()
            .prefix("berth-monitor-")
            .tempdir()
            .unwrap();
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let group = format!("berth-monitor-test-{}", std::process::id());
        let id = format!("t{}-{number}", std::process::id());
        let path = directory.path();
        for name in ["bundle", "state", "data", "upper", "work"] {
            std::fs::create_dir(path.join(name)).unwrap();
        }
        let root = make_root(path);
        let bundle = path.join("bundle");
        let request = LaunchRequest {
            id: id.clone(),
            bundle: bundle.clone(),
            mounted: false,
            overlay: Some(Overlay {
                lower: vec![root],
                upper: Some(path.join("upper")),
                work: Some(path.join("work")),
                read_only: false,
                options: Vec::new(),
            }),
            terminal: false,
            open_stdin: false,
            stdin_once: false,
            console_size: None,
            log: LogSettings::resolve(
                "json-file",
                &Default::default(),
                path.join("data/log"),
                Default::default(),
            )
            .unwrap(),
            runtime: choice(),
            state_root: path.join("state"),
            seccomp_cache: None,
            start: false,
            network: None,
        };
        let config = config(arguments, &format!("/{group}/{id}"));
        Self {
            directory,
            id,
            group,
            request,
            config,
        }
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn bundle(&self) -> &Path {
        &self.request.bundle
    }

    /// Changes `config.json`.
    pub(crate) fn configure(mut self, change: impl FnOnce(&mut serde_json::Value)) -> Self {
        change(&mut self.config);
        self
    }

    /// Changes the launch request.
    pub(crate) fn with(mut self, change: impl FnOnce(&mut LaunchRequest)) -> Self {
        change(&mut self.request);
        self
    }

    pub(crate) fn terminal(self) -> Self {
        self.configure(|config| config["process"]["terminal"] = json!(true))
            .with(|request| request.terminal = true)
    }

    /// Writes `config.json` without launching.
    pub(crate) fn write_config(&self) {
        std::fs::write(self.bundle().join("config.json"), self.config.to_string()).unwrap();
    }

    pub(crate) async fn try_launch(&self) -> Result<(MonitorHandle, Created), MonitorError> {
        self.write_config();
        berth_monitor::launch(Path::new("/proc/self/exe"), &self.request).await
    }

    pub(crate) async fn launch(&self) -> MonitorHandle {
        self.try_launch().await.unwrap().0
    }

    /// Launches, starts, and waits for the end.
    pub(crate) async fn run(&self) -> ExitRecord {
        let handle = self.launch().await;
        handle.start().await.unwrap();
        self.over(&handle).await
    }

    /// Waits until the container is over and its monitor gone.
    pub(crate) async fn over(&self, handle: &MonitorHandle) -> ExitRecord {
        handle.gone().await;
        read_exit_record(self.bundle())
            .unwrap()
            .expect("no exit record")
    }

    /// The log as one text per stream, `stdout` first.
    pub(crate) fn log(&self) -> (String, String) {
        let mut reader = LogReader::open(&self.request.log, ReadRequest::default()).unwrap();
        let mut texts = [String::new(), String::new()];
        loop {
            let batch = reader.next_batch().unwrap();
            if batch.is_empty() {
                let [stdout, stderr] = texts;
                return (stdout, stderr);
            }
            for entry in batch {
                texts[usize::from(entry.stream.number()) - 1]
                    .push_str(&String::from_utf8_lossy(&entry.bytes));
            }
        }
    }

    /// Directories of control groups that are still there.
    pub(crate) fn groups(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let Ok(list) = std::fs::read_dir("/sys/fs/cgroup") else {
            return found;
        };
        let roots = list
            .flatten()
            .map(|entry| entry.path())
            .chain([PathBuf::from("/sys/fs/cgroup")]);
        for root in roots {
            let group = root.join(&self.group).join(&self.id);
            if group.is_dir() {
                found.push(group);
            }
        }
        found
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // The processes first: whatever the test left running.
        for group in self.groups() {
            let pids = std::fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
            for pid in pids.lines().filter_map(|pid| pid.parse::<i32>().ok()) {
                if let Some(pid) = rustix::process::Pid::from_raw(pid) {
                    let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
                }
            }
        }
        for _ in 0..2000 {
            if berth_monitor::salvage(self.bundle()).is_ok()
                || !self.bundle().join("monitor.json").exists()
            {
                break;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        let Ok(list) = std::fs::read_dir("/sys/fs/cgroup") else {
            return;
        };
        let roots = list
            .flatten()
            .map(|entry| entry.path())
            .chain([PathBuf::from("/sys/fs/cgroup")]);
        for root in roots {
            let _ = std::fs::remove_dir(root.join(&self.group).join(&self.id));
            let _ = std::fs::remove_dir(root.join(&self.group));
        }
    }
}

/// The built-in runtime, or the program that `BERTH_TEST_RUNTIME` names: the same is expected of both.
fn choice() -> RuntimeChoice {
    match std::env::var_os("BERTH_TEST_RUNTIME") {
        Some(path) => RuntimeChoice::Program {
            path: path.into(),
            args: Vec::new(),
        },
        None => RuntimeChoice::Builtin,
    }
}

fn make_root(path: &Path) -> PathBuf {
    let root = path.join("root");
    for name in ["bin", "proc", "sys", "dev", "tmp", "etc"] {
        std::fs::create_dir_all(root.join(name)).unwrap();
    }
    let busybox = ["/usr/bin/busybox", "/bin/busybox"]
        .iter()
        .find(|path| Path::new(path).exists())
        .expect("the package busybox-static is needed");
    std::fs::copy(busybox, root.join("bin/busybox")).unwrap();
    for name in [
        "sh", "true", "false", "cat", "echo", "sleep", "kill", "yes", "head", "seq", "stty", "tty",
        "dd", "wc", "tail", "ps",
    ] {
        std::os::unix::fs::symlink("busybox", root.join("bin").join(name)).unwrap();
    }
    std::fs::write(root.join("etc/notes"), "not a program\n").unwrap();
    root
}

fn config(arguments: &[&str], group: &str) -> serde_json::Value {
    let capabilities = [
        "CAP_CHOWN",
        "CAP_DAC_OVERRIDE",
        "CAP_KILL",
        "CAP_SETGID",
        "CAP_SETUID",
    ];
    json!({
        "ociVersion": "1.0.2",
        "root": {"path": "rootfs", "readonly": false},
        "process": {
            "terminal": false,
            "user": {"uid": 0, "gid": 0},
            "args": arguments,
            "env": ["PATH=/bin", "TERM=xterm"],
            "cwd": "/",
            "capabilities": {"bounding": capabilities, "effective": capabilities, "permitted": capabilities},
            "noNewPrivileges": true,
        },
        "hostname": "test",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755", "size=65536k"]},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
             "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]},
        ],
        "linux": {
            "cgroupsPath": group,
            "namespaces": [
                {"type": "pid"}, {"type": "mount"}, {"type": "ipc"}, {"type": "uts"}, {"type": "network"},
            ],
            "resources": {"devices": [{"allow": true, "access": "rwm"}]},
        },
    })
}

pub(crate) const OUTPUT: Streams = Streams {
    stdin: false,
    stdout: true,
    stderr: true,
};
pub(crate) const ALL: Streams = Streams {
    stdin: true,
    stdout: true,
    stderr: true,
};

/// Reads a stream to its end.
pub(crate) async fn read_all(stream: &mut UnixStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await.unwrap();
    bytes
}

/// Takes multiplexed frames apart: what standard output and standard error said.
pub(crate) fn split(mut bytes: &[u8]) -> (String, String) {
    let mut texts = [Vec::new(), Vec::new()];
    while !bytes.is_empty() {
        let (header, rest) = bytes.split_at(8);
        let length = u32::from_be_bytes(header[4..].try_into().unwrap()) as usize;
        assert_eq!(header[1..4], [0, 0, 0]);
        texts[usize::from(header[0]) - 1].extend_from_slice(&rest[..length]);
        bytes = &rest[length..];
    }
    let [stdout, stderr] = texts.map(|text| String::from_utf8(text).unwrap());
    (stdout, stderr)
}

/// Reads until `wanted` has been seen.
pub(crate) async fn read_until(stream: &mut UnixStream, wanted: &str) -> String {
    let mut text = String::new();
    let mut chunk = [0; 4096];
    while !text.contains(wanted) {
        let count = stream.read(&mut chunk).await.unwrap();
        assert!(
            count > 0,
            "the stream ended before {wanted:?} was seen in {text:?}"
        );
        text.push_str(&String::from_utf8_lossy(&chunk[..count]));
    }
    text
}

/// Waits for an event.
pub(crate) async fn event<T>(
    events: &mut tokio::sync::mpsc::Receiver<MonitorEvent>,
    wanted: impl Fn(&MonitorEvent) -> Option<T>,
) -> T {
    loop {
        let event = events
            .recv()
            .await
            .expect("the monitor ended before the event");
        if let Some(found) = wanted(&event) {
            return found;
        }
    }
}

/// Waits until something is so.
pub(crate) async fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while Instant::now() < deadline {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("never came true: {what}");
}
