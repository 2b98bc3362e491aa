//! What the data root occupies on the disk, and what of it is whose.
//!
//! Owns: measuring the whole data root in one walk, so that the parts add up to what `du` says of it: allocated blocks,
//! each file once however many names it has. Does not own: what may go ([`super::budget`], the prunes).

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use berth_image::{ImageStore, ImageUsage, Meter};
use berth_sys::fs;
use berth_types::{ContainerId, Digest};

use crate::containers::view::ContainerView;
use crate::error::EngineError;
use crate::host::Host;
use crate::volumes::{VolumeUsage, Volumes};

/// What `system df` tells.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DiskUsage {
    /// The data root.
    pub root: PathBuf,
    /// All of it; the sum of what follows.
    pub total: u64,
    /// Content and layers of images, and the store's own directories.
    pub images: u64,
    /// Each image by its id.
    pub image_sizes: HashMap<Digest, ImageUsage>,
    /// Containers, each with the files it changed and its log.
    pub containers: Vec<(Arc<ContainerView>, u64)>,
    /// Volumes.
    pub volumes: Vec<VolumeUsage>,
    /// Records, the copy of the program that monitors run, and what is left of former containers.
    pub engine: u64,
}

/// The parts before they are given to their owners.
#[derive(Debug, Default)]
pub(crate) struct Parts {
    pub(crate) store: berth_image::StoreUsage,
    /// What each container changed.
    pub(crate) files: HashMap<ContainerId, u64>,
    /// Logs and generated files of each container.
    pub(crate) logs: HashMap<ContainerId, u64>,
    pub(crate) volumes: HashMap<String, u64>,
    pub(crate) rest: u64,
}

impl Parts {
    /// Bytes of the whole.
    pub(crate) fn total(&self) -> u64 {
        self.store.images()
            + self.files.values().sum::<u64>()
            + self.logs.values().sum::<u64>()
            + self.volumes.values().sum::<u64>()
            + self.rest
    }
}

/// Measures the data root.
pub(crate) fn measure(host: &Host, images: &ImageStore) -> Result<Parts, EngineError> {
    let mut meter = Meter::default();
    let mut parts = Parts::default();
    let root = host.data_root();
    let listed = |path: &std::path::Path| {
        fs::list(path).map_err(|error| {
            let kind = error.kind();
            EngineError::failed("measure the data root", kind, error)
        })
    };
    parts.rest += meter.level(root)?;
    parts.store = images.usage(&mut meter)?;
    parts.files = std::mem::take(&mut parts.store.containers);
    for name in listed(root)? {
        let path = root.join(&name);
        match name.to_str() {
            Some("blobs" | "layers") => {}
            Some("containers") => {
                parts.rest += meter.level(&path)?;
                for name in listed(&path)? {
                    let bytes = meter.tree_beneath(&path, &name)?;
                    match name.to_str().and_then(|text| ContainerId::parse(text).ok()) {
                        Some(id) => *parts.logs.entry(id).or_default() += bytes,
                        None => parts.rest += bytes,
                    }
                }
            }
            Some("volumes") => {
                parts.rest += meter.level(&path)?;
                for name in listed(&path)? {
                    let bytes = meter.tree_beneath(&path, &name)?;
                    *parts
                        .volumes
                        .entry(name.to_string_lossy().into_owned())
                        .or_default() += bytes;
                }
            }
            _ => parts.rest += meter.tree_beneath(root, &name)?,
        }
    }
    Ok(parts)
}

impl DiskUsage {
    /// Gives the parts to their owners. What belongs to no container that is known is the engine's.
    pub(crate) fn of(
        host: &Host,
        images: &ImageStore,
        volumes: &Volumes,
        views: Vec<Arc<ContainerView>>,
    ) -> Result<Self, EngineError> {
        let mut parts = measure(host, images)?;
        let total = parts.total();
        let image_sizes = images.image_usages(&parts.store)?;
        let containers: Vec<(Arc<ContainerView>, u64)> = views
            .into_iter()
            .map(|view| {
                let files = parts.files.remove(&view.id).unwrap_or(0);
                let logs = parts.logs.remove(&view.id).unwrap_or(0);
                (view, files + logs)
            })
            .collect();
        let volumes = volumes.usage(&mut parts.volumes);
        let strays: u64 = [&parts.files, &parts.logs]
            .into_iter()
            .flat_map(HashMap::values)
            .chain(parts.volumes.values())
            .sum();
        Ok(Self {
            root: host.data_root().to_owned(),
            total,
            images: parts.store.images(),
            image_sizes,
            containers,
            volumes,
            engine: parts.rest + strays,
        })
    }
}
