//! A container's class of service in resctrl: config-linux.md, "IntelRdt"; the kernel's resctrl.rst.
//!
//! Owns the directories it makes there. What was made for one container is told by [`Made`], kept with its record, and
//! removed with it; a class that has a name of its own stays, since others may be in it.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use berth_sys::{Error, fs, proc};
use serde::{Deserialize, Serialize};

use crate::error::RuntimeError;
use crate::limits;
use crate::plan::intel_rdt::{Class, IntelRdtPlan};

/// Where a container is in resctrl, and what of that was made for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Made {
    /// The directory of its class.
    pub class: PathBuf,
    /// The class is the container's own and goes with it.
    pub own: bool,
    /// The directory it is watched by, which goes with it.
    pub monitor: Option<PathBuf>,
}

/// Where resctrl is mounted.
pub(crate) fn root() -> Result<PathBuf, RuntimeError> {
    let found = proc::mounts()?
        .into_iter()
        .find(|mount| mount.kind == "resctrl");
    found.map(|mount| mount.mount_point).ok_or_else(|| {
        RuntimeError::invalid(
            "linux.intelRdt",
            "no resctrl file system is mounted on this host ('mount -t resctrl resctrl /sys/fs/resctrl', where the \
             processor and the kernel have it)",
        )
    })
}

/// Makes the class and the group to be watched by, as far as they are missing, and gives the class its schemata.
pub(crate) fn make(plan: &IntelRdtPlan, root: &Path, id: &str) -> Result<Made, RuntimeError> {
    let (class, own) = match &plan.class {
        Class::Default => (root.to_owned(), false),
        Class::Named(name) => (root.join(name), false),
        Class::Own => (root.join(id), true),
    };
    let bare = plan.fixed.is_empty() && plan.written.is_empty();
    let exists = class.is_dir();
    if !exists {
        if bare && !own {
            return Err(RuntimeError::invalid(
                "linux.intelRdt.closID",
                format!(
                    "there is no class {}, and no schema to make it with",
                    class.display()
                ),
            ));
        }
        fs::create_dir(&class, 0o755).map_err(|error| explained(error, root))?;
    }
    let mut made = Made {
        class,
        own: own && !exists,
        monitor: None,
    };
    let equipped = equip(plan, root, id, exists, &mut made);
    if let Err(error) = equipped {
        // The first failure is what is told.
        let _ = release(&made);
        if !exists && !own {
            let _ = fs::remove_dir(&made.class);
        }
        return Err(error);
    }
    Ok(made)
}

fn equip(
    plan: &IntelRdtPlan,
    root: &Path,
    id: &str,
    exists: bool,
    made: &mut Made,
) -> Result<(), RuntimeError> {
    let schemata = made.class.join("schemata");
    if exists && !plan.fixed.is_empty() {
        let bytes = fs::read_bounded(&schemata, limits::SCHEMATA_BYTES)?;
        let present = values(&String::from_utf8_lossy(&bytes));
        for line in &plan.fixed {
            if values(line)
                .iter()
                .any(|(key, value)| present.get(key) != Some(value))
            {
                return Err(RuntimeError::invalid(
                    "linux.intelRdt",
                    format!(
                        "the class {} exists already, and not with {line:?}",
                        made.class.display()
                    ),
                ));
            }
        }
    }
    let fixed = plan.fixed.iter().filter(|_| !exists);
    let lines: String = fixed
        .chain(&plan.written)
        .map(|line| format!("{line}\n"))
        .collect();
    if !lines.is_empty() {
        fs::write(&schemata, lines.as_bytes()).map_err(|error| explained(error, root))?;
    }
    if plan.monitored {
        let monitor = made.class.join("mon_groups").join(id);
        fs::create_dir(&monitor, 0o755).map_err(|error| explained(error, root))?;
        made.monitor = Some(monitor);
    }
    Ok(())
}

/// An error with what the kernel says about the last command.
fn explained(error: Error, root: &Path) -> RuntimeError {
    let said = fs::read_bounded(&root.join("info/last_cmd_status"), limits::SCHEMATA_BYTES)
        .unwrap_or_default();
    let said = String::from_utf8_lossy(&said);
    match said.trim() {
        "" | "ok" => error.into(),
        said => {
            let attempt = format!("{} ({said})", error.attempt());
            error.with_attempt(attempt).into()
        }
    }
}

/// The values of schemata by resource and domain, in the kernel's form: no leading zeroes, small letters.
fn values(text: &str) -> BTreeMap<(String, String), String> {
    let mut found = BTreeMap::new();
    for line in text.lines() {
        let Some((resource, list)) = line.split_once(':') else {
            continue;
        };
        for entry in list.split(';') {
            if let Some((domain, value)) = entry.split_once('=') {
                let value = value.trim().to_ascii_lowercase();
                let short = value.trim_start_matches('0');
                let short = if short.is_empty() { "0" } else { short };
                found.insert(
                    (resource.trim().to_owned(), domain.trim().to_owned()),
                    short.to_owned(),
                );
            }
        }
    }
    found
}

