//! Which hierarchies are mounted, and where a group lies in each.
//!
//! Owns the reading of `/proc/self/mountinfo` and `/proc/self/cgroup` (proc(5), cgroups(7)) and the rules for
//! paths. Makes nothing.

use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{CgroupError, Layout};

/// The hierarchies mounted on this machine, as seen by this process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hierarchy {
    /// Version 1 hierarchies in the order of `/proc/self/cgroup`.
    v1: Vec<Mount>,
    /// The version 2 hierarchy.
    unified: Option<Mount>,
    /// Controllers at the top of the version 2 hierarchy.
    unified_controllers: Vec<String>,
}

/// One mounted hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Mount {
    /// As in `/proc/self/cgroup`: `cpu,cpuacct`, `name=systemd`; empty for version 2.
    controllers: String,
    /// Where it is mounted.
    point: PathBuf,
    /// This process's own group, as a path beneath the mount point (without a leading slash).
    own: PathBuf,
}

/// The directories of one group, one per hierarchy. Plain data to be kept with a container's state.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Location {
    /// Version 1 directories: controllers of the hierarchy (such as `cpu,cpuacct` or `name=systemd`) and directory.
    pub v1: Vec<(String, PathBuf)>,
    /// Directory in the version 2 hierarchy, if there is one.
    pub unified: Option<PathBuf>,
}

impl Location {
    /// The directory that holds a controller of version 1.
    #[must_use]
    pub fn v1_directory(&self, controller: &str) -> Option<&Path> {
        self.v1
            .iter()
            .find(|(names, _)| names.split(',').any(|name| name == controller))
            .map(|(_, path)| path.as_path())
    }
}

impl Hierarchy {
    /// Finds the mounted hierarchies from `/proc/self/mountinfo` and `/proc/self/cgroup`.
    ///
    /// # Errors
    /// When these cannot be read, or no hierarchy is mounted.
    pub fn probe() -> Result<Self, CgroupError> {
        let read = |path: &str| {
            crate::fs::read_kernel_file(Path::new(path))
                .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
                .map_err(|error| CgroupError::Io {
                    attempt: "read",
                    path: PathBuf::from(path),
                    source: error.into(),
                })
        };
        let mut hierarchy =
            Self::parse(&read("/proc/self/mountinfo")?, &read("/proc/self/cgroup")?)?;
        if let Some(unified) = &hierarchy.unified {
            let listed = read(&unified.point.join("cgroup.controllers").to_string_lossy())
                .unwrap_or_default();
            hierarchy.unified_controllers = listed.split_whitespace().map(str::to_owned).collect();
        }
        Ok(hierarchy)
    }

    fn parse(mountinfo: &str, own: &str) -> Result<Self, CgroupError> {
        let mounts: Vec<MountLine> = mountinfo.lines().filter_map(MountLine::parse).collect();
        let mut hierarchy = Self {
            v1: Vec::new(),
            unified: None,
            unified_controllers: Vec::new(),
        };
        for line in own.lines() {
            let mut fields = line.splitn(3, ':');
            let (Some(_), Some(controllers), Some(group)) =
                (fields.next(), fields.next(), fields.next())
            else {
                continue;
            };
            let found = mounts
                .iter()
                .filter(|mount| mount.serves(controllers))
                // The usual place first: a hierarchy may be mounted again in some chroot.
                .min_by_key(|mount| !mount.point.starts_with("/sys/fs/cgroup"));
            let Some(found) = found else { continue };
            let mount = Mount {
                controllers: controllers.to_owned(),
                point: found.point.clone(),
                own: beneath(group, &found.root),
            };
            if controllers.is_empty() {
                hierarchy.unified = Some(mount);
            } else {
                hierarchy.v1.push(mount);
            }
        }
        if hierarchy.v1.is_empty() && hierarchy.unified.is_none() {
            return Err(CgroupError::NoHierarchy(format!(
                "{} mounts looked at",
                mountinfo.lines().count()
            )));
        }
        Ok(hierarchy)
    }

