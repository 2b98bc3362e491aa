//! `--security-opt`, and the paths that are hidden from a container.

use crate::error::EngineError;
use crate::limits;
use crate::system::HostFeatures;

/// Paths that cannot be written to.
pub(super) const READ_ONLY_PATHS: &[&str] = &[
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

const MASKED_PATHS: &[&str] = &[
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

/// Paths that are hidden, on this host.
pub(super) fn masked_paths(features: &HostFeatures) -> Vec<String> {
    MASKED_PATHS
        .iter()
        .map(|p| (*p).to_owned())
        .chain(features.thermal_paths.iter().cloned())
        .collect()
}

/// Which system call filter is asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum SeccompChoice {
    /// The daemon's default.
    #[default]
    Default,
    /// The built-in profile.
    Builtin,
    /// None.
    Unconfined,
    /// A profile, as JSON.
    Profile(String),
}

/// `--security-opt`, parsed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SecurityOptions {
    /// Whether no program gains privileges by execve(2); `None` for the daemon's default.
    pub no_new_privileges: Option<bool>,
    /// System call filter.
    pub seccomp: SeccompChoice,
    /// AppArmor profile, when asked.
    pub apparmor: Option<String>,
    /// SELinux labels, when asked.
    pub labels: Vec<String>,
    /// Whether nothing in /proc and /sys is hidden or protected.
    pub system_paths_unconfined: bool,
    /// Whether the container may write to its control groups; `None` for "when privileged".
    pub writable_cgroups: Option<bool>,
}

impl SecurityOptions {
    /// Reads the options, `name`, `name=value` or (as of old) `name:value`.
    ///
    /// # Errors
    /// With Docker's sentence.
    pub fn parse(texts: &[String]) -> Result<Self, EngineError> {
        let mut options = Self::default();
        for text in texts {
            let shown = || text.chars().take(128).collect::<String>();
            let wrong = || EngineError::Invalid(format!("invalid --security-opt: \"{}\"", shown()));
            let truth = |value: &str| match value {
                "true" | "1" | "t" | "T" | "TRUE" | "True" => Ok(true),
                "false" | "0" | "f" | "F" | "FALSE" | "False" => Ok(false),
                _ => Err(wrong()),
            };
            if text == "no-new-privileges" {
                options.no_new_privileges = Some(true);
                continue;
            }
            if text == "writable-cgroups" {
                options.writable_cgroups = Some(true);
                continue;
            }
            if text == "disable" {
                options.labels.push("disable".to_owned());
                continue;
            }
            let (name, value) = text
                .split_once('=')
                .or_else(|| text.split_once(':'))
                .ok_or_else(wrong)?;
            match name {
                "label" => options.labels.push(value.to_owned()),
                "apparmor" => options.apparmor = Some(value.to_owned()),
                "seccomp" => {
                    if value.len() > limits::SECCOMP_PROFILE {
                        return Err(EngineError::Invalid(
                            "invalid --security-opt: the seccomp profile is too large".to_owned(),
                        ));
                    }
                    options.seccomp = match value {
                        "unconfined" => SeccompChoice::Unconfined,
                        "builtin" => SeccompChoice::Builtin,
                        profile => SeccompChoice::Profile(profile.to_owned()),
                    };
                }
                "no-new-privileges" => options.no_new_privileges = Some(truth(value)?),
                "writable-cgroups" => options.writable_cgroups = Some(truth(value)?),
                "systempaths" if value == "unconfined" => options.system_paths_unconfined = true,
                _ => return Err(wrong()),
            }
        }
        Ok(options)
    }
}
