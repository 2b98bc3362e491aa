//! The directories and files of a run: made before it, removed after it. Everything here blocks.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use berth_image::ImageStore;
use berth_monitor::{ConsoleSize, LaunchRequest, RuntimeChoice};
use berth_sys::fs::Durability;
use berth_types::{ContainerId, ErrorKind};

use super::of_monitor;
use crate::config::Runtime;
use crate::containers::files::roots::Roots;
use crate::containers::index::Index;
use crate::containers::launcher::LaunchError;
use crate::containers::networking::Places;
use crate::containers::oci;
use crate::containers::record::ContainerRecord;
use crate::containers::surroundings::{self, Lookups, failed};
use crate::host::Host;
use crate::limits;
use crate::networks::{Networks, RunNetwork};
use crate::volumes::{MountSources, Volumes};

/// What blocking work needs.
#[derive(Debug)]
pub(super) struct Core {
    pub(super) host: Arc<Host>,
    pub(super) images: ImageStore,
    pub(super) index: Index,
    pub(super) lookups: Lookups,
    pub(super) networks: Networks,
    pub(super) volumes: Volumes,
    pub(super) roots: Roots,
}

/// Name of the file that says what a run has in networks; read by the next daemon.
const NETWORK_FILE: &str = "network.json";

impl Core {
    /// Makes directories and files, and says what the monitor is to do.
    pub(super) fn prepare(
        &self,
        record: &ContainerRecord,
        places: &Places,
        volumes: &MountSources,
    ) -> Result<LaunchRequest, LaunchError> {
        let spec = &record.spec;
        let host = &self.host;
        let id = &record.id;
        let rootfs = self
            .images
            .prepare_rootfs(id, &spec.image_id)
            .map_err(|e| {
                failed(
                    format!("prepare the root file system of container {id}"),
                    e.kind(),
                    &e,
                )
            })?;
        let (data, run) = (host.container_data(id), host.container_run(id));
        for (directory, mode) in [(&data, 0o710), (&run, 0o700)] {
            berth_sys::fs::create_dir_all_mode(directory, mode)
                .map_err(|e| failed("prepare the container's directories", e.kind(), &e))?;
        }
        let prepared = self.prepare_run(record, rootfs, &run, places, volumes);
        if prepared.is_err() {
            // In reverse: nothing of the attempt is left.
            let _ = self.release_run(id, &run);
        }
        prepared
    }

    fn prepare_run(
        &self,
        record: &ContainerRecord,
        rootfs: berth_sys::mount::overlay::Overlay,
        run: &Path,
        places: &Places,
        volumes: &MountSources,
    ) -> Result<LaunchRequest, LaunchError> {
        let spec = &record.spec;
        let host = &self.host;
        let mut around =
            surroundings::look_up(record, host, &self.index, &self.lookups, &rootfs, places)?;
        around.volumes = volumes
            .iter()
            .map(|(target, source)| {
                let source = oci::VolumeSource {
                    path: source.path.clone(),
                    options: source.options.clone(),
                    recursive: source.recursive,
                };
                (target.clone(), source)
            })
            .collect();
        let document = oci::specification(record, &host.features, &around)?;
        let bytes = serde_json::to_vec(&document).map_err(|e| {
            failed(
                "write the container's configuration",
                ErrorKind::Internal,
                &e,
            )
        })?;
        berth_sys::fs::replace(
            &run.join(berth_monitor::CONFIG_FILE),
            &bytes,
            0o600,
            Durability::Unsynced,
        )
        .map_err(|e| failed("write the container's configuration", e.kind(), &e))?;
        let runtime = match host.config().runtime(&spec.host.runtime) {
            Some(Runtime::Builtin) => RuntimeChoice::Builtin,
            Some(Runtime::Program { path, args }) => RuntimeChoice::Program { path, args },
            None => {
                return Err(LaunchError::new(
                    format!("unknown or invalid runtime name: {}", spec.host.runtime),
                    ErrorKind::InvalidArgument,
                ));
            }
        };
        let size = |n: u32| u16::try_from(n).unwrap_or(u16::MAX);
        Ok(LaunchRequest {
            id: record.id.as_str().to_owned(),
            bundle: run.to_path_buf(),
            overlay: Some(rootfs),
            mounted: false,
            terminal: spec.config.tty,
            open_stdin: spec.config.open_stdin,
            stdin_once: spec.config.stdin_once,
            console_size: spec.host.console_size.map(|(height, width)| ConsoleSize {
                rows: size(height),
                columns: size(width),
            }),
            log: log_settings(host, record)?,
            runtime,
            state_root: host.runtime_state(),
            seccomp_cache: Some(host.seccomp_cache()),
            start: false,
            network: None,
        })
    }