    /// How the hierarchies are laid out.
    #[must_use]
    pub fn layout(&self) -> Layout {
        let has_controllers = self
            .v1
            .iter()
            .any(|mount| !mount.controllers.starts_with("name="));
        match (has_controllers, &self.unified) {
            (false, Some(_)) => Layout::V2,
            (_, None) => Layout::V1,
            (true, Some(_)) => Layout::Hybrid,
        }
    }

    /// Names of the controllers that can be used (`cpu`, `memory`, … , `io` on version 2).
    #[must_use]
    pub fn controllers(&self) -> Vec<String> {
        self.v1
            .iter()
            .filter(|mount| !mount.controllers.starts_with("name="))
            .flat_map(|mount| mount.controllers.split(',').map(str::to_owned))
            .chain(self.unified_controllers.iter().cloned())
            .collect()
    }

    /// The mount point of the version 2 hierarchy.
    #[must_use]
    pub fn unified_mount_point(&self) -> Option<&Path> {
        self.unified.as_ref().map(|mount| mount.point.as_path())
    }

    /// The mount points of the version 1 hierarchies with their controllers (`cpu,cpuacct`, `name=systemd`).
    pub fn v1_mount_points(&self) -> impl Iterator<Item = (&str, &Path)> {
        self.v1
            .iter()
            .map(|mount| (mount.controllers.as_str(), mount.point.as_path()))
    }

    /// Where a group called `path` lies (the `cgroupsPath` of the OCI specification). An absolute path counts
    /// from the root of every mounted hierarchy; a relative one from this process's own group on version 1
    /// and from the parent of that group on version 2 (its own may hold processes, so that no controller
    /// could be handed down from it), as in runc.
    ///
    /// # Errors
    /// For an empty path, one with `..`, or the root itself.
    pub fn locate(&self, path: &Path) -> Result<Location, CgroupError> {
        let mut inner = PathBuf::new();
        for component in path.components() {
            match component {
                Component::Normal(name) => inner.push(name),
                Component::RootDir | Component::CurDir => {}
                Component::ParentDir | Component::Prefix(_) => {
                    return Err(bad_path(path, "it contains .."));
                }
            }
        }
        if inner.as_os_str().is_empty() {
            return Err(bad_path(path, "it names no group beneath the root"));
        }
        if inner.as_os_str().as_encoded_bytes().contains(&b'\n') {
            return Err(bad_path(
                path,
                "it contains a line break, which the kernel does not take",
            ));
        }
        let absolute = path.is_absolute();
        Ok(Location {
            v1: self
                .v1
                .iter()
                .map(|mount| {
                    let base = if absolute {
                        mount.point.clone()
                    } else {
                        mount.point.join(&mount.own)
                    };
                    (mount.controllers.clone(), base.join(&inner))
                })
                .collect(),
            unified: self.unified.as_ref().map(|mount| {
                let parent = mount.own.parent().unwrap_or(Path::new(""));
                let base = if absolute {
                    mount.point.clone()
                } else {
                    mount.point.join(parent)
                };
                base.join(&inner)
            }),
        })
    }

