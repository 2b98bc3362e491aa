//! The test images, made from Debian's packages and cached: `busybox:latest`, `debian:bookworm-slim` and
//! `traffic:latest`.
//!
//! The cache is `BERTH_TEST_CACHE`, else `target/test-images`. A file there carries the digest of
//! its recipe in its name, so a changed recipe never meets an old file.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use rustix::fs::{FlockOperation, flock};

use crate::archive::{Image, Layer, digest};
use crate::{Command, needs};

/// Suite of all packages, so that each Debian gives the same images.
const SUITE: &str = "bookworm";

/// What is left out of the Debian image: files nobody reads inside a container.
const LEFT_OUT: [&str; 5] = [
    "/usr/share/doc/*",
    "/usr/share/man/*",
    "/usr/share/info/*",
    "/usr/share/locale/*",
    "/usr/share/lintian/*",
];

/// Packages of the image that makes and measures traffic.
const TRAFFIC: [&str; 3] = ["iperf3", "wrk", "nginx-light"];

/// Raised when the code below makes other images from the same constants.
const REVISION: &str = "2";

/// Where images and registry content are kept between runs.
pub fn cache() -> Result<PathBuf> {
    let path = match std::env::var_os("BERTH_TEST_CACHE") {
        Some(path) => PathBuf::from(path),
        None => workspace().join("target/test-images"),
    };
    fs::create_dir_all(&path).with_context(|| format!("create {}", path.display()))?;
    Ok(path)
}

/// The top directory of the source tree.
pub fn workspace() -> PathBuf {
    let crate_directory = Path::new(env!("CARGO_MANIFEST_DIR"));
    crate_directory
        .ancestors()
        .nth(2)
        .unwrap_or(crate_directory)
        .to_owned()
}

/// `busybox:latest`: one static program and its links, made in a moment.
pub fn busybox() -> Result<Image> {
    let layer = cached("busybox", "busybox-static", busybox_layer)?;
    Ok(Image::new("busybox:latest", &["sh"], vec![layer]))
}

/// `debian:bookworm-slim`: Debian's smallest set of packages that apt can build on.
pub fn debian() -> Result<Image> {
    let layer = cached("debian", &LEFT_OUT.join(" "), debian_layer)?;
    Ok(Image::new("debian:bookworm-slim", &["bash"], vec![layer]))
}

/// `traffic:latest`: Debian's smallest with iperf3, wrk and nginx, for measurements of networks.
pub fn traffic() -> Result<Image> {
    let recipe = format!("{} {}", LEFT_OUT.join(" "), TRAFFIC.join(" "));
    let layer = cached("traffic", &recipe, traffic_layer)?;
    Ok(Image::new("traffic:latest", &["bash"], vec![layer]))
}

/// The file of the `docker save` archive of `image` in the cache.
pub fn archive_file(image: &Image) -> Result<PathBuf> {
    let short = image
        .id()
        .trim_start_matches("sha256:")
        .chars()
        .take(12)
        .collect::<String>();
    let name = image.name.replace([':', '/'], "-");
    let path = cache()?.join(format!("{name}-{short}.docker.tar"));
    if !path.exists() {
        replace(&path, &image.docker_archive()?)?;
    }
    Ok(path)
}

fn cached(name: &str, recipe: &str, make: fn(&Path) -> Result<Vec<u8>>) -> Result<Vec<u8>> {
    let recipe = format!("{REVISION} {SUITE} {} {recipe}", std::env::consts::ARCH);
    let key = digest(recipe.as_bytes())[7..19].to_owned();
    let directory = cache()?;
    let path = directory.join(format!("{name}-{key}.layer.tar"));
    let _lock = lock(&directory, name)?;
    if let Ok(bytes) = fs::read(&path) {
        return Ok(bytes);
    }
    let work = directory.join(format!("{name}-{}.work", std::process::id()));
    fs::create_dir_all(&work).with_context(|| format!("create {}", work.display()))?;
    let made = make(&work).with_context(|| format!("make the test image {name}"));
    drop(fs::remove_dir_all(&work));
    let bytes = made?;
    replace(&path, &bytes)?;
    Ok(bytes)
}

/// Keeps other tests and other processes from making the same thing in the cache, until it is dropped.
pub(crate) fn lock(directory: &Path, name: &str) -> Result<File> {
    let path = directory.join(format!("{name}.lock"));
    let lock = File::create(&path).with_context(|| format!("create {}", path.display()))?;
    flock(&lock, FlockOperation::LockExclusive).context("lock the image cache")?;
    Ok(lock)
}

