//! Volumes in real directories, with a driver that fails at every step in turn, or for good from a step on as when
//! the engine dies there. The next engine finds each volume whole or not at all, and nothing else.

use std::collections::HashSet;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use berth_image::{ImageStore, Settings};
use indexmap::IndexMap;

use super::driver::{Leftovers, MountSource, OpenVolume, VolumeDriver};
use super::local::LocalDriver;
use super::{VolumeCopyRequest, VolumeCreateRequest, VolumeRecord, Volumes};
use crate::error::EngineError;
use crate::events::Events;
use crate::filters::Filters;
use crate::records::Records;

/// Fails at one step, or from it on.
#[derive(Debug)]
struct Failing {
    inner: LocalDriver,
    /// Steps that go well before.
    left: AtomicI64,
    for_good: bool,
}

impl Failing {
    fn step(&self) -> Result<(), EngineError> {
        let left = self.left.fetch_sub(1, Ordering::SeqCst);
        if left == 0 || (left < 0 && self.for_good) {
            return Err(EngineError::Internal("told to fail".to_owned()));
        }
        Ok(())
    }
}

impl VolumeDriver for Failing {
    fn name(&self) -> &'static str {
        self.inner.name()
    }
    fn check(&self, name: &str, options: &IndexMap<String, String>) -> Result<(), EngineError> {
        self.inner.check(name, options)
    }
    fn prepare(&self, name: &str) -> Result<OwnedFd, EngineError> {
        self.step()?;
        self.inner.prepare(name)
    }
    fn publish(&self, name: &str) -> Result<(), EngineError> {
        self.step()?;
        self.inner.publish(name)
    }
    fn conceal(&self, name: &str) -> Result<(), EngineError> {
        self.step()?;
        self.inner.conceal(name)
    }
    fn reveal(&self, name: &str) -> Result<(), EngineError> {
        self.step()?;
        self.inner.reveal(name)
    }
    fn discard(&self, name: &str) -> Result<(), EngineError> {
        self.step()?;
        self.inner.discard(name)
    }
    fn rename(&self, from: &str, to: &str) -> Result<(), EngineError> {
        self.step()?;
        self.inner.rename(from, to)
    }
    fn exists(&self, name: &str) -> bool {
        self.inner.exists(name)
    }
    fn leftovers(&self) -> Result<Leftovers, EngineError> {
        self.inner.leftovers()
    }
    fn mountpoint(&self, name: &str) -> PathBuf {
        self.inner.mountpoint(name)
    }
    fn is_plain(&self, record: &VolumeRecord) -> bool {
        self.inner.is_plain(record)
    }
    fn mount(&self, record: &VolumeRecord) -> Result<MountSource, EngineError> {
        self.step()?;
        self.inner.mount(record)
    }
    fn unmount(&self, record: &VolumeRecord) -> Result<(), EngineError> {
        self.step()?;
        self.inner.unmount(record)
    }
    fn open(&self, record: &VolumeRecord) -> Result<OpenVolume, EngineError> {
        self.step()?;
        self.inner.open(record)
    }
}

/// One engine's volumes.
async fn life(directory: &Path, failing: Option<(i64, bool)>) -> (Volumes, Records) {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    let records = loop {
        assert!(
            std::time::Instant::now() < deadline,
            "the records stay open"
        );
        match Records::open(&directory.join("state.db")) {
            Ok(records) => break records,
            // The writer of the life before may still be letting the file go.
            Err(error) if error.full_text().contains("already open") => {
                tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            }
            Err(error) => panic!("{}", error.full_text()),
        }
    };
    let images = ImageStore::open(directory, records.database(), Settings::default())
        .expect("a store of images");
    let local = LocalDriver::open_at(&directory.join("volumes"), images.clone()).expect("a driver");
    let driver: Arc<dyn VolumeDriver> = match failing {
        None => Arc::new(local),
        Some((left, for_good)) => Arc::new(Failing {
            inner: local,
            left: AtomicI64::new(left),
            for_good,
        }),
    };
    let volumes = Volumes::open(records.clone(), Events::new(), images, driver)
        .await
        .expect("volumes");
    (volumes, records)
}

async fn make(volumes: &Volumes, name: &str) -> Result<(), EngineError> {
    let request = VolumeCreateRequest {
        name: name.to_owned(),
        ..VolumeCreateRequest::default()
    };
    volumes.create(request).await.map(drop)
}

fn names(volumes: &Volumes) -> Vec<String> {
    let views = volumes.list(&Filters::new()).expect("listed");
    views.iter().map(|v| v.record.name.clone()).collect()
}

fn on_disk(directory: &Path) -> Vec<String> {
    berth_sys::fs::list(&directory.join("volumes"))
        .expect("listed")
        .into_iter()
        .map(|name| name.to_string_lossy().into_owned())
        .collect()
}

