//! A registry: the OCI distribution specification 1.1, served from content kept as the engine keeps it.
//!
//! Owns: its root (records, content, uploads), the protocol's server side, and the cache of an upstream. Does not
//! own the engine's images, command lines, or the environment. [`Server`] is the way in.
//!
//! A request: connection (TLS, times) → route → who asks → handler → store, which verifies content, puts it on
//! disk under its digest and then records who has it. Every bound is in [`limits`].

mod access;
mod auth;
mod body;
mod collect;
mod connection;
mod digest;
mod error;
pub mod limits;
mod manifest;
mod mirror;
mod name;
mod range;
mod records;
mod refusal;
mod registry;
mod reply;
mod route;
mod settings;
mod store;
mod tls;
mod uploads;
mod watched;

use std::future::Future;
use std::path::Path;
use std::sync::Arc;

use tokio::net::TcpListener;

pub use collect::{Collected, Grace};
pub use error::{RegistryError, Result};
pub use settings::{Settings, TlsFiles, Upstream};

use registry::Registry;
use store::Store;
use tls::Tls;

/// A registry that is ready to serve.
#[derive(Debug)]
pub struct Server {
    registry: Arc<Registry>,
    tls: Option<Tls>,
    grace: Grace,
}

impl Server {
    /// Opens the root and reads certificates and users. Blocks.
    ///
    /// # Errors
    /// When another process has the root open, or anything that the settings name cannot be used.
    pub fn open(settings: &Settings) -> Result<Self> {
        Ok(Self {
            tls: settings.tls.as_ref().map(Tls::new).transpose()?,
            registry: Arc::new(Registry::open(settings)?),
            grace: settings.grace.clone(),
        })
    }

    /// Serves on every listener until `shutdown` is ready; then open requests get a grace period.
    pub async fn serve(self, listeners: Vec<TcpListener>, shutdown: impl Future<Output = ()>) {
        let Self {
            registry,
            tls,
            grace,
        } = self;
        let collector = tokio::spawn(collect_regularly(Arc::clone(&registry.store), grace));
        connection::run(registry, tls, listeners, shutdown).await;
        collector.abort();
    }
}

async fn collect_regularly(store: Arc<Store>, grace: Grace) {
    let mut clock = tokio::time::interval(limits::COLLECT_INTERVAL);
    clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        clock.tick().await;
        let (store, grace) = (Arc::clone(&store), grace.clone());
        match registry::blocking(move || collect::collect(&store, &grace)).await {
            Ok(collected) if collected == Collected::default() => {}
            Ok(collected) => tracing::info!(
                "collected {} uploads, {} manifests, {} blobs of repositories, {} files with {} bytes",
                collected.uploads,
                collected.manifests,
                collected.blobs,
                collected.files,
                collected.bytes
            ),
            Err(error) => tracing::error!("collect: {}", error.full_text()),
        }
    }
}

/// Collects once in a root that no registry is running on. Blocks.
///
/// # Errors
/// When one is, or the root cannot be used.
pub fn collect_now(root: &Path, grace: &Grace) -> Result<Collected> {
    collect::collect(&Store::open(root)?, grace)
}
