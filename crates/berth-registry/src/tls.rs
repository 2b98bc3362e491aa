//! The server's side of TLS: certificate and key from PEM files, read again when they are renewed.

use std::path::Path;
use std::sync::Arc;

use berth_sys::fs;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::error::{RegistryError, Result};
use crate::limits::PEM_BYTES_MAX;
use crate::settings::TlsFiles;
use crate::watched::Watched;

/// The TLS settings of the moment.
#[derive(Debug)]
pub(crate) struct Tls(Watched<Arc<ServerConfig>>);

impl Tls {
    pub(crate) fn new(files: &TlsFiles) -> Result<Self> {
        let own = files.clone();
        let watched = vec![files.certificate.clone(), files.key.clone()];
        Watched::new(watched, move || read(&own)).map(Self)
    }

    pub(crate) fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.0.get())
    }
}

fn bad(what: &str, path: &Path, reason: impl ToString) -> RegistryError {
    RegistryError::setting(format!("{what} {}", path.display()), reason)
}

fn read(files: &TlsFiles) -> Result<Arc<ServerConfig>> {
    let pem = fs::read_bounded(&files.certificate, PEM_BYTES_MAX)?;
    let chain = CertificateDer::pem_slice_iter(&pem)
        .collect::<std::result::Result<Vec<_>, _>>()
        .map_err(|error| bad("certificate", &files.certificate, error))?;
    if chain.is_empty() {
        return Err(bad(
            "certificate",
            &files.certificate,
            "there is none in it",
        ));
    }
    let pem = fs::read_bounded(&files.key, PEM_BYTES_MAX)?;
    let key = PrivateKeyDer::from_pem_slice(&pem).map_err(|error| bad("key", &files.key, error))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
        .map_err(|error| bad("certificate", &files.certificate, error))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