    /// Translates the systemd form `slice:prefix:name` into the path that systemd would use
    /// (`user-1000.slice:berth:x` → `/user.slice/user-1000.slice/berth-x.scope`). An empty slice is
    /// `system.slice`; a name that ends in `.slice` is a slice itself.
    ///
    /// # Errors
    /// When the text does not have three parts or the slice is not a valid slice name.
    pub fn systemd_path(text: &str) -> Result<PathBuf, CgroupError> {
        let invalid = |reason: &str| CgroupError::Invalid {
            setting: format!("systemd control group path {text:?}"),
            reason: reason.to_owned(),
        };
        let mut parts = text.split(':');
        let (Some(slice), Some(prefix), Some(name), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(invalid("it must have the form slice:prefix:name"));
        };
        if name.is_empty() || [slice, prefix, name].iter().any(|part| part.contains('/')) {
            return Err(invalid(
                "its parts must be names without a slash, and the last one not empty",
            ));
        }
        let slice = if slice.is_empty() {
            "system.slice"
        } else {
            slice
        };
        let mut path = PathBuf::from("/");
        if slice != "-.slice" {
            let stem = slice
                .strip_suffix(".slice")
                .ok_or_else(|| invalid("the slice must end in .slice"))?;
            if stem.is_empty() || stem.split('-').any(str::is_empty) {
                return Err(invalid("the slice has an empty part between hyphens"));
            }
            // A hyphen in the name of a slice is a level: a-b.slice lies in a.slice (systemd.slice(5)).
            for (at, _) in stem.match_indices('-') {
                path.push(format!("{}.slice", &stem[..at]));
            }
            path.push(slice);
        }
        if name.ends_with(".slice") {
            path.push(name);
        } else if prefix.is_empty() {
            path.push(format!("{name}.scope"));
        } else {
            path.push(format!("{prefix}-{name}.scope"));
        }
        Ok(path)
    }
}

fn bad_path(path: &Path, reason: &str) -> CgroupError {
    CgroupError::Invalid {
        setting: format!("control group path {:?}", path.display()),
        reason: reason.to_owned(),
    }
}

/// A group's path beneath a mount whose root is `root`. A group outside the mount is taken for its top.
fn beneath(group: &str, root: &str) -> PathBuf {
    let relative = Path::new(group).strip_prefix(root).unwrap_or(Path::new(""));
    if relative
        .components()
        .any(|component| matches!(component, Component::ParentDir))
    {
        return PathBuf::new();
    }
    relative.strip_prefix("/").unwrap_or(relative).to_path_buf()
}

/// The fields of a mountinfo line that matter here.
struct MountLine {
    root: String,
    point: PathBuf,
    unified: bool,
    options: Vec<String>,
}

impl MountLine {
    /// Parses a line if it is of a control group hierarchy.
    fn parse(line: &str) -> Option<Self> {
        let (before, after) = line.split_once(" - ")?;
        let mut before = before.split(' ').skip(3);
        let (root, point) = (before.next()?, before.next()?);
        let mut after = after.split(' ');
        let kind = after.next()?;
        let options = after.nth(1)?;
        if kind != "cgroup" && kind != "cgroup2" {
            return None;
        }
        Some(Self {
            root: unescape(root),
            point: PathBuf::from(unescape(point)),
            unified: kind == "cgroup2",
            options: options.split(',').map(str::to_owned).collect(),
        })
    }

    /// True when the mount is of the hierarchy that has these controllers.
    fn serves(&self, controllers: &str) -> bool {
        if controllers.is_empty() {
            return self.unified;
        }
        !self.unified
            && controllers
                .split(',')
                .all(|name| self.options.iter().any(|option| option == name))
    }
}

