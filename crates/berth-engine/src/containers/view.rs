//! What readers see of a container: an immutable snapshot that never waits for the owner.

use std::path::PathBuf;
use std::sync::Arc;

use berth_types::{ContainerId, ExecId, Timestamp};

use super::health::Health;
use super::networking::Attachments;
use super::phase::Phase;
use super::record::{ContainerRecord, LastRun};
use super::spec::{ContainerSpec, Resources, RestartPolicy};
use crate::networks::RunNetwork;

/// A container at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct ContainerView {
    /// Its id.
    pub id: ContainerId,
    /// Its name, without a slash.
    pub name: String,
    /// When it was created.
    pub created: Timestamp,
    /// What was asked, resolved.
    pub spec: Arc<ContainerSpec>,
    /// Limits as of now: those of the spec with later updates.
    pub resources: Resources,
    /// Restart policy as of now.
    pub restart: RestartPolicy,
    /// Where it is in its life.
    pub phase: Phase,
    /// Facts of the present or the latest run.
    pub last: LastRun,
    /// Restarts by policy since the last manual start.
    pub restart_count: u32,
    /// Health, where it is probed.
    pub health: Option<Health>,
    /// Networks it is configured for.
    pub networks: Attachments,
    /// What it has in them, while it runs.
    pub network: Option<Arc<RunNetwork>>,
    /// Exec sessions that have not ended.
    pub execs: Vec<ExecId>,
    /// Files of the container on the host.
    pub paths: ContainerPaths,
    /// What the runtime clamped at the latest start, one sentence each.
    pub notes: Vec<String>,
}

/// Files of a container on the host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ContainerPaths {
    /// Directory of everything it owns in the data root.
    pub data: PathBuf,
    /// Its log; empty when the driver keeps no file.
    pub log: PathBuf,
    /// /etc/resolv.conf; empty when not made.
    pub resolv_conf: PathBuf,
    /// /etc/hostname; empty when not made.
    pub hostname: PathBuf,
    /// /etc/hosts; empty when not made.
    pub hosts: PathBuf,
}

impl ContainerView {
    /// The view of a record whose run, if there is one, has this network.
    pub(super) fn of(
        record: &ContainerRecord,
        paths: &ContainerPaths,
        notes: &[String],
        network: Option<&Arc<RunNetwork>>,
    ) -> Self {
        Self {
            id: record.id.clone(),
            name: record.name.clone(),
            created: record.created,
            spec: Arc::clone(&record.spec),
            resources: record.resources.clone(),
            restart: record.restart,
            phase: record.phase.clone(),
            last: record.last.clone(),
            restart_count: record.restart_count,
            health: record.health.clone(),
            networks: record.networks.clone(),
            network: network.filter(|_| record.phase.pid().is_some()).cloned(),
            execs: Vec::new(),
            paths: paths.clone(),
            notes: notes.to_vec(),
        }
    }

    /// Whether a process of it runs (paused ones included).
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.phase.is_running()
    }

    /// Process id on the host of its first process; zero when it does not run.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.phase.pid().unwrap_or(0)
    }

    /// The exit code of the last run; zero when there was none.
    #[must_use]
    pub fn exit_code(&self) -> i32 {
        self.last.exit_code
    }
}
