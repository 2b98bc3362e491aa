//! What paths mean: which side they are on, whether their end says "directory", and under which name things
//! arrive. The rules are docker's, and tested on it as well.

use std::path::{Path, PathBuf};

use crate::failure::Failure;
use crate::options::environment::reason;

/// One of the two operands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Argument {
    /// Container and path in it.
    Container(String, String),
    /// A path here, or `-`.
    Local(String),
}

impl Argument {
    /// `container:path`; what begins with a slash or a dot is a path here.
    pub(super) fn parse(text: &str) -> Self {
        match text.split_once(':') {
            Some((container, path)) if !text.starts_with('/') && !text.starts_with('.') => {
                Self::Container(container.to_owned(), path.to_owned())
            }
            _ => Self::Local(text.to_owned()),
        }
    }
}

/// What is copied, as far as names are concerned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ends {
    /// Its last name, `.` for the content of a directory.
    pub(super) base: String,
    /// The name it has for the user, where that is another one.
    pub(super) rebase: Option<String>,
    pub(super) is_directory: bool,
}

/// Where it goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) path: String,
    pub(super) exists: bool,
    pub(super) is_directory: bool,
}

/// What is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Plan {
    /// The directory that an archive is extracted in.
    pub(super) directory: String,
    /// What replaces what at the beginning of each name.
    pub(super) rename: Option<(String, String)>,
}

impl Plan {
    /// The first name of all entries of an archive made here.
    pub(super) fn name(&self, source: &Ends) -> String {
        match &self.rename {
            Some((_, new)) => new.clone(),
            None => source.rebase.clone().unwrap_or_else(|| source.base.clone()),
        }
    }
}

/// Cleans a path by its text alone.
pub(super) fn clean(path: &str) -> String {
    let absolute = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => {
                parts.pop();
            }
            ".." if absolute => {}
            other => parts.push(other),
        }
    }
    match (absolute, parts.is_empty()) {
        (true, _) => format!("/{}", parts.join("/")),
        (false, true) => ".".to_owned(),
        (false, false) => parts.join("/"),
    }
}

fn is_current(path: &str) -> bool {
    path == "." || path.ends_with("/.")
}

/// The directory part and the last name; the last name of `x/.` is `.`.
pub(super) fn split(path: &str) -> (String, String) {
    let cleaned = clean(path);
    if is_current(path) {
        return (cleaned, ".".to_owned());
    }
    match cleaned.rsplit_once('/') {
        Some(("", name)) => ("/".to_owned(), name.to_owned()),
        Some((directory, name)) => (directory.to_owned(), name.to_owned()),
        None => (".".to_owned(), cleaned),
    }
}

/// The last name of a path, without a slash at its end.
pub(super) fn base(path: &str) -> String {
    clean(path)
        .rsplit('/')
        .next()
        .unwrap_or_default()
        .to_owned()
}

/// A path with the end (`/.` or `/`) of another one.
pub(super) fn with_end_of(path: &str, other: &str) -> String {
    if is_current(other) && !is_current(path) {
        format!("{}/.", path.trim_end_matches('/'))
    } else if other.ends_with('/') && !path.ends_with('/') {
        format!("{path}/")
    } else {
        path.to_owned()
    }
}

/// Decides where what is extracted under which name.
pub(super) fn plan(source: &Ends, target: &Target) -> Result<Plan, &'static str> {
    let (directory, name) = split(&target.path);
    if target.exists && target.is_directory {
        let rename = source.rebase.clone().map(|new| (source.base.clone(), new));
        return Ok(Plan {
            directory: target.path.clone(),
            rename,
        });
    }
    if target.exists && source.is_directory {
        return Err("cannot copy directory");
    }
    if !target.exists
        && !source.is_directory
        && (target.path.ends_with('/') || is_current(&target.path))
    {
        return Err("no such directory");
    }
    Ok(Plan {
        directory,
        rename: Some((source.base.clone(), name)),
    })
}

impl Target {
    /// What stands at a path here, links followed.
    pub(super) fn local(path: &Path) -> Result<Self, Failure> {
        let text = path.to_string_lossy().into_owned();
        let target = |exists, is_directory| Self {
            path: text.clone(),
            exists,
            is_directory,
        };
        match std::fs::metadata(path) {
            Ok(metadata) => {
                if !metadata.is_dir() && !metadata.is_file() {
                    return Err(Failure::new(format!(
                        "invalid output path: \"{text}\" must be a directory or a regular file"
                    )));
                }
                Ok(target(true, metadata.is_dir()))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let (directory, _) = split(&text);
                if !Path::new(&directory).is_dir() {
                    return Err(Failure::new(format!(
                        "invalid output path: directory \"{directory}\" does not exist"
                    )));
                }
                Ok(target(false, false))
            }
            Err(error) => Err(Failure::new(format!("look at {text}: {}", reason(&error)))),
        }
    }
}

