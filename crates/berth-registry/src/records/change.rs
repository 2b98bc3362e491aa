//! Every change of the records: one transaction each, durable when it returns.

use berth_types::Digest;
use redb::{Durability, ReadableTable, WriteTransaction};

use super::{
    BLOBS, BlobRecord, HOLDERS, MANIFESTS, ManifestRecord, REFERRERS, Records, ReferrerRecord,
    SCHEMA, TAGS, Table, TagRecord, encode, get, key, now, page,
};
use crate::digest::ContentDigest;
use crate::error::Result;
use crate::name::{Repository, Tag};

/// A manifest to be recorded, its content in place.
#[derive(Debug)]
pub(crate) struct NewManifest {
    pub(crate) digest: ContentDigest,
    pub(crate) content: Digest,
    pub(crate) size: u64,
    pub(crate) media_type: String,
    pub(crate) blobs: Vec<ContentDigest>,
    pub(crate) manifests: Vec<ContentDigest>,
    pub(crate) subject: Option<ContentDigest>,
    /// Its descriptor in the list of referrers.
    pub(crate) descriptor: serde_json::Value,
    pub(crate) tags: Vec<Tag>,
    /// Whether everything it names has to be in the repository. A cache fetches that when it is asked for.
    pub(crate) complete: bool,
}

/// What became of it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum PutManifest {
    /// It is recorded.
    Done,
    /// The repository does not have what it names.
    Missing(Vec<ContentDigest>),
}

fn holder(content: &Digest, repository: &str, kind: char, digest: &str) -> String {
    key([
        &content.to_string(),
        repository,
        &format!("{kind} {digest}"),
    ])
}

/// Where a blob is found by its digest alone: as what holds its content, and by the digest itself where that is another.
fn blob_holders(content: &Digest, repository: &str, digest: &str) -> Vec<String> {
    let mut rows = vec![holder(content, repository, 'b', digest)];
    if content.to_string() != digest {
        rows.push(key([digest, repository, &format!("b {digest}")]));
    }
    rows
}

fn insert(transaction: &WriteTransaction, table: Table, key: &str, value: &[u8]) -> Result<()> {
    transaction.open_table(table)?.insert(key, value)?;
    Ok(())
}

fn remove(transaction: &WriteTransaction, table: Table, key: &str) -> Result<bool> {
    Ok(transaction.open_table(table)?.remove(key)?.is_some())
}

impl Records {
    /// Gives a repository a blob whose content is in place. The caller holds the content.
    pub(crate) fn link(
        &self,
        repository: &Repository,
        digest: &ContentDigest,
        content: Digest,
        size: u64,
    ) -> Result<()> {
        let digest = digest.to_string();
        let record = BlobRecord {
            schema: SCHEMA,
            content,
            size,
            linked: now(),
        };
        let transaction = self.database.begin_write()?;
        let row = key([repository.as_str(), &digest]);
        insert(&transaction, BLOBS, &row, &encode(&record)?)?;
        for held in blob_holders(&content, repository.as_str(), &digest) {
            insert(&transaction, HOLDERS, &held, b"")?;
        }
        transaction.commit()?;
        Ok(())
    }

    /// Takes a blob from a repository. Gives what it was, when it was there.
    pub(crate) fn unlink(
        &self,
        repository: &Repository,
        digest: &ContentDigest,
    ) -> Result<Option<BlobRecord>> {
        let transaction = self.database.begin_write()?;
        let gone = unlink(&transaction, repository.as_str(), &digest.to_string())?;
        transaction.commit()?;
        Ok(gone)
    }

    /// Records a manifest with its tags, all or nothing.
    pub(crate) fn put_manifest(
        &self,
        repository: &Repository,
        new: &NewManifest,
    ) -> Result<PutManifest> {
        let name = repository.as_str();
        let digest = new.digest.to_string();
        let transaction = self.database.begin_write()?;
        if new.complete {
            let missing = missing(&transaction, name, new)?;
            if !missing.is_empty() {
                return Ok(PutManifest::Missing(missing));
            }
        }
        let texts = |digests: &[ContentDigest]| digests.iter().map(ToString::to_string).collect();
        let record = ManifestRecord {
            schema: SCHEMA,
            content: new.content,
            size: new.size,
            media_type: new.media_type.clone(),
            blobs: texts(&new.blobs),
            manifests: texts(&new.manifests),
            subject: new.subject.as_ref().map(ToString::to_string),
            pushed: now(),
            used: now(),
        };
        insert(
            &transaction,
            MANIFESTS,
            &key([name, &digest]),
            &encode(&record)?,
        )?;
        let held = holder(&new.content, name, 'm', &digest);
        insert(&transaction, HOLDERS, &held, b"")?;
        if let Some(subject) = &record.subject {
            let referrer = ReferrerRecord {
                schema: SCHEMA,
                descriptor: new.descriptor.clone(),
            };
            let row = key([name, subject, &digest]);
            insert(&transaction, REFERRERS, &row, &encode(&referrer)?)?;
        }
        for tag in &new.tags {
            let record = TagRecord {
                schema: SCHEMA,
                digest: digest.clone(),
                changed: now(),
                checked: now(),
            };
            insert(
                &transaction,
                TAGS,
                &key([name, tag.as_str()]),
                &encode(&record)?,
            )?;
        }
        transaction.commit()?;
        Ok(PutManifest::Done)
    }

