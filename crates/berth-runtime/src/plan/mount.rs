//! From a mount of the configuration to what the kernel is asked for. Pure.
//!
//! Options: runtime-spec config.md "Linux mount options"; every word not listed there is data of the file system.

use std::path::{Path, PathBuf};

use berth_sys::mount::{Parameter, Propagation, attribute};
use oci_spec::runtime::{LinuxIdMapping, Mount};

use super::IdMap;
use crate::error::RuntimeError;

/// One mount to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountStep {
    /// Where, inside the root.
    pub destination: PathBuf,
    /// What.
    pub what: MountKind,
    /// Attributes of the mount itself.
    pub attributes: Attributes,
    /// Attributes of it and of every mount below it (`rro`, …).
    pub recursive_attributes: Attributes,
    /// Propagation types to set, in order; the flag tells "recursively".
    pub propagation: Vec<(Propagation, bool)>,
    /// Copy what the root has at the destination into the new tmpfs.
    pub copy_up: bool,
    /// How ids are mapped on this mount.
    pub id_map: Option<MountIdMap>,
}

/// Bits of [`attribute`] to set and to clear.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Attributes {
    /// To set.
    pub set: u64,
    /// To clear.
    pub clear: u64,
}

impl Attributes {
    /// Whether nothing is changed.
    pub fn is_empty(self) -> bool {
        self.set == 0 && self.clear == 0
    }

    fn add(&mut self, bit: u64) {
        self.set |= bit;
        self.clear &= !bit;
    }

    fn remove(&mut self, bit: u64) {
        self.clear |= bit;
        self.set &= !bit;
    }

    /// Sets the access time field, which holds one value and not bits.
    fn access_time(&mut self, value: u64) {
        self.set = (self.set & !attribute::ATIME_FIELD) | value;
        self.clear |= attribute::ATIME_FIELD;
    }
}

/// What is mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MountKind {
    /// A file or directory of the host.
    Bind {
        /// The file or directory.
        source: PathBuf,
        /// With what is mounted below it.
        recursive: bool,
    },
    /// A new instance of a file system.
    FileSystem {
        /// Its type.
        kind: String,
        /// What the mount table shows as source.
        source: String,
        /// Parameters of the file system.
        parameters: Vec<Parameter>,
    },
    /// The container's view of the control groups, whatever version the host has.
    Cgroup,
    /// New attributes for a mount that is there.
    Remount,
}

/// Id maps of one mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountIdMap {
    /// User ids; empty means those of the container.
    pub users: Vec<IdMap>,
    /// Group ids; empty means those of the container.
    pub groups: Vec<IdMap>,
    /// Also of every mount below.
    pub recursive: bool,
}

/// Options that change one bit: name, bit, whether the bit is set.
const BIT_OPTIONS: [(&str, u64, bool); 14] = [
    ("ro", attribute::READ_ONLY, true),
    ("rw", attribute::READ_ONLY, false),
    ("nosuid", attribute::NO_SUID, true),
    ("suid", attribute::NO_SUID, false),
    ("nodev", attribute::NO_DEV, true),
    ("dev", attribute::NO_DEV, false),
    ("noexec", attribute::NO_EXEC, true),
    ("exec", attribute::NO_EXEC, false),
    ("nodiratime", attribute::NO_DIRECTORY_ATIME, true),
    ("diratime", attribute::NO_DIRECTORY_ATIME, false),
    ("nosymfollow", attribute::NO_SYMLINK_FOLLOW, true),
    ("symfollow", attribute::NO_SYMLINK_FOLLOW, false),
    // The opposite of read-only in old spellings.
    ("readonly", attribute::READ_ONLY, true),
    ("readwrite", attribute::READ_ONLY, false),
];

/// Options that choose how access times are kept.
const ACCESS_TIME_OPTIONS: [(&str, u64); 6] = [
    ("noatime", attribute::NO_ATIME),
    ("atime", attribute::RELATIME),
    ("relatime", attribute::RELATIME),
    // Without the word the kernel has kept relative times since 2.6.30 (mount(2), MS_RELATIME).
    ("norelatime", attribute::RELATIME),
    ("strictatime", attribute::STRICT_ATIME),
    ("nostrictatime", attribute::RELATIME),
];

/// Options of propagation.
const PROPAGATION_OPTIONS: [(&str, Propagation, bool); 8] = [
    ("private", Propagation::Private, false),
    ("rprivate", Propagation::Private, true),
    ("shared", Propagation::Shared, false),
    ("rshared", Propagation::Shared, true),
    ("slave", Propagation::Slave, false),
    ("rslave", Propagation::Slave, true),
    ("unbindable", Propagation::Unbindable, false),
    ("runbindable", Propagation::Unbindable, true),
];

/// Options that are the kernel's default or have had no effect for long.
const IGNORED_OPTIONS: [&str; 5] = ["defaults", "silent", "loud", "async", "nomand"];

