//! Devices of a container: what is shown, and what the device control group lets through.

use std::path::PathBuf;

use oci_spec::runtime::{
    LinuxDevice, LinuxDeviceBuilder, LinuxDeviceCgroup, LinuxDeviceCgroupBuilder, LinuxDeviceType,
};

use super::invalid;
use crate::error::EngineError;

/// A device node to show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceNode {
    /// Where, in the container.
    pub path: PathBuf,
    /// Whether it is a block device; a character device otherwise.
    pub block: bool,
    /// Major number.
    pub major: i64,
    /// Minor number.
    pub minor: i64,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// What the control group allows, letters of `rwm`.
    pub access: String,
}

impl DeviceNode {
    fn kind(&self) -> LinuxDeviceType {
        if self.block {
            LinuxDeviceType::B
        } else {
            LinuxDeviceType::C
        }
    }
}

pub(super) fn shown(nodes: &[DeviceNode]) -> Result<Vec<LinuxDevice>, EngineError> {
    nodes
        .iter()
        .map(|node| {
            LinuxDeviceBuilder::default()
                .path(node.path.clone())
                .typ(node.kind())
                .major(node.major)
                .minor(node.minor)
                .file_mode(node.mode)
                .uid(node.uid)
                .gid(node.gid)
                .build()
                .map_err(invalid)
        })
        .collect()
}

fn rule(
    allow: bool,
    kind: LinuxDeviceType,
    major: Option<i64>,
    minor: Option<i64>,
    access: &str,
) -> Result<LinuxDeviceCgroup, EngineError> {
    let mut rule = LinuxDeviceCgroupBuilder::default()
        .allow(allow)
        .typ(kind)
        .access(access)
        .build()
        .map_err(invalid)?;
    rule.set_major(major);
    rule.set_minor(minor);
    Ok(rule)
}

/// Rules of the device control group, in order; every runtime lets the default devices through by itself.
pub(super) fn rules(
    nodes: &[DeviceNode],
    further: &[String],
    privileged: bool,
) -> Result<Vec<LinuxDeviceCgroup>, EngineError> {
    if privileged {
        return Ok(vec![rule(true, LinuxDeviceType::A, None, None, "rwm")?]);
    }
    let mut rules = vec![rule(false, LinuxDeviceType::A, None, None, "rwm")?];
    for node in nodes {
        rules.push(rule(
            true,
            node.kind(),
            Some(node.major),
            Some(node.minor),
            &node.access,
        )?);
    }
    for text in further {
        rules.push(cgroup_rule(text)?);
    }
    Ok(rules)
}

/// Reads `c 1:3 rwm`, `b 8:* r`, `a *:* rwm`.
///
/// # Errors
/// With Docker's sentence.
pub fn cgroup_rule(text: &str) -> Result<LinuxDeviceCgroup, EngineError> {
    let wrong = || {
        EngineError::Invalid(format!(
            "invalid device cgroup rule format: '{}'",
            text.chars().take(64).collect::<String>()
        ))
    };
    let mut fields = text.split(' ');
    let (Some(kind), Some(numbers), Some(access), None) =
        (fields.next(), fields.next(), fields.next(), fields.next())
    else {
        return Err(wrong());
    };
    let kind = match kind {
        "a" => LinuxDeviceType::A,
        "b" => LinuxDeviceType::B,
        "c" => LinuxDeviceType::C,
        _ => return Err(wrong()),
    };
    let (major, minor) = numbers.split_once(':').ok_or_else(wrong)?;
    let number = |text: &str| match text {
        "*" => Ok(None),
        _ => text
            .parse::<u32>()
            .map(|n| Some(i64::from(n)))
            .map_err(|_| wrong()),
    };
    let valid =
        (1..=3).contains(&access.len()) && access.bytes().all(|b| matches!(b, b'r' | b'w' | b'm'));
    if !valid {
        return Err(wrong());
    }
    rule(true, kind, number(major)?, number(minor)?, access)
}
