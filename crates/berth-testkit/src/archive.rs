//! Images as values: layers written entry by entry (hostile ones too), and the forms in which an
//! image travels: `docker save` archive, OCI layout, registry manifest.

use std::io::Write;

use anyhow::{Context, Result};
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
pub use tar::EntryType;
use tar::{Builder, Header};

/// Times of all entries, so that equal recipes give equal digests: 2024-01-01T00:00:00Z.
const EPOCH: u64 = 1_704_067_200;

/// An uncompressed layer under construction.
pub struct Layer {
    tar: Builder<Vec<u8>>,
    owner: (u64, u64),
}

impl Default for Layer {
    fn default() -> Self {
        Self::new()
    }
}

impl Layer {
    /// An empty layer.
    pub fn new() -> Self {
        Self {
            tar: Builder::new(Vec::new()),
            owner: (0, 0),
        }
    }

    /// Lets entries that follow belong to this user and group.
    pub fn owner(mut self, uid: u64, gid: u64) -> Self {
        self.owner = (uid, gid);
        self
    }

    /// Adds a directory.
    pub fn directory(self, path: &str, mode: u32) -> Self {
        self.entry(path, EntryType::Directory, mode, "", b"")
    }

    /// Adds a regular file.
    pub fn file(self, path: &str, mode: u32, content: impl AsRef<[u8]>) -> Self {
        self.entry(path, EntryType::Regular, mode, "", content.as_ref())
    }

    /// Adds a symbolic link.
    pub fn symlink(self, path: &str, target: &str) -> Self {
        self.entry(path, EntryType::Symlink, 0o777, target, b"")
    }

    /// Adds a hard link to an earlier entry.
    pub fn hard_link(self, path: &str, target: &str) -> Self {
        self.entry(path, EntryType::Link, 0o755, target, b"")
    }

    /// Adds any entry; the names go in byte for byte, also those no honest tool would write.
    pub fn entry(
        mut self,
        path: &str,
        kind: EntryType,
        mode: u32,
        link: &str,
        content: &[u8],
    ) -> Self {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_mtime(EPOCH);
        header.set_uid(self.owner.0);
        header.set_gid(self.owner.1);
        header.set_size(content.len() as u64);
        if let Some(fields) = header.as_gnu_mut() {
            assert!(path.len() <= fields.name.len() && link.len() <= fields.linkname.len());
            fields.name[..path.len()].copy_from_slice(path.as_bytes());
            fields.linkname[..link.len()].copy_from_slice(link.as_bytes());
        }
        header.set_cksum();
        self.tar
            .append(&header, content)
            .expect("writing into memory cannot fail");
        self
    }

    /// The tar bytes.
    pub fn finish(self) -> Vec<u8> {
        self.tar
            .into_inner()
            .expect("writing into memory cannot fail")
    }
}

/// A whole image.
#[derive(Debug, Clone)]
pub struct Image {
    /// Name and tag as a person writes them, for example `busybox:latest`.
    pub name: String,
    /// The `config` object of the image configuration (Cmd, Env, User, …).
    pub config: Value,
    /// Uncompressed layers, lowest first.
    pub layers: Vec<Vec<u8>>,
    /// What it is for, as images name it.
    pub architecture: String,
}

impl Image {
    /// An image of `layers` that runs `command`.
    pub fn new(name: &str, command: &[&str], layers: Vec<Vec<u8>>) -> Self {
        let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
        Self {
            name: name.to_owned(),
            config: json!({"Cmd": command, "Env": [path]}),
            layers,
            architecture: architecture().to_owned(),
        }
    }

    /// The image configuration document.
    pub fn configuration(&self) -> Vec<u8> {
        let diff_ids: Vec<String> = self.layers.iter().map(|layer| digest(layer)).collect();
        let history: Vec<Value> = self
            .layers
            .iter()
            .map(|_| json!({"created": "2024-01-01T00:00:00Z", "created_by": "cargo xtask test-images"}))
            .collect();
        let document = json!({
            "architecture": self.architecture,
            "os": "linux",
            "created": "2024-01-01T00:00:00Z",
            "config": self.config,
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
            "history": history,
        });
        document.to_string().into_bytes()
    }

    /// The image id as Docker's classic store has it: the digest of the configuration.
    pub fn id(&self) -> String {
        digest(&self.configuration())
    }

