//! Installed packages, as the databases in an image list them: dpkg, apk, rpm, pacman, Python.
//!
//! Owns: where the databases are, and the formats that are text.

use super::rpm;
use crate::archive::printable;
use crate::error::{ImageError, Result};
use crate::layers::view::{Merged, Node};
use crate::limits;

/// An installed package.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Package {
    /// `dpkg`, `apk`, `rpm`, `pacman` or `python`.
    pub manager: &'static str,
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// What it is built for, in its manager's words; empty when it does not say.
    pub architecture: String,
    /// Bytes it says it takes; zero when it does not.
    pub size: u64,
}

/// The packages of an image, and the databases that are there and are not read, or not wholly; each its path
/// and the reason.
pub(super) fn installed<'a>(
    view: &Merged,
    paths: impl Iterator<Item = &'a Vec<u8>>,
) -> Result<(Vec<Package>, Vec<String>)> {
    let mut packages = Vec::new();
    let mut unread = Vec::new();
    let mut read = |path: &[u8], limit| match view.read(path, limit) {
        // Larger than any real one.
        Err(ImageError::Limit { limit, .. }) => {
            if unread.len() < limits::WHY_LARGEST {
                unread.push(format!(
                    "/{}: it is larger than {limit} bytes",
                    printable(path)
                ));
            }
            Ok(None)
        }
        other => other,
    };
    if let Some(text) = read(b"var/lib/dpkg/status", limits::WHY_DATABASE_BYTES)? {
        dpkg(&text, &mut packages);
    }
    for path in files_in(view, "var/lib/dpkg/status.d", "")? {
        if !path.ends_with(b".md5sums")
            && let Some(text) = read(&path, limits::WHY_METADATA_BYTES)?
        {
            dpkg(&text, &mut packages);
        }
    }
    for path in [&b"lib/apk/db/installed"[..], b"usr/lib/apk/db/installed"] {
        if let Some(text) = read(path, limits::WHY_DATABASE_BYTES)? {
            apk(&text, &mut packages);
        }
    }
    for path in files_in(view, "var/lib/pacman/local", "/desc")? {
        if let Some(text) = read(&path, limits::WHY_METADATA_BYTES)? {
            pacman(&text, &mut packages);
        }
    }
    for path in paths {
        if packages.len() >= limits::WHY_PACKAGES_MAX {
            break;
        }
        let is_python =
            path.ends_with(b".dist-info/METADATA") || path.ends_with(b".egg-info/PKG-INFO");
        if is_python && let Ok(Some(text)) = view.read(path, limits::WHY_METADATA_BYTES) {
            python(&text, &mut packages);
        }
    }
    rpm::installed(view, &mut packages, &mut unread)?;
    packages.sort();
    packages.dedup();
    packages.truncate(limits::WHY_PACKAGES_MAX);
    Ok((packages, unread))
}

/// Paths of what is in a directory, with `end` behind each.
fn files_in(view: &Merged, directory: &str, end: &str) -> Result<Vec<Vec<u8>>> {
    let Some((Node::Directory(found), _)) = view.resolve(directory.as_bytes(), true)? else {
        return Ok(Vec::new());
    };
    let names = found.names()?;
    let names = names.iter().take(limits::WHY_PACKAGES_MAX);
    Ok(names
        .map(|name| [directory.as_bytes(), b"/", name, end.as_bytes()].concat())
        .collect())
}

fn lines(text: &[u8]) -> impl Iterator<Item = &str> {
    text.split(|byte| *byte == b'\n')
        .filter_map(|line| std::str::from_utf8(line).ok())
        .map(|line| line.trim_end_matches('\r'))
}

/// A name or version short enough to show.
pub(super) fn short(text: &str) -> String {
    text.trim()
        .chars()
        .filter(|c| !c.is_control())
        .take(128)
        .collect()
}

/// Paragraphs of `Field: value` (dpkg(1), deb-control(5)); only packages that are installed.
pub(crate) fn dpkg(text: &[u8], packages: &mut Vec<Package>) {
    let mut package = blank("dpkg");
    let mut installed = true;
    for line in lines(text).chain([""]) {
        if line.is_empty() {
            push(packages, &mut package, installed);
            installed = true;
            continue;
        }
        match line.split_once(':') {
            Some(("Package", value)) => package.name = short(value),
            Some(("Version", value)) => package.version = short(value),
            Some(("Architecture", value)) => package.architecture = short(value),
            Some(("Installed-Size", value)) => {
                package.size = value
                    .trim()
                    .parse::<u64>()
                    .unwrap_or(0)
                    .saturating_mul(1024);
            }
            Some(("Status", value)) => installed = value.trim_end().ends_with(" installed"),
            _ => {}
        }
    }
}

