//! Capabilities: names, sets, and those of this process.
//!
//! Numbers and names: include/uapi/linux/capability.h, capabilities(7).

use std::ops::{BitAnd, BitOr};

use rustix::thread::{CapabilitySet as Bits, CapabilitySets};

use crate::error::{Attempt, Error, Result};

/// Names in the order of their numbers, without `CAP_`.
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// One capability.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Capability(u8);

impl Capability {
    /// `CAP_SETGID`.
    pub const SETGID: Self = Self(6);
    /// `CAP_SETUID`.
    pub const SETUID: Self = Self(7);
    /// `CAP_SETPCAP`.
    pub const SETPCAP: Self = Self(8);
    /// `CAP_SYS_ADMIN`.
    pub const SYS_ADMIN: Self = Self(21);
    /// `CAP_SYS_RESOURCE`.
    pub const SYS_RESOURCE: Self = Self(24);
    /// `CAP_MKNOD`.
    pub const MKNOD: Self = Self(27);

    /// The capability with this name, in any case, with or without `CAP_`.
    pub fn from_name(name: &str) -> Option<Self> {
        let upper = name.to_ascii_uppercase();
        let short = upper.strip_prefix("CAP_").unwrap_or(&upper);
        NAMES
            .iter()
            .position(|known| *known == short)
            .map(|number| Self(number as u8))
    }

    /// Its name with `CAP_`.
    pub fn name(self) -> String {
        format!("CAP_{}", NAMES[usize::from(self.0)])
    }

    /// Its number in the kernel's interface.
    pub fn number(self) -> u8 {
        self.0
    }

    /// Every capability this build has a name for.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..NAMES.len()).map(|number| Self(number as u8))
    }
}

/// A set of capabilities.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct CapabilitySet(u64);

impl CapabilitySet {
    /// The empty set.
    pub const EMPTY: Self = Self(0);

    /// The set with these bits, one per capability number.
    pub fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// One bit per capability number.
    pub fn bits(self) -> u64 {
        self.0
    }

    /// Whether `capability` is in the set.
    pub fn contains(self, capability: Capability) -> bool {
        self.0 & (1 << capability.0) != 0
    }

    /// Adds `capability`.
    pub fn insert(&mut self, capability: Capability) {
        self.0 |= 1 << capability.0;
    }

    /// What is in this set and not in `other`.
    #[must_use]
    pub fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether nothing is in it.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The members that have a name.
    pub fn iter(self) -> impl Iterator<Item = Capability> {
        Capability::all().filter(move |capability| self.contains(*capability))
    }
}

impl FromIterator<Capability> for CapabilitySet {
    fn from_iter<I: IntoIterator<Item = Capability>>(members: I) -> Self {
        let mut set = Self::EMPTY;
        for member in members {
            set.insert(member);
        }
        set
    }
}

