//! One directory of one hierarchy, kept open.
//!
//! Every access is relative to the descriptor: no repeated walk of the path, and never another group that was
//! made later under the same name. The path is kept for errors only.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags};

use super::{CgroupError, limits};

/// An open directory of a control group.
#[derive(Debug)]
pub(super) struct Directory {
    fd: OwnedFd,
    path: PathBuf,
}

impl Directory {
    /// Opens a directory; `None` when there is none.
    pub(super) fn open(path: &Path) -> Result<Option<Self>, CgroupError> {
        match rustix::fs::open(
            path,
            OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::RDONLY,
            Mode::empty(),
        ) {
            Ok(fd) => Ok(Some(Self {
                fd,
                path: path.to_path_buf(),
            })),
            Err(rustix::io::Errno::NOENT | rustix::io::Errno::NODEV) => Ok(None),
            Err(errno) => Err(CgroupError::Io {
                attempt: "open control group",
                path: path.to_path_buf(),
                source: errno.into(),
            }),
        }
    }

    /// Opens a directory beneath this one; `None` when there is none.
    pub(super) fn child(&self, name: &str) -> Result<Option<Self>, CgroupError> {
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::RDONLY | OFlags::NOFOLLOW;
        match rustix::fs::openat(&self.fd, name, flags, Mode::empty()) {
            Ok(fd) => Ok(Some(Self {
                fd,
                path: self.path.join(name),
            })),
            Err(rustix::io::Errno::NOENT | rustix::io::Errno::NODEV) => Ok(None),
            Err(errno) => Err(CgroupError::Io {
                attempt: "open control group",
                path: self.path.join(name),
                source: errno.into(),
            }),
        }
    }

    /// Where the directory was when it was opened.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Opens a file of the group.
    pub(super) fn open_file(&self, name: &str, flags: OFlags) -> Result<OwnedFd, CgroupError> {
        rustix::fs::openat(&self.fd, name, flags | OFlags::CLOEXEC, Mode::empty()).map_err(
            |errno| CgroupError::Io {
                attempt: "open",
                path: self.path.join(name),
                source: errno.into(),
            },
        )
    }

    /// Opens the file `name` of a group beneath this one for writing; `beneath` may be empty or `/` for this one.
    pub(super) fn open_beneath(&self, beneath: &Path, name: &str) -> Result<OwnedFd, CgroupError> {
        let relative = beneath.strip_prefix("/").unwrap_or(beneath).join(name);
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        rustix::fs::openat2(&self.fd, &relative, flags, Mode::empty(), resolve).map_err(|errno| {
            CgroupError::Io {
                attempt: "open",
                path: self.path.join(&relative),
                source: errno.into(),
            }
        })
    }

    /// True when the group has such a file.
    pub(super) fn has(&self, name: &str) -> bool {
        rustix::fs::statat(&self.fd, name, rustix::fs::AtFlags::SYMLINK_NOFOLLOW).is_ok()
    }

    /// Writes a value to a file in one call, as cgroupfs needs it.
    pub(super) fn write(&self, name: &str, value: &str) -> Result<(), CgroupError> {
        self.try_write(name, value)
            .map_err(|source| CgroupError::Write {
                path: self.path.join(name),
                value: value.to_owned(),
                source,
            })
    }

