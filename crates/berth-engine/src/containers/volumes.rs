//! The volumes of containers: taken over, made and held for a new one; frozen in while they are copied; let go.

use std::collections::HashSet;

use berth_types::ContainerId;

use super::phase::Phase;
use super::spec::{ContainerSpec, MountPoint};
use super::{Containers, mounts};
use crate::error::EngineError;
use crate::limits;
use crate::volumes::{Prepared, VolumeCopyRequest, VolumeExport, VolumeView, Wanted};

impl Containers {
    /// The mounts that `--volumes-from` takes over.
    pub(super) fn inherited(&self, from: &[String]) -> Result<Vec<MountPoint>, EngineError> {
        let mut list: Vec<MountPoint> = Vec::new();
        for text in from {
            let (container, writable) = mounts::parse_volumes_from(text)?;
            // A client that is told "not found" when it creates a container takes that for the image.
            let found = self.find(container).map_err(|error| match error {
                EngineError::NotFound(text) => EngineError::Invalid(text),
                other => other,
            });
            let view = found?.view();
            for point in mounts::inherited(&view.spec.mounts, writable) {
                list.retain(|m| m.target != point.target);
                list.push(point);
            }
        }
        Ok(list)
    }

    /// Makes and holds the volumes of a new container, and says in its spec where they are.
    pub(super) async fn prepare_volumes(
        &self,
        id: &ContainerId,
        spec: &mut ContainerSpec,
        wanted: Vec<(usize, Wanted)>,
    ) -> Result<Prepared, EngineError> {
        let (places, wanted): (Vec<usize>, Vec<(Wanted, bool)>) = wanted
            .into_iter()
            .map(|(place, wanted)| (place, (wanted, spec.mounts[place].writable)))
            .unzip();
        let prepared = self.volumes.prepare(id, spec.image_id, wanted).await?;
        for (place, (record, mountpoint, writable)) in places.into_iter().zip(prepared.mounts()) {
            let point = &mut spec.mounts[place];
            point.source = mountpoint.to_string_lossy().into_owned();
            point.writable = writable;
            let volume = point.volume.get_or_insert_default();
            volume.name.clone_from(&record.name);
            volume.driver.clone_from(&record.driver);
        }
        Ok(prepared)
    }

    /// Copies a volume. With `pause`, running containers that can write to it are frozen meanwhile.
    ///
    /// # Errors
    /// As the copy of a volume; when a container cannot be frozen.
    pub async fn copy_volume(
        &self,
        request: VolumeCopyRequest,
        pause: bool,
    ) -> Result<VolumeView, EngineError> {
        let service = self.clone();
        // In a task of its own: a caller that hangs up does not leave containers frozen.
        tokio::spawn(async move {
            let from = request.from.clone();
            let volumes = service.volumes.clone();
            service
                .while_still(&from, pause, async |still| {
                    volumes.copy(request, still).await
                })
                .await
        })
        .await
        .map_err(super::defect)?
    }

    /// Waits until containers that removed themselves have let their volumes go: they are gone for everyone before
    /// that, and whoever was told so shall find their volumes free.
    pub async fn volumes_let_go(&self) {
        for handle in self.environment.index.vanishing() {
            let mut view = handle.view.clone();
            if view.borrow().spec.volumes().next().is_none() {
                continue;
            }
            let gone = async {
                // It ends with an error when its owner does, and comes back when the removal failed.
                while view.changed().await.is_ok() {
                    if !matches!(view.borrow().phase, Phase::Removing { .. }) {
                        return;
                    }
                }
            };
            if tokio::time::timeout(limits::KILL_WAIT, gone).await.is_err() {
                tracing::debug!(container = %handle.id, "what is left of a container still holds volumes");
            }
        }
    }

    /// Begins to write a volume as an archive. Containers that can write to it have to be frozen, unless it is taken
    /// `live`.
    ///
    /// # Errors
    /// As the export of a volume.
    pub async fn export_volume(&self, name: &str, live: bool) -> Result<VolumeExport, EngineError> {
        let volumes = self.volumes.clone();
        self.while_still(name, false, async |still| volumes.export(name, live, still))
            .await
    }

    /// Does something with a volume while those who can write to it are frozen: those that are already, and with
    /// `pause` all.
    pub(super) async fn while_still<T>(
        &self,
        volume: &str,
        pause: bool,
        work: impl AsyncFnOnce(HashSet<ContainerId>) -> Result<T, EngineError>,
    ) -> Result<T, EngineError> {
        let mut still = HashSet::new();
        let mut frozen = Vec::new();
        let mut outcome = Ok(());
        for container in self.volumes.writers(volume)? {
            let paused = self
                .find(container.as_str())
                .is_ok_and(|handle| matches!(handle.view().phase, Phase::Paused { .. }));
            if paused {
                still.insert(container);
            } else if pause {
                outcome = self.hold_still(container.as_str()).await;
                if outcome.is_err() {
                    break;
                }
                frozen.push(container.clone());
                still.insert(container);
            }
        }
        let result = match outcome {
            Ok(()) => work(still).await,
            Err(error) => Err(error),
        };
        for container in frozen {
            if let Err(error) = self.unpause(container.as_str()).await {
                tracing::error!(%container, error = %error.full_text(), "a container that was frozen for a copy of its volume does not go on");
            }
        }
        result
    }
}
