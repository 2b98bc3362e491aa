//! The user's configuration: `config.json` in `--config`, `$DOCKER_CONFIG` or `~/.docker`.
//!
//! Read only; what this program has no use for is left to the programs that share the file. Credentials have a
//! module of their own ([`crate::credentials`]).

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::credentials::Stored;
use crate::failure::Failure;
use crate::limits::MAX_FILE;

/// The parts of the file that matter here.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ConfigFile {
    /// Default format of `ps`.
    #[serde(rename = "psFormat")]
    pub(crate) ps_format: String,
    /// Default format of `images`.
    #[serde(rename = "imagesFormat")]
    pub(crate) images_format: String,
    /// Default format of `stats`.
    #[serde(rename = "statsFormat")]
    pub(crate) stats_format: String,
    /// Default format of `network ls`.
    #[serde(rename = "networksFormat")]
    pub(crate) networks_format: String,
    /// Default format of `volume ls`.
    #[serde(rename = "volumesFormat")]
    pub(crate) volumes_format: String,
    /// Filters of every prune.
    #[serde(rename = "pruneFilters")]
    pub(crate) prune_filters: Vec<String>,
    /// Keys that detach.
    #[serde(rename = "detachKeys")]
    pub(crate) detach_keys: String,
    /// Headers sent with every request.
    #[serde(rename = "HttpHeaders")]
    pub(crate) http_headers: BTreeMap<String, String>,
    /// Proxies new containers get, by host; `default` for all others.
    pub(crate) proxies: BTreeMap<String, Proxies>,
    /// Context that is used when none is named.
    #[serde(rename = "currentContext")]
    pub(crate) current_context: String,
    /// Credentials by registry.
    pub(crate) auths: BTreeMap<String, Stored>,
    /// Helper that keeps the credentials of all registries.
    #[serde(rename = "credsStore")]
    pub(crate) credentials_store: String,
    /// Helpers by registry.
    #[serde(rename = "credHelpers")]
    pub(crate) credential_helpers: BTreeMap<String, String>,
}

/// Proxies new containers get.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Proxies {
    http_proxy: String,
    https_proxy: String,
    no_proxy: String,
    ftp_proxy: String,
    all_proxy: String,
}

impl Proxies {
    /// Variables for a container, in both cases where programs look for both.
    pub(crate) fn variables(&self) -> Vec<(&'static str, &str)> {
        [
            (["HTTP_PROXY", "http_proxy"], &self.http_proxy),
            (["HTTPS_PROXY", "https_proxy"], &self.https_proxy),
            (["NO_PROXY", "no_proxy"], &self.no_proxy),
            (["FTP_PROXY", "ftp_proxy"], &self.ftp_proxy),
            (["ALL_PROXY", "all_proxy"], &self.all_proxy),
        ]
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
        .flat_map(|(names, value)| names.map(|name| (name, value.as_str())))
        .collect()
    }
}

impl ConfigFile {
    /// The directory of the configuration.
    pub(crate) fn directory(flag: &str) -> PathBuf {
        if !flag.is_empty() {
            return PathBuf::from(flag);
        }
        match std::env::var_os("DOCKER_CONFIG").filter(|directory| !directory.is_empty()) {
            Some(directory) => PathBuf::from(directory),
            None => PathBuf::from(std::env::var_os("HOME").unwrap_or_else(|| "/".into()))
                .join(".docker"),
        }
    }

    /// Reads the file; a file that is not there is an empty one.
    ///
    /// # Errors
    /// When the file cannot be read or is not what it should be.
    pub(crate) fn load(directory: &Path) -> Result<Self, Failure> {
        let path = directory.join("config.json");
        let Some(text) = read(&path)? else {
            return Ok(Self::default());
        };
        serde_json::from_slice(&text).map_err(|error| {
            Failure::new(format!(
                "read the configuration file {}: {error}",
                path.display()
            ))
        })
    }
}

/// Reads the file whole; `None` when it is not there or says nothing.
///
/// # Errors
/// When it cannot be read.
pub(crate) fn read(path: &Path) -> Result<Option<Vec<u8>>, Failure> {
    let failed = |error: &std::io::Error| {
        Failure::new(format!(
            "read the configuration file {}: {error}",
            path.display()
        ))
    };
    let mut text = Vec::new();
    match File::open(path) {
        Ok(file) => file
            .take(MAX_FILE)
            .read_to_end(&mut text)
            .map_err(|error| failed(&error))?,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(error) => return Err(failed(&error)),
    };
    Ok(Some(text).filter(|text| !text.trim_ascii().is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<ConfigFile, Failure> {
        let directory = tempfile::tempdir().expect("a directory");
        std::fs::write(directory.path().join("config.json"), text).expect("writes");
        ConfigFile::load(directory.path())
    }

    #[test]
    fn the_file_may_be_missing_or_empty_but_not_wrong() {
        assert!(ConfigFile::load(Path::new("/nonexistent")).is_ok());
        assert!(load(" \n").is_ok());
        assert!(
            load("{")
                .expect_err("half a file")
                .message
                .contains("config.json")
        );
    }

    #[test]
    fn credentials_are_found_by_host() {
        let config = load(
            r#"{"auths":{"https://index.docker.io/v1/":{"auth":"bWU6c2VjcmV0"},
                "https://reg.example:5000/v2/":{"username":"a","password":"b"}},
               "psFormat":"{{.ID}}","unknown":[1]}"#,
        )
        .expect("reads");
        assert_eq!(config.ps_format, "{{.ID}}");
        let hub = config
            .credentials("docker.io")
            .expect("no error")
            .expect("found");
        assert_eq!(
            (hub.username.as_str(), hub.password.as_str()),
            ("me", "secret")
        );
        let own = config
            .credentials("reg.example:5000")
            .expect("no error")
            .expect("found");
        assert_eq!((own.username.as_str(), own.password.as_str()), ("a", "b"));
        assert!(config.credentials("other").expect("no error").is_none());
    }

    #[test]
    fn proxies_are_given_in_both_cases() {
        let config = load(r#"{"proxies":{"default":{"httpProxy":"http://p","noProxy":"a"}}}"#)
            .expect("reads");
        assert_eq!(
            config.proxies["default"].variables(),
            [
                ("HTTP_PROXY", "http://p"),
                ("http_proxy", "http://p"),
                ("NO_PROXY", "a"),
                ("no_proxy", "a")
            ]
        );
    }
}
