//! Archives, images and stores made by hand.

use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::sync::Arc;

use berth_image::documents::media;
use berth_image::{ImageStore, Settings, digest_of};
use berth_types::Digest;
use serde_json::json;

/// Writes tar archives without any of the checks that a library makes.
#[derive(Default)]
pub(crate) struct Tar {
    bytes: Vec<u8>,
}

/// The fields of a header.
#[derive(Clone)]
pub(crate) struct Head {
    pub(crate) flag: u8,
    pub(crate) mode: u32,
    pub(crate) uid: u64,
    pub(crate) gid: u64,
    pub(crate) mtime: u64,
    pub(crate) link: Vec<u8>,
    pub(crate) device: (u32, u32),
    pub(crate) size: Option<u64>,
}

impl Default for Head {
    fn default() -> Self {
        Self {
            flag: b'0',
            mode: 0o644,
            uid: 0,
            gid: 0,
            mtime: 1_600_000_000,
            link: Vec::new(),
            device: (0, 0),
            size: None,
        }
    }
}

impl Tar {
    pub(crate) fn raw(&mut self, path: &[u8], head: &Head, data: &[u8]) -> &mut Self {
        let mut header = tar::Header::new_ustar();
        {
            let block = header.as_mut_bytes();
            let length = path.len().min(100);
            block[..length].copy_from_slice(&path[..length]);
            let length = head.link.len().min(100);
            block[157..157 + length].copy_from_slice(&head.link[..length]);
            block[156] = head.flag;
        }
        header.set_mode(head.mode);
        header.set_uid(head.uid);
        header.set_gid(head.gid);
        header.set_mtime(head.mtime);
        header.set_size(head.size.unwrap_or(data.len() as u64));
        header.set_device_major(head.device.0).unwrap();
        header.set_device_minor(head.device.1).unwrap();
        header.set_cksum();
        self.bytes.extend_from_slice(header.as_bytes());
        self.data(data)
    }

    pub(crate) fn data(&mut self, data: &[u8]) -> &mut Self {
        self.bytes.extend_from_slice(data);
        let fill = (512 - data.len() % 512) % 512;
        self.bytes.extend(std::iter::repeat_n(0, fill));
        self
    }

    pub(crate) fn file(&mut self, path: &str, data: &[u8]) -> &mut Self {
        self.raw(path.as_bytes(), &Head::default(), data)
    }

    pub(crate) fn dir(&mut self, path: &str, mode: u32) -> &mut Self {
        let head = Head {
            flag: b'5',
            mode,
            ..Head::default()
        };
        self.raw(path.as_bytes(), &head, b"")
    }

    pub(crate) fn symlink(&mut self, path: &str, target: &str) -> &mut Self {
        let head = Head {
            flag: b'2',
            mode: 0o777,
            link: target.into(),
            ..Head::default()
        };
        self.raw(path.as_bytes(), &head, b"")
    }

    pub(crate) fn hard(&mut self, path: &str, target: &str) -> &mut Self {
        let head = Head {
            flag: b'1',
            link: target.into(),
            ..Head::default()
        };
        self.raw(path.as_bytes(), &head, b"")
    }

    pub(crate) fn pax(&mut self, records: &[(&str, &[u8])]) -> &mut Self {
        let mut data = Vec::new();
        for (key, value) in records {
            let rest = key.len() + value.len() + 3;
            let mut length = rest + 1;
            while length.to_string().len() + rest != length {
                length = rest + length.to_string().len();
            }
            data.extend_from_slice(format!("{length} {key}=").as_bytes());
            data.extend_from_slice(value);
            data.push(b'\n');
        }
        let head = Head {
            flag: b'x',
            ..Head::default()
        };
        self.raw(b"PaxHeaders/x", &head, &data)
    }

    pub(crate) fn end(&mut self) -> Vec<u8> {
        let mut bytes = std::mem::take(&mut self.bytes);
        bytes.extend([0; 1024]);
        bytes
    }

    pub(crate) fn unfinished(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes)
    }
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub(crate) fn zstandard(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).unwrap()
}

/// A layer as its bytes in a manifest and its uncompressed digest.
#[derive(Clone)]
pub(crate) struct Layer {
    pub(crate) bytes: Vec<u8>,
    pub(crate) diff_id: Digest,
}

impl Layer {
    pub(crate) fn descriptor(&self) -> serde_json::Value {
        let suffix = match self.bytes.as_slice() {
            [0x1f, 0x8b, ..] => "+gzip",
            [0x28, 0xb5, ..] => "+zstd",
            _ => "",
        };
        descriptor(&format!("{}{suffix}", media::OCI_LAYER), &self.bytes)
    }

    pub(crate) fn plain(tar: Vec<u8>) -> Self {
        let diff_id = digest_of(&tar);
        Self {
            bytes: tar,
            diff_id,
        }
    }