/// Undoes the octal escapes of proc(5).
fn unescape(text: &str) -> String {
    let mut plain = text.to_owned();
    for (escape, letter) in [
        ("\\040", " "),
        ("\\011", "\t"),
        ("\\012", "\n"),
        ("\\134", "\\"),
    ] {
        plain = plain.replace(escape, letter);
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID_MOUNTS: &str = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /srv/chroot/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu,cpuacct
33 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 /docker/abc /sys/fs/cgroup/memory ro,relatime - cgroup cgroup rw,memory
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";
    const HYBRID_OWN: &str = "\
9:name=systemd:/
8:pids:/not/mounted
4:memory:/docker/abc/inner/one
1:cpu,cpuacct:/a/b
0::/x/y
";

    fn hybrid() -> Hierarchy {
        Hierarchy::parse(HYBRID_MOUNTS, HYBRID_OWN).unwrap()
    }

    #[test]
    fn finds_hybrid_hierarchies() {
        let hierarchy = hybrid();
        assert_eq!(hierarchy.layout(), Layout::Hybrid);
        assert_eq!(hierarchy.controllers(), ["memory", "cpu", "cpuacct"]);
    }

    #[test]
    fn places_absolute_paths_at_the_mount_root() {
        let location = hybrid().locate(Path::new("/berth/./c1")).unwrap();
        assert_eq!(
            location.v1_directory("memory"),
            Some(Path::new("/sys/fs/cgroup/memory/berth/c1"))
        );
        assert_eq!(
            location.v1_directory("cpuacct"),
            Some(Path::new("/sys/fs/cgroup/cpu,cpuacct/berth/c1"))
        );
        assert_eq!(
            location.v1_directory("name=systemd"),
            Some(Path::new("/sys/fs/cgroup/systemd/berth/c1"))
        );
        assert_eq!(
            location.unified.as_deref(),
            Some(Path::new("/sys/fs/cgroup/unified/berth/c1"))
        );
    }

    #[test]
    fn places_relative_paths_at_the_own_group() {
        let location = hybrid().locate(Path::new("c1")).unwrap();
        assert_eq!(
            location.v1_directory("memory"),
            Some(Path::new("/sys/fs/cgroup/memory/inner/one/c1"))
        );
        assert_eq!(
            location.v1_directory("cpu"),
            Some(Path::new("/sys/fs/cgroup/cpu,cpuacct/a/b/c1"))
        );
        assert_eq!(
            location.unified.as_deref(),
            Some(Path::new("/sys/fs/cgroup/unified/x/c1"))
        );
    }

    #[test]
    fn refuses_paths_that_leave_or_name_the_root() {
        for path in ["", "/", "/a/../b", "..", "/a\nb"] {
            assert!(hybrid().locate(Path::new(path)).is_err(), "{path:?}");
        }
    }

    #[test]
    fn tells_the_layouts_apart() {
        let unified = "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate";
        let hierarchy = Hierarchy::parse(unified, "0::/user.slice/session.scope\n").unwrap();
        assert_eq!(hierarchy.layout(), Layout::V2);
        assert_eq!(
            hierarchy.locate(Path::new("c")).unwrap().unified.as_deref(),
            Some(Path::new("/sys/fs/cgroup/user.slice/c"))
        );
        let old = "30 23 0:26 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory";
        assert_eq!(
            Hierarchy::parse(old, "3:memory:/\n0::/\n")
                .unwrap()
                .layout(),
            Layout::V1
        );
        assert!(matches!(
            Hierarchy::parse("", "0::/\n"),
            Err(CgroupError::NoHierarchy(_))
        ));
    }

    #[test]
    fn translates_systemd_paths() {
        let path = |text| {
            Hierarchy::systemd_path(text)
                .map(|path| path.display().to_string())
                .ok()
        };
        assert_eq!(
            path("system.slice:docker:1234").as_deref(),
            Some("/system.slice/docker-1234.scope")
        );
        assert_eq!(
            path("user-1000.slice:b:x").as_deref(),
            Some("/user.slice/user-1000.slice/b-x.scope")
        );
        assert_eq!(
            path("a-b-c.slice::x").as_deref(),
            Some("/a.slice/a-b.slice/a-b-c.slice/x.scope")
        );
        assert_eq!(path(":p:x").as_deref(), Some("/system.slice/p-x.scope"));
        assert_eq!(path("-.slice:p:x").as_deref(), Some("/p-x.scope"));
        assert_eq!(
            path("system.slice::pod.slice").as_deref(),
            Some("/system.slice/pod.slice")
        );
        for bad in [
            "system.slice:x",
            "nothing:p:x",
            "a--b.slice:p:x",
            "a.slice:p:",
            "a/b.slice:p:x",
            "a.slice:p:x:y",
        ] {
            assert_eq!(path(bad), None, "{bad}");
        }
    }
}