/// The local source of a copy: the path to walk, and its names.
pub(super) fn source(path: &Path, follow: bool) -> Result<(PathBuf, Ends), Failure> {
    let text = path.to_string_lossy().into_owned();
    let failed = |error: std::io::Error| Failure::new(format!("lstat {text}: {}", reason(&error)));
    let directory_is_meant = text.ends_with('/') || is_current(&text);
    let (mut walked, mut rebase) = (path.to_owned(), None);
    if follow || directory_is_meant {
        walked = std::fs::canonicalize(path).map_err(failed)?;
        let resolved = base(&walked.to_string_lossy());
        let own = base(&text);
        if !is_current(&text) && own != resolved && !own.is_empty() && own != ".." {
            rebase = Some(own);
        }
    }
    let metadata = std::fs::symlink_metadata(&walked).map_err(failed)?;
    if directory_is_meant && !metadata.is_dir() {
        return Err(Failure::new(format!("lstat {text}: not a directory")));
    }
    let base = match is_current(&text) {
        true => ".".to_owned(),
        false => match base(&walked.to_string_lossy()) {
            // The root, or a name that only the working directory has.
            name if name.is_empty() => ".".to_owned(),
            name if name == ".." => std::fs::canonicalize(path)
                .map_err(failed)?
                .file_name()
                .map(|name| name.to_string_lossy().into_owned())
                .unwrap_or_else(|| ".".to_owned()),
            name => name,
        },
    };
    Ok((
        walked,
        Ends {
            base,
            rebase,
            is_directory: metadata.is_dir(),
        },
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_colon_tells_the_container_unless_the_path_is_explicit() {
        let container = |name: &str, path: &str| Argument::Container(name.into(), path.into());
        assert_eq!(Argument::parse("c:/etc/x:y"), container("c", "/etc/x:y"));
        assert_eq!(Argument::parse("c:"), container("c", ""));
        for local in ["/a:b", "./a:b", "../a:b", "plain", "-"] {
            assert_eq!(Argument::parse(local), Argument::Local(local.into()));
        }
    }

    #[test]
    fn names_are_split_as_docker_splits_them() {
        let both = |path: &str| {
            let (directory, name) = split(path);
            format!("{directory} {name}")
        };
        assert_eq!(both("/a/b"), "/a b");
        assert_eq!(both("/a/b/"), "/a b");
        assert_eq!(both("/a/b/."), "/a/b .");
        assert_eq!(both("a"), ". a");
        assert_eq!(both("."), ". .");
        assert_eq!(both("/a"), "/ a");
    }

    #[test]
    fn the_table_of_docker_s_rules() {
        let source = |is_directory| Ends {
            base: "src".into(),
            rebase: None,
            is_directory,
        };
        let target = |path: &str, exists, is_directory| Target {
            path: path.into(),
            exists,
            is_directory,
        };
        let told = |source: &Ends, target: &Target| match plan(source, target) {
            Ok(plan) => format!("{} {}", plan.directory, plan.name(source)),
            Err(reason) => reason.to_owned(),
        };
        for (is_directory, path, exists, into, expected) in [
            (false, "/d/new", false, false, "/d new"),
            (false, "/d/new/", false, false, "no such directory"),
            (false, "/d/file", true, false, "/d file"),
            (false, "/d", true, true, "/d src"),
            (true, "/d/new", false, false, "/d new"),
            (true, "/d/new/", false, false, "/d new"),
            (true, "/d/file", true, false, "cannot copy directory"),
            (true, "/d", true, true, "/d src"),
        ] {
            assert_eq!(
                told(&source(is_directory), &target(path, exists, into)),
                expected,
                "{is_directory} {path} {exists} {into}"
            );
        }
        let content = Ends {
            base: ".".into(),
            rebase: None,
            is_directory: true,
        };
        assert_eq!(told(&content, &target("/d", true, true)), "/d .");
        assert_eq!(told(&content, &target("/d/new", false, false)), "/d new");
    }
}