    /// Writes down what a run has in networks.
    pub(super) fn keep_network(
        &self,
        id: &ContainerId,
        run: &RunNetwork,
    ) -> Result<(), LaunchError> {
        let attempt = "write down the container's networks";
        let bytes =
            serde_json::to_vec(run).map_err(|e| failed(attempt, ErrorKind::Internal, &e))?;
        berth_sys::fs::replace(
            &self.host.container_run(id).join(NETWORK_FILE),
            &bytes,
            0o600,
            Durability::Unsynced,
        )
        .map_err(|e| failed(attempt, e.kind(), &e))
    }

    /// What a run has in networks, as written down; `None` where nothing was.
    pub(super) fn kept_network(&self, id: &ContainerId) -> Result<Option<RunNetwork>, LaunchError> {
        let attempt = "read the container's networks";
        let path = self.host.container_run(id).join(NETWORK_FILE);
        if !berth_sys::fs::exists(&path) {
            return Ok(None);
        }
        let bytes = berth_sys::fs::read_bounded(&path, limits::RUN_NETWORK)
            .map_err(|e| failed(attempt, e.kind(), &e))?;
        serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|e| failed(attempt, ErrorKind::DataCorrupt, &e))
    }

    pub(super) fn release_run(&self, id: &ContainerId, run: &Path) -> Result<(), LaunchError> {
        if !berth_sys::fs::exists(run) {
            return Ok(());
        }
        let fail = |e: berth_sys::Error| {
            failed(format!("release the run of container {id}"), e.kind(), &e)
        };
        // A monitor that died without a word leaves processes and control groups; where it ended properly
        // this finds nothing.
        if berth_monitor::read_exit_record(run)
            .ok()
            .flatten()
            .is_none()
            && berth_sys::fs::exists(&run.join(berth_monitor::LAUNCH_FILE))
        {
            berth_monitor::salvage(run).map_err(|e| of_monitor("release", &e))?;
        }
        surroundings::release_shm(&surroundings::shm_directory(&self.host, id)).map_err(fail)?;
        berth_sys::fs::remove_dir_all(run).map_err(fail)
    }

    pub(super) fn remove(&self, id: &ContainerId) -> Result<(), LaunchError> {
        // All of it is attempted; what failed is told together.
        let mut errors = Vec::new();
        if let Err(error) = self.images.remove_rootfs(id) {
            errors.push(failed("remove the root file system", error.kind(), &error));
        }
        let data = self.host.container_data(id);
        // A log may be large: its blocks are freed off the path of the answer.
        if let Err(error) = self.images.discard(&data) {
            errors.push(failed("remove the container's files", error.kind(), &error));
        }
        if self.images.has_retired() {
            let held: std::collections::HashSet<_> = self
                .index
                .all()
                .iter()
                .filter(|handle| handle.id != *id)
                .map(|handle| handle.view().spec.image_id)
                .collect();
            if let Err(error) = self.images.let_go(|image| held.contains(image)) {
                errors.push(failed(
                    "remove what the container was made of",
                    error.kind(),
                    &error,
                ));
            }
        }
        match errors.len() {
            0 => Ok(()),
            _ => Err(LaunchError::new(
                errors
                    .iter()
                    .map(|e| e.message.as_str())
                    .collect::<Vec<_>>()
                    .join("; "),
                errors[0].kind,
            )),
        }
    }
}

/// A container's log, resolved for writer and reader.
///
/// # Errors
/// When the options make no sense.
pub fn log_settings(
    host: &Host,
    record: &ContainerRecord,
) -> Result<berth_monitor::log::LogSettings, LaunchError> {
    let spec = &record.spec;
    let invalid = |e: berth_monitor::log::SettingsError| {
        failed("set up the log", ErrorKind::InvalidArgument, &e)
    };
    let options: BTreeMap<String, String> = spec
        .host
        .log
        .options
        .iter()
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect();
    let subject = berth_monitor::log::LogSubject {
        id: record.id.as_str().to_owned(),
        name: record.name.clone(),
        command: spec.argv().join(" "),
        image_id: spec.image_id.to_string(),
        image_name: spec.config.image.clone(),
        daemon_name: "berth".to_owned(),
        hostname: rustix::system::uname()
            .nodename()
            .to_string_lossy()
            .into_owned(),
        labels: spec
            .config
            .labels
            .iter()
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect(),
        environment: spec.config.env.clone(),
    };
    let attributes = berth_monitor::log::attributes(&options, &subject).map_err(invalid)?;
    let path: PathBuf = host.container_paths(&record.id, &spec.host.log, true).log;
    berth_monitor::log::LogSettings::resolve(&spec.host.log.driver, &options, path, attributes)
        .map_err(invalid)
}
