//! The local driver: volumes in directories of the data root, or on what their options mount.
//!
//! ```text
//! volumes/
//! ├── <name>/_data          the content
//! ├── <name>/fill           what the image has there, complete, while it moves into an empty volume
//! ├── <name>/fill.new       the same, incomplete
//! ├── .new-<name>/          made, its record not written yet
//! └── .removing-<name>/     removed, its record maybe still there
//! ```
//!
//! Options are those of mount(8), as Docker's driver takes them: `type`, `device`, `o`. What is bound (`o=bind`) is
//! handed to containers as it is. A file system of its own (`tmpfs`, `nfs`, a block device) is mounted on the
//! volume's directory while a container runs that uses it: several containers share one instance, over restarts of
//! the engine too, which a mount attached nowhere cannot do on the kernels we run on.

use std::ffi::CString;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use berth_image::ImageStore;
use berth_sys::fs;
use berth_types::ErrorKind;
use indexmap::IndexMap;
use rustix::io::Errno;
use rustix::mount::MountFlags;

use super::driver::{Leftovers, MountSource, OpenVolume, VolumeDriver};
use super::record::{LOCAL, VolumeRecord};
use super::{lower_case, remote};
use crate::error::EngineError;
use crate::limits;

const DATA: &str = "_data";
const NEW: &str = ".new-";
const REMOVING: &str = ".removing-";

/// Options that are known.
const OPTIONS: [&str; 4] = ["type", "o", "device", "size"];
/// Options that need others.
const NEEDED: [(&str, &[&str]); 3] = [
    ("device", &["type"]),
    ("type", &["device"]),
    ("o", &["device", "type"]),
];

/// The driver.
#[derive(Debug)]
pub struct LocalDriver {
    root: PathBuf,
    /// Whose trash takes what is removed.
    images: ImageStore,
}

/// What is behind a volume.
#[derive(Debug, PartialEq, Eq)]
enum Backing {
    /// Its directory.
    Directory,
    /// Another path of the host.
    Bind {
        device: PathBuf,
        options: Vec<String>,
        recursive: bool,
    },
    /// A file system that is mounted on its directory.
    FileSystem {
        kind: String,
        device: String,
        options: String,
    },
}

impl Backing {
    fn of(record: &VolumeRecord) -> Self {
        let option = |name: &str| record.options.get(name).cloned().unwrap_or_default();
        let (kind, device, options) = (option("type"), option("device"), option("o"));
        if device.is_empty() && kind.is_empty() {
            return Self::Directory;
        }
        let words: Vec<&str> = options.split(',').filter(|w| !w.is_empty()).collect();
        if words.iter().any(|w| matches!(*w, "bind" | "rbind")) {
            return Self::Bind {
                device: PathBuf::from(device),
                recursive: words.contains(&"rbind"),
                options: words
                    .into_iter()
                    .filter(|w| !matches!(*w, "bind" | "rbind"))
                    .map(str::to_owned)
                    .collect(),
            };
        }
        Self::FileSystem {
            kind,
            device,
            options,
        }
    }
}

fn of_sys(error: berth_sys::Error) -> EngineError {
    let (attempt, kind) = (error.attempt().to_owned(), error.kind());
    EngineError::failed(attempt, kind, error.into_cause())
}

