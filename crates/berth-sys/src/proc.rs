//! Readers of /proc: mountinfo, stat, status. The parsers take text and are pure.
//!
//! Format: proc(5), Documentation/filesystems/proc.rst.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::error::{Attempt, Error, Result};
use crate::fs;

/// Opens what a link below /proc/PID leads to: the files of `ns`, `root`, `cwd`, `exe`.
///
/// The kernel refuses such a link (`EACCES`) when the process goes between the lookup of the name and the step into
/// it (`proc_ns_get_link` in fs/proc/namespaces.c, `proc_pid_get_link` in fs/proc/base.c). Here that is what it would
/// have been a moment later: `ENOENT`.
pub fn open_link(path: &Path, flags: OFlags) -> Result<OwnedFd> {
    let opened = rustix::fs::open(path, flags | OFlags::CLOEXEC, Mode::empty());
    let opened = match opened {
        Err(Errno::ACCESS) if matches!(rustix::fs::lstat(path), Err(Errno::NOENT)) => {
            Err(Errno::NOENT)
        }
        other => other,
    };
    opened.attempt(|| format!("open {}", path.display()))
}

/// One line of /proc/PID/mountinfo.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountEntry {
    /// Id of the mount.
    pub id: u64,
    /// Id of the mount it lies on.
    pub parent: u64,
    /// Directory of the file system that is the root of this mount.
    pub root: PathBuf,
    /// Where it is mounted, seen from the process' root.
    pub mount_point: PathBuf,
    /// Options of this mount ("rw", "nosuid", …).
    pub options: Vec<String>,
    /// `shared:N`, `master:N`, `unbindable`, ….
    pub optional_fields: Vec<String>,
    /// Type of the file system.
    pub kind: String,
    /// What is mounted.
    pub source: String,
    /// Options of the file system itself.
    pub super_options: String,
}

/// Parses a whole mountinfo; lines of another form are left out.
pub fn parse_mountinfo(text: &str) -> Vec<MountEntry> {
    text.lines().filter_map(parse_mount_line).collect()
}

fn parse_mount_line(line: &str) -> Option<MountEntry> {
    let mut fields = line.split(' ');
    let id = fields.next()?.parse().ok()?;
    let parent = fields.next()?.parse().ok()?;
    let _device = fields.next()?;
    let root = PathBuf::from(unescape(fields.next()?));
    let mount_point = PathBuf::from(unescape(fields.next()?));
    let options = fields.next()?.split(',').map(str::to_owned).collect();
    let mut optional_fields = Vec::new();
    for field in fields.by_ref() {
        if field == "-" {
            break;
        }
        optional_fields.push(field.to_owned());
    }
    let kind = unescape(fields.next()?);
    let source = unescape(fields.next()?);
    let super_options = fields.next().unwrap_or("").to_owned();
    Some(MountEntry {
        id,
        parent,
        root,
        mount_point,
        options,
        optional_fields,
        kind,
        source,
        super_options,
    })
}

/// Undoes the octal escapes of space, tab, newline, backslash and number sign.
fn unescape(field: &str) -> String {
    let bytes = field.as_bytes();
    let mut plain = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let escaped = (bytes[at] == b'\\')
            .then(|| bytes.get(at + 1..at + 4))
            .flatten()
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match escaped {
            Some(byte) => {
                plain.push(byte);
                at += 4;
            }
            None => {
                plain.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&plain).into_owned()
}

/// The mounts of this process' namespace.
pub fn mounts() -> Result<Vec<MountEntry>> {
    let content = fs::read(std::path::Path::new("/proc/self/mountinfo"))?;
    Ok(parse_mountinfo(&String::from_utf8_lossy(&content)))
}

/// The fields of /proc/PID/stat that this program uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessStat {
    /// Process id.
    pub pid: i32,
    /// Name of the program, at most 15 bytes.
    pub name: String,
    /// State letter: R, S, D, Z, T, t, X, I.
    pub state: char,
    /// Id of the parent.
    pub parent: i32,
    /// Id of the process group.
    pub group: i32,
    /// Id of the session.
    pub session: i32,
    /// Time in user mode, clock ticks.
    pub user_ticks: u64,
    /// Time in the kernel, clock ticks.
    pub system_ticks: u64,
    /// When it started, clock ticks after boot. With the id it names a process uniquely.
    pub start_time: u64,
}

impl ProcessStat {
    /// Whether the process has ended and only waits to be reaped.
    pub fn has_ended(&self) -> bool {
        matches!(self.state, 'Z' | 'X' | 'x')
    }
}

