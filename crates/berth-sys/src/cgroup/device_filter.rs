//! Device rules as a BPF program on a version 2 group.
//!
//! Owns: emitting a program of type `BPF_PROG_TYPE_CGROUP_DEVICE`, loading, attaching and replacing it with bpf(2).
//! The kernel calls the program for every open and mknod with `struct bpf_cgroup_dev_ctx` (type and access, major,
//! minor) and denies when it returns 0.
//!
//! The program walks the rules from the last to the first and keeps the ways of access nobody has decided yet in
//! r5. The last rule that speaks of a way decides on it; a denied one ends the walk.

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};

use super::directory::Directory;
use super::{CgroupError, DeviceAccess, DeviceKind, DeviceRule};

/// `struct bpf_insn`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Instruction {
    code: u8,
    /// Destination register in the low four bits, source register in the high ones.
    registers: u8,
    offset: i16,
    immediate: i32,
}

// Operation codes (Documentation/bpf/standardization/instruction-set.rst).
const LOAD_WORD: u8 = 0x61;
const MOVE: u8 = 0xb7;
const MOVE_REGISTER: u8 = 0xbf;
const AND: u8 = 0x57;
const SHIFT_RIGHT: u8 = 0x77;
const JUMP: u8 = 0x05;
const JUMP_NOT_EQUAL: u8 = 0x55;
const JUMP_IF_SET: u8 = 0x45;
const EXIT: u8 = 0x95;

// Registers as the program uses them. r0 is the answer, r1 the context.
const ANSWER: u8 = 0;
const CONTEXT: u8 = 1;
const KIND: u8 = 2;
const MAJOR: u8 = 3;
const MINOR: u8 = 4;
const UNDECIDED: u8 = 5;

// Access and type bits of `struct bpf_cgroup_dev_ctx` (linux/bpf.h).
const ACCESS_MAKE_NODE: i32 = 1;
const ACCESS_READ: i32 = 2;
const ACCESS_WRITE: i32 = 4;
const KIND_BLOCK: i32 = 1;
const KIND_CHARACTER: i32 = 2;

/// Rules beyond this many would make a program longer than the offsets of its jumps.
const RULES_MAX: usize = 2000;

fn instruction(code: u8, destination: u8, source: u8, offset: i16, immediate: i32) -> Instruction {
    Instruction {
        code,
        registers: destination | (source << 4),
        offset,
        immediate,
    }
}

fn bits(access: DeviceAccess) -> i32 {
    (if access.read { ACCESS_READ } else { 0 })
        | (if access.write { ACCESS_WRITE } else { 0 })
        | (if access.make_node {
            ACCESS_MAKE_NODE
        } else {
            0
        })
}

/// The program for a list of rules.
fn emit(rules: &[DeviceRule]) -> Vec<Instruction> {
    let mut program = vec![
        instruction(LOAD_WORD, KIND, CONTEXT, 0, 0),
        instruction(MOVE_REGISTER, UNDECIDED, KIND, 0, 0),
        instruction(SHIFT_RIGHT, UNDECIDED, 0, 0, 16),
        instruction(AND, KIND, 0, 0, 0xffff),
        instruction(LOAD_WORD, MAJOR, CONTEXT, 4, 0),
        instruction(LOAD_WORD, MINOR, CONTEXT, 8, 0),
    ];
    for rule in rules.iter().rev() {
        let mut tests = Vec::new();
        match rule.kind {
            DeviceKind::All => {}
            DeviceKind::Block => tests.push((KIND, KIND_BLOCK)),
            DeviceKind::Character => tests.push((KIND, KIND_CHARACTER)),
        }
        // The bits of a number matter, not its sign: the kernel extends the immediate and compares 64 bits, while
        // the loaded words are extended with zeroes. Device numbers have 12 and 20 bits, so none is negative.
        for (register, number) in [(MAJOR, rule.major), (MINOR, rule.minor)] {
            if let Some(number) = number {
                tests.push((register, i32::try_from(number).unwrap_or(i32::MAX)));
            }
        }
        let action: &[Instruction] = &if rule.allow {
            vec![
                instruction(AND, UNDECIDED, 0, 0, 7 & !bits(rule.access)),
                instruction(JUMP_NOT_EQUAL, UNDECIDED, 0, 2, 0),
                instruction(MOVE, ANSWER, 0, 0, 1),
                instruction(EXIT, 0, 0, 0, 0),
            ]
        } else {
            vec![
                instruction(JUMP_IF_SET, UNDECIDED, 0, 1, bits(rule.access)),
                instruction(JUMP, 0, 0, 2, 0),
                instruction(MOVE, ANSWER, 0, 0, 0),
                instruction(EXIT, 0, 0, 0, 0),
            ]
        };
        let length = tests.len() + action.len();
        for (at, (register, value)) in tests.into_iter().enumerate() {
            let over = i16::try_from(length - at - 1).unwrap_or(i16::MAX);
            program.push(instruction(JUMP_NOT_EQUAL, register, 0, over, value));
        }
        program.extend_from_slice(action);
    }
    program.push(instruction(MOVE, ANSWER, 0, 0, 0));
    program.push(instruction(EXIT, 0, 0, 0, 0));
    program
}

