//! What the registry knows, in one transactional file (redb) beneath its root: acknowledged is durable.
//!
//! ```text
//! table       key                                    value (JSON)
//! manifests   repository ␀ digest                    ManifestRecord
//! blobs       repository ␀ digest                    BlobRecord: the repository has this blob
//! tags        repository ␀ tag                       TagRecord
//! referrers   repository ␀ subject ␀ digest          ReferrerRecord
//! holders     sha256 of the content ␀ repository ␀ kind digest    (empty)
//!             sha512 of a blob ␀ repository ␀ b digest            (empty)
//! ```
//!
//! Owns: these tables. Each value carries a schema number; one of a newer schema is refused. Invariants, kept by
//! changing them in one transaction only: a tag's manifest is in its repository; content of every manifest and
//! blob has a row in `holders`, so that content without one may go; a subject's referrers are in the repository.

mod change;

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use berth_types::Digest;
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::digest::ContentDigest;
use crate::error::{RegistryError, Result};
use crate::name::{Repository, Tag};

pub(crate) use change::{NewManifest, PutManifest};

type Table = TableDefinition<'static, &'static str, &'static [u8]>;
const MANIFESTS: Table = TableDefinition::new("manifests");
const BLOBS: Table = TableDefinition::new("blobs");
const TAGS: Table = TableDefinition::new("tags");
const REFERRERS: Table = TableDefinition::new("referrers");
const HOLDERS: Table = TableDefinition::new("holders");

/// Schema of every record of this release.
const SCHEMA: u32 = 1;

/// A manifest of a repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ManifestRecord {
    pub(crate) schema: u32,
    /// Where its bytes are.
    pub(crate) content: Digest,
    pub(crate) size: u64,
    pub(crate) media_type: String,
    /// Blobs it names, by the digests it names them with.
    pub(crate) blobs: Vec<String>,
    /// Manifests it names.
    pub(crate) manifests: Vec<String>,
    pub(crate) subject: Option<String>,
    /// Seconds since 1970.
    pub(crate) pushed: i64,
    /// When it was last asked for, to the hour; kept by caches only.
    #[serde(default)]
    pub(crate) used: i64,
}

/// A blob of a repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BlobRecord {
    pub(crate) schema: u32,
    pub(crate) content: Digest,
    pub(crate) size: u64,
    /// Seconds since 1970.
    pub(crate) linked: i64,
}

/// A tag of a repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TagRecord {
    pub(crate) schema: u32,
    pub(crate) digest: String,
    /// Seconds since 1970.
    pub(crate) changed: i64,
    /// When the upstream last said that it still means this; kept by caches only.
    #[serde(default)]
    pub(crate) checked: i64,
}

/// An entry of the list of referrers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ReferrerRecord {
    pub(crate) schema: u32,
    /// The descriptor, as the list shows it.
    pub(crate) descriptor: Value,
}

/// Seconds since 1970, now.
pub(crate) fn now() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| {
            i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
        })
}

/// The tables.
pub(crate) struct Records {
    database: Database,
}

impl std::fmt::Debug for Records {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Records")
    }
}

macro_rules! database_errors {
    ($($error:ident),*) => {$(
        impl From<redb::$error> for RegistryError {
            fn from(error: redb::$error) -> Self {
                Self::database("use the registry's records", error)
            }
        }
    )*};
}
database_errors!(TransactionError, TableError, StorageError, CommitError);

fn decode<T: DeserializeOwned>(key: &str, value: &[u8]) -> Result<T> {
    #[derive(Deserialize)]
    struct Schema {
        schema: u32,
    }
    let key = || key.replace('\0', " ");
    let bad = |source| RegistryError::Record { key: key(), source };
    let Schema { schema } = serde_json::from_slice(value).map_err(bad)?;
    if schema > SCHEMA {
        return Err(RegistryError::Schema { key: key(), schema });
    }
    serde_json::from_slice(value).map_err(bad)
}

fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|source| RegistryError::Record {
        key: "to be written".into(),
        source,
    })
}

/// The parts of a key; none of them can contain the separator.
fn key<const N: usize>(parts: [&str; N]) -> String {
    parts.join("\0")
}

fn get<T: DeserializeOwned>(
    table: &impl ReadableTable<&'static str, &'static [u8]>,
    key: &str,
) -> Result<Option<T>> {
    table
        .get(key)?
        .map(|value| decode(key, value.value()))
        .transpose()
}

/// Up to `limit` rows whose key begins with `prefix`, after `last` when that is given; the rest of their keys.
fn page<T: DeserializeOwned>(
    table: &impl ReadableTable<&'static str, &'static [u8]>,
    prefix: &str,
    last: Option<&str>,
    limit: usize,
) -> Result<Vec<(String, T)>> {
    // The least key after `last` has one more byte, the smallest.
    let start = last.map_or_else(|| prefix.to_owned(), |last| format!("{prefix}{last}\0"));
    let mut rows = Vec::new();
    if limit == 0 {
        return Ok(rows);
    }
    for row in table.range(start.as_str()..)? {
        let (key, value) = row?;
        let Some(rest) = key.value().strip_prefix(prefix) else {
            break;
        };
        rows.push((rest.to_owned(), decode(key.value(), value.value())?));
        if rows.len() == limit {
            break;
        }
    }
    Ok(rows)
}

/// The repositories that have rows in a table, after `last`.
fn names(
    table: &impl ReadableTable<&'static str, &'static [u8]>,
    last: Option<&str>,
    limit: usize,
) -> Result<Vec<String>> {
    let mut names: Vec<String> = Vec::new();
    // All keys of a repository are below its name and this byte, and no longer name is.
    let after = |name: &str| format!("{name}\u{1}");
    let mut start = last.map_or_else(String::new, after);
    while names.len() < limit {
        let Some(row) = table.range(start.as_str()..)?.next() else {
            break;
        };
        let (key, _) = row?;
        let name = key.value().split('\0').next().unwrap_or_default();
        start = after(name);
        names.push(name.to_owned());
    }
    Ok(names)
}