fn busybox_layer(work: &Path) -> Result<Vec<u8>> {
    Command::new("apt-get")
        .args(["download", "-q", "busybox-static"])
        .directory(work)
        .deadline(Duration::from_secs(300))
        .checked()?;
    let package = fs::read_dir(work)?
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|end| end == "deb"))
        .ok_or_else(|| anyhow!("apt-get download left no package in {}", work.display()))?;
    let tree = work.join("tree");
    Command::new("dpkg")
        .arg("-x")
        .args([&package, &tree])
        .checked()?;
    let program = ["bin/busybox", "usr/bin/busybox"]
        .map(|name| tree.join(name))
        .into_iter()
        .find(|path| path.is_file())
        .ok_or_else(|| anyhow!("no busybox in {}", package.display()))?;
    let applets = Command::new(&program).arg("--list").checked()?.stdout;
    let bytes = fs::read(&program).with_context(|| format!("read {}", program.display()))?;

    let mut layer = Layer::new();
    for (path, mode) in [
        ("bin/", 0o755),
        ("dev/", 0o755),
        ("etc/", 0o755),
        ("home/", 0o755),
        ("lib/", 0o755),
        ("proc/", 0o755),
        ("root/", 0o700),
        ("run/", 0o755),
        ("sys/", 0o755),
        ("tmp/", 0o1777),
        ("usr/", 0o755),
        ("usr/bin/", 0o755),
        ("usr/sbin/", 0o755),
        ("var/", 0o755),
        ("var/tmp/", 0o1777),
    ] {
        layer = layer.directory(path, mode);
    }
    layer = layer.file("bin/busybox", 0o755, bytes);
    let mut names: Vec<&str> = applets.lines().filter(|name| *name != "busybox").collect();
    names.sort_unstable();
    for name in names {
        layer = layer.hard_link(&format!("bin/{name}"), "bin/busybox");
    }
    let passwd = "root:x:0:0:root:/root:/bin/sh\n\
                  daemon:x:1:1:daemon:/usr/sbin:/bin/false\n\
                  www-data:x:33:33:www-data:/var/www:/bin/false\n\
                  operator:x:37:37:Operator:/var:/bin/false\n\
                  nobody:x:65534:65534:nobody:/home:/bin/false\n";
    let group = "root:x:0:\ndaemon:x:1:\naudio:x:29:www-data\nwww-data:x:33:\n\
                 operator:x:37:\nvideo:x:44:www-data\nnogroup:x:65534:\n";
    Ok(layer
        .file("etc/passwd", 0o644, passwd)
        .file("etc/group", 0o644, group)
        .finish())
}

fn debian_layer(work: &Path) -> Result<Vec<u8>> {
    debian_with(work, &[])
}

fn traffic_layer(work: &Path) -> Result<Vec<u8>> {
    debian_with(work, &TRAFFIC)
}

fn debian_with(work: &Path, packages: &[&str]) -> Result<Vec<u8>> {
    if needs::find("mmdebstrap").is_none() {
        bail!("mmdebstrap is not installed (apt-get install mmdebstrap, or cargo xtask deps)");
    }
    let output = work.join("root.tar");
    // usr-is-merged keeps usrmerge out, which would bring the whole of perl.
    let mut included = vec!["usr-is-merged"];
    included.extend(packages);
    let mut command = Command::new("mmdebstrap")
        .args(["--quiet", "--variant=minbase", "--format=tar"])
        .arg(format!("--include={}", included.join(",")))
        .env("SOURCE_DATE_EPOCH", "1704067200")
        .deadline(Duration::from_secs(900));
    for pattern in LEFT_OUT {
        command = command.arg(format!("--dpkgopt=path-exclude={pattern}"));
    }
    command = command.arg(SUITE).arg(&output);
    if let Some(mirror) = std::env::var_os("BERTH_TEST_MIRROR") {
        command = command.arg(mirror);
    }
    command.checked()?;
    fs::read(&output).with_context(|| format!("read {}", output.display()))
}

fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    /// Other tests of this process may be making the same.
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let fresh = path.with_extension(format!("{}-{number}.new", std::process::id()));
    fs::write(&fresh, bytes).with_context(|| format!("write {}", fresh.display()))?;
    fs::rename(&fresh, path).with_context(|| format!("put {} in place", path.display()))
}
