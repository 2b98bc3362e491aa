//! The compiled filter: its form, the check of stored ones, and seccomp(2).

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

use super::{Action, Flags, SeccompError};

/// The longest program the kernel takes (`BPF_MAXINSNS`).
pub(super) const LENGTH_MAX: usize = 4096;

/// Operation codes (linux/bpf_common.h). Others are neither written nor accepted.
pub(super) mod op {
    /// Load a word of the call's description.
    pub(in super::super) const LOAD: u16 = 0x20;
    /// Keep the bits of a mask.
    pub(in super::super) const AND: u16 = 0x54;
    /// Go on further down.
    pub(in super::super) const JUMP: u16 = 0x05;
    /// Jump if the accumulator equals a value.
    pub(in super::super) const JUMP_EQUAL: u16 = 0x15;
    /// Jump if the accumulator is greater than a value.
    pub(in super::super) const JUMP_GREATER: u16 = 0x25;
    /// Jump if the accumulator is a value or greater.
    pub(in super::super) const JUMP_GREATER_OR_EQUAL: u16 = 0x35;
    /// End with a value.
    pub(in super::super) const RETURN: u16 = 0x06;
}

/// `struct sock_filter`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Instruction {
    pub(super) code: u16,
    pub(super) if_true: u8,
    pub(super) if_false: u8,
    pub(super) value: u32,
}

impl Instruction {
    pub(super) fn new(code: u16, value: u32) -> Self {
        Self {
            code,
            if_true: 0,
            if_false: 0,
            value,
        }
    }
}

/// `struct sock_fprog`.
#[repr(C)]
struct ProgramPointer {
    length: libc::c_ushort,
    instructions: *const Instruction,
}

/// Size of `struct seccomp_data`.
const DATA_SIZE: u32 = 64;

// Return values of a filter (linux/seccomp.h).
const RETURN_KILL_PROCESS: u32 = 0x8000_0000;
const RETURN_KILL_THREAD: u32 = 0;
const RETURN_TRAP: u32 = 0x0003_0000;
const RETURN_ERRNO: u32 = 0x0005_0000;
const RETURN_NOTIFY: u32 = 0x7fc0_0000;
const RETURN_TRACE: u32 = 0x7ff0_0000;
const RETURN_LOG: u32 = 0x7ffc_0000;
const RETURN_ALLOW: u32 = 0x7fff_0000;

/// The greatest error number the kernel passes on (`MAX_ERRNO`); it cuts greater ones to this.
const ERRNO_MAX: u16 = 4095;

impl Action {
    /// The value a filter returns for it.
    pub(super) fn value(self) -> u32 {
        match self {
            Self::KillProcess => RETURN_KILL_PROCESS,
            Self::KillThread => RETURN_KILL_THREAD,
            Self::Trap => RETURN_TRAP,
            Self::Errno(number) => RETURN_ERRNO | u32::from(number.min(ERRNO_MAX)),
            Self::Trace(value) => RETURN_TRACE | u32::from(value),
            Self::Log => RETURN_LOG,
            Self::Notify => RETURN_NOTIFY,
            Self::Allow => RETURN_ALLOW,
        }
    }
}

/// A compiled filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    instructions: Vec<Instruction>,
}

impl Program {
    /// Checks the length of a program and takes it over.
    pub(super) fn new(instructions: Vec<Instruction>) -> Result<Self, SeccompError> {
        if instructions.len() > LENGTH_MAX {
            return Err(SeccompError::TooLong {
                instructions: instructions.len(),
            });
        }
        Ok(Self { instructions })
    }

    /// How many instructions the program has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.instructions.len()
    }

    /// True for a program without instructions, which none that was compiled or read is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.instructions.is_empty()
    }

    /// The program in the form the kernel takes, 8 bytes per instruction, to be stored.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.instructions.len() * 8);
        for instruction in &self.instructions {
            bytes.extend_from_slice(&instruction.code.to_ne_bytes());
            bytes.extend_from_slice(&[instruction.if_true, instruction.if_false]);
            bytes.extend_from_slice(&instruction.value.to_ne_bytes());
        }
        bytes
    }

    /// Reads a stored program. It is checked to be one that ends in a known action whatever it is given;
    /// whether it is the right one only the keeper of the bytes can know.
    ///
    /// # Errors
    /// When the bytes are not a valid filter program.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, SeccompError> {
        if bytes.is_empty() || !bytes.len().is_multiple_of(8) || bytes.len() / 8 > LENGTH_MAX {
            return Err(SeccompError::Stored("its length is not that of a program"));
        }
        let instructions: Vec<Instruction> = bytes
            .as_chunks::<8>()
            .0
            .iter()
            .map(|[c0, c1, if_true, if_false, v0, v1, v2, v3]| Instruction {
                code: u16::from_ne_bytes([*c0, *c1]),
                if_true: *if_true,
                if_false: *if_false,
                value: u32::from_ne_bytes([*v0, *v1, *v2, *v3]),
            })
            .collect();
        check(&instructions)?;
        Ok(Self { instructions })
    }

    /// True when a call may be handed to a listener.
    #[must_use]
    pub fn notifies(&self) -> bool {
        self.instructions
            .iter()
            .any(|instruction| instruction.code == op::RETURN && instruction.value == RETURN_NOTIFY)
    }

    #[cfg(test)]
    pub(super) fn instructions(&self) -> &[Instruction] {
        &self.instructions
    }
}

