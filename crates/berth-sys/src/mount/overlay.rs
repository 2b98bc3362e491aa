//! An overlay mount as a plain value, and its making as a mount attached nowhere.
//!
//! Owns how the value becomes kernel parameters. Does not own the directories; they belong to who made the value.

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::{FileSystemContext, attribute};
use crate::error::{Attempt, Error, Result};
use crate::{namespace, path, process, socket};

/// The longest value fsconfig(2) takes, without the final zero byte.
const VALUE_LIMIT: usize = 255;

/// Where the helper process mounts in a namespace of its own: a directory every system has.
const HELPER_TARGET: &str = "/proc";

/// An overlay file system: lower directories, topmost first, and for a writable one the upper and work directory.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Overlay {
    /// Read-only layers, the topmost first. One at least; a single one without `upper` is bound instead.
    pub lower: Vec<PathBuf>,
    /// Where changes go; without it the mount is read-only.
    pub upper: Option<PathBuf>,
    /// Empty directory on the file system of `upper`; needed with it.
    pub work: Option<PathBuf>,
    /// The mount itself is read-only although there is an upper directory.
    pub read_only: bool,
    /// Further options of overlayfs as key and value; an empty value is a flag ("volatile").
    pub options: Vec<(String, String)>,
}

impl Overlay {
    /// Makes the overlay as a mount attached nowhere; dropping the descriptor undoes it.
    ///
    /// Works from any process. Kernels before 6.7 take more layers than fit in one option only by mount(2), which is
    /// then called in a mount namespace made for that: a helper process', or a helper thread's where the caller has
    /// several threads already.
    pub fn mount_detached(&self) -> Result<OwnedFd> {
        if self.lower.is_empty() {
            return Err(Error::invalid(
                "mount an overlay",
                "it has no lower directory",
            ));
        }
        if self.upper.is_some() != self.work.is_some() {
            return Err(Error::invalid(
                "mount an overlay",
                "an upper directory needs a work directory and the reverse",
            ));
        }
        if self.lower.len() == 1 && self.upper.is_none() {
            return bind_read_only(&self.lower[0]);
        }
        let layers = Layers::open(self)?;
        match self.mount_by_layer(&layers) {
            Err(error) if error.is_unsupported() => {
                // Kernels before 6.7 do not know "lowerdir+".
                if let Ok(mount) = self.mount_joined(&layers) {
                    return Ok(mount);
                }
                self.mount_by_helper()
            }
            other => other,
        }
    }

    fn attributes(&self) -> u64 {
        if self.read_only || self.upper.is_none() {
            attribute::READ_ONLY
        } else {
            0
        }
    }

    fn context(&self) -> Result<FileSystemContext> {
        let context = FileSystemContext::open("overlay")?;
        context.set("source", "overlay")?;
        for (key, value) in &self.options {
            if value.is_empty() {
                context.set_flag(key)?;
            } else {
                context.set(key, value)?;
            }
        }
        Ok(context)
    }

    fn mount_by_layer(&self, layers: &Layers) -> Result<OwnedFd> {
        let context = self.context()?;
        for layer in &layers.lower {
            context.set("lowerdir+", &layer.name)?;
        }
        if let (Some(upper), Some(work)) = (&layers.upper, &layers.work) {
            context.set("upperdir", &upper.name)?;
            context.set("workdir", &work.name)?;
        }
        context.mount(self.attributes())
    }

    /// All layers in one "lowerdir", by descriptor so that many fit.
    fn mount_joined(&self, layers: &Layers) -> Result<OwnedFd> {
        let context = self.context()?;
        let joined = layers.joined_lower();
        if joined.len() > VALUE_LIMIT {
            return Err(Error::invalid("mount an overlay", "too many layers"));
        }
        context.set("lowerdir", &joined)?;
        if let (Some(upper), Some(work)) = (&layers.upper, &layers.work) {
            context.set("upperdir", &upper.by_descriptor())?;
            context.set("workdir", &work.by_descriptor())?;
        }
        context.mount(self.attributes())
    }

    /// mount(2) in a mount namespace of a helper's, whose mount is then copied out as a descriptor.
    ///
    /// mount(2) takes a page of options where fsconfig(2) takes 255 bytes.
    fn mount_by_helper(&self) -> Result<OwnedFd> {
        let mount = if process::thread_count()? == 1 {
            self.mount_by_process()?
        } else {
            self.mount_by_thread()?
        };
        if self.attributes() != 0 {
            super::set_attributes(
                &mount,
                false,
                &super::AttributeChange {
                    set: self.attributes(),
                    ..super::AttributeChange::default()
                },
            )?;
        }
        Ok(mount)
    }

