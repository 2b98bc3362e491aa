//! A real registry on loopback: the CNCF distribution server as Debian packages it.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::json;

use crate::archive::{Dialect, Image, digest};
use crate::bulk::Bulk;
use crate::token_server::TokenServer;
use crate::{http, images, needs, wait};

/// How often another port is tried when somebody took the chosen one.
const PORT_ATTEMPTS: usize = 5;

/// Who a guarded registry knows.
pub const USER: &str = "someone";
/// That one's password.
pub const PASSWORD: &str = "secret";
/// Its hash (bcrypt, which is all that the registry takes).
const PASSWORD_HASH: &str = "$2b$04$9DUDfFuOoHW17K8qWWmse.DHjqVFBeKK4rjG0zowkaWLw6O4qbh7K";

/// How a registry tells who asks.
#[derive(Debug, Clone, Copy)]
pub enum Guard<'a> {
    /// By user and password.
    Password,
    /// By a token of this server.
    Tokens(&'a TokenServer),
}

/// A running registry; ends when dropped.
#[derive(Debug)]
pub struct Registry {
    port: u16,
    child: Child,
    storage: PathBuf,
}

impl Registry {
    /// A registry with the test images, its storage shared with later runs. Read only by habit:
    /// tests that push use [`Registry::empty`].
    #[track_caller]
    pub fn with_test_images() -> Self {
        needs::program("docker-registry", "docker-registry");
        match Self::serve_test_images(None) {
            Ok(registry) => registry,
            Err(error) => panic!("{error:#}"),
        }
    }

    /// The same on a chosen port, with errors as values.
    pub fn serve_test_images(port: Option<u16>) -> Result<Self> {
        let storage = images::cache()?.join("registry");
        let registry = Self::start(&storage, port)?;
        for image in [images::busybox()?, images::debian()?] {
            let (name, tag) = split(&image.name);
            if !registry.has(&name, &tag, &digest(&image.manifest(Dialect::Docker)?.0))? {
                registry.push(&image, Dialect::Docker)?;
            }
        }
        Ok(registry)
    }

    /// A registry with its storage in `directory`, which the caller owns.
    #[track_caller]
    pub fn empty(directory: &Path) -> Self {
        needs::program("docker-registry", "docker-registry");
        match Self::start(directory, None) {
            Ok(registry) => registry,
            Err(error) => panic!("{error:#}"),
        }
    }

    /// With images for measurements, its storage shared with later runs. Errors as values.
    pub fn serve_bulk(images: &[Bulk]) -> Result<Self> {
        let registry = Self::start(&images::cache()?.join("bulk-registry"), None)?;
        for image in images {
            image.ensure(&registry)?;
        }
        Ok(registry)
    }

    /// As [`Registry::empty`], with errors as values.
    pub fn serve_empty(directory: &Path) -> Result<Self> {
        Self::start(directory, None)
    }

    /// Where it keeps its content.
    pub fn storage(&self) -> &Path {
        &self.storage
    }