/// What is done while the driver fails.
#[derive(Debug, Clone, Copy)]
enum Deed {
    Create,
    Remove,
    Rename,
    Clone,
}

async fn attempt(volumes: &Volumes, deed: Deed) -> Result<(), EngineError> {
    match deed {
        Deed::Create => make(volumes, "new").await,
        Deed::Remove => volumes.remove("old", false).await,
        Deed::Rename => volumes.rename("old", "new").await.map(drop),
        Deed::Clone => {
            let request = VolumeCopyRequest {
                from: "old".to_owned(),
                to: "new".to_owned(),
                ..VolumeCopyRequest::default()
            };
            volumes.copy(request, HashSet::new()).await.map(drop)
        }
    }
}

/// Which volumes there are after a deed that went well, or did not.
fn expected(deed: Deed, done: bool) -> &'static [&'static str] {
    match (deed, done) {
        (Deed::Create | Deed::Clone, true) => &["new", "old"],
        (Deed::Remove, true) => &[],
        (Deed::Rename, true) => &["new"],
        (_, false) => &["old"],
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_fails_leaves_volumes_whole_or_not_at_all() {
    for deed in [Deed::Create, Deed::Remove, Deed::Rename, Deed::Clone] {
        for for_good in [false, true] {
            for step in 0..8 {
                let directory = tempfile::tempdir().expect("a directory");
                let path = directory.path();
                {
                    let (volumes, records) = life(path, None).await;
                    make(&volumes, "old").await.expect("made");
                    let file = path.join("volumes/old/_data/file");
                    berth_sys::fs::write(&file, b"content").expect("written");
                    records.close().await;
                }
                let done = {
                    // Recovery takes steps of its own, which are not those that fail.
                    let (volumes, records) = life(path, Some((step + 1, for_good))).await;
                    let done = attempt(&volumes, deed).await.is_ok();
                    records.close().await;
                    done
                };
                let (volumes, records) = life(path, None).await;
                let what = format!("{deed:?} with step {step} failing (for good: {for_good})");
                let found = names(&volumes);
                // What was told as failed may be made up for by the next engine, but never by half.
                let possible = [expected(deed, true), expected(deed, false)];
                assert!(possible.iter().any(|p| found == *p), "{what}: {found:?}");
                if done {
                    assert_eq!(found, expected(deed, true), "{what}");
                }
                assert_eq!(on_disk(path), found, "{what}");
                for name in &found {
                    let content =
                        berth_sys::fs::read(&path.join("volumes").join(name).join("_data/file"));
                    let fresh = matches!(deed, Deed::Create) && name == "new";
                    assert_eq!(content.is_ok(), !fresh, "{what}: content of {name}");
                }
                records.close().await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_was_complete_moves_in_and_one_that_was_not_goes() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path();
    let (volumes, records) = life(path, None).await;
    make(&volumes, "one").await.expect("made");
    make(&volumes, "two").await.expect("made");
    for (name, staged) in [("one", "fill"), ("two", "fill.new")] {
        let staged = path.join("volumes").join(name).join(staged);
        berth_sys::fs::create_dir(&staged, 0o710).expect("made");
        berth_sys::fs::write(&staged.join("file"), b"content").expect("written");
    }
    // Made by a container meanwhile: it stays.
    berth_sys::fs::write(&path.join("volumes/one/_data/own"), b"own").expect("written");
    berth_sys::fs::write(&path.join("volumes/one/fill/own"), b"image's").expect("written");
    records.close().await;
    drop((volumes, records));
    let (_volumes, records) = life(path, None).await;
    let read = |name: &str| berth_sys::fs::read(&path.join("volumes").join(name)).ok();
    assert_eq!(read("one/_data/file").as_deref(), Some(&b"content"[..]));
    assert_eq!(read("one/_data/own").as_deref(), Some(&b"own"[..]));
    assert!(!berth_sys::fs::exists(&path.join("volumes/one/fill")));
    assert_eq!(read("two/_data/file"), None);
    records.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_ask_for_one_volume_and_one_is_made() {
    let directory = tempfile::tempdir().expect("a directory");
    let (volumes, records) = life(directory.path(), None).await;
    let asks = (0..16).map(|_| {
        let volumes = volumes.clone();
        tokio::spawn(async move { make(&volumes, "same").await })
    });
    for ask in asks.collect::<Vec<_>>() {
        ask.await.expect("no panic").expect("made or found");
    }
    assert_eq!(names(&volumes), ["same"]);
    let other = VolumeCreateRequest {
        name: "same".to_owned(),
        options: [("type", "tmpfs"), ("device", "tmpfs")]
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .into_iter()
            .collect(),
        ..VolumeCreateRequest::default()
    };
    let error = volumes.create(other).await.expect_err("refused");
    assert!(matches!(error, EngineError::Conflict(_)), "{error}");
    records.close().await;
}
