//! System call numbers by name, per architecture.
//!
//! The tables of the ordinary architectures come from the `syscalls` crate. x32 is x86-64 with a bit set, except for
//! the calls whose arguments hold pointers in memory, which have numbers of their own (`syscall_64.tbl` of the
//! kernel, ABI columns `64` and `x32`).

use std::collections::HashMap;

use super::Architecture;

/// Set in every system call number of x32 (`__X32_SYSCALL_BIT`).
pub(super) const X32_BIT: u32 = 0x4000_0000;

/// Numbers from here on are private calls of 32-bit ARM (`__ARM_NR_BASE`), far above the ordinary ones.
const ARM_PRIVATE: u32 = 0x000f_0000;

/// Private calls of 32-bit ARM.
const ARM_PRIVATE_CALLS: [(&str, u32); 6] = [
    ("breakpoint", 1),
    ("cacheflush", 2),
    ("usr26", 3),
    ("usr32", 4),
    ("set_tls", 5),
    ("get_tls", 6),
];

/// Names libseccomp uses on 32-bit ARM where the kernel's differ.
const ARM_OTHER_NAMES: [(&str, u32); 3] = [
    ("arm_fadvise64_64", 270),
    ("sync_file_range2", 341),
    ("arm_sync_file_range", 341),
];

/// Calls of x86-64 that x32 does not have: superseded ones and those with a number of their own below.
const NOT_ON_X32: [&str; 47] = [
    "rt_sigaction",
    "rt_sigreturn",
    "ioctl",
    "readv",
    "writev",
    "recvfrom",
    "sendmsg",
    "recvmsg",
    "execve",
    "ptrace",
    "rt_sigpending",
    "rt_sigtimedwait",
    "rt_sigqueueinfo",
    "sigaltstack",
    "uselib",
    "_sysctl",
    "create_module",
    "get_kernel_syms",
    "query_module",
    "nfsservctl",
    "set_thread_area",
    "io_setup",
    "io_submit",
    "get_thread_area",
    "epoll_ctl_old",
    "epoll_wait_old",
    "timer_create",
    "vserver",
    "mq_notify",
    "kexec_load",
    "waitid",
    "set_robust_list",
    "get_robust_list",
    "vmsplice",
    "move_pages",
    "preadv",
    "pwritev",
    "rt_tgsigqueueinfo",
    "recvmmsg",
    "sendmmsg",
    "process_vm_readv",
    "process_vm_writev",
    "setsockopt",
    "getsockopt",
    "execveat",
    "uretprobe",
    "map_shadow_stack",
];

/// Calls with numbers of their own on x32, from 512 on.
const X32_OWN: [&str; 36] = [
    "rt_sigaction",
    "rt_sigreturn",
    "ioctl",
    "readv",
    "writev",
    "recvfrom",
    "sendmsg",
    "recvmsg",
    "execve",
    "ptrace",
    "rt_sigpending",
    "rt_sigtimedwait",
    "rt_sigqueueinfo",
    "sigaltstack",
    "timer_create",
    "mq_notify",
    "kexec_load",
    "waitid",
    "set_robust_list",
    "get_robust_list",
    "vmsplice",
    "move_pages",
    "preadv",
    "pwritev",
    "rt_tgsigqueueinfo",
    "recvmmsg",
    "sendmmsg",
    "process_vm_readv",
    "process_vm_writev",
    "setsockopt",
    "getsockopt",
    "io_setup",
    "io_submit",
    "execveat",
    "preadv2",
    "pwritev2",
];

/// Operations of `socketcall` on x86, from 1 on.
pub(super) const SOCKETCALL: [&str; 20] = [
    "socket",
    "bind",
    "connect",
    "listen",
    "accept",
    "getsockname",
    "getpeername",
    "socketpair",
    "send",
    "recv",
    "sendto",
    "recvfrom",
    "shutdown",
    "setsockopt",
    "getsockopt",
    "sendmsg",
    "recvmsg",
    "accept4",
    "recvmmsg",
    "sendmmsg",
];

/// Operations of `ipc` on x86.
pub(super) const IPC: [(&str, u64); 12] = [
    ("semop", 1),
    ("semget", 2),
    ("semctl", 3),
    ("semtimedop", 4),
    ("msgsnd", 11),
    ("msgrcv", 12),
    ("msgget", 13),
    ("msgctl", 14),
    ("shmat", 21),
    ("shmdt", 22),
    ("shmget", 23),
    ("shmctl", 24),
];

/// Arguments that the kernel takes as 32-bit numbers although the register has 64 bits: it ignores the upper half, so
/// a comparison must ignore it too. Otherwise `socket(38 + 2³²)` would be "greater than 40" for a filter
/// and 38 for the kernel (the class of CVE-2019-10063).
const NARROW: [(&str, &[u8]); 30] = [
    ("accept4", &[0, 3]),
    ("bpf", &[0, 2]),
    ("clone", &[0]),
    ("dup3", &[0, 1, 2]),
    ("fanotify_init", &[0, 1]),
    ("fcntl", &[0, 1]),
    ("finit_module", &[0, 2]),
    ("getsockopt", &[0, 1, 2]),
    ("io_uring_enter", &[0, 1, 2, 3]),
    ("io_uring_register", &[0, 1, 3]),
    ("ioctl", &[0, 1]),
    ("kcmp", &[0, 1, 2]),
    ("keyctl", &[0]),
    ("kill", &[0, 1]),
    ("memfd_create", &[1]),
    ("open", &[1]),
    ("openat", &[0, 2]),
    ("personality", &[0]),
    ("pidfd_open", &[0, 1]),
    ("prctl", &[0]),
    ("quotactl", &[0]),
    ("reboot", &[0, 1, 2]),
    ("seccomp", &[0, 1]),
    ("setns", &[0, 1]),
    ("setsockopt", &[0, 1, 2, 4]),
    ("socket", &[0, 1, 2]),
    ("socketpair", &[0, 1, 2]),
    ("syslog", &[0, 2]),
    ("tgkill", &[0, 1, 2]),
    ("umount2", &[1]),
];