/// Every path through the program stays inside and ends in a known action.
fn check(instructions: &[Instruction]) -> Result<(), SeccompError> {
    let last = instructions.len() - 1;
    for (at, instruction) in instructions.iter().enumerate() {
        let value = usize::try_from(instruction.value).unwrap_or(usize::MAX);
        let inside = match instruction.code {
            op::LOAD => {
                if instruction.value >= DATA_SIZE || !instruction.value.is_multiple_of(4) {
                    return Err(SeccompError::Stored(
                        "it reads outside the description of a call",
                    ));
                }
                at < last
            }
            op::AND => at < last,
            op::JUMP => value < last - at,
            op::JUMP_EQUAL | op::JUMP_GREATER | op::JUMP_GREATER_OR_EQUAL => {
                usize::from(instruction.if_true.max(instruction.if_false)) < last - at
            }
            op::RETURN => {
                let action = instruction.value & 0xffff_0000;
                let known = [
                    RETURN_KILL_PROCESS,
                    RETURN_KILL_THREAD,
                    RETURN_TRAP,
                    RETURN_ERRNO,
                    RETURN_NOTIFY,
                    RETURN_TRACE,
                    RETURN_LOG,
                    RETURN_ALLOW,
                ];
                if !known.contains(&action) {
                    return Err(SeccompError::Stored("it ends in an unknown action"));
                }
                true
            }
            _ => {
                return Err(SeccompError::Stored(
                    "it has an instruction that is never written",
                ));
            }
        };
        if !inside {
            return Err(SeccompError::Stored("it runs past its end"));
        }
    }
    Ok(())
}

// Arguments of seccomp(2).
const SET_MODE_FILTER: libc::c_uint = 1;
const FLAG_TSYNC: libc::c_ulong = 1;
const FLAG_LOG: libc::c_ulong = 1 << 1;
const FLAG_SPEC_ALLOW: libc::c_ulong = 1 << 2;
const FLAG_NEW_LISTENER: libc::c_ulong = 1 << 3;
const FLAG_TSYNC_ESRCH: libc::c_ulong = 1 << 4;
const FLAG_WAIT_KILLABLE_RECV: libc::c_ulong = 1 << 5;

/// Puts the filter on the calling thread (which needs `no_new_privs` or CAP_SYS_ADMIN). Returns the
/// listener when the program hands calls to one. Neither allocates nor takes a lock.
///
/// # Errors
/// When the kernel refuses it.
pub fn install(program: &Program, flags: Flags) -> Result<Option<OwnedFd>, SeccompError> {
    let listener = program.notifies();
    let mut bits: libc::c_ulong = 0;
    for (set, bit) in [
        (flags.synchronize_threads, FLAG_TSYNC),
        (flags.log, FLAG_LOG),
        (flags.allow_speculation, FLAG_SPEC_ALLOW),
        (listener, FLAG_NEW_LISTENER),
        // Both a listener and a thread that cannot follow are told as a positive number, unless asked for ESRCH.
        (listener && flags.synchronize_threads, FLAG_TSYNC_ESRCH),
        // The kernel takes it only together with a listener, and without one it means nothing.
        (listener && flags.wait_killable, FLAG_WAIT_KILLABLE_RECV),
    ] {
        if set {
            bits |= bit;
        }
    }
    let pointer = ProgramPointer {
        length: libc::c_ushort::try_from(program.instructions.len()).unwrap_or(libc::c_ushort::MAX),
        instructions: program.instructions.as_ptr(),
    };
    // SAFETY: the pointer and the instructions it leads to live until the call is over, and are laid out as
    // `struct sock_fprog` and `struct sock_filter`; the kernel copies them.
    let result = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            SET_MODE_FILTER,
            bits,
            std::ptr::from_ref(&pointer),
        )
    };
    if result < 0 {
        return Err(SeccompError::Install(io::Error::last_os_error()));
    }
    if listener {
        let fd = i32::try_from(result)
            .map_err(|_| SeccompError::Install(io::ErrorKind::InvalidData.into()))?;
        // SAFETY: with this flag the result is a new descriptor that nobody else knows.
        return Ok(Some(unsafe { OwnedFd::from_raw_fd(fd) }));
    }
    if result > 0 {
        // The identifier of a thread that could not take the filter.
        return Err(SeccompError::Install(io::Error::from_raw_os_error(
            libc::ESRCH,
        )));
    }
    Ok(None)
}
