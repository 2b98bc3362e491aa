//! Paths in a container as clients write them.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use berth_sys::path::Root;
use rustix::fs::{FileType, OFlags};

use crate::containers::spec::clean_path;

/// Links followed before a path is taken for endless, as many as the kernel's own limit.
const LINKS_MAX: usize = 40;

/// A path, cleaned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Asked {
    /// Absolute, without `.`, `..` and trailing slashes.
    pub(super) path: String,
    /// Its last name as Docker tells it: `/` for the root, `.` where the path ends with `/.`.
    pub(super) name: String,
    /// Whether the end says that a directory is meant, so that a link there is followed.
    pub(super) is_directory: bool,
}

impl Asked {
    /// Reads what a client wrote.
    pub(super) fn parse(text: &str) -> Self {
        let path = clean_path(text);
        let ends_with_dot = text == "." || text.ends_with("/.");
        let name = match (ends_with_dot, path.rsplit('/').next()) {
            (true, _) => ".",
            (false, Some("") | None) => "/",
            (false, Some(name)) => name,
        };
        Self {
            name: name.to_owned(),
            is_directory: ends_with_dot || text.ends_with('/') || path == "/",
            path,
        }
    }

    /// The directory that the last name is in, and the last name.
    pub(super) fn split(&self) -> (&Path, &str) {
        let path = Path::new(&self.path);
        let name = self.path.rsplit('/').next().unwrap_or_default();
        (path.parent().unwrap_or(Path::new("/")), name)
    }
}

/// Where a path leads when every link is followed, as text; parts that are not there stay as they are. For people
/// and for further requests, which resolve it again.
pub(super) fn followed(root: &Root, path: &str) -> String {
    let mut pending: Vec<OsString> = names(Path::new(path));
    let mut resolved = PathBuf::from("/");
    let mut links = 0;
    while let Some(name) = pending.pop() {
        if name == ".." {
            resolved.pop();
            continue;
        }
        let next = resolved.join(&name);
        let target = root
            .open_at(
                &next,
                OFlags::PATH | OFlags::NOFOLLOW,
                rustix::fs::Mode::empty(),
            )
            .ok()
            .filter(|found| {
                berth_sys::path::file_type(found).is_ok_and(|kind| kind == FileType::Symlink)
            })
            .and_then(|found| rustix::fs::readlinkat(&found, "", Vec::new()).ok());
        match target {
            Some(target) if links < LINKS_MAX => {
                links += 1;
                let target = PathBuf::from(OsString::from_vec(target.into_bytes()));
                if target.is_absolute() {
                    resolved = PathBuf::from("/");
                }
                pending.extend(names(&target));
            }
            _ => resolved = next,
        }
    }
    String::from_utf8_lossy(resolved.as_os_str().as_bytes()).into_owned()
}

/// The names of a path, last first.
fn names(path: &Path) -> Vec<OsString> {
    let mut names: Vec<OsString> = path
        .components()
        .filter_map(|part| match part {
            std::path::Component::Normal(name) => Some(name.to_owned()),
            std::path::Component::ParentDir => Some("..".into()),
            _ => None,
        })
        .collect();
    names.reverse();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_of_paths_say_what_is_meant() {
        let asked = |text: &str| {
            let asked = Asked::parse(text);
            (asked.path, asked.name, asked.is_directory)
        };
        let want =
            |path: &str, name: &str, is_directory| (path.to_owned(), name.to_owned(), is_directory);
        assert_eq!(asked("etc/passwd"), want("/etc/passwd", "passwd", false));
        assert_eq!(asked("/etc/"), want("/etc", "etc", true));
        assert_eq!(asked("/etc/."), want("/etc", ".", true));
        assert_eq!(asked("/"), want("/", "/", true));
        assert_eq!(asked("."), want("/", ".", true));
        assert_eq!(asked("/a/../../b"), want("/b", "b", false));
    }

    #[test]
    fn links_are_followed_within_the_root() {
        let base = tempfile::tempdir().unwrap();
        std::fs::create_dir(base.path().join("real")).unwrap();
        let link = |target: &str, name: &str| {
            std::os::unix::fs::symlink(target, base.path().join(name)).unwrap();
        };
        link("/real/none", "one");
        link("../../one", "two");
        link("loop", "loop");
        let root = Root::open(base.path()).unwrap();
        assert_eq!(followed(&root, "/two"), "/real/none");
        assert_eq!(followed(&root, "/real/x/y"), "/real/x/y");
        assert_eq!(followed(&root, "/loop/x"), "/loop/x");
    }
}