/// Options that `features` tells of.
pub fn known_options() -> Vec<String> {
    let mut known: Vec<String> = BIT_OPTIONS
        .iter()
        .map(|(name, ..)| *name)
        .filter(|name| !name.starts_with("read"))
        .chain(ACCESS_TIME_OPTIONS.iter().map(|(name, _)| *name))
        .flat_map(|name| [name.to_owned(), format!("r{name}")])
        .chain(
            PROPAGATION_OPTIONS
                .iter()
                .map(|(name, ..)| (*name).to_owned()),
        )
        .chain(IGNORED_OPTIONS.iter().map(|name| (*name).to_owned()))
        .chain(
            [
                "bind",
                "rbind",
                "remount",
                "tmpcopyup",
                "idmap",
                "ridmap",
                "sync",
                "dirsync",
                "lazytime",
                "nolazytime",
                "mand",
                "iversion",
            ]
            .iter()
            .map(|name| (*name).to_owned()),
        )
        .collect();
    known.sort();
    known.dedup();
    known
}

/// Plans one mount. `index` is for error texts; `label` is the SELinux label for new file systems.
pub fn plan(mount: &Mount, index: usize, label: Option<&str>) -> Result<MountStep, RuntimeError> {
    let field = |name: &str| format!("mounts[{index}].{name}");
    let destination = normalise_destination(mount.destination());
    let mut attributes = Attributes::default();
    let mut recursive_attributes = Attributes::default();
    let mut propagation = Vec::new();
    let mut parameters: Vec<Parameter> = Vec::new();
    let mut bind = None;
    let mut remount = false;
    let mut copy_up = false;
    let mut id_map = None;
    for option in mount.options().iter().flatten() {
        let option = option.as_str();
        if apply_attribute(option, &mut attributes) {
            continue;
        }
        if let Some(rest) = option.strip_prefix('r')
            && apply_attribute(rest, &mut recursive_attributes)
        {
            continue;
        }
        if let Some((_, kind, recursive)) = PROPAGATION_OPTIONS
            .iter()
            .find(|(name, ..)| *name == option)
        {
            propagation.push((*kind, *recursive));
            continue;
        }
        match option {
            "bind" => bind = Some(bind.unwrap_or(false)),
            "rbind" => bind = Some(true),
            "remount" => remount = true,
            "tmpcopyup" => copy_up = true,
            "idmap" => id_map = Some(false),
            "ridmap" => id_map = Some(true),
            _ if IGNORED_OPTIONS.contains(&option) => {}
            "" => {}
            _ => parameters.push(match option.split_once('=') {
                Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
                None => (option.to_owned(), None),
            }),
        }
    }
    let kind = mount.typ().as_deref().unwrap_or("none");
    let id_map = plan_id_map(mount, id_map, &field)?;
    let what = if remount {
        MountKind::Remount
    } else if let Some(recursive) = bind.or((kind == "bind").then_some(true)) {
        let source = mount
            .source()
            .clone()
            .filter(|source| !source.as_os_str().is_empty())
            .ok_or_else(|| RuntimeError::invalid(field("source"), "a bind mount needs one"))?;
        if copy_up {
            return Err(RuntimeError::invalid(
                field("options"),
                "tmpcopyup is for tmpfs only",
            ));
        }
        MountKind::Bind { source, recursive }
    } else if kind == "cgroup" {
        MountKind::Cgroup
    } else if kind == "none" || kind.is_empty() {
        return Err(RuntimeError::invalid(
            field("type"),
            "a mount that is no bind mount needs one",
        ));
    } else {
        if copy_up && kind != "tmpfs" {
            return Err(RuntimeError::invalid(
                field("options"),
                "tmpcopyup is for tmpfs only",
            ));
        }
        if let Some(label) = label
            && matches!(kind, "tmpfs" | "devpts" | "mqueue" | "ramfs")
        {
            parameters.push(("context".into(), Some(label.to_owned())));
        }
        let source = mount
            .source()
            .as_deref()
            .and_then(Path::to_str)
            .filter(|source| !source.is_empty())
            .unwrap_or(kind);
        MountKind::FileSystem {
            kind: kind.to_owned(),
            source: source.to_owned(),
            parameters,
        }
    };
    check_destination(&destination, &what, &field)?;
    Ok(MountStep {
        destination,
        what,
        attributes,
        recursive_attributes,
        propagation,
        copy_up,
        id_map,
    })
}

fn apply_attribute(option: &str, attributes: &mut Attributes) -> bool {
    if let Some((_, bit, set)) = BIT_OPTIONS.iter().find(|(name, ..)| *name == option) {
        if *set {
            attributes.add(*bit);
        } else {
            attributes.remove(*bit);
        }
        return true;
    }
    if let Some((_, value)) = ACCESS_TIME_OPTIONS.iter().find(|(name, _)| *name == option) {
        attributes.access_time(*value);
        return true;
    }
    false
}

