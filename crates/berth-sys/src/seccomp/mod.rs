//! Seccomp filters: from rules over system call names to a BPF program in the kernel.
//!
//! Owns: system call tables per architecture, the compiler, the check of stored programs and the installation.
//! Does not own: Docker's profile format, the OCI types, or the cache of compiled programs.
//!
//! The meaning of a [`Profile`] is that of libseccomp as used by other runtimes:
//! names unknown on an architecture are skipped there; a rule without conditions decides its system call whatever
//! the other rules say (the first such rule, if there are several); among rules with conditions the first that matches
//! decides; conditions of one rule all have to hold, except when two speak of the same argument, then any of
//! them suffices; a rule whose action is the default has no effect; arguments that the kernel takes as 32 bits are
//! compared as 32 bits; system calls newer than every one the
//! profile names fail with `ENOSYS`, so that programs fall back; a foreign architecture kills the thread.

mod assemble;
mod program;
mod resolve;
mod tables;
#[cfg(test)]
mod tests;

use std::collections::HashSet;

use berth_types::ErrorKind;
use serde::{Deserialize, Serialize};

use assemble::{Section, X32, assemble};
pub use program::{Program, install};
use resolve::rows;

/// What happens to a system call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Action {
    /// The process is killed.
    KillProcess,
    /// The thread is killed.
    KillThread,
    /// The thread gets SIGSYS.
    Trap,
    /// The call fails with this error number.
    Errno(u16),
    /// A tracer is told, with this value; without one the call fails with `ENOSYS`.
    Trace(u16),
    /// The call is done and logged.
    Log,
    /// The holder of the listener decides.
    Notify,
    /// The call is done.
    Allow,
}

/// How an argument is compared with a value, as unsigned 64-bit numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Comparison {
    /// Differs.
    NotEqual,
    /// Is less.
    Less,
    /// Is less or the same.
    LessOrEqual,
    /// Is the same.
    Equal,
    /// Is greater or the same.
    GreaterOrEqual,
    /// Is greater.
    Greater,
    /// `argument & value == value_two`.
    MaskedEqual,
}

/// A condition on one argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Condition {
    /// Which argument, 0 to 5.
    pub index: u8,
    /// How it is compared.
    pub comparison: Comparison,
    /// What with.
    pub value: u64,
    /// The expected bits of [`Comparison::MaskedEqual`].
    pub value_two: u64,
}

/// One rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// Names of the system calls it speaks of.
    pub names: Vec<String>,
    /// What happens to them.
    pub action: Action,
    /// When; without conditions always.
    pub conditions: Vec<Condition>,
}

/// An instruction set with its system call numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Architecture {
    /// 64-bit x86.
    X86_64,
    /// 32-bit x86.
    X86,
    /// x86-64 with 32-bit pointers.
    X32,
    /// 64-bit ARM.
    Aarch64,
    /// 32-bit ARM, EABI.
    Arm,
}

/// All rules of a filter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profile {
    /// What happens to calls no rule speaks of.
    pub default_action: Action,
    /// Architectures beside the native one that are let in.
    pub architectures: Vec<Architecture>,
    /// The rules.
    pub rules: Vec<Rule>,
}

/// A compiled filter and what is worth telling about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compiled {
    /// The program.
    pub program: Program,
    /// Names that no architecture of the profile knows; they were skipped.
    pub unknown: Vec<String>,
}

/// Flags of seccomp(2).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flags {
    /// Every thread of the process gets the filter.
    pub synchronize_threads: bool,
    /// Actions other than allow are logged.
    pub log: bool,
    /// Speculative store bypass mitigation stays off.
    pub allow_speculation: bool,
    /// A call waiting for the holder of the listener can only be interrupted by a fatal signal.
    pub wait_killable: bool,
}