/// Puts the rules on a group in place of those it had. The old program is replaced in one step; should there be
/// several (all of them have to allow an access), the new one is added first.
pub(super) fn apply(directory: &Directory, rules: &[DeviceRule]) -> Result<(), CgroupError> {
    if rules.len() > RULES_MAX {
        return Err(CgroupError::Invalid {
            setting: "device rules".to_owned(),
            reason: format!("there are {}, at most {RULES_MAX} are taken", rules.len()),
        });
    }
    let failed = |attempt: &'static str| {
        move |source: io::Error| CgroupError::Io {
            attempt,
            path: directory.path().to_path_buf(),
            source,
        }
    };
    let present = attached(directory).map_err(failed("query the device filter of"))?;
    // Everything is allowed when nothing is denied after the rule that says so.
    let decisive = rules
        .iter()
        .rev()
        .find(|rule| !rule.allow || **rule == DeviceRule::ALLOW_ALL);
    let unrestricted = decisive == Some(&DeviceRule::ALLOW_ALL);
    if unrestricted {
        // What is allowed anyway needs no program.
        for program in &present {
            attach(directory, BPF_PROG_DETACH, program, None)
                .map_err(failed("remove the device filter of"))?;
        }
        return Ok(());
    }
    let program = load(&emit(rules)).map_err(failed("load the device filter of"))?;
    match present.as_slice() {
        [old] => attach(directory, BPF_PROG_ATTACH, &program, Some(old))
            .map_err(failed("replace the device filter of")),
        old => {
            attach(directory, BPF_PROG_ATTACH, &program, None)
                .map_err(failed("attach the device filter of"))?;
            for program in old {
                attach(directory, BPF_PROG_DETACH, program, None)
                    .map_err(failed("remove the device filter of"))?;
            }
            Ok(())
        }
    }
}

// Commands, types and flags of bpf(2) (linux/bpf.h).
const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_PROG_ATTACH: libc::c_int = 8;
const BPF_PROG_DETACH: libc::c_int = 9;
const BPF_PROG_GET_FD_BY_ID: libc::c_int = 13;
const BPF_PROG_QUERY: libc::c_int = 16;
const BPF_PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const BPF_CGROUP_DEVICE: u32 = 6;
const BPF_F_ALLOW_MULTI: u32 = 1 << 1;
const BPF_F_REPLACE: u32 = 1 << 2;

/// Programs on one group that are looked at.
const ATTACHED_MAX: usize = 64;

/// The part of `union bpf_attr` for `BPF_PROG_LOAD`.
#[repr(C)]
#[derive(Default)]
struct LoadAttributes {
    program_type: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buffer: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
}

/// The part of `union bpf_attr` for attaching and detaching.
#[repr(C)]
#[derive(Default)]
struct AttachAttributes {
    target: u32,
    program: u32,
    attach_type: u32,
    flags: u32,
    replaced_program: u32,
}

/// The part of `union bpf_attr` for `BPF_PROG_QUERY`.
#[repr(C)]
#[derive(Default)]
struct QueryAttributes {
    target: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    programs: u64,
    count: u32,
    padding: u32,
}

/// The part of `union bpf_attr` for `BPF_PROG_GET_FD_BY_ID`.
#[repr(C)]
#[derive(Default)]
struct IdentityAttributes {
    identity: u32,
    next: u32,
    open_flags: u32,
}

fn descriptor(fd: RawFd) -> u32 {
    u32::try_from(fd).unwrap_or(u32::MAX)
}

/// Calls bpf(2) with one of the structures above.
fn bpf<T>(command: libc::c_int, attributes: &mut T) -> io::Result<libc::c_long> {
    // SAFETY: the structure is laid out as the kernel's union for this command, its size goes along, and every
    // address in it is of memory that the caller keeps alive across the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_mut(attributes),
            std::mem::size_of::<T>(),
        )
    };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

