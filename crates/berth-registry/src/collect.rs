//! Collection: removes abandoned uploads, what nothing refers to, and then the content that nobody has.
//!
//! Owns: the order (uploads, manifests, blobs of repositories, content) and the times of grace. May run while the
//! registry serves: a blob pushed before its manifest has its time of grace, and content is only removed while no
//! record can be written.

use std::time::Duration;

use crate::error::Result;
use crate::limits::COLLECT_BATCH;
use crate::records::now;
use crate::store::Store;

/// What may go, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grace {
    /// How long an upload may rest.
    pub upload: Duration,
    /// How long a blob may be in a repository before a manifest names it.
    pub blob: Duration,
    /// How long a manifest that nothing leads to stays; `None`: for ever, since it may be used by its digest.
    pub untagged: Option<Duration>,
    /// How long a manifest of a cache stays after it was last asked for; `None`: for ever.
    pub unused: Option<Duration>,
}

impl Default for Grace {
    fn default() -> Self {
        const DAY: Duration = Duration::from_secs(24 * 60 * 60);
        Self {
            upload: DAY,
            blob: DAY,
            untagged: None,
            unused: None,
        }
    }
}

/// What a collection removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Collected {
    /// Abandoned uploads.
    pub uploads: usize,
    /// Manifests of repositories.
    pub manifests: usize,
    /// Blobs of repositories.
    pub blobs: usize,
    /// Files of content.
    pub files: usize,
    /// Bytes of those.
    pub bytes: u64,
}

fn before(grace: Duration) -> i64 {
    // What came within this very second is not older than no time at all.
    (now() + 1).saturating_sub(i64::try_from(grace.as_secs()).unwrap_or(i64::MAX))
}