/// Files by which a process joins its class and the group it is watched by: it writes `0` to each.
pub(crate) fn tasks(made: &Made) -> Result<Vec<OwnedFd>, RuntimeError> {
    std::iter::once(&made.class)
        .chain(&made.monitor)
        .map(|directory| {
            let file = fs::open(&directory.join("tasks"), OpenOptions::new().write(true))?;
            Ok(OwnedFd::from(file))
        })
        .collect()
}

/// Puts the calling process, which has one thread, into its class.
pub(crate) fn join(tasks: &[OwnedFd]) -> Result<(), RuntimeError> {
    for file in tasks {
        rustix::io::write(file, b"0\n")
            .map_err(|errno| Error::new("join the class of linux.intelRdt", errno))?;
    }
    Ok(())
}

/// Removes what was made for the container.
pub(crate) fn release(made: &Made) -> Result<(), RuntimeError> {
    // A class takes the groups in it along.
    if made.own {
        return Ok(fs::remove_dir(&made.class)?);
    }
    match &made.monitor {
        Some(monitor) => Ok(fs::remove_dir(monitor)?),
        None => Ok(()),
    }
}

/// Writes schemata of the class of a container that exists.
pub(crate) fn update(made: &Made, lines: &[String]) -> Result<(), RuntimeError> {
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    Ok(fs::write(&made.class.join("schemata"), text.as_bytes())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(class: Class, fixed: &[&str], written: &[&str], monitored: bool) -> IntelRdtPlan {
        let lines = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        IntelRdtPlan {
            class,
            fixed: lines(fixed),
            written: lines(written),
            monitored,
        }
    }

    fn schemata(class: &Path) -> String {
        std::fs::read_to_string(class.join("schemata")).unwrap()
    }

    #[test]
    fn a_class_of_ones_own_goes_with_the_container() {
        let root = tempfile::tempdir().unwrap();
        let asked = plan(Class::Own, &["L3:0=f", "MB:0=20"], &["L2:0=1"], false);
        let made = make(&asked, root.path(), "box").unwrap();
        assert_eq!(schemata(&made.class), "L3:0=f\nMB:0=20\nL2:0=1\n");
        assert!(made.own && made.class == root.path().join("box"));
        // As the kernel does for the files of a class.
        std::fs::remove_file(made.class.join("schemata")).unwrap();
        release(&made).unwrap();
        assert!(!made.class.exists());
        // One that was there before stays, also when it has the container's name.
        std::fs::create_dir(root.path().join("box")).unwrap();
        let made = make(&plan(Class::Own, &[], &[], false), root.path(), "box").unwrap();
        release(&made).unwrap();
        assert!(made.class.exists());
    }

    #[test]
    fn a_named_class_is_made_once_and_must_agree() {
        let root = tempfile::tempdir().unwrap();
        let named = || Class::Named("gold".into());
        make(&plan(named(), &[], &[], false), root.path(), "box").unwrap_err();
        let asked = plan(named(), &["L3:0=7f0;1=1f"], &[], false);
        let made = make(&asked, root.path(), "one").unwrap();
        release(&made).unwrap();
        assert!(made.class.exists());
        // As the kernel shows it.
        std::fs::write(
            made.class.join("schemata"),
            "    L3:0=7f0;1=01F\n    MB:0=100\n",
        )
        .unwrap();
        make(&asked, root.path(), "two").unwrap();
        make(&plan(named(), &[], &[], false), root.path(), "three").unwrap();
        let other = plan(named(), &["L3:0=7f0;1=f"], &[], false);
        let error = make(&other, root.path(), "four").unwrap_err().chain();
        assert!(error.contains("exists already"), "{error}");
        make(&plan(named(), &[], &["L3:0=1"], false), root.path(), "five").unwrap();
        assert_eq!(schemata(&made.class), "L3:0=1\n");
    }

    #[test]
    fn a_group_to_be_watched_by_goes_with_the_container() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("mon_groups")).unwrap();
        let asked = plan(Class::Default, &[], &[], true);
        let made = make(&asked, root.path(), "box").unwrap();
        let monitor = root.path().join("mon_groups/box");
        assert!(monitor.exists());
        // Its name is taken.
        make(&asked, root.path(), "box").unwrap_err();
        for directory in [root.path(), monitor.as_path()] {
            std::fs::write(directory.join("tasks"), "").unwrap();
        }
        join(&tasks(&made).unwrap()).unwrap();
        assert_eq!(
            std::fs::read_to_string(monitor.join("tasks")).unwrap(),
            "0\n"
        );
        std::fs::remove_file(monitor.join("tasks")).unwrap();
        release(&made).unwrap();
        assert!(!monitor.exists() && root.path().exists());
    }
}
