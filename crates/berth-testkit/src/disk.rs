//! Small disks: files with a file system, and block devices of the kernel that stand for them.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use crate::{Command, needs};

/// Makes a file with an ext4 file system of so many bytes, all of them for whoever asks first.
#[track_caller]
pub fn ext4(path: &Path, bytes: u64) {
    needs::root();
    let made = File::create(path).and_then(|file| file.set_len(bytes));
    if let Err(error) = made {
        panic!("make {}: {error}", path.display());
    }
    Command::new(needs::program("mkfs.ext4", "e2fsprogs"))
        .args(["-q", "-F", "-m", "0", "-E", "lazy_itable_init=0"])
        .arg(path)
        .run()
        .ok();
}

/// Bytes that a directory takes on its disk, as `du` counts them.
#[track_caller]
pub fn used(path: &Path) -> i64 {
    let output = Command::new("du").args(["-sx", "-B1"]).arg(path).run();
    let number = output.stdout.split_whitespace().next();
    number
        .and_then(|number| number.parse().ok())
        .unwrap_or_else(|| panic!("du tells no number: {output}"))
}

/// What mount(8) is told of a file system in memory, of so many bytes, or of one in a file.
pub(crate) fn arguments(bytes: Option<u64>, image: Option<&PathBuf>) -> Option<String> {
    bytes
        .map(|bytes| format!("-t tmpfs -o size={bytes} tmpfs"))
        .or_else(|| image.map(|path| format!("-o loop {}", path.display())))
}

/// A command with a file system of its own on `target`, which nobody else sees.
pub(crate) fn run_on(disk: &str, target: &Path, words: &[String]) -> Command {
    let mount = format!("mount {disk} {} && exec \"$@\"", target.display());
    Command::new("unshare")
        .args(["--mount", "--propagation", "private"])
        .args(["sh", "-c", &mount, "sh"])
        .args(words)
}

/// A block device that shows the content of a file; given back when dropped.
#[derive(Debug)]
pub struct LoopDevice {
    path: PathBuf,
}

impl LoopDevice {
    /// The first free one, for `file`.
    #[track_caller]
    pub fn of(file: &Path) -> Self {
        needs::root();
        let told = Command::new(needs::program("losetup", "mount"))
            .args(["--find", "--show"])
            .arg(file)
            .run()
            .ok();
        Self {
            path: PathBuf::from(told.text()),
        }
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for LoopDevice {
    fn drop(&mut self) {
        drop(Command::new("losetup").arg("-d").arg(&self.path).try_run());
    }
}

/// Writes to a file until its file system has not one block left.
#[track_caller]
pub fn fill(path: &Path) {
    let open = File::options().create(true).append(true).open(path);
    let mut file = match open {
        Ok(file) => file,
        // There was not even room for its name.
        Err(error) if error.kind() == ErrorKind::StorageFull => return,
        Err(error) => panic!("open {}: {error}", path.display()),
    };
    let piece = vec![0xa5; 1 << 20];
    loop {
        let before = length(&file);
        for size in [1 << 20, 64 << 10, 4 << 10, 512, 1] {
            while file.write_all(&piece[..size]).is_ok() {}
        }
        // What was set aside for data whose place was not chosen yet may be free now.
        drop(file.sync_all());
        if length(&file) == before {
            return;
        }
    }
}

fn length(file: &File) -> u64 {
    file.metadata().map_or(0, |metadata| metadata.len())
}

/// Bytes that the file system beneath a path has left.
#[track_caller]
pub fn free(path: &Path) -> u64 {
    match rustix::fs::statvfs(path) {
        Ok(facts) => facts.f_bavail * facts.f_frsize,
        Err(error) => panic!("look at {}: {error}", path.display()),
    }
}

/// Ends what [`fill`] did.
pub fn empty(path: &Path) {
    drop(fs::remove_file(path));
}