/// Why a filter could not be made or installed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SeccompError {
    /// A rule that makes no sense.
    #[error("seccomp rule {rule}: {reason}")]
    Rule {
        /// Its place among the rules, from 0.
        rule: usize,
        /// What is wrong.
        reason: String,
    },
    /// A profile that makes no sense as a whole.
    #[error("seccomp profile: {reason}")]
    Profile {
        /// What is wrong.
        reason: String,
    },
    /// The program would be longer than the kernel takes.
    #[error("the seccomp filter needs {instructions} instructions, more than the kernel's 4096")]
    TooLong {
        /// Its length.
        instructions: usize,
    },
    /// Bytes that are not a program written by this compiler.
    #[error("stored seccomp filter: {0}")]
    Stored(&'static str),
    /// The kernel refused the filter.
    #[error("install the seccomp filter")]
    Install(#[source] std::io::Error),
}

impl SeccompError {
    /// The kind a caller decides by.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Rule { .. } | Self::Profile { .. } | Self::TooLong { .. } => {
                ErrorKind::InvalidArgument
            }
            Self::Stored(_) => ErrorKind::DataCorrupt,
            Self::Install(source) => ErrorKind::from_io(source),
        }
    }
}

/// Arguments of a system call.
const ARGUMENTS: u8 = 6;

/// Compiles a profile. The native architecture is always let in.
///
/// # Errors
/// For rules that make no sense (no name, argument beyond the sixth) and for programs too long for the kernel.
pub fn compile(profile: &Profile) -> Result<Compiled, SeccompError> {
    for (at, rule) in profile.rules.iter().enumerate() {
        let invalid = |reason: &str| SeccompError::Rule {
            rule: at,
            reason: reason.to_owned(),
        };
        if rule.names.iter().any(String::is_empty) {
            return Err(invalid("a system call has an empty name"));
        }
        if rule
            .conditions
            .iter()
            .any(|condition| condition.index >= ARGUMENTS)
        {
            return Err(invalid("a system call has six arguments, 0 to 5"));
        }
    }
    let mut unknown: HashSet<&str> = profile
        .rules
        .iter()
        .flat_map(|rule| rule.names.iter().map(String::as_str))
        .collect();
    let mut architectures: Vec<Architecture> = Architecture::native().into_iter().collect();
    for architecture in &profile.architectures {
        if !architectures.contains(architecture) {
            architectures.push(*architecture);
        }
    }
    let sections: Vec<Section> = architectures
        .iter()
        .filter(|architecture| {
            **architecture != Architecture::X32 || !architectures.contains(&Architecture::X86_64)
        })
        .map(|architecture| section(profile, *architecture, &architectures, &mut unknown))
        .collect();
    let program = Program::new(assemble(&sections))?;
    let mut unknown: Vec<String> = unknown.into_iter().map(str::to_owned).collect();
    unknown.sort();
    Ok(Compiled { program, unknown })
}

/// The part of the program for one value of `seccomp_data.arch`. x86-64 and x32 share one.
fn section<'profile>(
    profile: &'profile Profile,
    architecture: Architecture,
    all: &[Architecture],
    unknown: &mut HashSet<&'profile str>,
) -> Section {
    let audit = architecture.audit();
    match architecture {
        Architecture::X86_64 => {
            let own = rows(profile, architecture, resolve::X86_64_RANGE, unknown);
            let x32 = if all.contains(&Architecture::X32) {
                X32::Rows(rows(
                    profile,
                    Architecture::X32,
                    tables::X32_BIT..u32::MAX,
                    unknown,
                ))
            } else {
                X32::Foreign(profile.default_action)
            };
            Section {
                audit,
                rows: own,
                x32: Some(x32),
            }
        }
        Architecture::X32 => {
            let own = rows(profile, architecture, tables::X32_BIT..u32::MAX, unknown);
            // Without x86-64 beside it, numbers without the bit are a foreign architecture.
            Section {
                audit,
                rows: Vec::new(),
                x32: Some(X32::Rows(own)),
            }
        }
        _ => Section {
            audit,
            rows: rows(profile, architecture, 0..u32::MAX, unknown),
            x32: None,
        },
    }
}
