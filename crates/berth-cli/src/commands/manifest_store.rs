//! Lists of manifests that are being made, as files in the user's configuration directory.
//!
//! ```text
//! manifests/<list>/<manifest>   one file per manifest; names with `:` as `-` and `/` as `_`
//! ```
//!
//! The layout and the files are those of the stock client, so that either goes on where the other began.

use std::fs;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use berth_api::{OciDescriptor, RemoteManifest};
use berth_types::Digest;
use berth_types::reference::Reference;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::failure::Failure;
use crate::limits::{MAX_FILE, MAX_LIST};

/// A manifest as the files and `inspect --verbose` have it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Entry {
    /// Its name.
    #[serde(rename = "Ref")]
    pub(super) reference: String,
    /// What it is, with the platform that it is listed for.
    #[serde(rename = "Descriptor")]
    pub(super) descriptor: OciDescriptor,
    /// Base64 of its bytes.
    #[serde(rename = "Raw", default, skip_serializing_if = "String::is_empty")]
    raw: String,
    #[serde(
        rename = "SchemaV2Manifest",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    docker: Option<Box<RawValue>>,
    #[serde(
        rename = "OCIManifest",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    oci: Option<Box<RawValue>>,
}

impl Entry {
    /// The entry for a manifest of a registry.
    pub(super) fn of(reference: &Reference, manifest: RemoteManifest) -> Result<Self, Failure> {
        let bad = |reason: &dyn std::fmt::Display| {
            Failure::new(format!("read the manifest of {reference}: {reason}"))
        };
        let bytes = STANDARD
            .decode(&manifest.document)
            .map_err(|error| bad(&error))?;
        let text = String::from_utf8(bytes).map_err(|error| bad(&error))?;
        let parsed = RawValue::from_string(text.trim().to_owned()).map_err(|error| bad(&error))?;
        let oci = manifest.descriptor.media_type.contains(".oci.");
        let (docker, oci) = match oci {
            true => (None, Some(parsed)),
            false => (Some(parsed), None),
        };
        Ok(Self {
            reference: reference.to_string(),
            descriptor: OciDescriptor {
                platform: manifest.platforms.into_iter().next(),
                ..manifest.descriptor
            },
            raw: manifest.document,
            docker,
            oci,
        })
    }

    /// The manifest itself, which must still be what its digest says.
    pub(super) fn bytes(&self) -> Result<Vec<u8>, Failure> {
        let bad = |reason: &dyn std::fmt::Display| {
            Failure::new(format!("read the manifest of {}: {reason}", self.reference))
        };
        if !self.raw.is_empty() {
            return STANDARD.decode(&self.raw).map_err(|error| bad(&error));
        }
        // Files of old clients have it only as JSON.
        match self.docker.as_ref().or(self.oci.as_ref()) {
            Some(json) => Ok(json.get().as_bytes().to_vec()),
            None => Err(bad(&"it has no manifest")),
        }
    }
}

/// The lists of one user.
pub(super) struct ManifestStore {
    root: PathBuf,
}

/// A name that every part of which is kept.
fn file_name(reference: &Reference) -> String {
    reference.to_string().replace(':', "-").replace('/', "_")
}

fn failed(attempt: &str, path: &Path, error: &dyn std::fmt::Display) -> Failure {
    Failure::new(format!("{attempt} {}: {error}", path.display()))
}

impl ManifestStore {
    /// The lists beneath a configuration directory.
    pub(super) fn new(configuration: &Path) -> Self {
        Self {
            root: configuration.join("manifests"),
        }
    }

    fn directory(&self, list: &Reference) -> PathBuf {
        self.root.join(file_name(list))
    }