    /// The archive of `docker save`.
    pub fn docker_archive(&self) -> Result<Vec<u8>> {
        let configuration = self.configuration();
        let config_name = format!("{}.json", hex(&digest(&configuration)));
        let mut archive = Builder::new(Vec::new());
        let mut names = Vec::new();
        for layer in &self.layers {
            let name = format!("{}/layer.tar", hex(&digest(layer)));
            if !names.contains(&name) {
                add(&mut archive, &name, layer)?;
            }
            names.push(name);
        }
        add(&mut archive, &config_name, &configuration)?;
        let manifest = json!([{"Config": config_name, "RepoTags": [self.name], "Layers": names}]);
        add(
            &mut archive,
            "manifest.json",
            manifest.to_string().as_bytes(),
        )?;
        archive.into_inner().context("finish the archive")
    }

    /// An OCI image layout as a tar archive, layers compressed with gzip.
    pub fn oci_layout(&self) -> Result<Vec<u8>> {
        let mut archive = Builder::new(Vec::new());
        add(
            &mut archive,
            "oci-layout",
            br#"{"imageLayoutVersion":"1.0.0"}"#,
        )?;
        let (manifest, blobs) = self.manifest(Dialect::Oci)?;
        let mut written: Vec<String> = Vec::new();
        for blob in blobs.iter().chain([&manifest]) {
            let name = format!("blobs/sha256/{}", hex(&digest(blob)));
            if !written.contains(&name) {
                add(&mut archive, &name, blob)?;
                written.push(name);
            }
        }
        let (_, tag) = self.name.rsplit_once(':').unwrap_or(("", "latest"));
        let index = json!({
            "schemaVersion": 2,
            "mediaType": Dialect::Oci.index(),
            "manifests": [{
                "mediaType": Dialect::Oci.manifest(),
                "digest": digest(&manifest),
                "size": manifest.len(),
                "annotations": {
                    "io.containerd.image.name": format!("docker.io/library/{}", self.name),
                    "org.opencontainers.image.ref.name": tag,
                },
            }],
        });
        add(&mut archive, "index.json", index.to_string().as_bytes())?;
        archive.into_inner().context("finish the archive")
    }

    /// The manifest with its blobs: the configuration first, then the layers compressed with gzip.
    pub fn manifest(&self, dialect: Dialect) -> Result<(Vec<u8>, Vec<Vec<u8>>)> {
        let mut blobs = vec![self.configuration()];
        for layer in &self.layers {
            blobs.push(gzip(layer)?);
        }
        let layers: Vec<Value> = blobs[1..]
            .iter()
            .map(|blob| {
                json!({"mediaType": dialect.layer(), "digest": digest(blob), "size": blob.len()})
            })
            .collect();
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": dialect.manifest(),
            "config": {
                "mediaType": dialect.configuration(),
                "digest": digest(&blobs[0]),
                "size": blobs[0].len(),
            },
            "layers": layers,
        });
        Ok((manifest.to_string().into_bytes(), blobs))
    }
}

/// The two families of media types a registry serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// Docker's image manifest, version 2, schema 2.
    Docker,
    /// The OCI image specification.
    Oci,
}

impl Dialect {
    /// Media type of an image manifest.
    pub fn manifest(self) -> &'static str {
        match self {
            Self::Docker => "application/vnd.docker.distribution.manifest.v2+json",
            Self::Oci => "application/vnd.oci.image.manifest.v1+json",
        }
    }

    /// Media type of a list of manifests per platform.
    pub fn index(self) -> &'static str {
        match self {
            Self::Docker => "application/vnd.docker.distribution.manifest.list.v2+json",
            Self::Oci => "application/vnd.oci.image.index.v1+json",
        }
    }

    fn configuration(self) -> &'static str {
        match self {
            Self::Docker => "application/vnd.docker.container.image.v1+json",
            Self::Oci => "application/vnd.oci.image.config.v1+json",
        }
    }

    fn layer(self) -> &'static str {
        match self {
            Self::Docker => "application/vnd.docker.image.rootfs.diff.tar.gzip",
            Self::Oci => "application/vnd.oci.image.layer.v1.tar+gzip",
        }
    }
}

/// `sha256:` and the hexadecimal digest of the bytes.
pub fn digest(bytes: &[u8]) -> String {
    let mut text = String::from("sha256:");
    for byte in Sha256::digest(bytes) {
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

/// The architecture of this machine in the words of images.
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// Compresses with gzip; equal input gives equal output.
pub fn gzip(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).context("compress a layer")?;
    encoder.finish().context("compress a layer")
}

fn hex(digest: &str) -> &str {
    digest.strip_prefix("sha256:").unwrap_or(digest)
}

fn add(archive: &mut Builder<Vec<u8>>, name: &str, content: &[u8]) -> Result<()> {
    let mut header = Header::new_gnu();
    header.set_mode(0o644);
    header.set_mtime(EPOCH);
    header.set_size(content.len() as u64);
    archive
        .append_data(&mut header, name, content)
        .with_context(|| format!("add {name} to an archive"))
}
