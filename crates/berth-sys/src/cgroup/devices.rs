//! What a list of device rules means, and its form on version 1.
//!
//! The meaning is per way of access: of the rules that match a device and speak of reading, the last one decides on
//! reading, and so on; without any, access is denied. An access that needs several ways needs all of them.
//!
//! Version 1 cannot express every such list: it has one default and a set of exceptions to it
//! (`Documentation/admin-guide/cgroup-v1/devices.rst`), and a rule cannot cut a hole into an exception. Such lists
//! are refused there rather than widened.

use super::directory::Directory;
use super::{CgroupError, DeviceAccess, DeviceKind, DeviceRule};

/// A default and the exceptions to it: what version 1 can hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DeviceSet {
    /// Whether everything not excepted is allowed.
    pub(super) allow_by_default: bool,
    /// Devices treated the other way, at most one entry for each kind and pair of numbers.
    pub(super) exceptions: Vec<Exception>,
}

/// Devices and ways of access that differ from the default.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Exception {
    /// Kind, never [`DeviceKind::All`].
    kind: DeviceKind,
    major: Option<u32>,
    minor: Option<u32>,
    access: DeviceAccess,
}

impl Exception {
    fn same_devices(&self, other: &Self) -> bool {
        (self.kind, self.major, self.minor) == (other.kind, other.major, other.minor)
    }

    /// True when some device is spoken of by both.
    fn overlaps(&self, other: &Self) -> bool {
        let meet =
            |one: Option<u32>, two: Option<u32>| one.is_none() || two.is_none() || one == two;
        self.kind == other.kind && meet(self.major, other.major) && meet(self.minor, other.minor)
    }

    /// True when every device of `other` is spoken of by this one.
    fn contains(&self, other: &Self) -> bool {
        let holds = |one: Option<u32>, two: Option<u32>| one.is_none() || one == two;
        self.kind == other.kind && holds(self.major, other.major) && holds(self.minor, other.minor)
    }

    /// The line as `devices.allow` and `devices.deny` take it.
    fn line(&self) -> String {
        let letter = if self.kind == DeviceKind::Block {
            'b'
        } else {
            'c'
        };
        let number = |number: Option<u32>| {
            number.map_or_else(|| "*".to_owned(), |number| number.to_string())
        };
        format!(
            "{letter} {}:{} {}",
            number(self.major),
            number(self.minor),
            self.access
        )
    }
}

impl DeviceSet {
    /// Reduces a list of rules.
    pub(super) fn from_rules(rules: &[DeviceRule]) -> Result<Self, CgroupError> {
        let mut set = Self {
            allow_by_default: false,
            exceptions: Vec::new(),
        };
        for rule in rules {
            let everything =
                rule.major.is_none() && rule.minor.is_none() && rule.access == DeviceAccess::ALL;
            if rule.kind == DeviceKind::All && everything {
                set.allow_by_default = rule.allow;
                set.exceptions.clear();
                continue;
            }
            let kinds: &[DeviceKind] = match rule.kind {
                DeviceKind::All => &[DeviceKind::Character, DeviceKind::Block],
                DeviceKind::Character => &[DeviceKind::Character],
                DeviceKind::Block => &[DeviceKind::Block],
            };
            for kind in kinds {
                let devices = Exception {
                    kind: *kind,
                    major: rule.major,
                    minor: rule.minor,
                    access: rule.access,
                };
                if rule.allow == set.allow_by_default {
                    set.take_back(&devices)?;
                } else {
                    set.add(devices);
                }
            }
        }
        Ok(set)
    }

    fn add(&mut self, devices: Exception) {
        match self
            .exceptions
            .iter_mut()
            .find(|known| known.same_devices(&devices))
        {
            Some(known) => {
                known.access.read |= devices.access.read;
                known.access.write |= devices.access.write;
                known.access.make_node |= devices.access.make_node;
            }
            None => self.exceptions.push(devices),
        }
    }