/// Collects once. Blocks.
pub(crate) fn collect(store: &Store, grace: &Grace) -> Result<Collected> {
    let mut collected = Collected {
        uploads: store.uploads.expire(before(grace.upload))?,
        ..Collected::default()
    };
    let mut last: Option<String> = None;
    loop {
        let names = store
            .records
            .all_repositories(last.as_deref(), COLLECT_BATCH)?;
        let Some(end) = names.last().cloned() else {
            break;
        };
        for name in &names {
            if let Some(untagged) = grace.untagged {
                collected.manifests += store.records.remove_untagged(name, before(untagged))?;
            }
            if let Some(unused) = grace.unused {
                collected.manifests += store.records.remove_unused(name, before(unused))?;
            }
            collected.blobs += store.records.unlink_unnamed(name, before(grace.blob))?;
        }
        last = Some(end);
    }
    for content in store.blobs.list()? {
        if store.records.is_held(&content)? {
            continue;
        }
        let size = store.blobs.size(&content).unwrap_or(0);
        if store
            .records
            .unless_held(&content, || Ok(store.blobs.remove(&content)?))?
        {
            collected.files += 1;
            collected.bytes += size;
        }
    }
    Ok(collected)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::{Algorithm, ContentDigest};
    use crate::manifest::{Manifest, media};
    use crate::name::{Repository, Tag};
    use crate::records::PutManifest;
    use crate::uploads::turn;
    use bytes::Bytes;
    use serde_json::json;

    const NONE: Duration = Duration::ZERO;

    struct Filled {
        _root: tempfile::TempDir,
        store: Store,
        repository: Repository,
    }

    async fn push(filled: &Filled, content: &'static [u8]) -> ContentDigest {
        let upload = filled
            .store
            .uploads
            .begin(&filled.repository)
            .unwrap()
            .unwrap();
        let mut sink = turn(&upload).await.unwrap().open().unwrap();
        sink.write(&[Bytes::from_static(content)]).unwrap();
        let digest = ContentDigest::of(Algorithm::Sha256, content);
        let finished = filled
            .store
            .finish(&filled.repository, sink, &digest)
            .unwrap();
        assert_eq!(finished, crate::store::Finished::Stored);
        digest
    }

    fn manifest(filled: &Filled, document: &serde_json::Value, tag: Option<&str>) -> ContentDigest {
        let bytes = document.to_string().into_bytes();
        let manifest = Manifest::parse(&bytes, None).unwrap();
        let digest = ContentDigest::of(Algorithm::Sha256, &bytes);
        let tags = tag.iter().map(|tag| Tag::parse(tag).unwrap()).collect();
        let put = filled
            .store
            .put_manifest(&filled.repository, &digest, &manifest, &bytes, tags, true)
            .unwrap();
        assert_eq!(put, PutManifest::Done);
        digest
    }

    fn image(
        config: &ContentDigest,
        note: &str,
        subject: Option<&ContentDigest>,
    ) -> serde_json::Value {
        let mut document = json!({
            "schemaVersion": 2, "mediaType": media::OCI_MANIFEST, "layers": [],
            "config": {"mediaType": "x", "digest": config.to_string(), "size": 1},
            "annotations": {"note": note},
        });
        if let Some(subject) = subject {
            document["subject"] =
                json!({"mediaType": media::OCI_MANIFEST, "digest": subject.to_string(), "size": 1});
        }
        document
    }

    #[tokio::test]
    async fn what_is_referred_to_stays_and_the_rest_goes() {
        let root = tempfile::tempdir().unwrap();
        let filled = Filled {
            store: Store::open(root.path()).unwrap(),
            _root: root,
            repository: Repository::parse("a/b").unwrap(),
        };
        let store = &filled.store;
        let used = push(&filled, b"used").await;
        let orphan = push(&filled, b"orphan").await;
        let tagged = manifest(&filled, &image(&used, "tagged", None), Some("1"));
        let child = manifest(&filled, &image(&used, "child", None), None);
        let index = json!({
            "schemaVersion": 2, "mediaType": media::OCI_INDEX,
            "manifests": [{"mediaType": media::OCI_MANIFEST, "digest": child.to_string(), "size": 1}],
        });
        manifest(&filled, &index, Some("many"));
        let referrer = manifest(&filled, &image(&used, "referrer", Some(&tagged)), None);
        let untagged = manifest(&filled, &image(&used, "untagged", None), None);
        store.uploads.begin(&filled.repository).unwrap().unwrap();

        // Within its time of grace nothing goes.
        let grace = Grace {
            untagged: Some(Duration::from_secs(3600)),
            ..Grace::default()
        };
        assert_eq!(collect(store, &grace).unwrap(), Collected::default());
        assert!(
            Store::open(filled._root.path()).is_err(),
            "two processes on one root"
        );

        let grace = Grace {
            upload: NONE,
            blob: NONE,
            untagged: Some(NONE),
            unused: None,
        };
        let collected = collect(store, &grace).unwrap();
        assert_eq!(
            (
                collected.uploads,
                collected.manifests,
                collected.blobs,
                collected.files
            ),
            (1, 1, 1, 2)
        );
        for (digest, there) in [
            (&tagged, true),
            (&child, true),
            (&referrer, true),
            (&untagged, false),
        ] {
            let found = store.records.manifest(&filled.repository, digest).unwrap();
            assert_eq!(found.is_some(), there, "{digest}");
        }
        assert!(
            store
                .records
                .blob(&filled.repository, &used)
                .unwrap()
                .is_some()
        );
        assert!(
            store
                .records
                .blob(&filled.repository, &orphan)
                .unwrap()
                .is_none()
        );

        // The subject takes its referrers along, once nothing else leads to them.
        store
            .records
            .remove_manifest(&filled.repository, &tagged)
            .unwrap();
        assert!(
            store
                .records
                .tag(&filled.repository, &Tag::parse("1").unwrap())
                .unwrap()
                .is_none()
        );
        assert_eq!(collect(store, &grace).unwrap().manifests, 1);
        store
            .records
            .remove_tag(&filled.repository, &Tag::parse("many").unwrap())
            .unwrap();
        collect(store, &grace).unwrap();
        assert!(store.blobs.list().unwrap().is_empty());
        assert!(!store.records.has_repository(&filled.repository).unwrap());
    }
}
