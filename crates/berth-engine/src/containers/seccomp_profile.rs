//! Docker's format of seccomp profiles: rules with conditions on capabilities, architecture and kernel.
//!
//! Owns reading such a profile and resolving it for one container into the `linux.seccomp` of the OCI specification.
//! Does not own where a profile comes from, nor what becomes of the rules (the runtime compiles them). Pure.
//!
//! A plain OCI profile (`architectures` in place of `archMap`, no conditions) is of this format too.

use std::collections::HashSet;

use oci_spec::runtime::{
    Arch, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompFilterFlag, LinuxSyscall,
};
use serde::Deserialize;

/// The profile a container gets when nothing is said.
const DEFAULT: &str = include_str!("../../data/seccomp-default.json");

/// What a profile's conditions are decided by.
#[derive(Debug, Clone)]
pub struct Conditions<'container> {
    /// The container's bounding set, as `CAP_SYS_ADMIN`.
    pub capabilities: &'container HashSet<String>,
    /// The machine's architecture in Go's words (`amd64`, `arm64`), as `berth_types::Platform` has it.
    pub architecture: &'container str,
    /// The kernel's version and major revision, as 6 and 18.
    pub kernel: (u64, u64),
}

/// A profile that cannot be read, with the place where.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
#[error("seccomp profile: {place}: {reason}")]
pub struct ProfileError {
    /// Line and column, or the path of a field.
    pub place: String,
    /// What is wrong there.
    pub reason: String,
}

fn invalid(place: impl Into<String>, reason: impl Into<String>) -> ProfileError {
    ProfileError {
        place: place.into(),
        reason: reason.into(),
    }
}

/// A profile as written.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SeccompProfile {
    default_action: Option<LinuxSeccompAction>,
    default_errno_ret: Option<u32>,
    #[serde(default)]
    architectures: Option<Vec<Arch>>,
    #[serde(default)]
    arch_map: Option<Vec<ArchitectureFamily>>,
    #[serde(default)]
    flags: Option<Vec<LinuxSeccompFilterFlag>>,
    listener_path: Option<std::path::PathBuf>,
    listener_metadata: Option<String>,
    #[serde(default)]
    syscalls: Option<Vec<ConditionalRule>>,
}

/// An architecture and those that run on it.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ArchitectureFamily {
    architecture: Arch,
    #[serde(default)]
    sub_architectures: Option<Vec<Arch>>,
}

/// A rule and when it counts.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ConditionalRule {
    /// The oldest form: one name for each rule.
    name: Option<String>,
    #[serde(default)]
    names: Option<Vec<String>>,
    action: LinuxSeccompAction,
    errno_ret: Option<u32>,
    #[serde(default)]
    args: Option<Vec<LinuxSeccompArg>>,
    includes: Option<Filter>,
    excludes: Option<Filter>,
}

/// Conditions of a rule.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Filter {
    #[serde(default)]
    caps: Option<Vec<String>>,
    #[serde(default)]
    arches: Option<Vec<String>>,
    min_kernel: Option<String>,
}

impl SeccompProfile {
    /// Reads a profile.
    ///
    /// # Errors
    /// With line and column for what is not JSON or not of the format, and with the field for what makes no sense.
    pub fn parse(text: &str) -> Result<Self, ProfileError> {
        let profile: Self = serde_json::from_str(text).map_err(|error| {
            let place = format!("line {} column {}", error.line(), error.column());
            let whole = error.to_string();
            let reason = whole
                .rsplit_once(" at line ")
                .map_or(whole.as_str(), |(reason, _)| reason);
            invalid(place, reason)
        })?;
        let given = |list: &Option<Vec<Arch>>| list.as_ref().is_some_and(|list| !list.is_empty());
        if given(&profile.architectures)
            && profile.arch_map.as_ref().is_some_and(|map| !map.is_empty())
        {
            return Err(invalid(
                "architectures",
                "either architectures or archMap can be given, not both",
            ));
        }
        if profile.default_action.is_none() && profile.rules().next().is_some() {
            return Err(invalid("defaultAction", "it is missing"));
        }
        for (at, rule) in profile.rules().enumerate() {
            rule.check(&format!("syscalls[{at}]"))?;
        }
        Ok(profile)
    }

    /// The built-in profile.
    ///
    /// # Errors
    /// Never for a program whose tests passed: the text is part of it.
    pub fn built_in() -> Result<Self, ProfileError> {
        Self::parse(DEFAULT)
    }