    /// Treats devices by the default again.
    fn take_back(&mut self, devices: &Exception) -> Result<(), CgroupError> {
        let shares = |one: DeviceAccess, two: DeviceAccess| {
            (one.read && two.read) || (one.write && two.write) || (one.make_node && two.make_node)
        };
        for known in &mut self.exceptions {
            if !known.overlaps(devices) || !shares(known.access, devices.access) {
                continue;
            }
            if !devices.contains(known) {
                return Err(CgroupError::Unsupported {
                    setting: format!("the device rule {:?}", devices.line()),
                    reason: format!(
                        "it makes an exception to {:?}, which control groups version 1 cannot express",
                        known.line()
                    ),
                });
            }
            known.access.read &= !devices.access.read;
            known.access.write &= !devices.access.write;
            known.access.make_node &= !devices.access.make_node;
        }
        self.exceptions
            .retain(|known| known.access != DeviceAccess::default());
        Ok(())
    }

    /// Reads `devices.list`. A group that allows by default lists `a *:* rwm` only, without its exceptions.
    fn parse(list: &str) -> Option<Self> {
        let mut set = Self {
            allow_by_default: false,
            exceptions: Vec::new(),
        };
        for line in list.lines() {
            let mut fields = line.split(' ');
            let kind = match fields.next()? {
                "a" => {
                    set.allow_by_default = true;
                    continue;
                }
                "b" => DeviceKind::Block,
                "c" => DeviceKind::Character,
                _ => return None,
            };
            let (major, minor) = fields.next()?.split_once(':')?;
            let number = |text: &str| match text {
                "*" => Some(None),
                number => number.parse().ok().map(Some),
            };
            let access = DeviceAccess::parse(fields.next()?)?;
            set.exceptions.push(Exception {
                kind,
                major: number(major)?,
                minor: number(minor)?,
                access,
            });
        }
        Some(set)
    }
}

/// Makes a version 1 group follow the rules. A group in use never passes through a state that denies what both
/// the old and the new rules allow, nor one that allows what neither does.
pub(super) fn apply_v1(directory: &Directory, rules: &[DeviceRule]) -> Result<(), CgroupError> {
    let target = DeviceSet::from_rules(rules)?;
    let list = directory.read("devices.list")?.unwrap_or_default();
    let present =
        DeviceSet::parse(&list).ok_or_else(|| directory.malformed("devices.list", &list))?;
    if target.allow_by_default {
        // Exceptions to this default are not listed, so it is always written. A group with groups beneath it does
        // not take it; one that allows by default already then at most keeps more denied than asked.
        match directory.write("devices.allow", "a") {
            Err(error)
                if error.raw_os_error() == Some(libc::EINVAL) && present.allow_by_default => {}
            other => other?,
        }
        return directory.write_each(
            "devices.deny",
            target.exceptions.iter().map(Exception::line),
        );
    }
    if present.allow_by_default {
        directory.write("devices.deny", "a")?;
        return directory.write_each(
            "devices.allow",
            target.exceptions.iter().map(Exception::line),
        );
    }
    for exception in &target.exceptions {
        let known = present
            .exceptions
            .iter()
            .any(|known| known.same_devices(exception) && known.access == exception.access);
        if !known {
            directory.write("devices.allow", &exception.line())?;
        }
    }
    for known in &present.exceptions {
        let kept = target
            .exceptions
            .iter()
            .find(|exception| exception.same_devices(known));
        let mut surplus = *known;
        if let Some(kept) = kept {
            surplus.access.read &= !kept.access.read;
            surplus.access.write &= !kept.access.write;
            surplus.access.make_node &= !kept.access.make_node;
        }
        if surplus.access != DeviceAccess::default() {
            directory.write("devices.deny", &surplus.line())?;
        }
    }
    Ok(())
}

