//! What the owner of a store decides about it, as plain values: nothing here is read from the environment.

use std::path::PathBuf;
use std::time::Duration;

use berth_types::Platform;

use crate::limits;

/// Settings of an image store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The platform that images are chosen for when none is asked for.
    pub platform: Platform,
    /// How registries are reached.
    pub registries: RegistrySettings,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            platform: Platform::host(),
            registries: RegistrySettings::default(),
        }
    }
}

/// How registries are reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistrySettings {
    /// Mirrors of docker.io, tried in order before it (`registry-mirrors` of Docker's daemon.json). A URL
    /// such as `https://mirror.example` or `http://127.0.0.1:5000`; a path is put in front of the repository.
    pub mirrors: Vec<String>,
    /// Mirrors of other registries (or of docker.io, tried before the ones above): host and port to URLs.
    pub mirrors_of: Vec<(String, Vec<String>)>,
    /// Registries that may speak plain HTTP or show an unverified certificate: `host[:port]` or a CIDR
    /// range. Addresses of 127.0.0.0/8 and ::1, and `localhost`, always may.
    pub insecure: Vec<String>,
    /// PEM files with further certificate authorities, beside those of the host.
    pub certificate_files: Vec<PathBuf>,
    /// Directories with certificates of single registries, in `<host[:port]>` directories (`certs.d`).
    pub certificate_directories: Vec<PathBuf>,
    /// Proxy for http requests (`HTTP_PROXY`).
    pub http_proxy: Option<String>,
    /// Proxy for https requests (`HTTPS_PROXY`).
    pub https_proxy: Option<String>,
    /// Hosts, domains and ranges reached without a proxy, separated by commas (`NO_PROXY`).
    pub no_proxy: Option<String>,
    /// `User-Agent` of every request; a default is used when empty.
    pub user_agent: String,
    /// Layers that one pull downloads at a time; one is the least.
    pub concurrent_downloads: usize,
    /// Layers that one push sends at a time; one is the least.
    pub concurrent_uploads: usize,
    /// Attempts for one request, download or upload before it fails; one is the least.
    pub download_attempts: u32,
    /// Longest silence within a download before it is taken up again.
    pub stall_timeout: Duration,
}

impl Default for RegistrySettings {
    fn default() -> Self {
        Self {
            mirrors: Vec::new(),
            mirrors_of: Vec::new(),
            insecure: Vec::new(),
            certificate_files: Vec::new(),
            certificate_directories: Vec::new(),
            http_proxy: None,
            https_proxy: None,
            no_proxy: None,
            user_agent: String::new(),
            concurrent_downloads: limits::DOWNLOADS_PER_PULL,
            concurrent_uploads: limits::UPLOADS_PER_PUSH,
            download_attempts: limits::DOWNLOAD_ATTEMPTS,
            stall_timeout: limits::STALL_TIMEOUT,
        }
    }
}