impl Records {
    /// Opens the file at `path`, which nobody else may have open.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let database = Database::create(path).map_err(|error| match error {
            redb::DatabaseError::DatabaseAlreadyOpen => {
                RegistryError::InUse(path.parent().unwrap_or(path).to_owned())
            }
            other => RegistryError::database("open the registry's records", other),
        })?;
        let transaction = database.begin_write()?;
        for table in [MANIFESTS, BLOBS, TAGS, REFERRERS, HOLDERS] {
            transaction.open_table(table)?;
        }
        transaction.commit()?;
        Ok(Self { database })
    }

    fn read<T: DeserializeOwned>(&self, table: Table, key: &str) -> Result<Option<T>> {
        get(&self.database.begin_read()?.open_table(table)?, key)
    }

    /// A blob that the repository has.
    pub(crate) fn blob(
        &self,
        repository: &Repository,
        digest: &ContentDigest,
    ) -> Result<Option<BlobRecord>> {
        self.read(BLOBS, &key([repository.as_str(), &digest.to_string()]))
    }

    /// A manifest that the repository has.
    pub(crate) fn manifest(
        &self,
        repository: &Repository,
        digest: &ContentDigest,
    ) -> Result<Option<ManifestRecord>> {
        self.read(MANIFESTS, &key([repository.as_str(), &digest.to_string()]))
    }

    /// What a tag stands for.
    pub(crate) fn tag(&self, repository: &Repository, tag: &Tag) -> Result<Option<TagRecord>> {
        self.read(TAGS, &key([repository.as_str(), tag.as_str()]))
    }

    /// Whether the repository has anything.
    pub(crate) fn has_repository(&self, repository: &Repository) -> Result<bool> {
        let prefix = key([repository.as_str(), ""]);
        let transaction = self.database.begin_read()?;
        for table in [MANIFESTS, BLOBS] {
            let table = transaction.open_table(table)?;
            if let Some(row) = table.range(prefix.as_str()..)?.next()
                && row?.0.value().starts_with(&prefix)
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Tags after `last`, in order of their bytes.
    pub(crate) fn tags(
        &self,
        repository: &Repository,
        last: Option<&str>,
        limit: usize,
    ) -> Result<Vec<String>> {
        let table = self.database.begin_read()?.open_table(TAGS)?;
        let rows = page::<TagRecord>(&table, &key([repository.as_str(), ""]), last, limit)?;
        Ok(rows.into_iter().map(|(tag, _)| tag).collect())
    }

    /// Repositories with manifests, after `last`, in order of their bytes.
    pub(crate) fn repositories(&self, last: Option<&str>, limit: usize) -> Result<Vec<String>> {
        let table = self.database.begin_read()?.open_table(MANIFESTS)?;
        names(&table, last, limit)
    }

    /// Repositories with anything, after `last`, in order of their bytes.
    pub(crate) fn all_repositories(&self, last: Option<&str>, limit: usize) -> Result<Vec<String>> {
        let transaction = self.database.begin_read()?;
        let mut names = self::names(&transaction.open_table(MANIFESTS)?, last, limit)?;
        names.extend(self::names(&transaction.open_table(BLOBS)?, last, limit)?);
        names.sort_unstable();
        names.dedup();
        // What both tables gave up to here is complete.
        names.truncate(limit);
        Ok(names)
    }

    /// Descriptors of the manifests that name `subject`, after `last`, with their digests.
    pub(crate) fn referrers(
        &self,
        repository: &Repository,
        subject: &ContentDigest,
        last: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, ReferrerRecord)>> {
        let table = self.database.begin_read()?.open_table(REFERRERS)?;
        let prefix = key([repository.as_str(), &subject.to_string(), ""]);
        page(&table, &prefix, last, limit)
    }

    /// Any blob record of this digest, in whatever repository it is.
    pub(crate) fn anywhere(&self, digest: &ContentDigest) -> Result<Option<BlobRecord>> {
        let transaction = self.database.begin_read()?;
        let holders = transaction.open_table(HOLDERS)?;
        let blobs = transaction.open_table(BLOBS)?;
        let text = digest.to_string();
        let prefix = key([&text, ""]);
        for row in holders.range(prefix.as_str()..)? {
            let (holder, _) = row?;
            let Some(rest) = holder.value().strip_prefix(&prefix) else {
                break;
            };
            let Some((repository, _)) = rest.split_once('\0') else {
                continue;
            };
            if let Some(record) = get(&blobs, &key([repository, &text]))? {
                return Ok(Some(record));
            }
        }
        Ok(None)
    }

    /// Whether a manifest of the repository names this blob.
    pub(crate) fn names_blob(
        &self,
        repository: &Repository,
        digest: &ContentDigest,
    ) -> Result<bool> {
        let table = self.database.begin_read()?.open_table(MANIFESTS)?;
        let (prefix, wanted) = (key([repository.as_str(), ""]), digest.to_string());
        let mut last: Option<String> = None;
        loop {
            let rows = page::<ManifestRecord>(&table, &prefix, last.as_deref(), 64)?;
            let Some((end, _)) = rows.last() else {
                return Ok(false);
            };
            if rows
                .iter()
                .any(|(_, record)| record.blobs.contains(&wanted))
            {
                return Ok(true);
            }
            last = Some(end.clone());
        }
    }

    /// Whether anything refers to this content.
    pub(crate) fn is_held(&self, content: &Digest) -> Result<bool> {
        let holders = self.database.begin_read()?.open_table(HOLDERS)?;
        let prefix = key([&content.to_string(), ""]);
        let first = holders.range(prefix.as_str()..)?.next().transpose()?;
        Ok(first.is_some_and(|(key, _)| key.value().starts_with(&prefix)))
    }
}
