//! The user's configuration: `config.json` in `--config`, `$DOCKER_CONFIG` or `~/.docker`.
//!
//! Read only; what this program has no use for is left to the programs that share the file.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use base64::Engine as _;
use berth_api::AuthConfig;
use serde::Deserialize;

use crate::failure::Failure;
use crate::limits::MAX_FILE;

/// Key of Docker Hub in `auths`, as every client has written it since the beginning.
const DOCKER_HUB: &str = "https://index.docker.io/v1/";
/// User name that marks a helper's secret as an identity token.
const TOKEN_USER: &str = "<token>";

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
    auths: BTreeMap<String, Credentials>,
    #[serde(rename = "credsStore")]
    credentials_store: String,
    #[serde(rename = "credHelpers")]
    credential_helpers: BTreeMap<String, String>,
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

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Credentials {
    auth: String,
    username: String,
    password: String,
    #[serde(rename = "identitytoken")]
    identity_token: String,
    #[serde(rename = "registrytoken")]
    registry_token: String,
}

#[derive(Deserialize)]
struct HelperAnswer {
    #[serde(rename = "Username")]
    username: String,
    #[serde(rename = "Secret")]
    secret: String,
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
        let failed = |reason: String| {
            Failure::new(format!(
                "read the configuration file {}: {reason}",
                path.display()
            ))
        };
        let mut text = Vec::new();
        match File::open(&path) {
            Ok(file) => file
                .take(MAX_FILE)
                .read_to_end(&mut text)
                .map_err(|error| failed(error.to_string()))?,
            Err(error)
                if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) =>
            {
                return Ok(Self::default());
            }
            Err(error) => return Err(failed(error.to_string())),
        };
        if text.trim_ascii().is_empty() {
            return Ok(Self::default());
        }
        serde_json::from_slice(&text).map_err(|error| failed(error.to_string()))
    }

    /// Credentials of a registry, if there are any.
    ///
    /// # Errors
    /// When a credential helper is named and fails for another reason than not knowing the registry.
    pub(crate) fn credentials(&self, registry: &str) -> Result<Option<AuthConfig>, Failure> {
        let hub = matches!(
            registry,
            "docker.io" | "index.docker.io" | "registry-1.docker.io"
        );
        let key = if hub { DOCKER_HUB } else { registry };
        let helper = match self
            .credential_helpers
            .get(key)
            .or_else(|| self.credential_helpers.get(registry))
        {
            Some(helper) => helper,
            None => &self.credentials_store,
        };
        if !helper.is_empty() {
            return ask_helper(helper, key);
        }
        let found = self
            .auths
            .iter()
            .find(|(name, _)| name.as_str() == key || host_of(name) == host_of(key));
        let Some((_, stored)) = found else {
            return Ok(None);
        };
        let (mut username, mut password) = (stored.username.clone(), stored.password.clone());
        if !stored.auth.is_empty() {
            let bad = || {
                Failure::new(format!(
                    "the stored credentials of {registry} are not valid"
                ))
            };
            let decoded = base64::engine::general_purpose::STANDARD
                .decode(stored.auth.as_bytes())
                .ok()
                .and_then(|bytes| String::from_utf8(bytes).ok())
                .ok_or_else(bad)?;
            let (user, secret) = decoded.split_once(':').ok_or_else(bad)?;
            (username, password) = (user.to_owned(), secret.trim_end_matches('\0').to_owned());
        }
        Ok(Some(AuthConfig {
            username,
            password,
            server_address: key.to_owned(),
            identity_token: stored.identity_token.clone(),
            registry_token: stored.registry_token.clone(),
            ..AuthConfig::default()
        }))
    }
}

/// The host of a key, which older clients wrote as an address.
fn host_of(key: &str) -> &str {
    let rest = key
        .strip_prefix("https://")
        .or_else(|| key.strip_prefix("http://"))
        .unwrap_or(key);
    rest.split('/').next().unwrap_or_default()
}

/// Asks the program `docker-credential-<helper>` for the credentials of `key`.
fn ask_helper(helper: &str, key: &str) -> Result<Option<AuthConfig>, Failure> {
    let program = format!("docker-credential-{helper}");
    let failed = |reason: String| {
        Failure::new(format!(
            "ask {program} for the credentials of {key}: {reason}"
        ))
    };
    let mut child = Command::new(&program)
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| failed(error.to_string()))?;
    if let Some(mut input) = child.stdin.take() {
        // A helper that does not read still answers, so a broken pipe tells nothing.
        let _ = input.write_all(key.as_bytes());
    }
    let output = child
        .wait_with_output()
        .map_err(|error| failed(error.to_string()))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stdout);
        if said.contains("credentials not found") {
            return Ok(None);
        }
        return Err(failed(said.trim().to_owned()));
    }
    let answer: HelperAnswer =
        serde_json::from_slice(&output.stdout).map_err(|error| failed(error.to_string()))?;
    let mut auth = AuthConfig {
        server_address: key.to_owned(),
        ..AuthConfig::default()
    };
    if answer.username == TOKEN_USER {
        auth.identity_token = answer.secret;
    } else {
        auth.username = answer.username;
        auth.password = answer.secret;
    }
    Ok(Some(auth))
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