impl LocalDriver {
    /// Volumes in this directory, which is made where it is missing.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn open_at(root: &Path, images: ImageStore) -> Result<Self, EngineError> {
        // Others may pass, so that who knows a path of a volume reaches what its mode lets them.
        fs::create_dir_all_mode(root, 0o701).map_err(of_sys)?;
        // Without links on the way: so the kernel lists what is mounted there.
        let root = fs::canonicalize(root).map_err(of_sys)?;
        Ok(Self { root, images })
    }

    fn directory(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    fn hidden(&self, prefix: &str, name: &str) -> PathBuf {
        self.root.join(format!("{prefix}{name}"))
    }

    fn mount_file_system(
        &self,
        record: &VolumeRecord,
        kind: &str,
        device: &str,
        options: &str,
    ) -> Result<(), EngineError> {
        let target = self.mountpoint(&record.name);
        if is_mount_point(&target)? {
            return Ok(());
        }
        let (device, options) = remote::resolve(kind, device, options)?;
        let (flags, data) = split_options(&options);
        let data_text = CString::new(data.clone())
            .map_err(|_| EngineError::Invalid("mount options contain a NUL byte".to_owned()))?;
        let data_text = (!data.is_empty()).then_some(data_text.as_c_str());
        berth_sys::mount::mount_classic(Path::new(&device), &target, kind, flags, data_text)
            .map_err(|error| {
                let attempt = format!(
                    "error while mounting volume '{}': failed to mount local volume: mount {device}:{}, type: {kind}, data: {}",
                    target.display(),
                    target.display(),
                    remote::shown(&data),
                );
                // The kernel's word for it is that of a missing device.
                let attempt = match error.errno() {
                    Some(Errno::NODEV) => format!(
                        "{attempt}: the kernel has no file system {kind:?} (try 'modprobe {kind}')"
                    ),
                    _ => attempt,
                };
                EngineError::failed(attempt, ErrorKind::Internal, lower_case(error.into_cause()))
            })
    }
}

/// Whether something is mounted exactly there. The kernel's list tells without asking what is mounted, which may be
/// a server's that does not answer.
fn is_mount_point(path: &Path) -> Result<bool, EngineError> {
    let mounts = berth_sys::proc::mounts().map_err(of_sys)?;
    Ok(mounts.iter().any(|m| m.mount_point == path))
}

/// Words that the kernel takes as flags; the rest is for the file system.
fn split_options(options: &str) -> (MountFlags, String) {
    let mut flags = MountFlags::empty();
    let mut data = Vec::new();
    for word in options.split(',').filter(|w| !w.is_empty()) {
        match word {
            "ro" => flags |= MountFlags::RDONLY,
            "rw" => flags -= MountFlags::RDONLY,
            "nosuid" => flags |= MountFlags::NOSUID,
            "suid" => flags -= MountFlags::NOSUID,
            "nodev" => flags |= MountFlags::NODEV,
            "dev" => flags -= MountFlags::NODEV,
            "noexec" => flags |= MountFlags::NOEXEC,
            "exec" => flags -= MountFlags::NOEXEC,
            "sync" => flags |= MountFlags::SYNCHRONOUS,
            "async" => flags -= MountFlags::SYNCHRONOUS,
            "dirsync" => flags |= MountFlags::DIRSYNC,
            "noatime" => flags |= MountFlags::NOATIME,
            "atime" => flags -= MountFlags::NOATIME,
            "nodiratime" => flags |= MountFlags::NODIRATIME,
            "diratime" => flags -= MountFlags::NODIRATIME,
            "relatime" => flags |= MountFlags::RELATIME,
            "norelatime" => flags -= MountFlags::RELATIME,
            "strictatime" => flags |= MountFlags::STRICTATIME,
            "nostrictatime" => flags -= MountFlags::STRICTATIME,
            "defaults" => {}
            other => data.push(other),
        }
    }
    (flags, data.join(","))
}

