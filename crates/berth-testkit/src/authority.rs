//! A certificate authority of a test's own, and the certificates it gives.

use std::fs;
use std::path::{Path, PathBuf};

use crate::{Command, needs};

/// An authority with its files in a directory of the test's.
#[derive(Debug)]
pub struct Authority {
    directory: PathBuf,
}

/// A certificate and its key.
#[derive(Debug, Clone)]
pub struct Certificate {
    /// The certificate (PEM).
    pub certificate: PathBuf,
    /// The key (PEM).
    pub key: PathBuf,
}

impl Authority {
    /// Makes one; `directory` is there already, and the caller's.
    #[track_caller]
    pub fn new(directory: &Path) -> Self {
        needs::program("openssl", "openssl");
        let authority = Self {
            directory: directory.to_owned(),
        };
        authority.openssl("req -x509 -days 2 -subj /CN=test-authority -keyout ca.key -out ca.pem -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes");
        authority
    }

    /// Its own certificate, which those who trust it have.
    pub fn certificate(&self) -> PathBuf {
        self.directory.join("ca.pem")
    }

    /// Certifies a server or client; `names` as openssl has them: `DNS:registry.test,IP:127.0.0.1`.
    #[track_caller]
    pub fn certify(&self, file: &str, names: &str) -> Certificate {
        let extensions = self.directory.join(format!("{file}.ext"));
        if let Err(error) = fs::write(&extensions, format!("subjectAltName={names}\n")) {
            panic!("write {}: {error}", extensions.display());
        }
        self.openssl(&format!("req -subj /CN={file} -keyout {file}.key -out {file}.csr -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes"));
        self.openssl(&format!("x509 -req -days 2 -in {file}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -extfile {file}.ext -out {file}.pem"));
        Certificate {
            certificate: self.directory.join(format!("{file}.pem")),
            key: self.directory.join(format!("{file}.key")),
        }
    }

    #[track_caller]
    fn openssl(&self, line: &str) {
        Command::new("openssl")
            .args(line.split(' '))
            .directory(&self.directory)
            .run()
            .ok();
    }
}