    /// Removes a manifest with the tags that stand for it. Gives what it was, when it was there.
    pub(crate) fn remove_manifest(
        &self,
        repository: &Repository,
        digest: &ContentDigest,
    ) -> Result<Option<ManifestRecord>> {
        let transaction = self.database.begin_write()?;
        let gone = remove_manifest(&transaction, repository.as_str(), &digest.to_string())?;
        transaction.commit()?;
        Ok(gone)
    }

    /// Removes a tag. Tells whether it was there.
    pub(crate) fn remove_tag(&self, repository: &Repository, tag: &Tag) -> Result<bool> {
        let transaction = self.database.begin_write()?;
        let gone = remove(
            &transaction,
            TAGS,
            &key([repository.as_str(), tag.as_str()]),
        )?;
        transaction.commit()?;
        Ok(gone)
    }

    /// Takes from a repository the blobs that none of its manifests names and that came before `before`. Gives
    /// how many.
    pub(crate) fn unlink_unnamed(&self, repository: &str, before: i64) -> Result<usize> {
        let transaction = self.database.begin_write()?;
        let prefix = key([repository, ""]);
        let named: std::collections::HashSet<String> = {
            let table = transaction.open_table(MANIFESTS)?;
            page::<ManifestRecord>(&table, &prefix, None, usize::MAX)?
                .into_iter()
                .flat_map(|(_, record)| record.blobs)
                .collect()
        };
        let old: Vec<String> = {
            let table = transaction.open_table(BLOBS)?;
            page::<BlobRecord>(&table, &prefix, None, usize::MAX)?
                .into_iter()
                .filter(|(digest, record)| record.linked < before && !named.contains(digest))
                .map(|(digest, _)| digest)
                .collect()
        };
        for digest in &old {
            unlink(&transaction, repository, digest)?;
        }
        transaction.commit()?;
        Ok(old.len())
    }

    /// Removes manifests of a repository that nothing leads to (no tag, no index of the repository, no subject
    /// that is there) and that were pushed before `before`. Gives how many.
    pub(crate) fn remove_untagged(&self, repository: &str, before: i64) -> Result<usize> {
        let transaction = self.database.begin_write()?;
        let prefix = key([repository, ""]);
        let manifests: std::collections::HashMap<String, ManifestRecord> = {
            let table = transaction.open_table(MANIFESTS)?;
            page(&table, &prefix, None, usize::MAX)?
                .into_iter()
                .collect()
        };
        let mut reached: std::collections::HashSet<String> = std::collections::HashSet::new();
        let mut next: Vec<String> = {
            let table = transaction.open_table(TAGS)?;
            page::<TagRecord>(&table, &prefix, None, usize::MAX)?
                .into_iter()
                .map(|(_, record)| record.digest)
                .collect()
        };
        let young = manifests
            .iter()
            .filter(|(_, record)| record.pushed >= before);
        next.extend(young.map(|(digest, _)| digest.clone()));
        let mut referrers: std::collections::HashMap<&str, Vec<&str>> =
            std::collections::HashMap::new();
        for (digest, record) in &manifests {
            if let Some(subject) = &record.subject {
                referrers.entry(subject).or_default().push(digest);
            }
        }
        while let Some(digest) = next.pop() {
            if let Some(record) = manifests.get(&digest) {
                next.extend(
                    record
                        .manifests
                        .iter()
                        .filter(|child| !reached.contains(*child))
                        .cloned(),
                );
                let refer = referrers.get(digest.as_str()).into_iter().flatten();
                next.extend(
                    refer
                        .filter(|referrer| !reached.contains(**referrer))
                        .map(|referrer| (*referrer).to_owned()),
                );
                reached.insert(digest);
            }
        }
        let mut gone = 0;
        for digest in manifests.keys().filter(|digest| !reached.contains(*digest)) {
            remove_manifest(&transaction, repository, digest)?;
            gone += 1;
        }
        transaction.commit()?;
        Ok(gone)
    }