impl VolumeDriver for LocalDriver {
    fn name(&self) -> &'static str {
        LOCAL
    }

    fn check(&self, name: &str, options: &IndexMap<String, String>) -> Result<(), EngineError> {
        check_name(name)?;
        let shown = |text: &str| text.chars().take(64).collect::<String>();
        if let Some(other) = options.keys().find(|k| !OPTIONS.contains(&k.as_str())) {
            return Err(EngineError::Invalid(format!(
                "create {name}: invalid option: {:?}",
                shown(other)
            )));
        }
        for (option, needed) in NEEDED {
            if !options.contains_key(option) {
                continue;
            }
            if let Some(missing) = needed.iter().find(|n| !options.contains_key(**n)) {
                return Err(EngineError::Invalid(format!(
                    "create {name}: missing required option: {missing:?}"
                )));
            }
        }
        let option = |name: &str| options.get(name).map(String::as_str).unwrap_or_default();
        remote::check(option("type"), option("device"))?;
        if options.contains_key("size") {
            return Err(EngineError::Invalid(format!(
                "create {name}: quota size requested but no quota support"
            )));
        }
        Ok(())
    }

    fn prepare(&self, name: &str) -> Result<OwnedFd, EngineError> {
        self.discard(name)?;
        let directory = self.hidden(NEW, name);
        let data = directory.join(DATA);
        fs::create_dir(&directory, 0o701).map_err(of_sys)?;
        fs::create_dir(&data, 0o755).map_err(of_sys)?;
        // Whatever the umask takes away.
        fs::set_mode(&directory, 0o701).map_err(of_sys)?;
        fs::set_mode(&data, 0o755).map_err(of_sys)?;
        fs::open_directory(&data).map_err(of_sys)
    }

    fn publish(&self, name: &str) -> Result<(), EngineError> {
        let (from, to) = (self.hidden(NEW, name), self.directory(name));
        match fs::rename(&from, &to) {
            Err(error) if error.is_not_found() && fs::exists(&to) => Ok(()),
            other => other.map_err(of_sys),
        }
    }

    fn conceal(&self, name: &str) -> Result<(), EngineError> {
        let (from, to) = (self.directory(name), self.hidden(REMOVING, name));
        match fs::rename(&from, &to) {
            Err(error) if error.is_not_found() => Ok(()),
            other => other.map_err(of_sys),
        }
    }

    fn reveal(&self, name: &str) -> Result<(), EngineError> {
        let (from, to) = (self.hidden(REMOVING, name), self.directory(name));
        match fs::rename(&from, &to) {
            Err(error) if error.is_not_found() && fs::exists(&to) => Ok(()),
            other => other.map_err(of_sys),
        }
    }

    fn discard(&self, name: &str) -> Result<(), EngineError> {
        for prefix in [NEW, REMOVING] {
            self.images.discard(&self.hidden(prefix, name))?;
        }
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), EngineError> {
        let (from, to) = (self.directory(from), self.directory(to));
        match fs::rename(&from, &to) {
            Err(error) if error.is_not_found() && fs::exists(&to) => Ok(()),
            other => other.map_err(of_sys),
        }
    }

    fn exists(&self, name: &str) -> bool {
        fs::exists(&self.directory(name))
    }

    fn leftovers(&self) -> Result<Leftovers, EngineError> {
        let mut found = Leftovers::default();
        for entry in fs::list(&self.root).map_err(of_sys)? {
            let Some(entry) = entry.to_str() else {
                continue;
            };
            if let Some(name) = entry.strip_prefix(NEW) {
                found.prepared.push(name.to_owned());
            } else if let Some(name) = entry.strip_prefix(REMOVING) {
                found.concealed.push(name.to_owned());
            }
        }
        Ok(found)
    }

    fn mountpoint(&self, name: &str) -> PathBuf {
        self.directory(name).join(DATA)
    }

    fn is_plain(&self, record: &VolumeRecord) -> bool {
        Backing::of(record) == Backing::Directory
    }

    fn mount(&self, record: &VolumeRecord) -> Result<MountSource, EngineError> {
        let own = |path: PathBuf| MountSource {
            path,
            options: Vec::new(),
            recursive: true,
            held: None,
        };
        match Backing::of(record) {
            Backing::Directory => Ok(own(self.mountpoint(&record.name))),
            Backing::Bind {
                device,
                options,
                recursive,
            } => {
                fs::metadata(&device).map_err(|error| {
                    EngineError::failed(
                        format!(
                            "error while mounting volume '{}': failed to mount local volume: mount {}:{}, flags: bind",
                            self.mountpoint(&record.name).display(),
                            device.display(),
                            self.mountpoint(&record.name).display(),
                        ),
                        ErrorKind::Internal,
                        lower_case(error.into_cause()),
                    )
                })?;
                Ok(MountSource {
                    path: device,
                    options,
                    recursive,
                    held: None,
                })
            }
            Backing::FileSystem {
                kind,
                device,
                options,
            } => {
                self.mount_file_system(record, &kind, &device, &options)?;
                Ok(own(self.mountpoint(&record.name)))
            }
        }
    }

    fn unmount(&self, record: &VolumeRecord) -> Result<(), EngineError> {
        if !matches!(Backing::of(record), Backing::FileSystem { .. }) {
            return Ok(());
        }
        let path = self.mountpoint(&record.name);
        let mut left = limits::STACKED_MOUNTS;
        while left > 0 && is_mount_point(&path)? {
            berth_sys::mount::detach(&path).map_err(of_sys)?;
            left -= 1;
        }
        Ok(())
    }

    fn open(&self, record: &VolumeRecord) -> Result<OpenVolume, EngineError> {
        let open = |path: &Path| fs::open_directory(path).map_err(of_sys);
        let inside = |root: OwnedFd| {
            let staging = root
                .try_clone()
                .map_err(|e| EngineError::io("open the root of a volume", e))?;
            Ok(OpenVolume {
                root,
                staging,
                staged_inside: true,
            })
        };
        match Backing::of(record) {
            Backing::Directory => Ok(OpenVolume {
                root: open(&self.mountpoint(&record.name))?,
                staging: open(&self.directory(&record.name))?,
                staged_inside: false,
            }),
            Backing::Bind { device, .. } => inside(open(&device)?),
            Backing::FileSystem { .. } => inside(open(&self.mountpoint(&record.name))?),
        }
    }
}

