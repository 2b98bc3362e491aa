//! What a monitor is told at its start: `monitor.json`.

use std::path::{Path, PathBuf};

use berth_sys::mount::overlay::Overlay;
use serde::{Deserialize, Serialize};

use crate::error::MonitorError;
use crate::limits;
use crate::log::LogSettings;
use crate::network::NetworkLaunch;

/// Name of the launch request in the container's runtime directory.
pub const LAUNCH_FILE: &str = "monitor.json";
/// Name of the OCI configuration in the container's runtime directory.
pub const CONFIG_FILE: &str = "config.json";
/// Name of the socket in the container's runtime directory.
pub const SOCKET_FILE: &str = "monitor.sock";

/// Everything a monitor needs besides `config.json`. Written to `DIR/monitor.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaunchRequest {
    /// The container's identifier, which is also its name for the runtime.
    pub id: String,
    /// The container's runtime directory: the bundle with `config.json`, the socket, the exit record. Absolute; exists.
    pub bundle: PathBuf,
    /// The root file system to mount; `None` when `root.path` of `config.json` is it already.
    #[serde(default)]
    pub overlay: Option<Overlay>,
    /// Whether `overlay` is mounted already and comes as a descriptor: mounted twice, it would be two file systems that do
    /// not know of each other.
    #[serde(default)]
    pub mounted: bool,
    /// Whether the container has a terminal (`process.terminal` of `config.json` must say the same).
    #[serde(default)]
    pub terminal: bool,
    /// Whether standard input is kept open for those who attach.
    #[serde(default)]
    pub open_stdin: bool,
    /// Whether standard input is closed when the first who attached to it is done.
    #[serde(default)]
    pub stdin_once: bool,
    /// The terminal's first size.
    #[serde(default)]
    pub console_size: Option<ConsoleSize>,
    /// The log.
    pub log: LogSettings,
    /// Who makes the container.
    #[serde(default)]
    pub runtime: RuntimeChoice,
    /// Where the runtime keeps its state.
    pub state_root: PathBuf,
    /// Where compiled seccomp filters are kept.
    #[serde(default)]
    pub seccomp_cache: Option<PathBuf>,
    /// Start the container as soon as it is created, before the launch is answered. Not for those who want to attach before the
    /// first output.
    #[serde(default)]
    pub start: bool,
    /// The network, as far as the monitor has to do with it.
    #[serde(default)]
    pub network: Option<NetworkLaunch>,
}

impl LaunchRequest {
    /// As [`load`](Self::load); `None` when the file is not whole: whoever wrote it died before a monitor was told of it.
    pub(crate) fn load_whole(directory: &Path) -> Result<Option<Self>, MonitorError> {
        match Self::load(directory) {
            Ok(request) => Ok(Some(request)),
            Err(MonitorError::Document { source, .. }) if source.is_eof() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Reads the request in `directory`.
    pub(crate) fn load(directory: &Path) -> Result<Self, MonitorError> {
        let path = directory.join(LAUNCH_FILE);
        let content = berth_sys::fs::read_bounded(&path, limits::MAX_DOCUMENT)?;
        serde_json::from_slice(&content).map_err(|source| MonitorError::Document {
            path: path.display().to_string(),
            source,
        })
    }
}

/// The size of a terminal, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsoleSize {
    /// Lines.
    pub rows: u16,
    /// Characters in a line.
    pub columns: u16,
}

/// Who makes the container.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RuntimeChoice {
    /// Berth's own runtime, called as a library.
    #[default]
    Builtin,
    /// Another OCI runtime with runc's command line. The root file system is then mounted on `DIR/rootfs` in the monitor's
    /// own mount namespace, so `root.path` of `config.json` must be `rootfs`.
    Program {
        /// The program.
        path: PathBuf,
        /// Arguments before the command.
        #[serde(default)]
        args: Vec<String>,
    },
}
