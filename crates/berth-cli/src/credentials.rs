//! Credentials of registries: in the user's configuration file, or with a helper program that it names.
//!
//! Owns: under which key credentials are kept, finding, storing and removing them. Does not own: the other parts
//! of the file ([`crate::config`]), how a helper is talked to ([`outside`]), how the file is replaced ([`file`]).

mod file;
mod outside;

use std::collections::BTreeMap;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use berth_api::AuthConfig;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::config::ConfigFile;
use crate::failure::Failure;

/// Key of Docker Hub in `auths`, as every client has written it since the beginning.
pub(crate) const DOCKER_HUB: &str = "https://index.docker.io/v1/";
/// User name that marks a helper's secret as an identity token.
const TOKEN_USER: &str = "<token>";
/// Credentials for this run alone, in the form of the file.
const VARIABLE: &str = "DOCKER_AUTH_CONFIG";

/// An entry of `auths`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Stored {
    auth: String,
    username: String,
    password: String,
    #[serde(rename = "identitytoken")]
    identity_token: String,
    #[serde(rename = "registrytoken")]
    registry_token: String,
}

/// Where credentials went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kept {
    /// Into the file, readable for whoever reads it.
    InFile,
    /// To a helper.
    WithHelper,
}

/// The key under which a registry's credentials are kept: its host and port, and an address for Docker Hub.
pub(crate) fn key_of(registry: &str) -> String {
    match host_of(registry) {
        "" | "docker.io" | "index.docker.io" | "registry-1.docker.io" => DOCKER_HUB.to_owned(),
        host => host.to_owned(),
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

fn find<'a>(auths: &'a BTreeMap<String, Stored>, key: &str) -> Option<&'a Stored> {
    auths.get(key).or_else(|| {
        auths
            .iter()
            .find(|(name, _)| host_of(name) == host_of(key))
            .map(|(_, stored)| stored)
    })
}

impl Stored {
    fn read(&self, key: &str) -> Result<AuthConfig, Failure> {
        let (mut username, mut password) = (self.username.clone(), self.password.clone());
        if !self.auth.is_empty() {
            let bad = || Failure::new(format!("the stored credentials of {key} are not valid"));
            let decoded = STANDARD
                .decode(self.auth.as_bytes())
                .ok()
                .and_then(|bytes| String::from_utf8(bytes).ok())
                .ok_or_else(bad)?;
            let (user, secret) = decoded.split_once(':').ok_or_else(bad)?;
            (username, password) = (user.to_owned(), secret.trim_end_matches('\0').to_owned());
        }
        Ok(AuthConfig {
            username,
            password,
            server_address: key.to_owned(),
            identity_token: self.identity_token.clone(),
            registry_token: self.registry_token.clone(),
            ..AuthConfig::default()
        })
    }
}

/// The credentials of the variable, if it has some for this key.
fn of_variable(key: &str) -> Result<Option<AuthConfig>, Failure> {
    #[derive(Deserialize)]
    struct Text {
        #[serde(default)]
        auths: BTreeMap<String, Stored>,
    }
    let Ok(text) = std::env::var(VARIABLE) else {
        return Ok(None);
    };
    if text.trim().is_empty() {
        return Ok(None);
    }
    let text: Text = serde_json::from_str(&text)
        .map_err(|error| Failure::new(format!("read the variable {VARIABLE}: {error}")))?;
    find(&text.auths, key)
        .map(|stored| stored.read(key))
        .transpose()
}

impl ConfigFile {
    /// The helper that keeps the credentials of a key; empty for none.
    fn helper_of(&self, key: &str) -> &str {
        self.credential_helpers
            .get(key)
            .or_else(|| self.credential_helpers.get(host_of(key)))
            .or_else(|| match key {
                DOCKER_HUB => self.credential_helpers.get("docker.io"),
                _ => None,
            })
            .unwrap_or(&self.credentials_store)
    }

    /// Credentials of a registry, if there are any.
    ///
    /// # Errors
    /// When a credential helper is named and fails for another reason than not knowing the registry.
    pub(crate) fn credentials(&self, registry: &str) -> Result<Option<AuthConfig>, Failure> {
        let key = key_of(registry);
        if let Some(auth) = of_variable(&key)? {
            return Ok(Some(auth));
        }
        let helper = self.helper_of(&key);
        if helper.is_empty() {
            return find(&self.auths, &key)
                .map(|stored| stored.read(&key))
                .transpose();
        }
        let Some((username, secret)) = outside::get(helper, &key)? else {
            return Ok(None);
        };
        let mut auth = AuthConfig {
            server_address: key,
            ..AuthConfig::default()
        };
        if username == TOKEN_USER {
            auth.identity_token = secret;
        } else {
            (auth.username, auth.password) = (username, secret);
        }
        Ok(Some(auth))
    }

    /// Whether the variable decides about credentials, so that what is stored may not count.
    pub(crate) fn variable_decides() -> bool {
        std::env::var(VARIABLE).is_ok_and(|text| !text.trim().is_empty())
    }

    /// Whether nothing about credentials was ever decided.
    fn is_without_credentials(&self) -> bool {
        self.auths.is_empty()
            && self.credentials_store.is_empty()
            && self.credential_helpers.is_empty()
    }

