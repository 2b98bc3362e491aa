//! Certificates of single registries, as Docker's `certs.d` has them.
//!
//! ```text
//! <directory>/<host[:port]>/
//! ├── *.crt          authorities that this registry's certificate may come from, beside the host's
//! └── *.cert, *.key  certificate and key that we show to this registry
//! ```
//!
//! Owns: finding and reading these files. They are looked at whenever a connection is chosen, so that a new file
//! counts at once; what they mean for a connection is decided in [`super::connect`].

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use berth_sys::fs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::error::{ImageError, Result};
use crate::limits;

/// Names, lengths and times of the files that count for one registry: equal ones need no second reading.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Stamp(Vec<(PathBuf, u64, Option<SystemTime>)>);

impl Stamp {
    /// The files for `authority` in all of `directories`.
    pub(super) fn of(directories: &[PathBuf], authority: &str) -> Result<Self> {
        let mut files = Vec::new();
        if !is_plain(authority) {
            return Ok(Self(files));
        }
        for directory in directories {
            let directory = directory.join(authority);
            if !fs::exists(&directory) {
                continue;
            }
            for name in fs::list(&directory)? {
                let path = directory.join(name);
                if !matches!(ending(&path), "crt" | "cert" | "key") {
                    continue;
                }
                let metadata = fs::metadata(&path)?;
                files.push((path, metadata.len(), metadata.modified().ok()));
            }
        }
        files.sort();
        Ok(Self(files))
    }

    /// Whether this registry has no files of its own.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Reads the files.
    pub(super) fn read(&self) -> Result<HostCertificates> {
        let mut found = HostCertificates::default();
        for (path, _, _) in &self.0 {
            match ending(path) {
                "crt" => found.authorities.extend(certificates(path)?),
                "cert" => {
                    let key = path.with_extension("key");
                    if !self.has(&key) {
                        return Err(bad(
                            path,
                            &format!(
                                "missing key {} for client certificate; certificates of authorities end with .crt",
                                name(&key)
                            ),
                        ));
                    }
                    if found.client.is_some() {
                        return Err(bad(
                            path,
                            "a registry has one client certificate, this is the second",
                        ));
                    }
                    found.client = Some((certificates(path)?, private_key(&key)?));
                }
                _ => {
                    let certificate = path.with_extension("cert");
                    if !self.has(&certificate) {
                        return Err(bad(
                            path,
                            &format!("missing client certificate {} for key", name(&certificate)),
                        ));
                    }
                }
            }
        }
        Ok(found)
    }

    fn has(&self, path: &Path) -> bool {
        self.0.iter().any(|(other, _, _)| other == path)
    }
}

/// What the files of one registry hold.
#[derive(Debug, Default)]
pub(super) struct HostCertificates {
    pub(super) authorities: Vec<CertificateDer<'static>>,
    pub(super) client: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
}

/// All certificates of a PEM file, at least one.
pub(super) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let bytes = fs::read_bounded(path, limits::PEM_BYTES_MAX)?;
    let found = CertificateDer::pem_slice_iter(&bytes)
        .collect::<std::result::Result<Vec<_>, _>>()
        .map_err(|error| bad(path, &error.to_string()))?;
    if found.is_empty() {
        return Err(bad(path, "it contains no certificate"));
    }
    Ok(found)
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>> {
    let bytes = fs::read_bounded(path, limits::PEM_BYTES_MAX)?;
    PrivateKeyDer::from_pem_slice(&bytes).map_err(|error| bad(path, &error.to_string()))
}

pub(super) fn bad(path: &Path, reason: &str) -> ImageError {
    ImageError::Setting {
        setting: format!("certificate file {}", path.display()),
        reason: reason.to_owned(),
    }
}

/// The authority of a redirect is chosen by whoever answers, so it may name a directory of ours only as a host.
fn is_plain(authority: &str) -> bool {
    !authority.is_empty()
        && !matches!(authority, "." | "..")
        && authority.bytes().all(|b| {
            b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b':' | b'[' | b']')
        })
}

fn ending(path: &Path) -> &str {
    path.extension()
        .and_then(|end| end.to_str())
        .unwrap_or_default()
}

fn name(path: &Path) -> std::borrow::Cow<'_, str> {
    path.file_name().unwrap_or_default().to_string_lossy()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registry_has_only_what_its_directory_holds() {
        let root = tempfile::tempdir().unwrap();
        let own = root.path().join("r.lan:5000");
        fs::create_dir(&own, 0o755).unwrap();
        let directories = [root.path().to_owned(), root.path().join("none")];
        let of = |authority: &str| Stamp::of(&directories, authority).unwrap();
        assert!(of("r.lan:5000").is_empty());
        fs::write(&own.join("README"), b"").unwrap();
        fs::write(&own.join("a.key"), b"").unwrap();
        let before = of("r.lan:5000");
        let error = before.read().unwrap_err().to_string();
        assert!(
            error.contains("missing client certificate a.cert"),
            "{error}"
        );
        fs::write(&own.join("a.cert"), b"nothing").unwrap();
        assert_ne!(of("r.lan:5000"), before);
        let error = of("r.lan:5000").read().unwrap_err().to_string();
        assert!(error.contains("no certificate"), "{error}");
        for other in ["r.lan", "..", ".", "r.lan:5000/..", "x@r.lan:5000", ""] {
            assert!(of(other).is_empty(), "{other}");
        }
    }
}