    fn rules(&self) -> impl Iterator<Item = &ConditionalRule> {
        self.syscalls.iter().flatten()
    }

    /// The profile for one container: rules whose conditions hold, and the architectures of this machine. `None` for a
    /// profile that says nothing at all (`{}`), which means no filter.
    ///
    /// # Errors
    /// For a kernel version that is not one.
    pub fn resolve(
        &self,
        conditions: &Conditions<'_>,
    ) -> Result<Option<LinuxSeccomp>, ProfileError> {
        let Some(default_action) = self.default_action else {
            return Ok(None);
        };
        let mut resolved = LinuxSeccomp::default();
        resolved.set_default_action(default_action);
        resolved.set_default_errno_ret(self.default_errno_ret);
        resolved.set_architectures(self.architectures(conditions.architecture));
        resolved.set_flags(self.flags.clone().filter(|flags| !flags.is_empty()));
        resolved.set_listener_path(self.listener_path.clone());
        resolved.set_listener_metadata(self.listener_metadata.clone());
        let mut rules = Vec::new();
        for (at, rule) in self.rules().enumerate() {
            if rule.counts(conditions, &format!("syscalls[{at}]"))? {
                rules.push(rule.resolved());
            }
        }
        resolved.set_syscalls(Some(rules));
        Ok(Some(resolved))
    }

    fn architectures(&self, machine: &str) -> Option<Vec<Arch>> {
        let native = architecture(machine);
        let family = self
            .arch_map
            .iter()
            .flatten()
            .find(|family| Some(family.architecture) == native);
        match family {
            Some(family) => {
                let others = family.sub_architectures.iter().flatten().copied();
                Some(std::iter::once(family.architecture).chain(others).collect())
            }
            None => self.architectures.clone().filter(|list| !list.is_empty()),
        }
    }
}

/// Names of architectures in a profile's conditions are Go's, but for a few.
fn condition_name(machine: &str) -> &str {
    match machine {
        "386" => "x86",
        "loong64" => "loongarch64",
        "mips64le" => "mipsel64",
        "mipsle" => "mipsel",
        other => other,
    }
}

fn architecture(machine: &str) -> Option<Arch> {
    Some(match machine {
        "386" => Arch::ScmpArchX86,
        "amd64" => Arch::ScmpArchX86_64,
        "arm" => Arch::ScmpArchArm,
        "arm64" => Arch::ScmpArchAarch64,
        "loong64" => Arch::ScmpArchLoongarch64,
        "mips64" => Arch::ScmpArchMips64,
        "mips64le" => Arch::ScmpArchMipsel64,
        "mipsle" => Arch::ScmpArchMipsel,
        "ppc" => Arch::ScmpArchPpc,
        "ppc64" => Arch::ScmpArchPpc64,
        "ppc64le" => Arch::ScmpArchPpc64le,
        "riscv64" => Arch::ScmpArchRiscv64,
        "s390" => Arch::ScmpArchS390,
        "s390x" => Arch::ScmpArchS390x,
        _ => return None,
    })
}

impl ConditionalRule {
    fn check(&self, place: &str) -> Result<(), ProfileError> {
        let named = self.names.as_ref().is_some_and(|names| !names.is_empty());
        match &self.name {
            Some(name) if !name.is_empty() && named => {
                return Err(invalid(
                    place,
                    "either name or names can be given, not both",
                ));
            }
            None if !named => {
                return Err(invalid(format!("{place}.names"), "no system call is named"));
            }
            _ => {}
        }
        for name in self.names.iter().flatten().chain(&self.name) {
            if name.is_empty() {
                return Err(invalid(
                    format!("{place}.names"),
                    "a system call has an empty name",
                ));
            }
        }
        for (at, argument) in self.args.iter().flatten().enumerate() {
            if argument.index() > 5 {
                let reason = format!(
                    "{} is not an argument of a system call, which has six: 0 to 5",
                    argument.index()
                );
                return Err(invalid(format!("{place}.args[{at}].index"), reason));
            }
        }
        for (field, filter) in [("includes", &self.includes), ("excludes", &self.excludes)] {
            if let Some(version) = filter
                .as_ref()
                .and_then(|filter| filter.min_kernel.as_ref())
            {
                kernel_version(version, &format!("{place}.{field}.minKernel"))?;
            }
        }
        Ok(())
    }