    /// The manifests of a list; `None` when there is no such list.
    pub(super) fn list(&self, list: &Reference) -> Result<Option<Vec<Entry>>, Failure> {
        let directory = self.directory(list);
        let entries = match fs::read_dir(&directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed("read", &directory, &error)),
        };
        let mut paths = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|error| failed("read", &directory, &error))?;
            paths.push(entry.path());
            if paths.len() > MAX_LIST {
                return Err(failed(
                    "read",
                    &directory,
                    &format!("it has more than {MAX_LIST} manifests"),
                ));
            }
        }
        paths.sort();
        let mut found = Vec::with_capacity(paths.len());
        for path in paths {
            found.extend(read(&path)?);
        }
        Ok(Some(found))
    }

    /// One manifest of a list.
    pub(super) fn get(
        &self,
        list: &Reference,
        manifest: &Reference,
    ) -> Result<Option<Entry>, Failure> {
        read(&self.directory(list).join(file_name(manifest)))
    }

    /// Puts a manifest into a list, which is made when it is not there.
    pub(super) fn save(
        &self,
        list: &Reference,
        manifest: &Reference,
        entry: &Entry,
    ) -> Result<(), Failure> {
        let directory = self.directory(list);
        fs::create_dir_all(&directory).map_err(|error| failed("create", &directory, &error))?;
        let path = directory.join(file_name(manifest));
        let text = serde_json::to_vec(entry).map_err(|error| failed("write", &path, &error))?;
        // A dot keeps it apart from every name.
        let temporary = self.root.join(format!(".{}", std::process::id()));
        fs::write(&temporary, text)
            .and_then(|()| fs::rename(&temporary, &path))
            .map_err(|error| failed("write", &path, &error))
    }

    /// Forgets a list.
    pub(super) fn remove(&self, list: &Reference) -> Result<(), Failure> {
        let directory = self.directory(list);
        fs::remove_dir_all(&directory).map_err(|error| failed("remove", &directory, &error))
    }
}

fn read(path: &Path) -> Result<Option<Entry>, Failure> {
    let mut text = Vec::new();
    match fs::File::open(path) {
        Ok(file) => file
            .take(MAX_FILE)
            .read_to_end(&mut text)
            .map_err(|error| failed("read", path, &error))?,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed("read", path, &error)),
    };
    let entry: Entry =
        serde_json::from_slice(&text).map_err(|error| failed("read", path, &error))?;
    if Digest::parse(&entry.descriptor.digest).is_err() {
        return Err(failed("read", path, &"its digest is none"));
    }
    Ok(Some(entry))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(text: &str) -> RemoteManifest {
        RemoteManifest {
            descriptor: OciDescriptor {
                media_type: "application/vnd.oci.image.manifest.v1+json".into(),
                digest: format!("sha256:{}", "ab".repeat(32)),
                size: 2,
                ..OciDescriptor::default()
            },
            document: STANDARD.encode(text),
            platforms: Vec::new(),
        }
    }

    #[test]
    fn lists_are_kept_as_the_stock_client_keeps_them() {
        let home = tempfile::tempdir().expect("a directory");
        let store = ManifestStore::new(home.path());
        let list = Reference::parse("r:5000/a/list:1").expect("a name");
        let one = Reference::parse("r:5000/a/one:1").expect("a name");
        assert!(store.list(&list).expect("no error").is_none());
        let entry = Entry::of(&one, manifest("{ \"a\": 1 }")).expect("an entry");
        store.save(&list, &one, &entry).expect("saves");
        let path = home.path().join("manifests/r-5000_a_list-1/r-5000_a_one-1");
        let text = fs::read_to_string(path).expect("the file");
        assert!(text.starts_with(r#"{"Ref":"r:5000/a/one:1","Descriptor":{"mediaType":"#));
        assert!(text.contains(r#""Raw":"eyAiYSI6IDEgfQ==""#), "{text}");
        let found = store.list(&list).expect("no error").expect("a list");
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].bytes().expect("bytes"), b"{ \"a\": 1 }");
        assert!(store.get(&list, &list).expect("no error").is_none());
        store.remove(&list).expect("removes");
        assert!(store.list(&list).expect("no error").is_none());
    }
}