    /// Keeps credentials.
    ///
    /// # Errors
    /// When the helper refuses them or the file cannot be replaced.
    pub(crate) fn store(&self, directory: &Path, auth: &AuthConfig) -> Result<Kept, Failure> {
        let key = &auth.server_address;
        let mut helper = self.helper_of(key).to_owned();
        let mut choose = false;
        if self.is_without_credentials()
            && let Some(found) = outside::usual()
        {
            (helper, choose) = (found.to_owned(), true);
        }
        if !helper.is_empty() {
            let (user, secret) = match auth.identity_token.as_str() {
                "" => (auth.username.as_str(), auth.password.as_str()),
                token => (TOKEN_USER, token),
            };
            outside::store(&helper, key, user, secret)?;
        }
        file::change(directory, |config| {
            if choose {
                config.insert("credsStore".to_owned(), json!(helper));
            }
            let mut entry = Map::new();
            // With a helper, the entry only tells that there is something to ask it for.
            if helper.is_empty() {
                let pair = format!("{}:{}", auth.username, auth.password);
                entry.insert("auth".to_owned(), json!(STANDARD.encode(pair)));
                if !auth.identity_token.is_empty() {
                    entry.insert("identitytoken".to_owned(), json!(auth.identity_token));
                }
            }
            auths(config).insert(key.clone(), Value::Object(entry));
        })?;
        Ok(match helper.is_empty() {
            true => Kept::InFile,
            false => Kept::WithHelper,
        })
    }

    /// Removes the credentials of a key in every form in which clients have written it.
    ///
    /// # Errors
    /// When the helper or the file could not be changed.
    pub(crate) fn erase(&self, directory: &Path, key: &str) -> Result<(), Failure> {
        let helper = self.helper_of(key);
        let erased = match helper {
            "" => Ok(()),
            helper => outside::erase(helper, key),
        };
        let known = |name: &str| name == key || (key != DOCKER_HUB && host_of(name) == key);
        if self.auths.keys().any(|name| known(name)) {
            file::change(directory, |config| {
                auths(config).retain(|name, _| !known(name));
            })?;
        }
        erased
    }
}

/// `auths` of the file, made when it is not there.
fn auths(config: &mut Map<String, Value>) -> &mut Map<String, Value> {
    let entry = config
        .entry("auths")
        .or_insert_with(|| Value::Object(Map::new()));
    if !entry.is_object() {
        *entry = Value::Object(Map::new());
    }
    match entry {
        Value::Object(auths) => auths,
        _ => unreachable!("it was made an object"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(directory: &Path) -> ConfigFile {
        ConfigFile::load(directory).expect("reads")
    }

    fn auth(server: &str) -> AuthConfig {
        AuthConfig {
            username: "me".into(),
            password: "se:cret".into(),
            server_address: server.into(),
            ..AuthConfig::default()
        }
    }

    #[test]
    fn keys_are_hosts_and_an_address_for_docker_hub() {
        for (registry, key) in [
            ("", DOCKER_HUB),
            ("docker.io", DOCKER_HUB),
            ("https://index.docker.io/v1/", DOCKER_HUB),
            ("http://reg.example:5000/v2/", "reg.example:5000"),
            ("localhost", "localhost"),
        ] {
            assert_eq!(key_of(registry), key, "{registry}");
        }
    }

    #[test]
    fn what_is_stored_is_found_and_the_rest_of_the_file_stays() {
        let home = tempfile::tempdir().expect("a directory");
        let path = home.path().join("config.json");
        std::fs::write(
            &path,
            r#"{"zz":{"a":[1]},"auths":{"https://reg.example:5000/v2/":{"auth":"YTpi"}},"psFormat":"x"}"#,
        )
        .expect("writes");
        let kept = load(home.path()).store(home.path(), &auth("other.example"));
        assert_eq!(kept.expect("stores"), Kept::InFile);
        let text = std::fs::read_to_string(&path).expect("reads");
        assert!(text.starts_with("{\n\t\"zz\": {\n\t\t\"a\": ["), "{text}");
        let config = load(home.path());
        assert_eq!(config.ps_format, "x");
        let found = config
            .credentials("other.example")
            .expect("no error")
            .expect("found");
        assert_eq!(
            (found.username.as_str(), found.password.as_str()),
            ("me", "se:cret")
        );
        config
            .erase(home.path(), "reg.example:5000")
            .expect("erases");
        let config = load(home.path());
        assert!(
            config
                .credentials("reg.example:5000")
                .expect("no error")
                .is_none()
        );
        assert!(
            config
                .credentials("other.example")
                .expect("no error")
                .is_some()
        );
    }

    #[test]
    fn a_new_file_is_for_its_owner_alone_and_a_link_stays_one() {
        use std::os::unix::fs::PermissionsExt;
        let home = tempfile::tempdir().expect("a directory");
        let directory = home.path().join("new/.docker");
        // With a decision about some registry, no helper of this machine is chosen.
        let decided = ConfigFile {
            credential_helpers: BTreeMap::from([("x".to_owned(), "x".to_owned())]),
            ..ConfigFile::default()
        };
        decided
            .store(&directory, &auth("r.example"))
            .expect("stores");
        let path = directory.join("config.json");
        let mode = |path: &Path| {
            let metadata = std::fs::metadata(path).expect("is there");
            metadata.permissions().mode() & 0o777
        };
        assert_eq!((mode(&path), mode(&directory)), (0o600, 0o700));

        let elsewhere = home.path().join("elsewhere.json");
        std::fs::rename(&path, &elsewhere).expect("moves");
        std::fs::set_permissions(&elsewhere, std::fs::Permissions::from_mode(0o640))
            .expect("changes");
        std::os::unix::fs::symlink(&elsewhere, &path).expect("links");
        load(&directory)
            .store(&directory, &auth("s.example"))
            .expect("stores");
        assert!(path.is_symlink());
        assert_eq!(mode(&elsewhere), 0o640);
        let config = load(&directory);
        for registry in ["r.example", "s.example"] {
            assert!(config.credentials(registry).expect("no error").is_some());
        }
        let left: Vec<_> = std::fs::read_dir(home.path()).expect("lists").collect();
        assert_eq!(left.len(), 2, "no temporary file stays: {left:?}");
    }
}
