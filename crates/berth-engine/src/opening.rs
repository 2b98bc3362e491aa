//! From settings to services: locks, records, recovery. And the end of it.

use std::sync::Arc;

use berth_image::{ImageStore, RegistrySettings, Settings};
use berth_types::ContainerId;
use futures_util::StreamExt as _;

use crate::config::Config;
use crate::containers::Containers;
use crate::containers::files::roots::Roots as OpenRoots;
use crate::containers::index::{ContainerHandle, Index};
use crate::containers::lifecycle::Event;
use crate::containers::monitors::Monitors;
use crate::containers::owner::{Ask, Environment, Message};
use crate::containers::phase::Phase;
use crate::error::EngineError;
use crate::events::Events;
use crate::execs::{Execs, Sessions};
use crate::host::Host;
use crate::images::Images;
use crate::limits;
use crate::networks::Networks;
use crate::random;
use crate::records::Records;
use crate::system::{Growth, HostFeatures, Housekeeping, Roots, System, keep};
use crate::volumes::Volumes;
use crate::volumes::local::LocalDriver;
use crate::{Engine, host};

/// Name of the fact that keeps the data root's id.
const ID: &str = "id";

/// What has to be done before the process ends. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Closing {
    records: Records,
    images: ImageStore,
    _housekeeping: Arc<Housekeeping>,
    /// Held for as long as anything of the engine lives.
    _roots: Arc<Roots>,
}

impl Closing {
    /// Writes what is waiting. Containers run on; a later engine on the same roots takes them up.
    pub async fn close(&self) {
        let images = self.images.clone();
        // Only when images were used last is lost by a failure here.
        let saved = tokio::task::spawn_blocking(move || images.save_uses()).await;
        if let Ok(Err(error)) = saved {
            tracing::debug!(%error, "when images were used last is not written down");
        }
        self.records.close().await;
    }
}

impl Engine {
    /// Takes the roots, recovers every container, and offers the services.
    ///
    /// # Errors
    /// `Conflict` when another engine uses a root; what cannot be read or made.
    pub async fn open(config: Arc<Config>) -> Result<Self, EngineError> {
        let (roots, records, images, features) = {
            let config = Arc::clone(&config);
            tokio::task::spawn_blocking(move || prepare(&config))
                .await
                .map_err(|e| EngineError::Internal(format!("a defect in the engine: {e}")))??
        };
        let id = data_root_id(&records).await?;
        let events = Events::new();
        let index = Index::default();
        let host = Arc::new(Host::new(config, features, id));
        let networks = Networks::open(records.clone(), events.clone(), Arc::clone(&host)).await?;
        let driver = LocalDriver::open_at(&host.data_root().join("volumes"), images.clone())?;
        let volumes = Volumes::open(
            records.clone(),
            events.clone(),
            images.clone(),
            Arc::new(driver),
        )
        .await?;
        let open_roots = OpenRoots::default();
        let launcher = Arc::new(Monitors::new(
            Arc::clone(&host),
            images.clone(),
            index.clone(),
            networks.clone(),
            volumes.clone(),
            open_roots.clone(),
        )?);
        let environment = Environment {
            records: records.clone(),
            events: events.clone(),
            launcher,
            index: index.clone(),
            sessions: Sessions::new(events.clone(), index.clone()),
            host: Arc::clone(&host),
            networks: networks.clone(),
        };
        let containers = Containers::new(
            environment.clone(),
            images.clone(),
            volumes.clone(),
            open_roots,
        );
        let handles = recover(&containers, &records, &index, &volumes).await?;
        networks.settle().await;
        volumes.settle().await;
        sweep(&host, &images, &index).await;
        for handle in handles {
            // The owner is idle now; there is room for one message.
            let _ = handle
                .messages
                .send(Message::Event(Event::DaemonStarted))
                .await;
        }
        let growth = Growth::default();
        let services = Images::new(
            images.clone(),
            index.clone(),
            events.clone(),
            growth.clone(),
        );
        services.ensure_builtin().await?;
        for handle in index.all() {
            networks.expect(handle.view().networks.keys());
        }
        let housekeeping = keep(
            Arc::clone(&host),
            images.clone(),
            index.clone(),
            events.clone(),
            growth.clone(),
        );
        // What came while no engine looked.
        growth.happened();
        let system = System::new(
            host,
            index,
            images.clone(),
            events.clone(),
            containers.clone(),
            volumes.clone(),
        );
        Ok(Self {
            containers,
            networks,
            volumes,
            execs: Execs::new(environment),
            images: services,
            events,
            system,
            closing: Closing {
                records,
                images,
                _housekeeping: Arc::new(housekeeping),
                _roots: Arc::new(roots),
            },
        })
    }
}

impl Engine {
    /// Writes what is waiting. Containers run on; a later engine on the same roots takes them up.
    pub async fn close(&self) {
        self.closing.close().await;
    }
}

