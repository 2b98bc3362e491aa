//! Seccomp filters: from rules over system call names to a BPF program in the kernel.
//!
//! Owns: system call tables per architecture, the compiler, the check of stored programs and the installation.
//! Does not own: Docker's profile format, the OCI types, or the cache of compiled programs.
//!
//! The meaning of a [`Profile`] is that of libseccomp as used by other runtimes:
//! names unknown on an architecture are skipped there; a rule without conditions decides its system call whatever
//! the other rules say; among rules with conditions the first that matches decides; conditions of one rule all have to hold,
//! except when two speak of the same argument, then any of them suffices; system calls newer than every one the
//! profile names fail with `ENOSYS`, so that programs fall back; a foreign architecture kills the thread.

use std::os::fd::OwnedFd;

use berth_types::ErrorKind;
use serde::{Deserialize, Serialize};

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

/// A compiled filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {}

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
            Self::Rule { .. } | Self::TooLong { .. } => ErrorKind::InvalidArgument,
            Self::Stored(_) => ErrorKind::DataCorrupt,
            Self::Install(source) => ErrorKind::from_io(source),
        }
    }
}

impl Program {
    /// The program in the form the kernel takes, 8 bytes per instruction, to be stored.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        todo!()
    }

    /// Reads a stored program.
    ///
    /// # Errors
    /// When the bytes are not a valid filter program.
    pub fn from_bytes(_bytes: &[u8]) -> Result<Self, SeccompError> {
        todo!()
    }

    /// True when a call may be handed to a listener.
    #[must_use]
    pub fn notifies(&self) -> bool {
        todo!()
    }
}

/// Compiles a profile. The native architecture is always let in.
///
/// # Errors
/// For rules that make no sense (no name, argument beyond the sixth) and for programs too long for the kernel.
pub fn compile(_profile: &Profile) -> Result<Compiled, SeccompError> {
    todo!()
}

/// Puts the filter on the calling thread (which needs `no_new_privs` or CAP_SYS_ADMIN). Returns the
/// listener when the program hands calls to one. Neither allocates nor takes a lock.
///
/// # Errors
/// When the kernel refuses it.
pub fn install(_program: &Program, _flags: Flags) -> Result<Option<OwnedFd>, SeccompError> {
    todo!()
}