fn plan_id_map(
    mount: &Mount,
    option: Option<bool>,
    field: &impl Fn(&str) -> String,
) -> Result<Option<MountIdMap>, RuntimeError> {
    let maps = |maps: &Option<Vec<LinuxIdMapping>>| -> Vec<IdMap> {
        maps.iter().flatten().map(IdMap::from).collect()
    };
    let users = maps(mount.uid_mappings());
    let groups = maps(mount.gid_mappings());
    if users.is_empty() != groups.is_empty() {
        return Err(RuntimeError::invalid(
            field("uidMappings"),
            "uidMappings and gidMappings must be given together",
        ));
    }
    if option.is_none() && users.is_empty() {
        return Ok(None);
    }
    Ok(Some(MountIdMap {
        users,
        groups,
        recursive: option.unwrap_or(false),
    }))
}

/// A destination is absolute; a relative one of old configurations is taken from the root (config.md, "mounts").
fn normalise_destination(destination: &Path) -> PathBuf {
    let mut plain = PathBuf::from("/");
    for component in destination.components() {
        match component {
            std::path::Component::Normal(name) => plain.push(name),
            std::path::Component::ParentDir => {
                plain.pop();
            }
            _ => {}
        }
    }
    plain
}

/// Files of /proc that may be covered by files that emulate them.
const PROC_FILES: [&str; 12] = [
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/meminfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/uptime",
    "/proc/loadavg",
    "/proc/slabinfo",
    "/proc/sys/kernel/ns_last_pid",
    "/proc/sys/crypto/fips_enabled",
    "/proc/net/dev",
    "/proc/pressure",
];

/// Nothing may cover the parts of /proc that we or programs trust (CVE-2019-16884, CVE-2019-19921).
fn check_destination(
    destination: &Path,
    what: &MountKind,
    field: &impl Fn(&str) -> String,
) -> Result<(), RuntimeError> {
    if destination == Path::new("/") && !matches!(what, MountKind::Remount) {
        return Err(RuntimeError::invalid(
            field("destination"),
            "a mount cannot cover the root itself",
        ));
    }
    let Ok(inside) = destination.strip_prefix("/proc") else {
        return Ok(());
    };
    if inside.as_os_str().is_empty() {
        return match what {
            MountKind::Bind { source, .. } if source == Path::new("/proc") => Ok(()),
            MountKind::FileSystem { kind, .. } if kind == "proc" => Ok(()),
            MountKind::Remount => Ok(()),
            _ => Err(RuntimeError::invalid(
                field("destination"),
                "only proc itself can be mounted on /proc",
            )),
        };
    }
    let from_proc = matches!(what, MountKind::Bind { source, .. } if source.starts_with("/proc"));
    if from_proc || PROC_FILES.iter().any(|file| Path::new(file) == destination) {
        return Ok(());
    }
    Err(RuntimeError::invalid(
        field("destination"),
        format!("{} is inside /proc", destination.display()),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(json: &str) -> Result<MountStep, RuntimeError> {
        plan(&serde_json::from_str(json).unwrap(), 3, None)
    }

    #[test]
    fn every_word_lands_where_it_belongs() {
        let step = mount(
            r#"{"destination":"/dev","type":"tmpfs","source":"tmpfs",
                "options":["nosuid","strictatime","mode=755","size=65536k","tmpcopyup","noswap"]}"#,
        )
        .unwrap();
        insta::assert_debug_snapshot!(step);
        let step = mount(
            r#"{"destination":"data/../x","type":"bind","source":"/srv",
                "options":["rbind","rro","rnoatime","rprivate","ro","nosymfollow","ridmap"]}"#,
        )
        .unwrap();
        insta::assert_debug_snapshot!(step);
    }

    #[test]
    fn later_words_win() {
        let step = mount(
            r#"{"destination":"/x","type":"tmpfs","options":["ro","rw","noatime","relatime"]}"#,
        )
        .unwrap();
        assert_eq!(step.attributes.set, 0);
        assert_eq!(
            step.attributes.clear,
            attribute::READ_ONLY | attribute::ATIME_FIELD
        );
    }

    #[test]
    fn what_cannot_be_is_refused_with_its_field() {
        for (json, field) in [
            (r#"{"destination":"/x","type":"bind"}"#, "mounts[3].source"),
            (r#"{"destination":"/x"}"#, "mounts[3].type"),
            (
                r#"{"destination":"/proc/self","type":"tmpfs"}"#,
                "mounts[3].destination",
            ),
            (
                r#"{"destination":"/","type":"tmpfs"}"#,
                "mounts[3].destination",
            ),
            (
                r#"{"destination":"/proc/../proc","type":"tmpfs"}"#,
                "mounts[3].destination",
            ),
            (
                r#"{"destination":"/x","type":"proc","options":["tmpcopyup"]}"#,
                "mounts[3].options",
            ),
        ] {
            match mount(json) {
                Err(RuntimeError::Invalid { field: found, .. }) => assert_eq!(found, field),
                other => panic!("{json} gave {other:?}"),
            }
        }
    }
}
