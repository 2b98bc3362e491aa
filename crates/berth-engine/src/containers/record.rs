//! What of a container is on disk.
//!
//! The spec is frozen; name, limits and restart policy can change; the phase and the latest run are the
//! lifecycle's. Only the container's owner writes its record.

use std::sync::Arc;

use berth_types::{ContainerId, Timestamp};
use serde::{Deserialize, Serialize};

use super::health::Health;
use super::networking::Attachments;
use super::phase::Phase;
use super::spec::{ContainerSpec, Resources, RestartPolicy};

/// Facts of the present or the latest run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastRun {
    /// When it was started; Go's zero time for never.
    pub started_at: Timestamp,
    /// When it ended; Go's zero time for never.
    pub finished_at: Timestamp,
    /// Its exit code.
    pub exit_code: i32,
    /// Whether the kernel killed a process of it for want of memory.
    pub oom_killed: bool,
    /// Why it could not be started; empty when it could.
    pub error: String,
    /// Whether it is frozen only while the daemon looks at its files, and no longer than the daemon lives.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub held_still: bool,
}

impl Default for LastRun {
    fn default() -> Self {
        Self {
            started_at: Timestamp::ZERO,
            finished_at: Timestamp::ZERO,
            exit_code: 0,
            oom_killed: false,
            error: String::new(),
            held_still: false,
        }
    }
}

/// A container as stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ContainerRecord {
    /// Its id.
    pub id: ContainerId,
    /// Its name, without a slash.
    pub name: String,
    /// When it was created.
    pub created: Timestamp,
    /// What was asked, resolved.
    pub spec: Arc<ContainerSpec>,
    /// Limits as of now.
    pub resources: Resources,
    /// Restart policy as of now.
    pub restart: RestartPolicy,
    /// Where it is in its life.
    pub phase: Phase,
    /// Facts of the present or the latest run.
    #[serde(default)]
    pub last: LastRun,
    /// Restarts by policy since the last manual start.
    #[serde(default)]
    pub restart_count: u32,
    /// Pause before the latest restart by policy, in milliseconds; zero when the next is the first.
    #[serde(default)]
    pub backoff_milliseconds: u64,
    /// Whether a person stopped or killed it last.
    #[serde(default)]
    pub stopped_by_user: bool,
    /// Whether the present run is not followed by a restart, whatever the policy says.
    #[serde(default)]
    pub restart_cancelled: bool,
    /// Limits that are being applied and replace `resources` once they are.
    #[serde(default)]
    pub pending_resources: Option<Resources>,
    /// Whether it was ever started.
    #[serde(default)]
    pub was_started: bool,
    /// Health, where it is probed.
    #[serde(default)]
    pub health: Option<Health>,
    /// Networks it is configured for.
    #[serde(default)]
    pub networks: Attachments,
}

impl ContainerRecord {
    /// A new container.
    #[must_use]
    pub fn new(id: ContainerId, name: String, created: Timestamp, spec: ContainerSpec) -> Self {
        Self {
            id,
            name,
            created,
            resources: spec.host.resources.clone(),
            restart: spec.host.restart,
            spec: Arc::new(spec),
            phase: Phase::Created,
            last: LastRun::default(),
            restart_count: 0,
            backoff_milliseconds: 0,
            stopped_by_user: false,
            restart_cancelled: false,
            pending_resources: None,
            was_started: false,
            health: None,
            networks: Attachments::new(),
        }
    }
}
