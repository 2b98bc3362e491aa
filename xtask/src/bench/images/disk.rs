//! A file system that lives for one round of one engine.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use berth_testkit::{Command, process, scratch};

/// Its size; only what is written takes space.
const BYTES: u64 = 16 << 30;

/// Its directory's name, before the number of the process.
const PREFIX: &str = "bd";

/// An ext4 in a file, mounted; unmounted and removed when dropped. New directories of tests are made in it.
pub(super) struct Disk {
    directory: PathBuf,
}

impl Disk {
    pub(super) fn new() -> Result<Self> {
        let directory = std::env::temp_dir().join(format!("{PREFIX}{}", std::process::id()));
        let disk = Self { directory };
        fs::create_dir_all(disk.path()).context("make a directory for a file system")?;
        let image = disk.image();
        File::create(&image)
            .and_then(|file| file.set_len(BYTES))
            .with_context(|| format!("create {}", image.display()))?;
        Command::new("mkfs.ext4")
            .args(["-q", "-E", "lazy_itable_init=1,lazy_journal_init=1"])
            .arg(&image)
            .checked()?;
        Command::new("mount")
            .args(["-o", "loop"])
            .args([&image, &disk.path()])
            .checked()?;
        scratch::make_in(Some(&disk.path()));
        Ok(disk)
    }

    pub(super) fn path(&self) -> PathBuf {
        self.directory.join("m")
    }

    fn image(&self) -> PathBuf {
        self.directory.join("image")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        scratch::make_in(None);
        remove(&self.directory);
    }
}

/// Removes those of measurements that were killed.
pub(super) fn sweep() {
    for entry in fs::read_dir(std::env::temp_dir())
        .into_iter()
        .flatten()
        .flatten()
    {
        let name = entry.file_name();
        let owner = name.to_str().and_then(|name| name.strip_prefix(PREFIX));
        let owner = owner.and_then(|pid| pid.parse().ok());
        if owner.is_some_and(|pid| !process::is_alive(pid)) {
            remove(&entry.path());
        }
    }
}

fn remove(directory: &Path) {
    // Lazily when something still looks into it; it is gone for all others at once.
    let path = directory.join("m");
    if Command::new("umount").arg(&path).checked().is_err() {
        drop(Command::new("umount").arg("-l").arg(&path).checked());
    }
    drop(fs::remove_dir_all(directory));
}