/// Paragraphs of `X:value` (apk's installed database).
pub(crate) fn apk(text: &[u8], packages: &mut Vec<Package>) {
    let mut package = blank("apk");
    for line in lines(text).chain([""]) {
        match line.split_once(':') {
            None if line.is_empty() => push(packages, &mut package, true),
            Some(("P", value)) => package.name = short(value),
            Some(("V", value)) => package.version = short(value),
            Some(("A", value)) => package.architecture = short(value),
            Some(("I", value)) => package.size = value.trim().parse().unwrap_or(0),
            _ => {}
        }
    }
}

/// Fields of a name in percent signs on one line and the value on the next (pacman's local database).
pub(crate) fn pacman(text: &[u8], packages: &mut Vec<Package>) {
    let mut package = blank("pacman");
    let mut field = "";
    for line in lines(text) {
        match field {
            "%NAME%" => package.name = short(line),
            "%VERSION%" => package.version = short(line),
            "%ARCH%" => package.architecture = short(line),
            "%SIZE%" => package.size = line.trim().parse().unwrap_or(0),
            _ => {
                field = line;
                continue;
            }
        }
        field = "";
    }
    push(packages, &mut package, true);
}

/// The head of a METADATA file (Python packaging, "Core metadata specifications").
pub(crate) fn python(text: &[u8], packages: &mut Vec<Package>) {
    let mut package = blank("python");
    for line in lines(text).take_while(|line| !line.is_empty()) {
        match line.split_once(':') {
            Some(("Name", value)) => package.name = short(value),
            Some(("Version", value)) => package.version = short(value),
            _ => {}
        }
    }
    push(packages, &mut package, true);
}

fn blank(manager: &'static str) -> Package {
    Package {
        manager,
        name: String::new(),
        version: String::new(),
        architecture: String::new(),
        size: 0,
    }
}

fn push(packages: &mut Vec<Package>, package: &mut Package, installed: bool) {
    let done = std::mem::replace(package, blank(package.manager));
    if installed && !done.name.is_empty() && packages.len() < limits::WHY_PACKAGES_MAX {
        packages.push(done);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(packages: &[Package]) -> Vec<String> {
        packages
            .iter()
            .map(|p| {
                let Package {
                    manager,
                    name,
                    version,
                    architecture,
                    size,
                } = p;
                format!("{manager} {name} {version} {architecture} {size}")
            })
            .collect()
    }

    #[test]
    fn each_database_is_read() {
        let mut found = Vec::new();
        dpkg(
            b"Package: a\nStatus: install ok installed\nInstalled-Size: 2\nVersion: 1.0-1\nArchitecture: amd64\nDescription: x\n more\n\n\
              Package: gone\nStatus: deinstall ok config-files\nVersion: 1\n\nPackage: b\nVersion: 2\n",
            &mut found,
        );
        apk(
            b"C:Q1x=\nP:musl\nV:1.2.4-r1\nA:x86_64\nI:622592\n\nP:zlib\nV:1\n",
            &mut found,
        );
        pacman(
            b"%NAME%\nzlib\n\n%VERSION%\n1:1.3-2\n\n%DESC%\n%SIZE%\n\n%ARCH%\nx86_64\n\n%SIZE%\n340000\n\n",
            &mut found,
        );
        python(
            b"Metadata-Version: 2.1\nName: six\nVersion: 1.16\n\nName: not this\n",
            &mut found,
        );
        assert_eq!(
            told(&found),
            [
                "dpkg a 1.0-1 amd64 2048",
                "dpkg b 2  0",
                "apk musl 1.2.4-r1 x86_64 622592",
                "apk zlib 1  0",
                "pacman zlib 1:1.3-2 x86_64 340000",
                "python six 1.16  0",
            ]
        );
    }

    #[test]
    fn nonsense_is_skipped() {
        let mut found = Vec::new();
        dpkg(&[0xff; 4096], &mut found);
        dpkg(
            b"Package:\nVersion: 1\n\n:::\n\nPackage: \x1b[31mred\n",
            &mut found,
        );
        apk(b"\n\n\nP\n", &mut found);
        assert_eq!(told(&found), ["dpkg [31mred   0"]);
        dpkg(
            "Package: x\n\n"
                .repeat(limits::WHY_PACKAGES_MAX + 10)
                .as_bytes(),
            &mut found,
        );
        assert_eq!(found.len(), limits::WHY_PACKAGES_MAX);
    }
}
