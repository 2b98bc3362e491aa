//! A bundle with busybox, containers made from it, and their removal whatever happens.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use berth_runtime::{
    Container, CreateRequest, ExecRequest, RuntimeError, StdioRequest, create, exec,
};
use berth_sys::process::{ExitStatus, ReapTarget, reap};
use serde_json::{Value, json};

const BUSYBOX: &str = "/bin/busybox";

/// Programs the root file system has, all of them busybox.
const APPLETS: [&str; 42] = [
    "sh", "cat", "echo", "ls", "id", "mount", "stat", "readlink", "hostname", "sleep", "true",
    "false", "grep", "touch", "mkdir", "env", "pwd", "ps", "kill", "ip", "tty", "stty", "dd", "wc",
    "test", "nice", "ionice", "date", "head", "tail", "tr", "sort", "cut", "find", "rm", "chmod",
    "printf", "awk", "sed", "umount", "ulimit", "unshare",
];

/// Fails with the reason when a test cannot be run here.
pub(crate) fn require_root() {
    assert!(
        rustix::process::geteuid().is_root(),
        "kernel tests need to be root"
    );
    assert!(
        Path::new(BUSYBOX).exists(),
        "kernel tests need {BUSYBOX}: install the package busybox-static"
    );
}

/// A temporary bundle, with a state root beside it.
pub(crate) struct Bundle {
    directory: tempfile::TempDir,
    pub(crate) spec: Value,
    pub(crate) id: String,
}

/// What a container's program wrote and how it ended.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) notes: Vec<String>,
}

impl Bundle {
    /// A bundle whose container runs `sh -c SCRIPT` in all namespaces but the user namespace.
    pub(crate) fn new(script: &str) -> Self {
        let directory = tempfile::Builder::new()
            .prefix("berth-runtime-test-")
            .tempdir()
            .unwrap();
        let root = directory.path().join("rootfs");
        for name in ["bin", "proc", "dev", "sys", "tmp", "etc", "root"] {
            fs::create_dir_all(root.join(name)).unwrap();
        }
        fs::copy(BUSYBOX, root.join("bin/busybox")).unwrap();
        for applet in APPLETS {
            symlink("busybox", root.join("bin").join(applet)).unwrap();
        }
        fs::write(
            root.join("etc/passwd"),
            "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\n",
        )
        .unwrap();
        let id = format!(
            "test-{}-{}",
            std::process::id(),
            directory
                .path()
                .file_name()
                .unwrap()
                .to_string_lossy()
                .rsplit('-')
                .next()
                .unwrap()
        );
        let all = [
            "CAP_CHOWN",
            "CAP_DAC_OVERRIDE",
            "CAP_FSETID",
            "CAP_FOWNER",
            "CAP_MKNOD",
            "CAP_NET_RAW",
            "CAP_SETGID",
            "CAP_SETUID",
            "CAP_SETFCAP",
            "CAP_SETPCAP",
            "CAP_NET_BIND_SERVICE",
            "CAP_SYS_CHROOT",
            "CAP_KILL",
            "CAP_AUDIT_WRITE",
        ];
        let spec = json!({
            "ociVersion": "1.2.0",
            "root": {"path": "rootfs"},
            "hostname": "box",
            "process": {
                "user": {"uid": 0, "gid": 0},
                "args": ["sh", "-c", script],
                "env": ["PATH=/bin", "TERM=xterm"],
                "cwd": "/",
                "capabilities": {"bounding": all, "effective": all, "permitted": all},
            },
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc",
                 "options": ["nosuid", "noexec", "nodev"]},
                {"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
                 "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
                {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
                 "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]},
                {"destination": "/dev/shm", "type": "tmpfs", "source": "shm",
                 "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]},
                {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue",
                 "options": ["nosuid", "noexec", "nodev"]},
                {"destination": "/sys", "type": "sysfs", "source": "sysfs",
                 "options": ["nosuid", "noexec", "nodev", "ro"]},
                {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
                 "options": ["nosuid", "noexec", "nodev", "ro"]},
            ],
            "linux": {
                "cgroupsPath": format!("/berth-runtime-test/{id}"),
                "namespaces": [
                    {"type": "pid"}, {"type": "network"}, {"type": "ipc"}, {"type": "uts"},
                    {"type": "mount"}, {"type": "cgroup"},
                ],
                "maskedPaths": ["/proc/kcore", "/proc/keys", "/proc/acpi", "/proc/nope", "/sys/firmware"],
                "readonlyPaths": ["/proc/sys", "/proc/bus", "/proc/irq"],
            },
        });
        Self {
            directory,
            spec,
            id,
        }
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.path().join("rootfs")
    }

    pub(crate) fn state_root(&self) -> PathBuf {
        self.path().join("state")
    }

    /// Adds a mount.
    pub(crate) fn mount(&mut self, mount: Value) {
        self.spec["mounts"].as_array_mut().unwrap().push(mount);
    }

    /// Adds a namespace, or replaces the one of its type.
    pub(crate) fn namespace(&mut self, namespace: Value) {
        let list = self.spec["linux"]["namespaces"].as_array_mut().unwrap();
        list.retain(|known| known["type"] != namespace["type"]);
        list.push(namespace);
    }

    /// Maps ids 0 to 65535 of a new user namespace to 100000 and later, and gives it the root file system.
    pub(crate) fn user_namespace(&mut self) {
        self.namespace(json!({"type": "user"}));
        let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
        self.spec["linux"]["uidMappings"] = map.clone();
        self.spec["linux"]["gidMappings"] = map;
        let status = std::process::Command::new("chown")
            .args(["-R", "-h", "100000:100000"])
            .arg(self.root())
            .status()
            .unwrap();
        assert!(status.success());
        // The user namespace's root must reach its root file system.
        let open = <fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o755);
        fs::set_permissions(self.path(), open).unwrap();
    }

