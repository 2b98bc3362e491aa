//! What a daemon may leave behind: mounts, control groups, processes, namespaces held by mounts.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::mount::UnmountFlags;
use rustix::process::Signal;

use crate::{cgroup, process, wait};

/// The names by which everything of one private daemon can be found.
#[derive(Debug, Clone)]
pub struct Scope {
    /// Directory that holds its data, its sockets and its run-time state.
    pub root: PathBuf,
    /// Parent of all its control groups, with a leading slash.
    pub cgroup_parent: String,
}

impl Scope {
    /// The directory of run-time state: beneath the root, or where a link there leads.
    fn run(&self) -> PathBuf {
        let run = self.root.join("run");
        fs::read_link(&run).unwrap_or(run)
    }

    /// Mount points beneath the root in this mount namespace.
    pub fn mounts(&self) -> Vec<String> {
        let prefixes = [&self.root, &self.run()].map(|path| format!("{}/", path.display()));
        fs::read_to_string("/proc/self/mountinfo")
            .unwrap_or_default()
            .lines()
            .filter_map(|line| line.split(' ').nth(4).map(str::to_owned))
            .filter(|point| prefixes.iter().any(|prefix| point.starts_with(prefix)))
            .collect()
    }

    /// Living processes that name the root on their command line or sit in our control groups.
    pub fn processes(&self) -> Vec<i32> {
        let root = format!("{}/", self.root.display());
        let group = format!("{}/", self.cgroup_parent);
        process::all()
            .into_iter()
            .filter(|pid| *pid != std::process::id() as i32 && process::is_alive(*pid))
            .filter(|pid| {
                format!("{}/", process::command_line(*pid)).contains(&root)
                    || process::cgroups(*pid)
                        .lines()
                        .any(|line| format!("{line}/").contains(&group))
            })
            .collect()
    }

    /// Everything left, one line each, apart from the processes in `known`.
    pub fn leaks(&self, known: &[i32]) -> Vec<String> {
        let mut found = Vec::new();
        for pid in self.processes() {
            if !known.contains(&pid) {
                found.push(format!("process {pid}: {}", process::command_line(pid)));
            }
        }
        for group in cgroup::children(&self.cgroup_parent) {
            found.push(format!("control group {}", group.display()));
        }
        for point in self.mounts() {
            if !self.is_own_mount(&point) {
                found.push(format!("mount {point}"));
            }
        }
        found
    }

    /// Ends, unmounts and removes everything in the scope. Used after the checks, and on panic.
    pub fn clean(&self) {
        // A restart policy may put new processes into the place of the ended.
        // What withstands is reported by the leak check of the next test run.
        let _ended = wait::within(Duration::from_secs(20), || {
            let left = self.processes();
            for pid in &left {
                process::end(*pid, Signal::KILL, Duration::from_millis(200));
            }
            left.is_empty().then_some(())
        });
        wait::within(Duration::from_secs(5), || {
            cgroup::remove(&self.cgroup_parent);
            cgroup::directories(&self.cgroup_parent)
                .is_empty()
                .then_some(())
        });
        for point in self.mounts().iter().rev() {
            let _busy = rustix::mount::unmount(Path::new(point), UnmountFlags::DETACH);
        }
        drop(fs::remove_dir_all(self.run()));
        drop(fs::remove_dir_all(&self.root));
    }

    // dockerd binds its data directory onto itself and mounts the host's network namespace.
    fn is_own_mount(&self, point: &str) -> bool {
        [self.root.join("data"), self.run().join("netns/default")]
            .iter()
            .any(|own| own.as_os_str() == point)
    }
}
