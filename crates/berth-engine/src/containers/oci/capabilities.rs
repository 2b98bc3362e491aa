//! Capabilities by name: Docker's default set with what is added and taken away.

use crate::system::HostFeatures;

/// What a container has when nothing is asked.
const DEFAULT: &[&str] = &[
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
];

/// Every capability of Linux, in the kernel's order: capabilities(7).
pub(super) const ALL: &[&str] = &[
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

const EVERY: &str = "ALL";

/// A text that names no capability.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CapabilityError {
    /// Unknown.
    #[error("unknown capability: \"{0}\"")]
    Unknown(String),
}

/// Full names in upper case, `ALL` as it is.
///
/// # Errors
/// For unknown names.
pub fn normalise(names: &[String]) -> Result<Vec<String>, CapabilityError> {
    names
        .iter()
        .map(|name| {
            let upper = name.to_ascii_uppercase();
            if upper == EVERY || upper == "CAP_ALL" {
                return Ok(EVERY.to_owned());
            }
            let full = if upper.starts_with("CAP_") {
                upper
            } else {
                format!("CAP_{upper}")
            };
            if ALL.contains(&full.as_str()) {
                Ok(full)
            } else {
                Err(CapabilityError::Unknown(full.chars().take(64).collect()))
            }
        })
        .collect()
}

/// The set a container gets, in the kernel's order, without what this host does not have.
///
/// # Errors
/// For unknown names.
pub fn resolve(
    add: &[String],
    drop: &[String],
    privileged: bool,
    features: &HostFeatures,
) -> Result<Vec<&'static str>, CapabilityError> {
    let (add, drop) = (normalise(add)?, normalise(drop)?);
    let has = |list: &[String], name: &str| list.iter().any(|n| n == name);
    let everything = privileged || has(&add, EVERY);
    let nothing = !privileged && has(&drop, EVERY);
    Ok(ALL
        .iter()
        .enumerate()
        .filter(|(number, _)| {
            *number <= features.last_capability && features.has_capability(*number)
        })
        .map(|(_, name)| *name)
        .filter(|name| {
            if privileged {
                return true;
            }
            if has(&drop, name) {
                return false;
            }
            if everything {
                return true;
            }
            has(&add, name) || (!nothing && DEFAULT.contains(name))
        })
        .collect())
}