    /// The same that lets in only who knows the password of [`USER`], or has a token of `tokens`.
    #[track_caller]
    pub fn guarded(directory: &Path, guard: Guard<'_>) -> Self {
        needs::program("docker-registry", "docker-registry");
        match Self::start_guarded(directory, None, Some(guard)) {
            Ok(registry) => registry,
            Err(error) => panic!("{error:#}"),
        }
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Process id of the server.
    pub fn pid(&self) -> i32 {
        rustix::process::Pid::from_child(&self.child)
            .as_raw_nonzero()
            .get()
    }

    /// `127.0.0.1:port`, as in a reference.
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// As a value of `registry-mirrors`.
    pub fn mirror(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Uploads `image` under its own name; official names go below `library/`.
    pub fn push(&self, image: &Image, dialect: Dialect) -> Result<()> {
        let (name, tag) = split(&image.name);
        let (manifest, blobs) = image.manifest(dialect)?;
        for blob in &blobs {
            self.push_blob(&name, blob)?;
        }
        self.push_manifest(&name, &tag, dialect.manifest(), &manifest)
    }

    /// Uploads `image` behind an index with one entry for each of `platforms` (`linux/arm64`, …);
    /// the entry of this machine's own platform is the image, the others point to `other`.
    pub fn push_index(&self, image: &Image, other: &Image, platforms: &[&str]) -> Result<()> {
        let entries = platforms.iter().map(|platform| {
            let (os, architecture) = platform.split_once('/').unwrap_or(("linux", platform));
            let own = architecture == crate::archive::architecture();
            (if own { image } else { other }, os, architecture)
        });
        self.push_index_of(&image.name, entries)
    }

    /// Uploads images behind an index with one entry for each, all under the name of the first.
    pub fn push_platforms(&self, images: &[Image]) -> Result<()> {
        let name = images.first().map_or("", |image| &image.name);
        let entries = images
            .iter()
            .map(|image| (image, "linux", image.architecture.as_str()));
        self.push_index_of(name, entries)
    }

    /// Uploads images, each with its system and architecture, and an index of them.
    fn push_index_of<'a>(
        &self,
        name: &str,
        images: impl Iterator<Item = (&'a Image, &'a str, &'a str)>,
    ) -> Result<()> {
        let (name, tag) = split(name);
        let mut entries = Vec::new();
        for (image, os, architecture) in images {
            let (manifest, blobs) = image.manifest(Dialect::Oci)?;
            for blob in &blobs {
                self.push_blob(&name, blob)?;
            }
            let identity = digest(&manifest);
            self.push_manifest(&name, &identity, Dialect::Oci.manifest(), &manifest)?;
            entries.push(json!({
                "mediaType": Dialect::Oci.manifest(),
                "digest": identity,
                "size": manifest.len(),
                "platform": {"os": os, "architecture": architecture},
            }));
        }
        let index = json!({
            "schemaVersion": 2, "mediaType": Dialect::Oci.index(), "manifests": entries,
        });
        self.push_manifest(
            &name,
            &tag,
            Dialect::Oci.index(),
            index.to_string().as_bytes(),
        )
    }

    /// Uploads one blob.
    pub fn push_blob(&self, name: &str, blob: &[u8]) -> Result<()> {
        let target = format!("/v2/{name}/blobs/uploads/");
        let started = self.send("POST", &target, &[], b"")?;
        let Some(location) = started.header("location").filter(|_| started.status == 202) else {
            bail!("{} for POST {target}: {}", started.status, started.text());
        };
        let path = location.split_once("//").map_or(location, |(_, rest)| {
            rest.find('/').map_or("/", |slash| &rest[slash..])
        });
        let joint = if path.contains('?') { '&' } else { '?' };
        let target = format!("{path}{joint}digest={}", digest(blob));
        let kind = [("Content-Type", "application/octet-stream")];
        let done = self.send("PUT", &target, &kind, blob)?;
        if done.status != 201 {
            bail!(
                "{} for the blob {}: {}",
                done.status,
                digest(blob),
                done.text()
            );
        }
        Ok(())
    }

    /// Uploads one manifest or index.
    pub fn push_manifest(&self, name: &str, tag: &str, kind: &str, bytes: &[u8]) -> Result<()> {
        let target = format!("/v2/{name}/manifests/{tag}");
        let done = self.send("PUT", &target, &[("Content-Type", kind)], bytes)?;
        if done.status != 201 {
            bail!("{} for PUT {target}: {}", done.status, done.text());
        }
        Ok(())
    }

    /// Whether there is an image of this name, whichever it is.
    pub fn holds(&self, name: &str) -> Result<bool> {
        let (name, tag) = split(name);
        let target = format!("/v2/{name}/manifests/{tag}");
        let accept = [("Accept", Dialect::Docker.manifest())];
        Ok(self.send("HEAD", &target, &accept, b"")?.status == 200)
    }

    fn has(&self, name: &str, tag: &str, wanted: &str) -> Result<bool> {
        let target = format!("/v2/{name}/manifests/{tag}");
        let accept = [("Accept", Dialect::Docker.manifest())];
        let answer = self.send("HEAD", &target, &accept, b"")?;
        Ok(answer.status == 200 && answer.header("docker-content-digest") == Some(wanted))
    }

    fn send(
        &self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<http::Response> {
        http::request(http::loopback(self.port)?, method, target, headers, body)
    }

    fn start(storage: &Path, port: Option<u16>) -> Result<Self> {
        Self::start_guarded(storage, port, None)
    }

    fn start_guarded(storage: &Path, port: Option<u16>, guard: Option<Guard<'_>>) -> Result<Self> {
        let Some(program) = needs::find("docker-registry") else {
            bail!("docker-registry is not installed (cargo xtask deps)");
        };
        fs::create_dir_all(storage).with_context(|| format!("create {}", storage.display()))?;
        for _ in 0..PORT_ATTEMPTS {
            let chosen = match port {
                Some(port) => port,
                None => free_port()?,
            };
            let mut registry = Self::spawn(&program, storage, chosen, guard)?;
            let ready = wait::within(wait::PATIENCE, || {
                match registry.child.try_wait() {
                    Ok(None) => {}
                    _ => return Some(false),
                }
                let answer = registry.send("GET", "/v2/", &[], b"").ok()?;
                let ready = if guard.is_some() { 401 } else { 200 };
                (answer.status == ready).then_some(true)
            });
            match ready {
                Some(true) => return Ok(registry),
                Some(false) if port.is_none() => {}
                _ => bail!("docker-registry does not answer on 127.0.0.1:{chosen}"),
            }
        }
        bail!("no free port for docker-registry after {PORT_ATTEMPTS} attempts")
    }

    fn spawn(program: &Path, storage: &Path, port: u16, guard: Option<Guard<'_>>) -> Result<Self> {
        let config: PathBuf = storage.with_extension(format!("{port}.yml"));
        let auth = match guard {
            None => String::new(),
            Some(Guard::Password) => {
                let passwords = storage.join("htpasswd");
                fs::write(&passwords, format!("{USER}:{PASSWORD_HASH}\n"))
                    .with_context(|| format!("write {}", passwords.display()))?;
                format!(
                    "auth: {{htpasswd: {{realm: test, path: {}}}}}\n",
                    passwords.display()
                )
            }
            Some(Guard::Tokens(server)) => server.configuration(),
        };
        let text = format!(
            "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\n\
             storage: {{filesystem: {{rootdirectory: {}}}, delete: {{enabled: true}}}}\n\
             http: {{addr: \"127.0.0.1:{port}\"}}\n{auth}",
            storage.display()
        );
        fs::write(&config, text).with_context(|| format!("write {}", config.display()))?;
        let child = std::process::Command::new(program)
            .arg("serve")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("start {}", program.display()))?;
        // Read once at start; the file is ours to remove as soon as the server answers, and it is
        // removed with the storage's directory when the server never does.
        let registry = Self {
            port,
            child,
            storage: storage.to_owned(),
        };
        wait::within(Duration::from_secs(5), || http::loopback(port).ok());
        drop(fs::remove_file(&config));
        Ok(registry)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Registry path and tag of a name as a person writes it.
fn split(name: &str) -> (String, String) {
    let (path, tag) = name.rsplit_once(':').unwrap_or((name, "latest"));
    let path = if path.contains('/') {
        path.to_owned()
    } else {
        format!("library/{path}")
    };
    (path, tag.to_owned())
}

fn free_port() -> Result<u16> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).context("find a free port")?;
    Ok(listener.local_addr().context("find a free port")?.port())
}