/// What the rules say about one access: the meaning every form has to agree with.
#[cfg(test)]
pub(super) fn decide(
    rules: &[DeviceRule],
    kind: DeviceKind,
    major: u32,
    minor: u32,
    access: DeviceAccess,
) -> bool {
    let one = |wanted: DeviceAccess| {
        rules
            .iter()
            .rev()
            .find(|rule| {
                (rule.kind == DeviceKind::All || rule.kind == kind)
                    && rule.major.is_none_or(|number| number == major)
                    && rule.minor.is_none_or(|number| number == minor)
                    && rule.access.covers(wanted)
            })
            .is_some_and(|rule| rule.allow)
    };
    (!access.read
        || one(DeviceAccess {
            read: true,
            ..Default::default()
        }))
        && (!access.write
            || one(DeviceAccess {
                write: true,
                ..Default::default()
            }))
        && (!access.make_node
            || one(DeviceAccess {
                make_node: true,
                ..Default::default()
            }))
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(in super::super) fn access() -> impl Strategy<Value = DeviceAccess> {
        (1_u8..8).prop_map(|bits| DeviceAccess {
            read: bits & 1 != 0,
            write: bits & 2 != 0,
            make_node: bits & 4 != 0,
        })
    }

    pub(in super::super) fn rule() -> impl Strategy<Value = DeviceRule> {
        let number = prop_oneof![Just(None), (0_u32..3).prop_map(Some)];
        let kind = prop_oneof![
            Just(DeviceKind::All),
            Just(DeviceKind::Character),
            Just(DeviceKind::Block)
        ];
        (any::<bool>(), kind, number.clone(), number, access()).prop_map(
            |(allow, kind, major, minor, access)| DeviceRule {
                allow,
                kind,
                major,
                minor,
                access,
            },
        )
    }

    impl DeviceSet {
        /// As the kernel decides (`devcgroup_check_permission`, `match_exception_partial` aside).
        fn decide(&self, kind: DeviceKind, major: u32, minor: u32, access: DeviceAccess) -> bool {
            let matching = self.exceptions.iter().filter(|exception| {
                exception.contains(&Exception {
                    kind,
                    major: Some(major),
                    minor: Some(minor),
                    access,
                })
            });
            if self.allow_by_default {
                // Any part of the access that is excepted denies it.
                !matching.into_iter().any(|exception| {
                    (exception.access.read && access.read)
                        || (exception.access.write && access.write)
                        || (exception.access.make_node && access.make_node)
                })
            } else {
                // One exception has to cover all of the access.
                matching
                    .into_iter()
                    .any(|exception| exception.access.covers(access))
            }
        }
    }

    proptest! {
        #[test]
        fn version_1_never_allows_more_than_the_rules(
            rules in prop::collection::vec(rule(), 0..8),
            block in any::<bool>(), major in 0_u32..4, minor in 0_u32..4, access in access(),
        ) {
            let kind = if block { DeviceKind::Block } else { DeviceKind::Character };
            if let Ok(set) = DeviceSet::from_rules(&rules) {
                let asked = decide(&rules, kind, major, minor, access);
                let given = set.decide(kind, major, minor, access);
                prop_assert!(asked || !given, "{set:?}");
                // A single way of access is decided alike; a combination may be split over two exceptions,
                // which version 1 does not join.
                let ways = u8::from(access.read) + u8::from(access.write) + u8::from(access.make_node);
                if ways == 1 {
                    prop_assert_eq!(asked, given);
                }
            }
        }
    }

    #[test]
    fn the_usual_list_needs_no_compromise() {
        let allow = |kind, major, minor, access: &str| DeviceRule {
            allow: true,
            kind,
            major,
            minor,
            access: DeviceAccess::parse(access).unwrap(),
        };
        let rules = [
            DeviceRule::DENY_ALL,
            allow(DeviceKind::Character, None, None, "m"),
            allow(DeviceKind::Block, None, None, "m"),
            allow(DeviceKind::Character, Some(1), Some(3), "r"),
            allow(DeviceKind::Character, Some(1), Some(3), "wm"),
        ];
        let set = DeviceSet::from_rules(&rules).unwrap();
        let lines: Vec<String> = set.exceptions.iter().map(Exception::line).collect();
        assert_eq!(lines, ["c *:* m", "b *:* m", "c 1:3 rwm"]);
        assert!(!set.allow_by_default);
    }

    #[test]
    fn reads_what_the_kernel_lists() {
        let set = DeviceSet::parse("c *:* m\nb 8:* rw\n").unwrap();
        assert_eq!(set.exceptions.len(), 2);
        assert!(DeviceSet::parse("a *:* rwm\n").unwrap().allow_by_default);
        assert!(DeviceSet::parse("x 1:1 r\n").is_none());
    }
}