fn prepare(config: &Config) -> Result<(Roots, Records, ImageStore, HostFeatures), EngineError> {
    let roots = Roots::take(config)?;
    let records = Records::open(&config.data_root.join("state.db"))?;
    let settings = Settings {
        registries: RegistrySettings {
            mirrors: config.registry_mirrors.clone(),
            mirrors_of: config
                .registry_mirrors_by_host
                .iter()
                .map(|(host, mirrors)| (host.clone(), mirrors.clone()))
                .collect(),
            insecure: config.insecure_registries.clone(),
            certificate_files: config.registry_authorities.clone(),
            certificate_directories: config.registry_certificates.clone(),
            http_proxy: config.http_proxy.clone(),
            https_proxy: config.https_proxy.clone(),
            no_proxy: config.no_proxy.clone(),
            user_agent: format!("berth/{}", crate::system::VERSION),
            concurrent_downloads: config.concurrent_downloads,
            concurrent_uploads: config.concurrent_uploads,
            download_attempts: config.download_attempts,
            ..RegistrySettings::default()
        },
        ..Settings::default()
    };
    let images = ImageStore::open(&config.data_root, records.database(), settings)?;
    let mut features = HostFeatures::probe();
    features.no_new_privileges = config.no_new_privileges;
    Ok((roots, records, images, features))
}

async fn data_root_id(records: &Records) -> Result<String, EngineError> {
    if let Some(id) = records.fact(ID)? {
        return Ok(id);
    }
    let id = ContainerId::from_random(random::bytes()?);
    // The form of a UUID, which is what clients expect here.
    let hex = id.as_str();
    let id = format!(
        "{}-{}-{}-{}-{}",
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..32]
    );
    records.set_fact(ID, &id).await?;
    Ok(id)
}

/// Starts every container's owner, and has it look at the world.
async fn recover(
    containers: &Containers,
    records: &Records,
    index: &Index,
    volumes: &Volumes,
) -> Result<Vec<ContainerHandle>, EngineError> {
    let (found, damaged) = records.load()?;
    for (key, error) in damaged {
        // Kept in the file: a newer version may read it. Until then it is not a container of ours.
        tracing::error!(container = key, %error, "a container's record cannot be read and is left out");
    }
    let mut handles = Vec::with_capacity(found.len());
    for record in &found {
        // Before any of them goes on with a removal that takes its volumes along.
        let held = record.spec.volumes();
        let held: Vec<(String, bool)> = held.map(|(v, w)| (v.name.clone(), w)).collect();
        volumes.hold(&record.id, &held);
    }
    for record in found {
        // Whoever asked for the removal may have been told that it is done, and may have used the name again.
        if matches!(record.phase, Phase::Removing { .. }) {
            let handle = containers.adopt(record, None);
            index.insert_vanishing(handle.clone());
            handles.push(handle);
            continue;
        }
        match index.reserve(&record.name, &record.id) {
            Ok(reservation) => {
                reservation.keep();
            }
            Err(error) => {
                tracing::error!(container = %record.id, %error, "two containers have one name; this one is found by its id");
            }
        }
        let handle = containers.adopt(record, None);
        index.insert(handle.clone());
        handles.push(handle);
    }
    futures_util::stream::iter(&handles)
        .for_each_concurrent(limits::RECOVERIES_AT_ONCE, |handle| async move {
            let _ = handle.ask(Ask::Recover).await;
        })
        .await;
    Ok(handles)
}

/// Removes directories that no record speaks of: what a crash in the middle of a create or a removal left.
async fn sweep(host: &Arc<host::Host>, images: &ImageStore, index: &Index) {
    let (host, images, index) = (Arc::clone(host), images.clone(), index.clone());
    let known: std::collections::HashSet<String> = index
        .ids()
        .iter()
        .map(|id| id.as_str().to_owned())
        .collect();
    let swept = tokio::task::spawn_blocking(move || {
        let stray = |root: std::path::PathBuf| -> Vec<std::path::PathBuf> {
            berth_sys::fs::list(&root)
                .unwrap_or_default()
                .into_iter()
                .filter(|name| {
                    name.to_str()
                        .is_some_and(|n| ContainerId::parse(n).is_ok() && !known.contains(n))
                })
                .map(|name| root.join(name))
                .collect()
        };
        for directory in stray(host.exec_root().join("containers")) {
            // A monitor without a record cannot be of this data root's making unless its container was
            // removed; what it runs is ended before its directory goes.
            let _ = berth_monitor::salvage(&directory);
            let _ = berth_sys::mount::detach(&directory.join("shm"));
            let _ = berth_sys::fs::remove_dir_all(&directory);
        }
        for directory in stray(host.data_root().join("containers")) {
            let _ = berth_sys::fs::remove_dir_all(&directory);
        }
        for id in images.prepared_rootfs().unwrap_or_default() {
            if !known.contains(id.as_str()) {
                let _ = images.remove_rootfs(&id);
            }
        }
        let held: std::collections::HashSet<_> = crate::images::uses(&index)
            .into_iter()
            .map(|used| used.image)
            .collect();
        if let Err(error) = images.let_go(|image| held.contains(image)) {
            tracing::debug!(%error, "images of former containers stay until the next start");
        }
    });
    if let Err(error) = swept.await {
        tracing::error!(%error, "defect while removing what is left of former containers");
    }
}