    /// Removes manifests of a cache that nobody asked for since `before`, with their tags. Gives how many.
    pub(crate) fn remove_unused(&self, repository: &str, before: i64) -> Result<usize> {
        let transaction = self.database.begin_write()?;
        let prefix = key([repository, ""]);
        let unused: Vec<String> = {
            let table = transaction.open_table(MANIFESTS)?;
            page::<ManifestRecord>(&table, &prefix, None, usize::MAX)?
                .into_iter()
                .filter(|(_, record)| record.used < before)
                .map(|(digest, _)| digest)
                .collect()
        };
        for digest in &unused {
            remove_manifest(&transaction, repository, digest)?;
        }
        transaction.commit()?;
        Ok(unused.len())
    }

    /// Notes that a cache's tag was confirmed by the upstream now.
    pub(crate) fn confirm_tag(&self, repository: &Repository, tag: &Tag) -> Result<()> {
        let row = key([repository.as_str(), tag.as_str()]);
        let mut transaction = self.database.begin_write()?;
        // Losing it costs one more question.
        transaction
            .set_durability(Durability::None)
            .map_err(|error| crate::RegistryError::database("confirm a tag", error))?;
        let known: Option<TagRecord> = get(&transaction.open_table(TAGS)?, &row)?;
        if let Some(mut record) = known {
            record.checked = now();
            insert(&transaction, TAGS, &row, &encode(&record)?)?;
        }
        transaction.commit()?;
        Ok(())
    }

    /// Notes that a cache's manifest was asked for now.
    pub(crate) fn use_manifest(
        &self,
        repository: &Repository,
        digest: &ContentDigest,
    ) -> Result<()> {
        let row = key([repository.as_str(), &digest.to_string()]);
        let mut transaction = self.database.begin_write()?;
        transaction
            .set_durability(Durability::None)
            .map_err(|error| crate::RegistryError::database("note a use", error))?;
        let known: Option<ManifestRecord> = get(&transaction.open_table(MANIFESTS)?, &row)?;
        if let Some(mut record) = known {
            record.used = now();
            insert(&transaction, MANIFESTS, &row, &encode(&record)?)?;
        }
        transaction.commit()?;
        Ok(())
    }

    /// Runs `remove` while nobody can begin to refer to `content`, unless somebody does.
    pub(crate) fn unless_held(
        &self,
        content: &Digest,
        remove: impl FnOnce() -> Result<bool>,
    ) -> Result<bool> {
        // Records are only written by whoever has this transaction; nothing is changed by it.
        let transaction = self.database.begin_write()?;
        let prefix = key([&content.to_string(), ""]);
        let held = {
            let table = transaction.open_table(HOLDERS)?;
            let first = table.range(prefix.as_str()..)?.next().transpose()?;
            first.is_some_and(|(key, _)| key.value().starts_with(&prefix))
        };
        let gone = if held { false } else { remove()? };
        transaction.abort()?;
        Ok(gone)
    }
}

/// What a manifest names and its repository does not have.
fn missing(
    transaction: &WriteTransaction,
    repository: &str,
    new: &NewManifest,
) -> Result<Vec<ContentDigest>> {
    let blobs = transaction.open_table(BLOBS)?;
    let manifests = transaction.open_table(MANIFESTS)?;
    let mut missing = Vec::new();
    for (table, digests) in [(&blobs, &new.blobs), (&manifests, &new.manifests)] {
        for digest in digests {
            let row = key([repository, &digest.to_string()]);
            if table.get(row.as_str())?.is_none() {
                missing.push(*digest);
            }
        }
    }
    Ok(missing)
}

fn unlink(
    transaction: &WriteTransaction,
    repository: &str,
    digest: &str,
) -> Result<Option<BlobRecord>> {
    let row = key([repository, digest]);
    let record: Option<BlobRecord> = get(&transaction.open_table(BLOBS)?, &row)?;
    if let Some(record) = &record {
        remove(transaction, BLOBS, &row)?;
        for held in blob_holders(&record.content, repository, digest) {
            remove(transaction, HOLDERS, &held)?;
        }
    }
    Ok(record)
}

fn remove_manifest(
    transaction: &WriteTransaction,
    repository: &str,
    digest: &str,
) -> Result<Option<ManifestRecord>> {
    let row = key([repository, digest]);
    let record: Option<ManifestRecord> = get(&transaction.open_table(MANIFESTS)?, &row)?;
    let Some(record) = record else {
        return Ok(None);
    };
    remove(transaction, MANIFESTS, &row)?;
    remove(
        transaction,
        HOLDERS,
        &holder(&record.content, repository, 'm', digest),
    )?;
    if let Some(subject) = &record.subject {
        remove(transaction, REFERRERS, &key([repository, subject, digest]))?;
    }
    let tags: Vec<String> = {
        let table = transaction.open_table(TAGS)?;
        page::<TagRecord>(&table, &key([repository, ""]), None, usize::MAX)?
            .into_iter()
            .filter(|(_, record)| record.digest == digest)
            .map(|(tag, _)| tag)
            .collect()
    };
    for tag in tags {
        remove(transaction, TAGS, &key([repository, &tag]))?;
    }
    Ok(Some(record))
}