    /// The request for a container with these standard descriptors.
    pub(crate) fn request(&self, stdio: StdioRequest) -> CreateRequest {
        let mut request = CreateRequest::new(
            &self.id,
            self.path().to_owned(),
            serde_json::from_value(self.spec.clone()).unwrap(),
            self.state_root(),
        );
        request.stdio = stdio;
        request
    }

    /// Makes the container, with files that take its output.
    pub(crate) fn create(&self) -> Result<Container, RuntimeError> {
        create(self.request(self.files()))
    }

    /// Standard descriptors that are files of the bundle.
    pub(crate) fn files(&self) -> StdioRequest {
        let file = |name: &str| OwnedFd::from(fs::File::create(self.path().join(name)).unwrap());
        StdioRequest::Descriptors {
            stdin: fs::File::open("/dev/null").unwrap().into(),
            stdout: file("stdout"),
            stderr: file("stderr"),
        }
    }

    /// Makes, starts, waits for and deletes the container.
    pub(crate) fn run(&self) -> Result<Output, RuntimeError> {
        let mut container = self.create()?;
        let notes = container.notes.clone();
        let pid = container.pid();
        let started = container.start();
        let status = wait_for(pid);
        container.delete(true)?;
        started?;
        Ok(self.output(status, notes))
    }

    /// Runs and expects success; what was written, without the last newline.
    pub(crate) fn stdout(&self) -> String {
        let output = self
            .run()
            .unwrap_or_else(|error| panic!("{}", error.chain()));
        assert_eq!(output.code, 0, "{output:?}");
        output.stdout.trim_end().to_owned()
    }

    pub(crate) fn output(&self, status: ExitStatus, notes: Vec<String>) -> Output {
        let read = |name: &str| fs::read_to_string(self.path().join(name)).unwrap_or_default();
        Output {
            code: status.code(),
            stdout: read("stdout"),
            stderr: read("stderr"),
            notes,
        }
    }

    /// Runs `process` in the running container and waits for it.
    pub(crate) fn exec(&self, process: Value) -> Result<Output, RuntimeError> {
        let request = ExecRequest {
            state_root: self.state_root(),
            id: self.id.clone(),
            process: serde_json::from_value(process).unwrap(),
            stdio: self.files(),
            preserve_descriptors: 0,
            ignore_paused: false,
            groups: None,
        };
        let running = exec(request)?;
        let status = wait_for(running.pid);
        Ok(self.output(status, running.notes))
    }

    /// A process document that runs `sh -c SCRIPT` with the container's own capabilities.
    pub(crate) fn shell(&self, script: &str) -> Value {
        let mut process = self.spec["process"].clone();
        process["args"] = json!(["sh", "-c", script]);
        process
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        if let Ok(container) = Container::load(&self.state_root(), &self.id) {
            let pid = container.pid();
            let _ = container.delete(true);
            if pid > 0 {
                let _ = reap(ReapTarget::Pid(pid), true);
            }
        }
        // The parent of the test's groups goes with the last of them.
        for entry in fs::read_dir("/sys/fs/cgroup")
            .into_iter()
            .flatten()
            .flatten()
        {
            let _ = fs::remove_dir(entry.path().join("berth-runtime-test"));
        }
        let _ = fs::remove_dir("/sys/fs/cgroup/berth-runtime-test");
    }
}

/// Waits for a child.
pub(crate) fn wait_for(pid: i32) -> ExitStatus {
    reap(ReapTarget::Pid(pid), false).unwrap().unwrap().status
}

/// Waits until something is so; panics when it is not in time.
pub(crate) fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < deadline, "{what}: not in time");
        std::thread::yield_now();
    }
}

/// The lines of a text.
pub(crate) fn lines(text: &str) -> Vec<&str> {
    text.lines().collect()
}