impl Architecture {
    /// The architecture this program was built for, if it is one of those known here.
    #[must_use]
    pub fn native() -> Option<Self> {
        if cfg!(target_arch = "x86_64") {
            Some(Self::X86_64)
        } else if cfg!(target_arch = "x86") {
            Some(Self::X86)
        } else if cfg!(target_arch = "aarch64") {
            Some(Self::Aarch64)
        } else if cfg!(target_arch = "arm") {
            Some(Self::Arm)
        } else {
            None
        }
    }

    /// The value the kernel puts into `seccomp_data.arch` (linux/audit.h).
    pub(super) fn audit(self) -> u32 {
        match self {
            Self::X86_64 | Self::X32 => 0xc000_003e,
            Self::X86 => 0x4000_0003,
            Self::Aarch64 => 0xc000_00b7,
            Self::Arm => 0x4000_0028,
        }
    }

    /// True when arguments have 32 bits.
    pub(super) fn is_32_bit(self) -> bool {
        matches!(self, Self::X86 | Self::Arm)
    }
}

/// Bits of an argument that count in comparisons.
pub(super) fn argument_is_narrow(architecture: Architecture, name: &str, index: u8) -> bool {
    architecture.is_32_bit()
        || NARROW
            .binary_search_by_key(&name, |(name, _)| name)
            .is_ok_and(|found| NARROW[found].1.contains(&index))
}

/// The system calls of one architecture.
pub(super) struct Table {
    numbers: HashMap<&'static str, u32>,
}

impl Table {
    /// Makes the table of an architecture.
    pub(super) fn of(architecture: Architecture) -> Self {
        let mut numbers = HashMap::with_capacity(512);
        match architecture {
            Architecture::X86_64 => extend(&mut numbers, x86_64()),
            Architecture::X32 => {
                extend(
                    &mut numbers,
                    x86_64().filter(|(name, _)| !NOT_ON_X32.contains(name)),
                );
                extend(
                    &mut numbers,
                    (512_u32..)
                        .zip(X32_OWN)
                        .map(|(number, name)| (name, number)),
                );
                for number in numbers.values_mut() {
                    *number |= X32_BIT;
                }
            }
            Architecture::X86 => {
                extend(
                    &mut numbers,
                    syscalls::x86::Sysno::iter()
                        .map(|call| (call.name(), call.id().unsigned_abs())),
                );
            }
            Architecture::Aarch64 => {
                let calls = syscalls::aarch64::Sysno::iter();
                extend(
                    &mut numbers,
                    calls.map(|call| (call.name(), call.id().unsigned_abs())),
                );
            }
            Architecture::Arm => {
                let calls = syscalls::arm::Sysno::iter();
                extend(
                    &mut numbers,
                    calls.map(|call| (call.name(), call.id().unsigned_abs())),
                );
                extend(&mut numbers, ARM_OTHER_NAMES.into_iter());
                extend(
                    &mut numbers,
                    ARM_PRIVATE_CALLS
                        .into_iter()
                        .map(|(name, number)| (name, ARM_PRIVATE | number)),
                );
            }
        }
        Self { numbers }
    }

    /// The number of a system call.
    pub(super) fn number(&self, name: &str) -> Option<u32> {
        self.numbers.get(name).copied()
    }

    /// Every call there is.
    #[cfg(test)]
    pub(super) fn iter(&self) -> impl Iterator<Item = (&'static str, u32)> {
        self.numbers.iter().map(|(name, number)| (*name, *number))
    }
}

/// True for the numbers that are not in the ordinary row, where "newer" means nothing.
pub(super) fn is_private(architecture: Architecture, number: u32) -> bool {
    architecture == Architecture::Arm && number >= ARM_PRIVATE
}

fn extend(
    numbers: &mut HashMap<&'static str, u32>,
    calls: impl Iterator<Item = (&'static str, u32)>,
) {
    numbers.extend(calls);
}

fn x86_64() -> impl Iterator<Item = (&'static str, u32)> {
    syscalls::x86_64::Sysno::iter().map(|call| (call.name(), call.id().unsigned_abs()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_the_kernel() {
        for (architecture, name, number) in [
            (Architecture::X86_64, "read", Some(0)),
            (Architecture::X86_64, "uretprobe", Some(335)),
            (Architecture::X86_64, "socketcall", None),
            (Architecture::X86, "socketcall", Some(102)),
            (Architecture::X32, "read", Some(X32_BIT)),
            (Architecture::X32, "execve", Some(X32_BIT | 520)),
            (Architecture::X32, "pwritev2", Some(X32_BIT | 547)),
            (Architecture::X32, "uselib", None),
            (Architecture::Aarch64, "openat", Some(56)),
            (Architecture::Aarch64, "open", None),
            (Architecture::Arm, "set_tls", Some(0xf0005)),
            (Architecture::Arm, "open", Some(5)),
        ] {
            assert_eq!(
                Table::of(architecture).number(name),
                number,
                "{architecture:?} {name}"
            );
        }
    }

    #[test]
    fn the_list_of_narrow_arguments_is_sorted_and_knows_its_calls() {
        assert!(NARROW.is_sorted_by_key(|(name, _)| name));
        let table = Table::of(Architecture::X86_64);
        for (name, _) in NARROW {
            assert!(table.number(name).is_some(), "{name}");
        }
        for name in NOT_ON_X32 {
            assert!(table.number(name).is_some() || name == "vserver", "{name}");
        }
    }
}