    /// As [`Directory::write`], for callers that look at the error number.
    pub(super) fn try_write(&self, name: &str, value: &str) -> io::Result<()> {
        let file = rustix::fs::openat(
            &self.fd,
            name,
            OFlags::WRONLY | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
        loop {
            match rustix::io::write(&file, value.as_bytes()) {
                Ok(written) if written == value.len() => return Ok(()),
                Ok(_) => return Err(io::Error::from(io::ErrorKind::WriteZero)),
                Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// Writes several values to a file that takes one with each call.
    pub(super) fn write_each(
        &self,
        name: &str,
        values: impl Iterator<Item = String>,
    ) -> Result<(), CgroupError> {
        let mut file = None;
        for value in values {
            let file = match &file {
                Some(file) => file,
                None => file.insert(self.open_file(name, OFlags::WRONLY)?),
            };
            while let Err(errno) = rustix::io::write(file, value.as_bytes()) {
                if errno != rustix::io::Errno::INTR {
                    return Err(CgroupError::Write {
                        path: self.path.join(name),
                        value,
                        source: errno.into(),
                    });
                }
            }
        }
        Ok(())
    }

    /// Writes when the file exists; false when it does not.
    pub(super) fn write_if_present(&self, name: &str, value: &str) -> Result<bool, CgroupError> {
        match self.try_write(name, value) {
            Ok(()) => Ok(true),
            Err(source) if source.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(source) => Err(CgroupError::Write {
                path: self.path.join(name),
                value: value.to_owned(),
                source,
            }),
        }
    }

    /// Reads a whole file; `None` when it, or by now the group, does not exist.
    pub(super) fn read(&self, name: &str) -> Result<Option<String>, CgroupError> {
        match self.try_read(name) {
            Ok(text) => Ok(Some(text)),
            // ENODEV is what cgroupfs answers on files of a group that was removed. EOPNOTSUPP is what a threaded
            // group answers for `cgroup.procs`, and a controller for counters that are switched off.
            Err(source)
                if source.kind() == io::ErrorKind::NotFound
                    || matches!(source.raw_os_error(), Some(libc::ENODEV | libc::EOPNOTSUPP)) =>
            {
                Ok(None)
            }
            Err(source) => Err(CgroupError::Io {
                attempt: "read",
                path: self.path.join(name),
                source,
            }),
        }
    }

    fn try_read(&self, name: &str) -> io::Result<String> {
        let file = rustix::fs::openat(
            &self.fd,
            name,
            OFlags::RDONLY | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
        let mut bytes = vec![0_u8; 4096];
        let mut length = 0;
        loop {
            if length == bytes.len() {
                if length >= limits::FILE_BYTES {
                    return Err(io::Error::from(io::ErrorKind::FileTooLarge));
                }
                bytes.resize(length * 4, 0);
            }
            match rustix::io::read(&file, &mut bytes[length..]) {
                Ok(0) => break,
                Ok(count) => length += count,
                Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        bytes.truncate(length);
        String::from_utf8(bytes).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))
    }

    /// Reads a file that holds one number; `None` when it does not exist.
    pub(super) fn read_number(&self, name: &str) -> Result<Option<u64>, CgroupError> {
        let Some(text) = self.read(name)? else {
            return Ok(None);
        };
        match text.trim().parse() {
            Ok(number) => Ok(Some(number)),
            Err(_) => Err(self.malformed(name, &text)),
        }
    }

    /// Reads a file that holds a number or `max`; the outer `None` when it does not exist, the inner for `max`.
    pub(super) fn read_limit(&self, name: &str) -> Result<Option<Option<u64>>, CgroupError> {
        let Some(text) = self.read(name)? else {
            return Ok(None);
        };
        match text.trim() {
            "max" => Ok(Some(None)),
            number => match number.parse() {
                Ok(number) => Ok(Some(Some(number))),
                Err(_) => Err(self.malformed(name, &text)),
            },
        }
    }

    /// Reads a file of lines `key number`, passing over lines of another form; empty when it does not exist.
    pub(super) fn read_table(&self, name: &str) -> Result<Vec<(String, u64)>, CgroupError> {
        let text = self.read(name)?.unwrap_or_default();
        Ok(text
            .lines()
            .filter_map(|line| {
                let (key, value) = line.split_once(' ')?;
                Some((key.to_owned(), value.trim().parse().ok()?))
            })
            .collect())
    }

    /// The number after a key in a file of lines `key number`.
    pub(super) fn read_key(&self, name: &str, key: &str) -> Result<Option<u64>, CgroupError> {
        let Some(text) = self.read(name)? else {
            return Ok(None);
        };
        Ok(text.lines().find_map(|line| {
            line.strip_prefix(key)?
                .strip_prefix(' ')?
                .trim()
                .parse()
                .ok()
        }))
    }

    /// Names of the groups directly beneath this one.
    pub(super) fn children(&self) -> Result<Vec<String>, CgroupError> {
        let failed = |errno: rustix::io::Errno| CgroupError::Io {
            attempt: "list control group",
            path: self.path.clone(),
            source: errno.into(),
        };
        let mut names = Vec::new();
        let entries = match rustix::fs::Dir::read_from(&self.fd) {
            Ok(entries) => entries,
            Err(rustix::io::Errno::NOENT | rustix::io::Errno::NODEV) => return Ok(names),
            Err(errno) => return Err(failed(errno)),
        };
        for entry in entries {
            let entry = match entry {
                Ok(entry) => entry,
                Err(rustix::io::Errno::NOENT | rustix::io::Errno::NODEV) => break,
                Err(errno) => return Err(failed(errno)),
            };
            if entry.file_type() != rustix::fs::FileType::Directory {
                continue;
            }
            match entry.file_name().to_str() {
                Ok("." | "..") | Err(_) => {}
                Ok(name) => names.push(name.to_owned()),
            }
        }
        Ok(names)
    }

    /// An error about a file that does not have the form it should have.
    pub(super) fn malformed(&self, name: &str, text: &str) -> CgroupError {
        let shown: String = text.trim().chars().take(60).collect();
        CgroupError::Malformed {
            path: self.path.join(name),
            reason: format!("unexpected content {shown:?}"),
        }
    }
}

impl AsFd for Directory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
