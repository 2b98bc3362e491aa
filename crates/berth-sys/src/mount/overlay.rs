//! An overlay mount as a plain value, and its making as a mount attached nowhere.
//!
//! Owns how the value becomes kernel parameters. Does not own the directories; they belong to who made the value.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};

use super::{FileSystemContext, attribute};
use crate::error::{Attempt, Error, Result};
use crate::{path, process, socket};

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
    /// Works from any process; kernels before 6.7 need a helper process for more layers than fit
    /// in one option, and then the caller must have one thread only.
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
                match self.mount_by_helper(&layers) {
                    Ok(mount) => Ok(mount),
                    Err(_) => Err(error),
                }
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

    /// mount(2) in a mount namespace of a helper process, whose mount is then copied out as a descriptor.
    ///
    /// mount(2) takes a page of options where fsconfig(2) takes 255 bytes.
    fn mount_by_helper(&self, layers: &Layers) -> Result<OwnedFd> {
        let mut data = format!("lowerdir={}", layers.joined_lower());
        if let (Some(upper), Some(work)) = (&layers.upper, &layers.work) {
            data.push_str(&format!(
                ",upperdir={},workdir={}",
                upper.by_descriptor(),
                work.by_descriptor()
            ));
        }
        for (key, value) in &self.options {
            data.push(',');
            data.push_str(key);
            if !value.is_empty() {
                data.push('=');
                data.push_str(value);
            }
        }
        let data = std::ffi::CString::new(data)
            .map_err(|_| Error::invalid("mount an overlay", "an option holds a zero byte"))?;
        let (ours, theirs) = socket::seqpacket_pair()?;
        let request = process::CloneRequest {
            flags: process::CLONE_NEWNS,
            ..process::CloneRequest::default()
        };
        let child = process::clone_process(&request, || {
            let made = super::set_propagation(Path::new("/"), super::Propagation::Private, true)
                .and_then(|()| {
                    super::mount_classic(
                        Path::new("overlay"),
                        Path::new(HELPER_TARGET),
                        "overlay",
                        rustix::mount::MountFlags::empty(),
                        Some(&data),
                    )
                })
                .and_then(|()| super::clone_tree(Path::new(HELPER_TARGET), false));
            match made {
                Ok(mount) => i32::from(socket::send(&theirs, b"m", &[mount.as_fd()]).is_err()),
                Err(_) => 1,
            }
        })?;
        drop(theirs);
        let message = socket::receive(&ours, 1, 1);
        child.wait()?;
        let mount = message?
            .descriptors
            .pop()
            .ok_or_else(|| Error::other("mount an overlay", "the helper process gave no mount"))?;
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
