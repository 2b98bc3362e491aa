//! What the owner of a registry decides about it, as plain values.

use std::path::PathBuf;
use std::time::Duration;

use crate::collect::Grace;

/// Settings of a registry.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Directory of everything it keeps.
    pub root: PathBuf,
    /// File of users, as `htpasswd -B` writes it. Without one, everybody may do everything.
    pub auth_file: Option<PathBuf>,
    /// Certificate chain and key, both PEM. Without them, plain HTTP.
    pub tls: Option<TlsFiles>,
    /// Refuses every change.
    pub read_only: bool,
    /// What collection may take, and when.
    pub grace: Grace,
    /// The registry that this one is a cache of.
    pub upstream: Option<Upstream>,
}

/// Files of a TLS server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate, then those that sign it.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// A registry to be cached.
#[derive(Clone)]
pub struct Upstream {
    /// `https://registry.example` or `http://127.0.0.1:5000`.
    pub url: String,
    /// Name and password there.
    pub credentials: Option<(String, String)>,
    /// PEM files with further certificate authorities.
    pub certificate_files: Vec<PathBuf>,
    /// Proxy for http requests.
    pub http_proxy: Option<String>,
    /// Proxy for https requests.
    pub https_proxy: Option<String>,
    /// Hosts, domains and ranges reached without a proxy, separated by commas.
    pub no_proxy: Option<String>,
    /// How long a tag is answered without asking there again.
    pub fresh: Duration,
}

impl std::fmt::Debug for Upstream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Upstream")
            .field("url", &self.url)
            .field("fresh", &self.fresh)
            .finish_non_exhaustive()
    }
}