    fn counts(&self, conditions: &Conditions<'_>, place: &str) -> Result<bool, ProfileError> {
        let machine = condition_name(conditions.architecture);
        let new_enough = |filter: &Filter, field: &str| match &filter.min_kernel {
            Some(version) => kernel_version(version, &format!("{place}.{field}.minKernel"))
                .map(|least| Some(conditions.kernel >= least)),
            None => Ok(None),
        };
        if let Some(excludes) = &self.excludes {
            // Any of them takes the rule out.
            if excludes.arches.iter().flatten().any(|name| name == machine)
                || excludes
                    .caps
                    .iter()
                    .flatten()
                    .any(|name| conditions.capabilities.contains(name))
                || new_enough(excludes, "excludes")? == Some(true)
            {
                return Ok(false);
            }
        }
        if let Some(includes) = &self.includes {
            // Each of them has to hold: one of the architectures, all of the capabilities.
            let arches = includes.arches.as_deref().unwrap_or_default();
            if (!arches.is_empty() && !arches.iter().any(|name| name == machine))
                || includes
                    .caps
                    .iter()
                    .flatten()
                    .any(|name| !conditions.capabilities.contains(name))
                || new_enough(includes, "includes")? == Some(false)
            {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn resolved(&self) -> LinuxSyscall {
        let names = match (&self.names, &self.name) {
            (Some(names), _) if !names.is_empty() => names.clone(),
            (_, name) => name.iter().cloned().collect(),
        };
        let mut rule = LinuxSyscall::default();
        rule.set_names(names);
        rule.set_action(self.action);
        rule.set_errno_ret(self.errno_ret);
        rule.set_args(self.args.clone().filter(|args| !args.is_empty()));
        rule
    }
}

/// Parses `<version>.<major revision>`, as `4.8`.
fn kernel_version(text: &str, place: &str) -> Result<(u64, u64), ProfileError> {
    let parsed = text.split_once('.').and_then(|(version, major)| {
        let digits =
            |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        (digits(version) && digits(major)).then_some(())?;
        Some((version.parse().ok()?, major.parse().ok()?))
    });
    match parsed {
        Some(version) if version != (0, 0) => Ok(version),
        _ => Err(invalid(
            place,
            format!("{text:?} is not a kernel version such as \"4.8\""),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(
        profile: &SeccompProfile,
        capabilities: &[&str],
        architecture: &str,
        kernel: (u64, u64),
    ) -> LinuxSeccomp {
        let capabilities = capabilities.iter().map(|name| (*name).to_owned()).collect();
        let conditions = Conditions {
            capabilities: &capabilities,
            architecture,
            kernel,
        };
        profile.resolve(&conditions).unwrap().unwrap()
    }

    fn rules<'a>(resolved: &'a LinuxSeccomp, name: &str) -> Vec<&'a LinuxSyscall> {
        let all = resolved.syscalls().as_ref().unwrap();
        all.iter()
            .filter(|rule| rule.names().iter().any(|known| known == name))
            .collect()
    }

    #[test]
    fn the_built_in_profile_follows_the_capabilities() {
        let profile = SeccompProfile::built_in().unwrap();
        let plain = resolve(&profile, &[], "amd64", (6, 1));
        assert_eq!(plain.default_action(), LinuxSeccompAction::ScmpActErrno);
        assert_eq!(plain.default_errno_ret(), Some(1));
        let wanted = [Arch::ScmpArchX86_64, Arch::ScmpArchX86, Arch::ScmpArchX32];
        assert_eq!(plain.architectures().as_deref(), Some(wanted.as_slice()));
        assert!(rules(&plain, "mount").is_empty());
        let clone3 = rules(&plain, "clone3");
        assert_eq!(
            (clone3.len(), clone3[0].action(), clone3[0].errno_ret()),
            (1, LinuxSeccompAction::ScmpActErrno, Some(38))
        );
        assert!(rules(&plain, "clone")[0].args().is_some());
        let admin = resolve(&profile, &["CAP_SYS_ADMIN"], "amd64", (6, 1));
        assert_eq!(rules(&admin, "mount").len(), 1);
        assert_eq!(
            rules(&admin, "clone3")[0].action(),
            LinuxSeccompAction::ScmpActAllow
        );
        assert!(
            rules(&admin, "clone")
                .iter()
                .all(|rule| rule.args().is_none())
        );
    }

    #[test]
    fn the_built_in_profile_follows_architecture_and_kernel() {
        let profile = SeccompProfile::built_in().unwrap();
        let arm = resolve(&profile, &[], "arm64", (6, 1));
        assert_eq!(
            arm.architectures().as_deref(),
            Some([Arch::ScmpArchAarch64, Arch::ScmpArchArm].as_slice())
        );
        assert_eq!(rules(&arm, "set_tls").len(), 1);
        assert!(rules(&arm, "arch_prctl").is_empty());
        let riscv = resolve(&profile, &[], "riscv64", (6, 1));
        assert_eq!(
            riscv.architectures().as_deref(),
            Some([Arch::ScmpArchRiscv64].as_slice())
        );
        for (kernel, allowed) in [((4, 7), 0), ((4, 8), 1), ((5, 0), 1), ((3, 99), 0)] {
            assert_eq!(
                rules(&resolve(&profile, &[], "amd64", kernel), "ptrace").len(),
                allowed,
                "{kernel:?}"
            );
        }
    }

    #[test]
    fn old_and_plain_forms_are_read() {
        let old = r#"{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"],
            "flags": ["SECCOMP_FILTER_FLAG_LOG"], "syscalls": [{"name": "chmod", "action": "SCMP_ACT_ERRNO", "args": []},
            {"names": ["read"], "action": "SCMP_ACT_KILL_PROCESS", "comment": "why",
             "args": [{"index": 1, "value": 18446744073709551615, "valueTwo": 7, "op": "SCMP_CMP_MASKED_EQ"}]}]}"#;
        let resolved = resolve(&SeccompProfile::parse(old).unwrap(), &[], "amd64", (6, 1));
        assert_eq!(rules(&resolved, "chmod")[0].args(), &None);
        let argument = rules(&resolved, "read")[0].args().as_ref().unwrap()[0];
        assert_eq!(
            (argument.value(), argument.value_two()),
            (u64::MAX, Some(7))
        );
        assert_eq!(resolved.flags().as_ref().unwrap().len(), 1);
        let nothing = SeccompProfile::parse("{}").unwrap();
        let conditions = Conditions {
            capabilities: &HashSet::new(),
            architecture: "amd64",
            kernel: (6, 1),
        };
        assert_eq!(nothing.resolve(&conditions).unwrap(), None);
    }

    #[test]
    fn errors_name_the_place() {
        let rule =
            |rule: &str| format!(r#"{{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{rule}]}}"#);
        for (text, place) in [
            ("{\n \"defaultAction\": 5}".to_owned(), "line 2 column 19"),
            ("nothing".to_owned(), "line 1 column 2"),
            (
                r#"{"defaultAction": "SCMP_ACT_DANCE"}"#.to_owned(),
                "line 1 column 34",
            ),
            (
                r#"{"syscalls": [{"names": ["read"], "action": "SCMP_ACT_ALLOW"}]}"#.to_owned(),
                "defaultAction",
            ),
            (rule(r#"{"action": "SCMP_ACT_TRAP"}"#), "syscalls[0].names"),
            (
                rule(r#"{"names": [""], "action": "SCMP_ACT_TRAP"}"#),
                "syscalls[0].names",
            ),
            (
                rule(r#"{"names": ["read"], "name": "write", "action": "SCMP_ACT_TRAP"}"#),
                "syscalls[0]",
            ),
            (
                rule(
                    r#"{"names": ["read"], "action": "SCMP_ACT_TRAP", "includes": {"minKernel": "4.8.1"}}"#,
                ),
                "syscalls[0].includes.minKernel",
            ),
            (
                rule(
                    r#"{"names": ["read"], "action": "SCMP_ACT_TRAP",
                         "args": [{"index": 6, "value": 0, "op": "SCMP_CMP_EQ"}]}"#,
                ),
                "syscalls[0].args[0].index",
            ),
            (
                r#"{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86"],
                    "archMap": [{"architecture": "SCMP_ARCH_X86", "subArchitectures": null}]}"#
                    .to_owned(),
                "architectures",
            ),
        ] {
            let error = SeccompProfile::parse(&text).unwrap_err();
            assert_eq!(error.place, place, "{error}");
            assert!(!error.reason.contains(" at line "), "{error}");
        }
    }
}