    pub(crate) fn gzip(tar: Vec<u8>) -> Self {
        let diff_id = digest_of(&tar);
        Self {
            bytes: gzip(&tar),
            diff_id,
        }
    }

    pub(crate) fn zstd(tar: Vec<u8>) -> Self {
        let diff_id = digest_of(&tar);
        Self {
            bytes: zstandard(&tar),
            diff_id,
        }
    }
}

/// An image with all its documents as content.
#[derive(Clone)]
pub(crate) struct Made {
    pub(crate) blobs: BTreeMap<Digest, Vec<u8>>,
    pub(crate) config: Vec<u8>,
    pub(crate) manifest: Vec<u8>,
    pub(crate) layers: Vec<Layer>,
}

impl Made {
    pub(crate) fn new(layers: &[Layer]) -> Self {
        Self::for_platform(layers, "amd64", json!({"Cmd": ["/bin/sh"]}))
    }

    pub(crate) fn for_platform(
        layers: &[Layer],
        architecture: &str,
        run: serde_json::Value,
    ) -> Self {
        let diff_ids: Vec<String> = layers.iter().map(|l| l.diff_id.to_string()).collect();
        let config = serde_json::to_vec(&json!({
            "architecture": architecture, "os": "linux", "created": "2024-01-02T03:04:05Z", "config": run,
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
            "history": layers.iter().map(|_| json!({"created_by": "made by hand"})).collect::<Vec<_>>(),
        }))
        .unwrap();
        let manifest = serde_json::to_vec(&json!({
            "schemaVersion": 2, "mediaType": media::OCI_MANIFEST,
            "config": descriptor(media::OCI_CONFIG, &config),
            "layers": layers.iter().map(Layer::descriptor).collect::<Vec<_>>(),
        }))
        .unwrap();
        let mut blobs = BTreeMap::new();
        for bytes in layers.iter().map(|l| &l.bytes).chain([&config, &manifest]) {
            blobs.insert(digest_of(bytes), bytes.clone());
        }
        Self {
            blobs,
            config,
            manifest,
            layers: layers.to_vec(),
        }
    }

    pub(crate) fn id(&self) -> Digest {
        digest_of(&self.config)
    }

    /// An OCI layout with one image of this name.
    pub(crate) fn layout(&self, name: &str) -> Vec<u8> {
        let mut entry = descriptor(media::OCI_MANIFEST, &self.manifest);
        entry["annotations"] = json!({"io.containerd.image.name": name});
        let index = json!({"schemaVersion": 2, "manifests": [entry]});
        layout(&index, &self.blobs)
    }

    /// What `docker save` wrote before version 25.
    pub(crate) fn legacy_save(&self, name: &str) -> Vec<u8> {
        let mut tar = Tar::default();
        let mut paths = Vec::new();
        for (index, layer) in self.layers.iter().enumerate() {
            tar.dir(&format!("layer{index}/"), 0o755);
            tar.file(&format!("layer{index}/VERSION"), b"1.0");
            tar.file(&format!("layer{index}/json"), b"{}");
            tar.file(&format!("layer{index}/layer.tar"), &layer.bytes);
            paths.push(format!("layer{index}/layer.tar"));
        }
        let config = format!("{}.json", self.id().hex());
        tar.file(&config, &self.config);
        let list = json!([{"Config": config, "RepoTags": [name], "Layers": paths}]);
        tar.file("manifest.json", &serde_json::to_vec(&list).unwrap());
        tar.file("repositories", b"{}");
        tar.end()
    }
}

