//! A part of a machine where other programs are installed: Debian packages that would change the machine itself, as
//! firewalls do, unpacked over its files for those inside alone.
//!
//! Owns a mount and PID namespace within a network namespace of the test's. What is started inside ends with the value.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::{Command, Output, images, wait};

/// Makes the files of packages appear; `$1` is where they are, empty when they are installed.
const FURNISH: &str = r#"
set -e
mount --make-rprivate /
mount -t tmpfs tmpfs /run
mkdir -p /run/usr /run/usr.work /run/etc /run/etc.work
for top in usr etc; do
  below=/$top
  if [ -n "$1" ]; then below=$1/$top:/$top; fi
  mount -t overlay overlay -o "lowerdir=$below,upperdir=/run/$top,workdir=/run/$top.work" /$top
done
touch /run/furnished
exec sleep infinity
"#;

/// Programs with files of their own in a network namespace.
#[derive(Debug)]
pub struct Room {
    outer: Child,
    inner: String,
}

impl Room {
    /// A room with these packages (and what they need) in the network namespace of this name.
    #[track_caller]
    pub fn new(namespace: &str, packages: &[&str]) -> Self {
        match Self::try_new(namespace, packages) {
            Ok(room) => room,
            Err(error) => panic!("a room with {}: {error:#}", packages.join(", ")),
        }
    }

    fn try_new(namespace: &str, packages: &[&str]) -> Result<Self> {
        let files = unpacked(packages)?;
        let outer = Command::new("nsenter")
            .arg(format!("--net=/run/netns/{namespace}"))
            .args(["unshare", "--mount", "--pid", "--fork", "--kill-child"])
            .args(["--mount-proc", "sh", "-c", FURNISH, "sh"])
            .arg(files.unwrap_or_default())
            .into_inner()
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .context("start unshare")?;
        let children = format!("/proc/{0}/task/{0}/children", outer.id());
        let mut room = Self {
            outer,
            inner: String::new(),
        };
        let inner = wait::within(wait::PATIENCE, || {
            let children = fs::read_to_string(&children).ok()?;
            let pid = children.split_whitespace().next()?.to_owned();
            let sign = format!("/proc/{pid}/root/run/furnished");
            Path::new(&sign).exists().then_some(pid)
        });
        room.inner = inner.context("its files do not appear")?;
        Ok(room)
    }

    /// Runs a shell's line inside.
    #[track_caller]
    pub fn run(&self, line: &str) -> Output {
        Command::new("nsenter")
            .args([&format!("--target={}", self.inner)])
            .args(["--mount", "--net", "--pid", "sh", "-c", line])
            .run()
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        drop(self.outer.kill());
        drop(self.outer.wait());
    }
}

/// Where the packages and those they need lie unpacked; `None` when all are installed.
fn unpacked(packages: &[&str]) -> Result<Option<PathBuf>> {
    let cache = images::cache()?;
    let name = format!("room-{}", packages.join("-"));
    let place = cache.join(&name);
    let _lock = images::lock(&cache, &name)?;
    if place.is_dir() {
        return Ok(Some(place));
    }
    let planned = Command::new("apt-get")
        .args(["install", "--simulate", "--no-install-recommends"])
        .args(packages)
        .checked()?;
    let missing: Vec<&str> = planned
        .stdout
        .lines()
        .filter_map(|line| line.strip_prefix("Inst ")?.split(' ').next())
        .collect();
    if missing.is_empty() {
        return Ok(None);
    }
    let work = cache.join(format!("{name}-{}.work", std::process::id()));
    let put = unpack(&work, &missing).and_then(|()| {
        fs::rename(work.join("tree"), &place)
            .with_context(|| format!("put {} in place", place.display()))
    });
    drop(fs::remove_dir_all(&work));
    put.map(|()| Some(place))
}

fn unpack(work: &Path, packages: &[&str]) -> Result<()> {
    fs::create_dir_all(work).with_context(|| format!("create {}", work.display()))?;
    Command::new("apt-get")
        .args(["download", "-q"])
        .args(packages)
        .directory(work)
        .deadline(Duration::from_secs(300))
        .checked()?;
    let tree = work.join("tree");
    for entry in fs::read_dir(work)
        .context("list the packages")?
        .flatten()
        .filter(|entry| entry.path().extension().is_some_and(|end| end == "deb"))
    {
        Command::new("dpkg")
            .arg("-x")
            .args([entry.path(), tree.clone()])
            .checked()?;
    }
    // Directories beside /usr have moved into it; packages may still name them.
    let script = "for d in bin sbin lib; do if [ -d $d ]; then mkdir -p usr/$d; cp -a $d/. usr/$d/; fi; done; mkdir -p usr etc";
    Command::new("sh")
        .args(["-c", script])
        .directory(&tree)
        .checked()
        .map(drop)
}
