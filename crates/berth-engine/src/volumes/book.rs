//! Which volumes there are, and who holds them, behind one lock that is held for no wait and no kernel call.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use berth_types::ContainerId;
use tokio::sync::watch;

use super::record::VolumeRecord;
use crate::error::EngineError;

/// Where a volume is in its life.
#[derive(Debug, Clone)]
pub(super) enum Stage {
    /// Its record is not written yet; the receiver ends when that is decided.
    Making(watch::Receiver<()>),
    /// There.
    Ready,
    /// Something is done to it that nobody may disturb; what, in words.
    Busy(&'static str),
}

/// A container's hold on a volume.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Use {
    /// Whether it runs with the volume mounted.
    pub(super) mounted: bool,
    /// Who is about to look at it without the container running.
    pub(super) looks: u32,
    /// Whether it may write to it.
    pub(super) writable: bool,
}

/// A volume.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) record: Arc<VolumeRecord>,
    pub(super) stage: Stage,
    pub(super) users: BTreeMap<ContainerId, Use>,
    /// Held by blocking work on the volume's files and mounts, never across an await.
    pub(super) turn: Arc<Mutex<()>>,
}

impl Entry {
    pub(super) fn new(record: Arc<VolumeRecord>, stage: Stage) -> Self {
        Self {
            record,
            stage,
            users: BTreeMap::new(),
            turn: Arc::default(),
        }
    }

    pub(super) fn is_mounted(&self) -> bool {
        self.users.values().any(|u| u.mounted || u.looks > 0)
    }
}

/// All volumes, by name.
#[derive(Debug, Default)]
pub(super) struct Book {
    pub(super) entries: BTreeMap<String, Entry>,
}

/// What a name that shall be a volume's stands for.
#[derive(Debug)]
pub(super) enum Claim {
    /// A volume that is there.
    There(Arc<VolumeRecord>),
    /// One that another caller is making.
    Wait(watch::Receiver<()>),
    /// Nothing yet: the caller makes it, and drops the sender when that is decided.
    Free(watch::Sender<()>),
}

pub(super) fn missing(name: &str) -> EngineError {
    let shown: String = name.chars().take(256).collect();
    EngineError::NotFound(format!("get {shown}: no such volume"))
}

impl Book {
    /// A volume that is there.
    pub(super) fn find(&self, name: &str) -> Result<&Entry, EngineError> {
        match self.entries.get(name) {
            Some(entry) if !matches!(entry.stage, Stage::Making(_)) => Ok(entry),
            _ => Err(missing(name)),
        }
    }

    /// As [`find`](Self::find), refusing one that something is done to.
    pub(super) fn find_quiet(&mut self, name: &str) -> Result<&mut Entry, EngineError> {
        match self.entries.get_mut(name) {
            Some(entry) => match entry.stage {
                Stage::Ready => Ok(entry),
                Stage::Busy(what) => Err(EngineError::Conflict(format!(
                    "volume {name} is being {what}"
                ))),
                Stage::Making(_) => Err(missing(name)),
            },
            None => Err(missing(name)),
        }
    }

    /// Finds out what `name` stands for, and holds it for the container where it is there.
    pub(super) fn claim(
        &mut self,
        name: &str,
        holder: Option<(&ContainerId, bool)>,
        record: impl FnOnce() -> Arc<VolumeRecord>,
    ) -> Result<Claim, EngineError> {
        if let Some(entry) = self.entries.get(name)
            && let Stage::Making(decided) = &entry.stage
        {
            return Ok(Claim::Wait(decided.clone()));
        }
        if self.entries.contains_key(name) {
            let entry = self.find_quiet(name)?;
            if let Some((container, writable)) = holder {
                let used = entry.users.entry(container.clone()).or_default();
                used.writable |= writable && !entry.record.read_only;
            }
            return Ok(Claim::There(Arc::clone(&entry.record)));
        }
        let (sender, decided) = watch::channel(());
        self.entries.insert(
            name.to_owned(),
            Entry::new(record(), Stage::Making(decided)),
        );
        Ok(Claim::Free(sender))
    }

    /// Takes a container's hold from a volume; gone already is fine.
    pub(super) fn let_go(&mut self, name: &str, container: &ContainerId) {
        if let Some(entry) = self.entries.get_mut(name) {
            entry.users.remove(container);
        }
    }
}
