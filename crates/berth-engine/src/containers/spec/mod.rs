//! What a container is asked to be: the request, and the specification frozen at create.
//!
//! Owns the engine's own vocabulary for `docker create`. Knows nothing of JSON field names, HTTP or
//! flags: the server converts. Everything here is plain data that is stored with the record.

mod devices;
mod health;
mod modes;
mod mounts;
mod resources;
mod settings;

use berth_types::{Digest, Platform};
use indexmap::{IndexMap, IndexSet};
use serde::{Deserialize, Serialize};

pub use crate::networks::EndpointRequest;
pub use devices::{DeviceCgroupRule, DeviceMapping, DeviceRequest};
pub use health::{HealthSettings, HealthTest};
pub use modes::{
    CgroupnsMode, IpcMode, ModeError, NetworkMode, PidMode, RestartPolicy, UsernsMode, UtsMode,
};
pub use mounts::clean_path;
pub use mounts::{
    Bind, BindError, MountKind, MountPoint, MountRequest, Owner, Propagation, TmpfsOptions,
    VolumeMount,
};
pub use resources::{DeviceRate, DeviceWeight, Resources, Ulimit};
pub use settings::{HostSettings, LogSettings, PortBinding};

/// What `docker create` asks for.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CreateRequest {
    /// Wanted name, with or without a leading slash; a random one when `None`.
    pub name: Option<String>,
    /// Platform the image must suit; the host's when `None`.
    pub platform: Option<Platform>,
    /// What runs in the container.
    pub config: ContainerConfig,
    /// What the host grants it.
    pub host: HostSettings,
    /// Networks to join, by name, beside or instead of `host.network_mode`.
    pub endpoints: IndexMap<String, EndpointRequest>,
}

/// What runs in a container: the part that an image can also say.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ContainerConfig {
    /// Host name; empty for the short id (or the host's in the host's UTS namespace).
    pub hostname: String,
    /// NIS domain name.
    pub domainname: String,
    /// User (and group) to run as: `name`, `uid`, `name:group`, …; empty for the image's.
    pub user: String,
    /// Whether the client that creates it will send standard input.
    pub attach_stdin: bool,
    /// Whether that client reads standard output.
    pub attach_stdout: bool,
    /// Whether that client reads standard error.
    pub attach_stderr: bool,
    /// Exposed ports, `port/protocol`.
    pub exposed_ports: IndexSet<String>,
    /// Whether the program gets a terminal.
    pub tty: bool,
    /// Whether standard input stays open with no client attached.
    pub open_stdin: bool,
    /// Whether standard input is closed when the first client that sent it leaves.
    pub stdin_once: bool,
    /// `NAME=value`; a bare `NAME` removes the image's variable.
    pub env: Vec<String>,
    /// Arguments, or the program where there is no entrypoint; `None` for the image's.
    pub cmd: Option<Vec<String>>,
    /// Program and fixed arguments; `None` for the image's, `[""]` or `[]` for none.
    pub entrypoint: Option<Vec<String>>,
    /// Probe of the container's health; `None` for the image's.
    pub healthcheck: Option<HealthSettings>,
    /// Kept for Windows images, never used.
    pub args_escaped: bool,
    /// Image as the user wrote it.
    pub image: String,
    /// Paths that are to be anonymous volumes.
    pub volumes: IndexSet<String>,
    /// Directory to run in; empty for the image's.
    pub working_dir: String,
    /// Whether the container gets no network at all.
    pub network_disabled: bool,
    /// Labels.
    pub labels: IndexMap<String, String>,
    /// Signal that asks the program to end, as written; empty for the image's, else SIGTERM.
    pub stop_signal: String,
    /// Seconds between that signal and SIGKILL; `None` for ten, negative for no end.
    pub stop_timeout: Option<i64>,
    /// Shell of the shell form; `None` when not set.
    pub shell: Option<Vec<String>>,
    /// Instructions for images built upon the container's image; kept from the image.
    pub on_build: Vec<String>,
}

/// What was asked, resolved against the image; frozen at create.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ContainerSpec {
    /// Configuration of the image merged with the request's.
    pub config: ContainerConfig,
    /// Grants of the host, with the daemon's defaults filled in.
    pub host: HostSettings,
    /// Networks asked for by name.
    pub endpoints: IndexMap<String, EndpointRequest>,
    /// The image it was made from.
    pub image_id: Digest,
    /// Platform of that image.
    pub platform: Platform,
    /// Program that is executed.
    pub path: String,
    /// Its arguments, without the program.
    pub args: Vec<String>,
    /// Mounts asked for, resolved to one list.
    pub mounts: Vec<MountPoint>,
}

impl ContainerSpec {
    /// Its volumes, by name, with whether it may write to them.
    pub fn volumes(&self) -> impl Iterator<Item = (&VolumeMount, bool)> {
        self.mounts
            .iter()
            .filter_map(|m| Some((m.volume.as_ref()?, m.writable)))
    }

    /// Program and arguments as one list.
    #[must_use]
    pub fn argv(&self) -> Vec<String> {
        let mut argv = Vec::with_capacity(self.args.len() + 1);
        if !self.path.is_empty() {
            argv.push(self.path.clone());
        }
        argv.extend(self.args.iter().cloned());
        argv
    }

    /// The signal that asks the program to end.
    #[must_use]
    pub fn stop_signal(&self) -> berth_types::Signal {
        berth_types::Signal::parse(&self.config.stop_signal).unwrap_or(berth_types::Signal::TERM)
    }
}