pub(crate) fn layout(index: &serde_json::Value, blobs: &BTreeMap<Digest, Vec<u8>>) -> Vec<u8> {
    let mut tar = Tar::default();
    tar.file("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#);
    tar.file("index.json", &serde_json::to_vec(index).unwrap());
    tar.dir("blobs/", 0o755);
    tar.dir("blobs/sha256/", 0o755);
    for (digest, bytes) in blobs {
        tar.file(&format!("blobs/sha256/{}", digest.hex()), bytes);
    }
    tar.end()
}

pub(crate) fn descriptor(media_type: &str, bytes: &[u8]) -> serde_json::Value {
    json!({"mediaType": media_type, "digest": digest_of(bytes).to_string(), "size": bytes.len()})
}

/// A store in a directory of its own.
pub(crate) struct Home {
    pub(crate) store: ImageStore,
    pub(crate) database: Arc<redb::Database>,
    pub(crate) directory: tempfile::TempDir,
}

impl Home {
    pub(crate) fn new() -> Self {
        Self::with(Settings::default())
    }

    pub(crate) fn with(settings: Settings) -> Self {
        let directory = tempfile::Builder::new()
            .prefix("berth-image-")
            .tempdir()
            .unwrap();
        let database = Arc::new(redb::Database::create(directory.path().join("state.db")).unwrap());
        let store = ImageStore::open(directory.path(), database.clone(), settings).unwrap();
        Self {
            store,
            database,
            directory,
        }
    }

    /// The same store, opened again as by a new process.
    pub(crate) fn reopen(self) -> Self {
        let Self {
            store,
            database,
            directory,
        } = self;
        store.wait_for_trash();
        drop(store);
        let store =
            ImageStore::open(directory.path(), database.clone(), Settings::default()).unwrap();
        Self {
            store,
            database,
            directory,
        }
    }

    pub(crate) fn load(
        &self,
        archive: &[u8],
    ) -> berth_image::Result<Vec<berth_image::LoadedImage>> {
        self.store
            .load(archive, &[], &berth_image::progress::silent())
    }

    /// Every file of the store but its records, which must be none after everything was removed.
    pub(crate) fn leftovers(&self) -> Vec<String> {
        self.store.wait_for_trash();
        let mut found = Vec::new();
        for place in [
            "blobs/sha256",
            "blobs/ingest",
            "blobs/partial",
            "layers/overlay",
            "layers/overlay/staging",
            "layers/overlay/trash",
            "layers/overlay/containers",
        ] {
            for entry in std::fs::read_dir(self.directory.path().join(place)).unwrap() {
                let name = entry.unwrap().file_name().into_string().unwrap();
                let own = ["base", "staging", "empty", "trash", "containers"];
                if !own.contains(&name.as_str()) {
                    found.push(format!("{place}/{name}"));
                }
            }
        }
        found
    }

    /// The image's file system as the kernel shows it.
    pub(crate) fn tree(&self, image: &Digest) -> BTreeMap<String, String> {
        let mount = self
            .store
            .image_rootfs(image)
            .unwrap()
            .mount_detached()
            .unwrap();
        tree(&berth_sys::path::descriptor_path(&mount))
    }
}

/// Everything that can be said about every file beneath a directory, by path.
pub(crate) fn tree(root: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut links: BTreeMap<u64, String> = BTreeMap::new();
    let mut pending = vec![std::path::PathBuf::new()];
    while let Some(relative) = pending.pop() {
        let path = root.join(&relative).join(".");
        let path = if relative.as_os_str().is_empty() {
            path
        } else {
            root.join(&relative)
        };
        let metadata = path.symlink_metadata().unwrap();
        let kind = metadata.file_type();
        let name = format!("/{}", relative.display());
        let mut text = format!(
            "mode={:o} owner={}:{} time={}.{:09}",
            metadata.mode(),
            metadata.uid(),
            metadata.gid(),
            metadata.mtime(),
            metadata.mtime_nsec()
        );
        if kind.is_file() {
            let content = std::fs::read(&path).unwrap();
            text.push_str(&format!(
                " size={} content={}",
                content.len(),
                digest_of(&content).short()
            ));
            if metadata.nlink() > 1 {
                let first = links.entry(metadata.ino()).or_insert_with(|| name.clone());
                text.push_str(&format!(" links={} same={first}", metadata.nlink()));
            }
        } else if kind.is_symlink() {
            text.push_str(&format!(
                " to={}",
                std::fs::read_link(&path).unwrap().display()
            ));
        } else if kind.is_block_device() || kind.is_char_device() {
            text.push_str(&format!(" device={:x}", metadata.rdev()));
        }
        if kind.is_file() || kind.is_dir() {
            for (key, value) in xattrs(&path) {
                text.push_str(&format!(" {key}={}", digest_of(&value).short()));
            }
        }
        if kind.is_dir() {
            let mut names: Vec<_> = std::fs::read_dir(&path)
                .unwrap()
                .map(|entry| entry.unwrap().file_name())
                .collect();
            // The last one is visited first.
            names.sort_by(|a, b| b.cmp(a));
            pending.extend(names.into_iter().map(|name| relative.join(name)));
        }
        found.insert(name, text);
    }
    found
}

fn xattrs(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    // Asked for its length first: few files have any.
    if rustix::fs::llistxattr_query(path).unwrap_or(0) == 0 {
        return found;
    }
    let mut list = vec![0_u8; 65_536];
    let length = rustix::fs::llistxattr(path, &mut list[..]).unwrap_or(0);
    for name in list[..length].split(|b| *b == 0).filter(|n| !n.is_empty()) {
        let mut value = vec![0_u8; 65_536];
        let length =
            rustix::fs::lgetxattr(path, std::ffi::OsStr::from_bytes(name), &mut value[..]).unwrap();
        value.truncate(length);
        found.insert(String::from_utf8_lossy(name).into_owned(), value);
    }
    found
}

/// Every cause of an error in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}