    /// Mounts in a process with a mount namespace of its own. The caller has one thread.
    fn mount_by_process(&self) -> Result<OwnedFd> {
        let (ours, theirs) = socket::seqpacket_pair()?;
        let request = process::CloneRequest {
            flags: process::CLONE_NEWNS,
            ..process::CloneRequest::default()
        };
        let child = process::clone_process(&request, || match self.mount_and_copy() {
            Ok(mount) => i32::from(socket::send(&theirs, b"m", &[mount.as_fd()]).is_err()),
            Err(error) => error.errno().map_or(1, Errno::raw_os_error),
        })?;
        drop(theirs);
        let message = socket::receive(&ours, 1, 1);
        let status = child.wait()?;
        match message?.descriptors.pop() {
            Some(mount) => Ok(mount),
            None => Err(Errno::from_raw_os_error(status.code()))
                .attempt(|| "mount an overlay in a helper process"),
        }
    }

    /// Mounts in a thread with a mount namespace of its own, which ends with it.
    fn mount_by_thread(&self) -> Result<OwnedFd> {
        let mounted = std::thread::scope(|scope| {
            let helper = std::thread::Builder::new().spawn_scoped(scope, || {
                namespace::unshare(process::CLONE_NEWNS)?;
                self.mount_and_copy()
            });
            helper.map(std::thread::ScopedJoinHandle::join)
        });
        match mounted {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(Error::other("mount an overlay", "the helper thread ended")),
            Err(error) => Err(Error::new("start a thread to mount an overlay", error)),
        }
    }

    /// Mounts where nobody else sees it, and gives a copy that is attached nowhere.
    ///
    /// The layers are opened here, in the helper's namespace: overlayfs refuses directories of mounts that belong to
    /// another one than the caller's.
    fn mount_and_copy(&self) -> Result<OwnedFd> {
        let target = Path::new(HELPER_TARGET);
        super::set_propagation(Path::new("/"), super::Propagation::Private, true)?;
        let layers = Layers::open(self)?;
        super::mount_classic(
            Path::new("overlay"),
            target,
            "overlay",
            rustix::mount::MountFlags::empty(),
            Some(&self.classic_options(&layers)?),
        )?;
        super::clone_tree(target, false)
    }

    /// The options in the form of mount(2).
    fn classic_options(&self, layers: &Layers) -> Result<CString> {
        let mut options = format!("lowerdir={}", layers.joined_lower());
        if let (Some(upper), Some(work)) = (&layers.upper, &layers.work) {
            options.push_str(&format!(
                ",upperdir={},workdir={}",
                upper.by_descriptor(),
                work.by_descriptor()
            ));
        }
        for (key, value) in &self.options {
            options.push(',');
            options.push_str(key);
            if !value.is_empty() {
                options.push('=');
                options.push_str(value);
            }
        }
        CString::new(options)
            .map_err(|_| Error::invalid("mount an overlay", "an option holds a zero byte"))
    }
}

fn bind_read_only(directory: &Path) -> Result<OwnedFd> {
    let mount = super::clone_tree(directory, false)?;
    super::set_attributes(
        &mount,
        false,
        &super::AttributeChange {
            set: attribute::READ_ONLY,
            propagation: Some(super::Propagation::Private),
            ..super::AttributeChange::default()
        },
    )?;
    Ok(mount)
}

/// One directory, open, with the name the kernel is told.
struct Layer {
    descriptor: OwnedFd,
    name: String,
}

impl Layer {
    fn open(directory: &Path) -> Result<Self> {
        let descriptor = rustix::fs::open(
            directory,
            OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .attempt(|| format!("open layer {}", directory.display()))?;
        // The plain name is what mountinfo shows; but overlayfs reads ':', ',' and '\' in it as its own.
        let plain = directory.to_str().filter(|text| {
            text.len() <= VALUE_LIMIT
                && text.starts_with('/')
                && !text.bytes().any(|byte| matches!(byte, b':' | b',' | b'\\'))
        });
        let name = match plain {
            Some(text) => text.to_owned(),
            None => path::descriptor_path(&descriptor)
                .to_string_lossy()
                .into_owned(),
        };
        Ok(Self { descriptor, name })
    }

    fn by_descriptor(&self) -> String {
        path::descriptor_path(&self.descriptor)
            .to_string_lossy()
            .into_owned()
    }
}

struct Layers {
    lower: Vec<Layer>,
    upper: Option<Layer>,
    work: Option<Layer>,
}

impl Layers {
    fn open(overlay: &Overlay) -> Result<Self> {
        Ok(Self {
            lower: overlay
                .lower
                .iter()
                .map(|directory| Layer::open(directory))
                .collect::<Result<_>>()?,
            upper: overlay.upper.as_deref().map(Layer::open).transpose()?,
            work: overlay.work.as_deref().map(Layer::open).transpose()?,
        })
    }

