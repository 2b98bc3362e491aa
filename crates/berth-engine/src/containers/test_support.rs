//! Values for tests.

use berth_types::{ContainerId, Digest, Platform, Timestamp};
use indexmap::IndexMap;

use super::record::ContainerRecord;
use super::spec::{ContainerConfig, ContainerSpec, HostSettings};

/// A container made at a fixed time.
pub(crate) fn record(number: u8, name: &str) -> ContainerRecord {
    let spec = ContainerSpec {
        config: ContainerConfig {
            image: "busybox".to_owned(),
            hostname: "box".to_owned(),
            ..ContainerConfig::default()
        },
        host: HostSettings::default(),
        endpoints: IndexMap::new(),
        image_id: Digest::from_bytes([7; 32]),
        platform: Platform::host(),
        path: "sleep".to_owned(),
        args: vec!["1000".to_owned()],
        mounts: Vec::new(),
    };
    ContainerRecord::new(
        ContainerId::from_random([number; 32]),
        name.to_owned(),
        at(0),
        spec,
    )
}

/// A moment, seconds after a fixed one.
pub(crate) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_unix_seconds(1_700_000_000 + seconds)
}