/// Docker's rule for names of local volumes.
pub(super) fn check_name(name: &str) -> Result<(), EngineError> {
    let shown: String = name.chars().take(limits::VOLUME_NAME_MAX).collect();
    if name.chars().count() == 1 {
        return Err(EngineError::Invalid(format!(
            "create {shown}: volume name is too short, names should be at least two alphanumeric characters"
        )));
    }
    let fits = name
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'))
        && name.starts_with(|c: char| c.is_ascii_alphanumeric());
    if !fits {
        return Err(EngineError::Invalid(format!(
            "create {shown}: {shown:?} includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host directory, use absolute path"
        )));
    }
    if name.len() > limits::VOLUME_NAME_MAX {
        return Err(EngineError::Invalid(format!(
            "create {shown}…: a volume's name has {} characters at most",
            limits::VOLUME_NAME_MAX
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(options: &[(&str, &str)]) -> VolumeRecord {
        let mut record = VolumeRecord::new("v".to_owned(), crate::clock::now());
        record.options = options
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect();
        record
    }

    #[test]
    fn options_say_what_is_behind_a_volume() {
        assert_eq!(Backing::of(&record(&[])), Backing::Directory);
        assert_eq!(
            Backing::of(&record(&[
                ("type", "none"),
                ("o", "rbind,ro"),
                ("device", "/srv")
            ])),
            Backing::Bind {
                device: "/srv".into(),
                options: vec!["ro".to_owned()],
                recursive: true
            }
        );
        assert_eq!(
            Backing::of(&record(&[
                ("type", "tmpfs"),
                ("o", "size=1m,uid=7"),
                ("device", "tmpfs")
            ])),
            Backing::FileSystem {
                kind: "tmpfs".to_owned(),
                device: "tmpfs".to_owned(),
                options: "size=1m,uid=7".to_owned()
            }
        );
    }

    #[test]
    fn flags_are_told_from_data() {
        let (flags, data) = split_options("nosuid,ro,size=1m,rw,,noexec,uid=7");
        assert_eq!(flags, MountFlags::NOSUID | MountFlags::NOEXEC);
        assert_eq!(data, "size=1m,uid=7");
    }

    #[test]
    fn names_are_dockers() {
        for good in ["ab", "a-b_c.d", "0x"] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        for bad in ["a", "", "-a", ".ab", "a/b", "ä1", "../x", "a b"] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
        assert!(check_name(&"a".repeat(limits::VOLUME_NAME_MAX + 1)).is_err());
    }
}