    fn joined_lower(&self) -> String {
        self.lower
            .iter()
            .map(Layer::by_descriptor)
            .collect::<Vec<_>>()
            .join(":")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directories(base: &Path, names: &[&str]) -> Vec<PathBuf> {
        names
            .iter()
            .map(|name| {
                let directory = base.join(name);
                std::fs::create_dir(&directory).unwrap();
                directory
            })
            .collect()
    }

    #[test]
    fn the_topmost_layer_wins_and_writes_go_to_the_upper_one() {
        let base = tempfile::tempdir().unwrap();
        let made = directories(base.path(), &["top", "bottom", "upper", "work"]);
        std::fs::write(made[0].join("file"), "top").unwrap();
        std::fs::write(made[1].join("file"), "bottom").unwrap();
        std::fs::write(made[1].join("deep"), "deep").unwrap();
        let overlay = Overlay {
            lower: vec![made[0].clone(), made[1].clone()],
            upper: Some(made[2].clone()),
            work: Some(made[3].clone()),
            ..Overlay::default()
        };
        let mount = overlay.mount_detached().unwrap();
        let seen = path::descriptor_path(&mount);
        assert_eq!(std::fs::read_to_string(seen.join("file")).unwrap(), "top");
        assert_eq!(std::fs::read_to_string(seen.join("deep")).unwrap(), "deep");
        std::fs::write(seen.join("new"), "new").unwrap();
        drop(mount);
        assert_eq!(std::fs::read_to_string(made[2].join("new")).unwrap(), "new");
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(base.path().to_str().unwrap()));
    }

    #[test]
    fn as_many_layers_as_an_image_may_have_are_stacked_on_every_kernel() {
        let base = tempfile::tempdir().unwrap();
        let names: Vec<String> = (0..127).map(|number| format!("layer{number}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let lower = directories(base.path(), &names);
        for (number, layer) in lower.iter().enumerate() {
            std::fs::write(layer.join(format!("own{number}")), "").unwrap();
            std::fs::write(layer.join("shared"), format!("{number}")).unwrap();
        }
        let made = directories(base.path(), &["upper", "work"]);
        let overlay = Overlay {
            lower,
            upper: Some(made[0].clone()),
            work: Some(made[1].clone()),
            ..Overlay::default()
        };
        let check = |mount: OwnedFd| {
            let seen = path::descriptor_path(&mount);
            assert_eq!(std::fs::read_dir(&seen).unwrap().count(), 128);
            assert_eq!(std::fs::read_to_string(seen.join("shared")).unwrap(), "0");
        };
        check(overlay.mount_detached().unwrap());
        check(overlay.mount_by_thread().unwrap());
    }

    #[test]
    fn names_with_separators_and_long_names_work() {
        let base = tempfile::tempdir().unwrap();
        let long = base.path().join("d".repeat(200)).join("e".repeat(200));
        std::fs::create_dir_all(&long).unwrap();
        std::fs::write(long.join("file"), "long").unwrap();
        let made = directories(base.path(), &["a:b,c\\d", "plain"]);
        std::fs::write(made[0].join("other"), "odd").unwrap();
        let overlay = Overlay {
            lower: vec![long, made[0].clone(), made[1].clone()],
            ..Overlay::default()
        };
        let mount = overlay.mount_detached().unwrap();
        let seen = path::descriptor_path(&mount);
        assert_eq!(std::fs::read_to_string(seen.join("file")).unwrap(), "long");
        assert_eq!(std::fs::read_to_string(seen.join("other")).unwrap(), "odd");
        assert!(std::fs::write(seen.join("x"), "").is_err());
    }

    #[test]
    fn a_single_layer_is_bound_read_only() {
        let base = tempfile::tempdir().unwrap();
        let made = directories(base.path(), &["only"]);
        let overlay = Overlay {
            lower: made,
            ..Overlay::default()
        };
        let mount = overlay.mount_detached().unwrap();
        assert!(std::fs::write(path::descriptor_path(&mount).join("x"), "").is_err());
    }

    #[test]
    fn what_cannot_be_is_refused() {
        assert!(Overlay::default().mount_detached().is_err());
        let overlay = Overlay {
            lower: vec!["/".into()],
            upper: Some("/tmp".into()),
            ..Overlay::default()
        };
        assert!(overlay.mount_detached().is_err());
    }
}
