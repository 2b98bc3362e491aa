//! Packages that rpm installed, read from its database.
//!
//! Owns: where the database may be, and which of its three forms it has. Each form is a file of headers, one for
//! each package:
//!
//! | file | form | written by |
//! | --- | --- | --- |
//! | `rpmdb.sqlite` | a table of an SQLite database | Fedora, RHEL from 9 on, Amazon Linux 2023 |
//! | `Packages.db` | rpm's own, "ndb" | SUSE |
//! | `Packages` | a hash of Berkeley DB | RHEL up to 8, Amazon Linux 2 |
//!
//! The files are the image's and hostile. Each reader takes every page once at most and none that is not there, so
//! that its work is bounded by the length of the file; it keeps a few pages and one header in memory. A database
//! whose pages make no sense is refused whole: a part of it would look like all of it.

mod berkeley;
mod header;
mod log;
mod ndb;
mod pages;
mod sqlite;
#[cfg(test)]
mod tests;

use std::fs::File;

use super::packages::Package;
use crate::archive::printable;
use crate::error::Result;
use crate::layers::view::Merged;
use crate::limits;

/// Where distributions keep the database.
const DIRECTORIES: [&str; 3] = ["usr/lib/sysimage/rpm", "var/lib/rpm", "usr/share/rpm"];

/// The forms by the name of their file.
const FORMS: [(&str, Form); 3] = [
    ("rpmdb.sqlite", Form::Sqlite),
    ("Packages.db", Form::Ndb),
    ("Packages", Form::Berkeley),
];

/// How a database is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// The table `Packages` of an SQLite database.
    Sqlite,
    /// Slots and blobs.
    Ndb,
    /// A hash of Berkeley DB.
    Berkeley,
}

/// Why a database, or a header in it, is not read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Damage {
    #[error("it is larger than {0} bytes")]
    Large(u64),
    #[error("it refers to what is beyond its end")]
    Cut,
    #[error("it uses the same place twice")]
    Shared,
    #[error("{0}")]
    Form(&'static str),
    #[error("it cannot be read: {0}")]
    Read(#[from] std::io::Error),
}

/// What is found in one database.
#[derive(Debug, Default)]
pub(crate) struct Listed {
    pub(crate) packages: Vec<Package>,
    /// Headers that make no sense, and what is wrong with the first.
    strange: Option<(usize, Damage)>,
}

impl Listed {
    /// Takes a header. When the answer is false, there are enough.
    fn add(&mut self, blob: &[u8]) -> bool {
        match header::package(blob) {
            Ok(package) => self.packages.push(package),
            Err(damage) => match &mut self.strange {
                Some((count, _)) => *count += 1,
                None => self.strange = Some((1, damage)),
            },
        }
        let strange = self.strange.as_ref().map_or(0, |(count, _)| *count);
        self.packages.len() < limits::WHY_PACKAGES_MAX && strange < limits::WHY_PACKAGES_MAX
    }
}

/// Adds the packages of every database that is there, and of what cannot be read the path with the reason.
pub(super) fn installed(
    view: &Merged,
    packages: &mut Vec<Package>,
    unread: &mut Vec<String>,
) -> Result<()> {
    let mut seen: Vec<Vec<u8>> = Vec::new();
    for directory in DIRECTORIES {
        for (name, form) in FORMS {
            let path = format!("{directory}/{name}");
            let Some((file, place)) = view.open(path.as_bytes())? else {
                continue;
            };
            // On many distributions one of the directories is a link to another.
            if seen.contains(&place) {
                continue;
            }
            let mut note = |place: &[u8], reason: &dyn std::fmt::Display| {
                unread.push(format!("/{}: {reason}", printable(place)));
            };
            let beside = |suffix: &str| view.open(&[place.as_slice(), suffix.as_bytes()].concat());
            let log = match form {
                Form::Sqlite => beside("-wal")?,
                Form::Ndb | Form::Berkeley => None,
            };
            match list(form, &file, log.as_ref().map(|(log, _)| log)) {
                Ok(listed) => {
                    packages.extend(listed.packages);
                    if let Some((count, damage)) = listed.strange {
                        note(
                            &place,
                            &format_args!("{count} of its headers make no sense: {damage}"),
                        );
                    }
                }
                Err(damage) => note(&place, &damage),
            }
            if form == Form::Sqlite
                && let Some((journal, place)) = beside("-journal")?
                && sqlite::is_hot(&journal)
            {
                note(&place, &"a change that was not finished is not undone");
            }
            seen.push(place);
        }
    }
    Ok(())
}

/// The packages of one database; `log` is the write-ahead log beside it.
pub(crate) fn list(
    form: Form,
    file: &File,
    log: Option<&File>,
) -> std::result::Result<Listed, Damage> {
    for file in [Some(file), log].into_iter().flatten() {
        if file.metadata()?.len() > limits::WHY_RPM_BYTES {
            return Err(Damage::Large(limits::WHY_RPM_BYTES));
        }
    }
    let mut listed = Listed::default();
    match form {
        Form::Sqlite => sqlite::read(file, log, &mut listed),
        Form::Ndb => ndb::read(file, &mut listed),
        Form::Berkeley => berkeley::read(file, &mut listed),
    }?;
    Ok(listed)
}