/// Parses /proc/PID/stat; the name may hold spaces and parentheses.
pub fn parse_stat(text: &str) -> Option<ProcessStat> {
    let open = text.find('(')?;
    let close = text.rfind(')')?;
    let pid = text.get(..open)?.trim().parse().ok()?;
    let name = text.get(open + 1..close)?.to_owned();
    let rest: Vec<&str> = text.get(close + 1..)?.split_ascii_whitespace().collect();
    // The first of the rest is field 3 of proc(5).
    let field = |number: usize| rest.get(number - 3).copied();
    Some(ProcessStat {
        pid,
        name,
        state: field(3)?.chars().next()?,
        parent: field(4)?.parse().ok()?,
        group: field(5)?.parse().ok()?,
        session: field(6)?.parse().ok()?,
        user_ticks: field(14)?.parse().ok()?,
        system_ticks: field(15)?.parse().ok()?,
        start_time: field(22)?.parse().ok()?,
    })
}

/// The stat of process `pid`.
pub fn stat(pid: i32) -> Result<ProcessStat> {
    let path = PathBuf::from(format!("/proc/{pid}/stat"));
    let content = fs::read_kernel_file(&path)?;
    parse_stat(&String::from_utf8_lossy(&content)).ok_or_else(|| {
        Error::invalid(
            format!("read {}", path.display()),
            "it does not have the form of proc(5)",
        )
    })
}

/// The value of one line of /proc/PID/status ("CapEff" → "000001ff…").
pub fn parse_status_field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key == name).then(|| value.trim())
    })
}

/// File systems this kernel knows (/proc/filesystems).
pub fn file_systems() -> Result<Vec<String>> {
    let text = fs::read_to_string(std::path::Path::new("/proc/filesystems"))?;
    Ok(text
        .lines()
        .filter_map(|line| line.split_ascii_whitespace().last())
        .map(str::to_owned)
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_goes_meanwhile_is_not_there_rather_than_refused() {
        // Each child goes while its links are opened over and over.
        for _ in 0..200 {
            let mut child = std::process::Command::new("sleep")
                .arg("1000")
                .spawn()
                .expect("a child");
            let pid = child.id();
            let (ready, wait) = std::sync::mpsc::channel();
            let opener = std::thread::spawn(move || {
                let path = |name| PathBuf::from(format!("/proc/{pid}/{name}"));
                let (namespace, root) = (path("ns/mnt"), path("root"));
                let _ = ready.send(());
                loop {
                    let opened = open_link(&namespace, OFlags::RDONLY)
                        .and_then(|_| open_link(&root, OFlags::PATH | OFlags::DIRECTORY));
                    if let Err(error) = opened {
                        return error;
                    }
                }
            });
            wait.recv().expect("the opener runs");
            child.kill().expect("killed");
            child.wait().expect("reaped");
            let error = opener.join().expect("an error in the end");
            assert!(error.is_not_found(), "{error}: {:?}", error.errno());
        }
    }

    #[test]
    fn mountinfo_lines_are_understood() {
        let text = "36 35 98:0 /mnt1 /mnt\\040two rw,noatime master:1 shared:7 - ext3 /dev/root rw,errors=continue\n\
                    nonsense\n\
                    40 36 0:5 / /x rw - tmpfs none rw\n";
        let mounts = parse_mountinfo(text);
        assert_eq!(mounts.len(), 2);
        assert_eq!(mounts[0].mount_point, PathBuf::from("/mnt two"));
        assert_eq!(mounts[0].optional_fields, ["master:1", "shared:7"]);
        assert_eq!(mounts[0].kind, "ext3");
        assert!(mounts[1].optional_fields.is_empty());
    }

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        let text = "42 (a) b (c) S 1 42 41 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 12345 1 2";
        let stat = parse_stat(text).unwrap();
        assert_eq!(stat.name, "a) b (c");
        assert_eq!((stat.parent, stat.group, stat.session), (1, 42, 41));
        assert_eq!((stat.user_ticks, stat.system_ticks), (5, 6));
        assert_eq!(stat.start_time, 12345);
    }

    #[test]
    fn own_stat_is_readable() {
        let pid = std::process::id() as i32;
        assert_eq!(stat(pid).unwrap().pid, pid);
        assert!(!mounts().unwrap().is_empty());
    }

    #[test]
    fn status_fields_are_found() {
        let text = "Name:\tx\nCapEff:\t000001ff\n";
        assert_eq!(parse_status_field(text, "CapEff"), Some("000001ff"));
        assert_eq!(parse_status_field(text, "Cap"), None);
    }
}