impl BitAnd for CapabilitySet {
    type Output = Self;
    fn bitand(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

impl BitOr for CapabilitySet {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// The three sets of a thread that capset(2) changes together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ThreadSets {
    /// Checked by the kernel.
    pub effective: CapabilitySet,
    /// Bound of the effective set.
    pub permitted: CapabilitySet,
    /// Kept over execve(2) where the file allows it.
    pub inheritable: CapabilitySet,
}

/// The capabilities of this process.
pub fn current() -> Result<ThreadSets> {
    let sets = rustix::thread::capabilities(None).attempt(|| "read the capabilities")?;
    Ok(ThreadSets {
        effective: CapabilitySet(sets.effective.bits()),
        permitted: CapabilitySet(sets.permitted.bits()),
        inheritable: CapabilitySet(sets.inheritable.bits()),
    })
}

/// Sets the effective, permitted and inheritable capabilities of this process.
pub fn set(sets: &ThreadSets) -> Result<()> {
    rustix::thread::set_capabilities(
        None,
        CapabilitySets {
            effective: Bits::from_bits_retain(sets.effective.0),
            permitted: Bits::from_bits_retain(sets.permitted.0),
            inheritable: Bits::from_bits_retain(sets.inheritable.0),
        },
    )
    .attempt(|| "set the capabilities")
}

/// The bounding set of this process: what the kernel knows and was not dropped.
pub fn bounding() -> CapabilitySet {
    (0..64_u8)
        .filter(|number| prctl(libc::PR_CAPBSET_READ, u64::from(*number), 0) == Ok(1))
        .fold(CapabilitySet::EMPTY, |set, number| {
            CapabilitySet(set.0 | (1 << number))
        })
}

/// Drops everything from the bounding set that is not in `keep`.
pub fn limit_bounding(keep: CapabilitySet) -> Result<()> {
    for number in 0..64_u8 {
        if keep.0 & (1 << number) != 0 {
            continue;
        }
        match prctl(libc::PR_CAPBSET_DROP, u64::from(number), 0) {
            Ok(_) => {}
            // Beyond the last capability of this kernel.
            Err(libc::EINVAL) => break,
            Err(errno) => {
                return Err(Error::new(
                    format!("drop capability {number} from the bounding set"),
                    std::io::Error::from_raw_os_error(errno),
                ));
            }
        }
    }
    Ok(())
}

/// Makes the ambient set exactly `wanted`, which must be permitted and inheritable.
pub fn set_ambient(wanted: CapabilitySet) -> Result<()> {
    const CLEAR_ALL: u64 = 4;
    const RAISE: u64 = 2;
    match prctl(libc::PR_CAP_AMBIENT, CLEAR_ALL, 0) {
        Ok(_) => {}
        // A kernel built without ambient capabilities has none to clear.
        Err(libc::EINVAL) if wanted.is_empty() => return Ok(()),
        Err(errno) => {
            return Err(Error::new(
                "clear the ambient capabilities",
                std::io::Error::from_raw_os_error(errno),
            ));
        }
    }
    for capability in wanted.iter() {
        prctl(libc::PR_CAP_AMBIENT, RAISE, u64::from(capability.0)).map_err(|errno| {
            Error::new(
                format!("raise ambient capability {}", capability.name()),
                std::io::Error::from_raw_os_error(errno),
            )
        })?;
    }
    Ok(())
}

/// Whether permitted capabilities stay when the user id changes away from root (`PR_SET_KEEPCAPS`).
pub fn set_keep_on_user_change(keep: bool) -> Result<()> {
    prctl(libc::PR_SET_KEEPCAPS, u64::from(keep), 0)
        .map(|_| ())
        .map_err(|errno| {
            Error::new(
                "keep capabilities over a change of user",
                std::io::Error::from_raw_os_error(errno),
            )
        })
}

/// No program executed from here on can gain rights (`PR_SET_NO_NEW_PRIVS`).
pub fn set_no_new_privileges() -> Result<()> {
    rustix::thread::set_no_new_privs(true).attempt(|| "forbid new privileges")
}

fn prctl(option: libc::c_int, first: u64, second: u64) -> std::result::Result<i32, i32> {
    // SAFETY: the options used in this module take integers only.
    let answer = unsafe {
        libc::prctl(
            option,
            first as libc::c_ulong,
            second as libc::c_ulong,
            0 as libc::c_ulong,
            0 as libc::c_ulong,
        )
    };
    if answer < 0 {
        return Err(std::io::Error::last_os_error().raw_os_error().unwrap_or(0));
    }
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_in_every_spelling() {
        let capability = Capability::from_name("net_raw").unwrap();
        assert_eq!(capability.number(), 13);
        assert_eq!(Capability::from_name("CAP_NET_RAW"), Some(capability));
        assert_eq!(capability.name(), "CAP_NET_RAW");
        assert_eq!(Capability::from_name("CAP_NOPE"), None);
        assert_eq!(
            Capability::from_name("CHECKPOINT_RESTORE")
                .unwrap()
                .number(),
            40
        );
        assert_eq!(Capability::SYS_ADMIN.name(), "CAP_SYS_ADMIN");
        assert_eq!(Capability::SYS_RESOURCE.name(), "CAP_SYS_RESOURCE");
        assert_eq!(Capability::MKNOD.name(), "CAP_MKNOD");
    }

    #[test]
    fn the_permitted_set_is_within_the_bounding_one() {
        let sets = current().unwrap();
        assert!(sets.permitted.without(bounding()).is_empty());
    }
}
