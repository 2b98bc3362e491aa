//! Processes of the machine, looked at through /proc and ended by descriptor.

use std::fs;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
pub use rustix::process::Signal;
use rustix::process::{Pid, PidfdFlags, pidfd_open, pidfd_send_signal};

/// All process ids visible now.
pub fn all() -> Vec<i32> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect()
}

/// Command line with spaces between the arguments; empty for kernel threads and the gone.
pub fn command_line(pid: i32) -> String {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&bytes)
        .replace('\0', " ")
        .trim()
        .to_owned()
}

/// The text of /proc/PID/cgroup, empty for the gone.
pub fn cgroups(pid: i32) -> String {
    fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default()
}

/// The parent's id and the state letter from /proc/PID/stat.
pub fn parent_and_state(pid: i32) -> Option<(i32, char)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything; what follows its last ")" is fixed (proc(5)).
    let rest = &text[text.rfind(')')? + 1..];
    let mut fields = rest.split_whitespace();
    let state = fields.next()?.chars().next()?;
    Some((fields.next()?.parse().ok()?, state))
}

/// Whether the process exists and is not a zombie.
pub fn is_alive(pid: i32) -> bool {
    parent_and_state(pid).is_some_and(|(_, state)| state != 'Z' && state != 'X')
}

/// Processes whose parent is `pid`.
pub fn children(pid: i32) -> Vec<i32> {
    all()
        .into_iter()
        .filter(|child| parent_and_state(*child).is_some_and(|(parent, _)| parent == pid))
        .collect()
}

/// The name a process gives itself; empty when it is gone.
pub fn name(pid: i32) -> String {
    fs::read_to_string(format!("/proc/{pid}/comm"))
        .map(|name| name.trim_end().to_owned())
        .unwrap_or_default()
}

/// All descendants of `pid`, without itself.
pub fn descendants(pid: i32) -> Vec<i32> {
    let parents: Vec<(i32, i32)> = all()
        .into_iter()
        .filter_map(|child| Some((child, parent_and_state(child)?.0)))
        .collect();
    let mut found = vec![pid];
    let mut next = 0;
    while let Some(&parent) = found.get(next) {
        found.extend(
            parents
                .iter()
                .filter(|(_, p)| *p == parent)
                .map(|(child, _)| *child),
        );
        next += 1;
    }
    found.remove(0);
    found
}

/// Sends `signal`; who is gone already does not mind.
pub fn send(pid: i32, signal: Signal) {
    if let Some(descriptor) =
        Pid::from_raw(pid).and_then(|target| pidfd_open(target, PidfdFlags::empty()).ok())
    {
        let _gone = pidfd_send_signal(&descriptor, signal);
    }
}

/// Sends `signal` and waits up to `limit` for the end; true when it is gone.
pub fn end(pid: i32, signal: Signal, limit: Duration) -> bool {
    let Some(target) = Pid::from_raw(pid) else {
        return true;
    };
    let Ok(descriptor) = pidfd_open(target, PidfdFlags::empty()) else {
        return true;
    };
    if pidfd_send_signal(&descriptor, signal).is_err() {
        return true;
    }
    wait_for_end(&descriptor, limit)
}

/// Waits up to `limit`, [scaled](crate::wait::scaled), until the process behind the descriptor has ended.
pub fn wait_for_end(descriptor: &impl std::os::fd::AsFd, limit: Duration) -> bool {
    let limit = crate::wait::scaled(limit);
    let timeout = Timespec {
        tv_sec: limit.as_secs() as i64,
        tv_nsec: i64::from(limit.subsec_nanos()),
    };
    let mut wanted = [PollFd::new(descriptor, PollFlags::IN)];
    matches!(poll(&mut wanted, Some(&timeout)), Ok(n) if n > 0)
}

/// Proportional set size in KiB, the fair share of shared pages included (proc(5), smaps_rollup).
pub fn pss_kib(pid: i32) -> u64 {
    fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))
        .unwrap_or_default()
        .lines()
        .find_map(|line| {
            line.strip_prefix("Pss:")?
                .trim()
                .strip_suffix(" kB")?
                .trim()
                .parse()
                .ok()
        })
        .unwrap_or(0)
}
