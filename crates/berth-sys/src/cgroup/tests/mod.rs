//! Against the kernel. Every test works in groups of its own name and removes them, also when it fails. A test
//! that this machine has no hierarchy for returns early; the layout it needs is in its name.

use std::io::Read;
use std::os::fd::{AsRawFd, FromRawFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use super::*;

mod life;
mod limits;

/// A group that removes itself.
struct Own {
    group: Cgroup,
    parent: Location,
}

impl Own {
    fn new(select: impl Fn(&mut Location)) -> Option<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "berth-test-{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        let hierarchy = Hierarchy::probe().unwrap();
        let mut parent = hierarchy.locate(&Path::new("/").join(&name)).unwrap();
        let mut location = hierarchy
            .locate(&Path::new("/").join(&name).join("inner"))
            .unwrap();
        select(&mut parent);
        select(&mut location);
        if location == Location::default() {
            return None;
        }
        Some(Self {
            group: Cgroup::create(&location).unwrap(),
            parent,
        })
    }

    fn whole() -> Self {
        Self::new(|_| {}).unwrap()
    }

    fn v1_only() -> Option<Self> {
        Self::new(|location| location.unified = None)
    }

    fn unified_only() -> Option<Self> {
        Self::new(|location| location.v1.clear())
    }

    fn v1_file(&self, controller: &str, file: &str) -> String {
        let path = self
            .group
            .location()
            .v1_directory(controller)
            .unwrap()
            .join(file);
        std::fs::read_to_string(path).unwrap().trim().to_owned()
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        let _ = self.group.thaw();
        let _ = self.group.kill_all();
        let removed = Cgroup::remove(self.group.location()).and(Cgroup::remove(&self.parent));
        if !std::thread::panicking() {
            removed.unwrap();
        }
    }
}

/// A shell that joins a group by itself, as a container's first process does, and then runs a script. It is
/// killed and reaped when dropped.
struct Inside(Child);

impl Inside {
    fn run(own: &Own, script: &str) -> Self {
        use std::os::unix::process::CommandExt;
        let join = own.group.join_handle().unwrap();
        let mut command = Command::new("/bin/sh");
        command
            .arg("-c")
            .arg(script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        // SAFETY: the closure only writes to descriptors opened before, in the child, which has one thread.
        unsafe { command.pre_exec(move || join.join_current(false)) };
        Self(command.spawn().unwrap())
    }

    fn output(mut self) -> String {
        drop(self.0.stdin.take());
        let mut text = String::new();
        self.0
            .stdout
            .take()
            .unwrap()
            .read_to_string(&mut text)
            .unwrap();
        text
    }

    /// Waits for a line on standard output.
    fn line(&mut self) -> String {
        let mut line = String::new();
        let mut byte = [0];
        let stdout = self.0.stdout.as_mut().unwrap();
        while stdout.read(&mut byte).unwrap() == 1 && byte[0] != b'\n' {
            line.push(char::from(byte[0]));
        }
        line
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}