/// Takes over a descriptor that bpf(2) returned.
fn owned(fd: libc::c_long) -> io::Result<OwnedFd> {
    let fd = RawFd::try_from(fd).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
    // SAFETY: the kernel has just made this descriptor for us (close-on-exec), and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn load(program: &[Instruction]) -> io::Result<OwnedFd> {
    let mut attributes = LoadAttributes {
        program_type: BPF_PROG_TYPE_CGROUP_DEVICE,
        instruction_count: u32::try_from(program.len()).unwrap_or(u32::MAX),
        instructions: program.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
        ..LoadAttributes::default()
    };
    attributes.name[..13].copy_from_slice(b"berth_devices");
    bpf(BPF_PROG_LOAD, &mut attributes).and_then(owned)
}

/// Attaches (in place of another, or beside the others) or detaches a program.
fn attach(
    directory: &Directory,
    command: libc::c_int,
    program: &OwnedFd,
    replaced: Option<&OwnedFd>,
) -> io::Result<()> {
    let mut attributes = AttachAttributes {
        target: descriptor(directory.as_fd().as_raw_fd()),
        program: descriptor(program.as_raw_fd()),
        attach_type: BPF_CGROUP_DEVICE,
        ..AttachAttributes::default()
    };
    if command == BPF_PROG_ATTACH {
        attributes.flags = BPF_F_ALLOW_MULTI;
        if let Some(replaced) = replaced {
            attributes.flags |= BPF_F_REPLACE;
            attributes.replaced_program = descriptor(replaced.as_raw_fd());
        }
    }
    bpf(command, &mut attributes).map(drop)
}

/// The programs attached to a group itself.
fn attached(directory: &Directory) -> io::Result<Vec<OwnedFd>> {
    let mut identities = [0_u32; ATTACHED_MAX];
    let mut attributes = QueryAttributes {
        target: descriptor(directory.as_fd().as_raw_fd()),
        attach_type: BPF_CGROUP_DEVICE,
        programs: identities.as_mut_ptr() as u64,
        count: u32::try_from(ATTACHED_MAX).unwrap_or(u32::MAX),
        ..QueryAttributes::default()
    };
    bpf(BPF_PROG_QUERY, &mut attributes)?;
    let count = usize::try_from(attributes.count)
        .unwrap_or(0)
        .min(ATTACHED_MAX);
    identities[..count]
        .iter()
        .map(|identity| {
            let mut attributes = IdentityAttributes {
                identity: *identity,
                ..IdentityAttributes::default()
            };
            bpf(BPF_PROG_GET_FD_BY_ID, &mut attributes).and_then(owned)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::devices::{decide, tests as strategies};
    use super::*;

    /// Runs the instructions this module emits, and no others.
    fn run(program: &[Instruction], context: [u32; 3]) -> u64 {
        let mut registers = [0_u64; 11];
        let mut set = [
            false, true, false, false, false, false, false, false, false, false, true,
        ];
        let mut at = 0;
        loop {
            let one = program[at];
            let (to, from) = (
                usize::from(one.registers & 15),
                usize::from(one.registers >> 4),
            );
            let value = one.immediate as i64 as u64;
            at += 1;
            let mut jump = |taken: bool| {
                assert!(one.offset >= 0);
                if taken {
                    at += one.offset as usize;
                }
            };
            match one.code {
                LOAD_WORD => {
                    assert_eq!(from, 1);
                    registers[to] = u64::from(context[one.offset as usize / 4]);
                    set[to] = true;
                }
                MOVE => {
                    registers[to] = value;
                    set[to] = true;
                }
                MOVE_REGISTER => {
                    assert!(set[from]);
                    registers[to] = registers[from];
                    set[to] = true;
                }
                AND => registers[to] &= value,
                SHIFT_RIGHT => registers[to] >>= value,
                JUMP => jump(true),
                JUMP_NOT_EQUAL => jump(registers[to] != value),
                JUMP_IF_SET => jump(registers[to] & value != 0),
                EXIT => {
                    assert!(set[0]);
                    return registers[0];
                }
                other => panic!("operation {other:#x}"),
            }
            assert!(
                set[to] || one.code == JUMP,
                "register {to} is read before it is set"
            );
        }
    }

    proptest! {
        #[test]
        fn the_program_decides_as_the_rules(
            rules in prop::collection::vec(strategies::rule(), 0..10),
            block in any::<bool>(), major in 0_u32..4, minor in 0_u32..4, access in strategies::access(),
        ) {
            let (kind, number) = if block {
                (DeviceKind::Block, KIND_BLOCK)
            } else {
                (DeviceKind::Character, KIND_CHARACTER)
            };
            let context = [((bits(access) << 16) | number) as u32, major, minor];
            let allowed = run(&emit(&rules), context) == 1;
            prop_assert_eq!(allowed, decide(&rules, kind, major, minor, access));
        }
    }
}
