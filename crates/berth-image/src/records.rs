//! What the store knows, in the engine's record store (redb).
//!
//! ```text
//! table              key                                     value (JSON)
//! image_references   docker.io/library/busybox:latest        ReferenceRecord
//!                    docker.io/library/busybox@sha256:…      ReferenceRecord
//! images             sha256:… (config digest = image id)     ImageRecord
//! layers             sha256:… (chain id)                     LayerRecord
//! images_unsettled   sha256:… (image id)                     boot in which it came, text
//! ```
//!
//! Owns: these four tables. Each value carries a schema number; a value of a newer schema is refused,
//! never guessed at. Invariants: a reference's image exists; an image's layers exist; a layer is needed by an
//! image; all are kept by changing them in one transaction only. What records need is counted in
//! [`crate::marks`] with each change.

use std::marker::PhantomData;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use berth_types::{Digest, Platform, Reference, Timestamp};
use indexmap::IndexMap;
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::documents::Descriptor;
use crate::error::{ImageError, Result};
use crate::layers::LayerRecord;
use crate::marks::{Marks, Pending, Root};

const REFERENCES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("image_references");
const IMAGES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("images");
const LAYERS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("layers");
/// Images that a power cut may still damage ([`crate::settle`]).
const UNSETTLED: TableDefinition<'_, &str, &str> = TableDefinition::new("images_unsettled");

/// Changes with every start of the machine (random(4)).
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Schema of [`ReferenceRecord`].
///
/// 2 has `keeps`, which an older release would let go of.
const REFERENCE_SCHEMA: u32 = 2;
/// Schema of [`ImageRecord`].
const IMAGE_SCHEMA: u32 = 1;

/// What a name stands for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReferenceRecord {
    /// Schema number of the record.
    pub schema: u32,
    /// Manifest or index that the name was given to.
    pub target: Descriptor,
    /// The image of the platform that was chosen.
    pub image: Digest,
    /// When the name was given.
    pub tagged: Timestamp,
    /// Further content that stays as long as the name: manifests, configurations and layers of the other
    /// platforms of an index.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keeps: Vec<Digest>,
}

impl ReferenceRecord {
    pub(crate) fn new(target: Descriptor, image: Digest, keeps: Vec<Digest>) -> Self {
        Self {
            schema: REFERENCE_SCHEMA,
            target,
            image,
            tagged: std::time::SystemTime::now().into(),
            keeps,
        }
    }
}

/// What is kept about an image, so that lists need not read its documents.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageRecord {
    /// Schema number of the record.
    pub schema: u32,
    /// The manifest it came with.
    pub manifest: Descriptor,
    /// Its configuration; the digest is the image id.
    pub config: Descriptor,
    /// Digests of the uncompressed layers, lowest first.
    pub diff_ids: Vec<Digest>,
    /// Bytes of all layers.
    pub size: u64,
    /// When it was made, as its configuration says.
    pub created: Option<Timestamp>,
    /// What it is for.
    pub platform: Platform,
    /// Labels of its configuration.
    #[serde(default)]
    pub labels: IndexMap<String, String>,
    /// The image it was built upon, when that is known here.
    #[serde(default)]
    pub parent: Option<Digest>,
    /// When it came into this store.
    pub stored: Timestamp,
    /// When a name was last given to it by `tag`.
    #[serde(default)]
    pub last_tagged: Option<Timestamp>,
    /// Repositories it was fetched from or brought to, newest first: `docker.io/library/busybox`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<String>,
    /// When a container was last made from it, as far as that was written down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_used: Option<Timestamp>,
    /// It was removed by force while containers that do not run are made of it: without a name and in no list, it
    /// stays for them.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub retired: bool,
}

impl ImageRecord {
    pub(crate) const SCHEMA: u32 = IMAGE_SCHEMA;

    /// The image's id.
    #[must_use]
    pub fn id(&self) -> Digest {
        self.config.digest
    }
}

/// Everything that one transaction changes.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    pub(crate) layers: Vec<(Digest, LayerRecord)>,
    pub(crate) images: Vec<ImageRecord>,
    pub(crate) references: Vec<(Reference, ReferenceRecord)>,
    pub(crate) gone_references: Vec<Reference>,
    pub(crate) gone_images: Vec<Digest>,
    /// Images of `images` that are not on disk yet.
    pub(crate) unsettled: Vec<Digest>,
}

/// The tables.
#[derive(Clone)]
pub(crate) struct Records {
    database: Arc<Database>,
    marks: Arc<Mutex<Marks>>,
    /// Which start of the machine this is.
    boot: Arc<str>,
}

impl std::fmt::Debug for Records {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Records")
    }
}

fn decode<T: DeserializeOwned>(key: &str, value: &[u8], newest: u32) -> Result<T> {
    #[derive(Deserialize)]
    struct Schema {
        schema: u32,
    }
    let object = || format!("record {key}");
    let Schema { schema } = crate::documents::parse_json(value, &object())?;
    if schema > newest {
        return Err(ImageError::Schema {
            key: key.to_owned(),
            schema,
        });
    }
    serde_json::from_slice(value).map_err(|source| ImageError::Document {
        object: object(),
        source,
    })
}

fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|source| ImageError::Document {
        object: "a record".into(),
        source,
    })
}

fn key_digest(key: &str) -> Result<Digest> {
    Digest::parse(key).map_err(|_| ImageError::archive(format!("record {key}"), "not a digest"))
}

impl Records {
    /// Makes the tables when they are not there, counts what records need, and forgets layers that no image
    /// needs. Gives the others, by chain id.
    pub(crate) fn open(database: Arc<Database>) -> Result<(Self, Vec<(Digest, LayerRecord)>)> {
        const ATTEMPT: &str = "open the image records";
        let transaction = database
            .begin_write()
            .map_err(|error| ImageError::database(ATTEMPT, error))?;
        for table in [REFERENCES, IMAGES, LAYERS] {
            transaction
                .open_table(table)
                .map_err(|error| ImageError::database(ATTEMPT, error))?;
        }
        transaction
            .open_table(UNSETTLED)
            .map_err(|error| ImageError::database(ATTEMPT, error))?;
        transaction
            .commit()
            .map_err(|error| ImageError::database(ATTEMPT, error))?;
        let boot = berth_sys::fs::read_to_string(Path::new(BOOT_ID))?;
        let records = Self {
            database,
            marks: Arc::default(),
            boot: boot.trim().into(),
        };
        records.forget_cut()?;
        let mut marks = Marks::default();
        for image in records.images()? {
            marks.add(Root::Image(&image));
        }
        for (name, reference) in records.references()? {
            marks.add(Root::Reference(&name, &reference));
        }
        let (kept, gone): (Vec<_>, Vec<_>) = records
            .layers()?
            .into_iter()
            .partition(|(chain, _)| marks.needs_chain(chain));
        for (_, layer) in &kept {
            marks.add(Root::Layer(layer));
        }
        *records.marks() = marks;
        if !gone.is_empty() {
            records.forget_layers(gone.into_iter().map(|(chain, _)| chain))?;
        }
        Ok((records, kept))
    }

    /// Forgets images that were not on disk when the machine ended without notice.
    fn forget_cut(&self) -> Result<()> {
        const ATTEMPT: &str = "forget what a power cut may have damaged";
        let failed = |error: redb::Error| ImageError::database(ATTEMPT, error);
        let mut cut = Vec::new();
        for (id, boot) in self.unsettled_rows()? {
            if *boot != *self.boot {
                cut.push(id);
            }
        }
        if cut.is_empty() {
            return Ok(());
        }
        let references = self.references()?;
        let transaction = self
            .database
            .begin_write()
            .map_err(|error| failed(error.into()))?;
        {
            let mut names =
                Rows::<ReferenceRecord>::open(&transaction, REFERENCES, REFERENCE_SCHEMA)?;
            let mut images = Rows::<ImageRecord>::open(&transaction, IMAGES, IMAGE_SCHEMA)?;
            let mut unsettled = transaction
                .open_table(UNSETTLED)
                .map_err(|error| failed(error.into()))?;
            for (name, record) in &references {
                if cut.contains(&record.image) {
                    names.remove(&name.to_string())?;
                }
            }
            for id in &cut {
                tracing::warn!(image = %id, "was not on disk when the machine went down; fetch it again");
                images.remove(&id.to_string())?;
                unsettled
                    .remove(id.to_string().as_str())
                    .map_err(|error| failed(error.into()))?;
            }
        }
        transaction.commit().map_err(|error| failed(error.into()))
    }

    fn unsettled_rows(&self) -> Result<Vec<(Digest, String)>> {
        const ATTEMPT: &str = "read the image records";
        let failed = |error: redb::Error| ImageError::database(ATTEMPT, error);
        let transaction = self
            .database
            .begin_read()
            .map_err(|error| failed(error.into()))?;
        let table = transaction
            .open_table(UNSETTLED)
            .map_err(|error| failed(error.into()))?;
        let mut found = Vec::new();
        for row in table.iter().map_err(|error| failed(error.into()))? {
            let (key, value) = row.map_err(|error| failed(error.into()))?;
            found.push((key_digest(key.value())?, value.value().to_owned()));
        }
        Ok(found)
    }

    /// Images that are not on disk yet.
    pub(crate) fn unsettled(&self) -> Result<Vec<Digest>> {
        Ok(self
            .unsettled_rows()?
            .into_iter()
            .map(|(id, _)| id)
            .collect())
    }

    /// Notes that these images are on disk.
    pub(crate) fn settled(&self, images: &[Digest]) -> Result<()> {
        const ATTEMPT: &str = "write the image records";
        let failed = |error: redb::Error| ImageError::database(ATTEMPT, error);
        let transaction = self
            .database
            .begin_write()
            .map_err(|error| failed(error.into()))?;
        {
            let mut unsettled = transaction
                .open_table(UNSETTLED)
                .map_err(|error| failed(error.into()))?;
            for id in images {
                unsettled
                    .remove(id.to_string().as_str())
                    .map_err(|error| failed(error.into()))?;
            }
        }
        transaction.commit().map_err(|error| failed(error.into()))
    }

    /// What records need now.
    pub(crate) fn marks(&self) -> MutexGuard<'_, Marks> {
        self.marks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn forget_layers(&self, chains: impl Iterator<Item = Digest>) -> Result<()> {
        const ATTEMPT: &str = "write the image records";
        let failed = |error: redb::Error| ImageError::database(ATTEMPT, error);
        let transaction = self
            .database
            .begin_write()
            .map_err(|error| failed(error.into()))?;
        {
            let mut layers = transaction
                .open_table(LAYERS)
                .map_err(|error| failed(error.into()))?;
            for chain in chains {
                layers
                    .remove(chain.to_string().as_str())
                    .map_err(|error| failed(error.into()))?;
            }
        }
        transaction.commit().map_err(|error| failed(error.into()))
    }

    fn scan<T: DeserializeOwned>(
        &self,
        table: TableDefinition<'_, &str, &[u8]>,
        newest: u32,
    ) -> Result<Vec<(String, T)>> {
        const ATTEMPT: &str = "read the image records";
        let failed = |error: redb::Error| ImageError::database(ATTEMPT, error);
        let transaction = self
            .database
            .begin_read()
            .map_err(|error| failed(error.into()))?;
        let table = transaction
            .open_table(table)
            .map_err(|error| failed(error.into()))?;
        let mut found = Vec::new();
        for row in table.iter().map_err(|error| failed(error.into()))? {
            let (key, value) = row.map_err(|error| failed(error.into()))?;
            let key = key.value().to_owned();
            let value = decode(&key, value.value(), newest)?;
            found.push((key, value));
        }
        Ok(found)
    }

    fn get<T: DeserializeOwned>(
        &self,
        table: TableDefinition<'_, &str, &[u8]>,
        key: &str,
        newest: u32,
    ) -> Result<Option<T>> {
        const ATTEMPT: &str = "read an image record";
        let failed = |error: redb::Error| ImageError::database(ATTEMPT, error);
        let transaction = self
            .database
            .begin_read()
            .map_err(|error| failed(error.into()))?;
        let table = transaction
            .open_table(table)
            .map_err(|error| failed(error.into()))?;
        let value = table.get(key).map_err(|error| failed(error.into()))?;
        value
            .map(|value| decode(key, value.value(), newest))
            .transpose()
    }

    pub(crate) fn references(&self) -> Result<Vec<(Reference, ReferenceRecord)>> {
        self.scan::<ReferenceRecord>(REFERENCES, REFERENCE_SCHEMA)?
            .into_iter()
            .map(|(key, record)| {
                let reference = Reference::parse(&key).map_err(|source| ImageError::Reference {
                    text: key.clone(),
                    source,
                })?;
                Ok((reference, record))
            })
            .collect()
    }

    pub(crate) fn reference(&self, reference: &Reference) -> Result<Option<ReferenceRecord>> {
        self.get(REFERENCES, &reference.to_string(), REFERENCE_SCHEMA)
    }

    pub(crate) fn images(&self) -> Result<Vec<ImageRecord>> {
        Ok(self
            .scan::<ImageRecord>(IMAGES, IMAGE_SCHEMA)?
            .into_iter()
            .map(|(_, record)| record)
            .collect())
    }

    pub(crate) fn image(&self, id: &Digest) -> Result<Option<ImageRecord>> {
        self.get(IMAGES, &id.to_string(), IMAGE_SCHEMA)
    }

    pub(crate) fn layers(&self) -> Result<Vec<(Digest, LayerRecord)>> {
        self.scan::<LayerRecord>(LAYERS, crate::layers::LAYER_SCHEMA)?
            .into_iter()
            .map(|(key, record)| Ok((key_digest(&key)?, record)))
            .collect()
    }

    /// Changes everything at once, durable when this returns. Layers go with the last image that needs them.
    pub(crate) fn apply(&self, changes: &Changes) -> Result<()> {
        const ATTEMPT: &str = "write the image records";
        let failed = |error: redb::Error| ImageError::database(ATTEMPT, error);
        let mut marks = self.marks();
        let mut pending = Pending::new(&mut marks);
        let transaction = self
            .database
            .begin_write()
            .map_err(|error| failed(error.into()))?;
        {
            let mut layers = Rows::open(&transaction, LAYERS, crate::layers::LAYER_SCHEMA)?;
            for (chain, record) in &changes.layers {
                pending.add(Root::Layer(record));
                if let Some(old) = layers.insert(&chain.to_string(), record)? {
                    pending.remove(Root::Layer(&old));
                }
            }
            let mut images = Rows::open(&transaction, IMAGES, IMAGE_SCHEMA)?;
            for record in &changes.images {
                pending.add(Root::Image(record));
                if let Some(old) = images.insert(&record.id().to_string(), record)? {
                    pending.remove(Root::Image(&old));
                }
            }
            for id in &changes.gone_images {
                if let Some(old) = images.remove(&id.to_string())? {
                    pending.remove(Root::Image(&old));
                }
            }
            if !changes.unsettled.is_empty() {
                let mut unsettled = transaction
                    .open_table(UNSETTLED)
                    .map_err(|error| failed(error.into()))?;
                for id in &changes.unsettled {
                    unsettled
                        .insert(id.to_string().as_str(), &*self.boot)
                        .map_err(|error| failed(error.into()))?;
                }
            }
            let mut references = Rows::open(&transaction, REFERENCES, REFERENCE_SCHEMA)?;
            for reference in &changes.gone_references {
                if let Some(old) = references.remove(&reference.to_string())? {
                    pending.remove(Root::Reference(reference, &old));
                }
            }
            for (reference, record) in &changes.references {
                pending.add(Root::Reference(reference, record));
                if let Some(old) = references.insert(&reference.to_string(), record)? {
                    pending.remove(Root::Reference(reference, &old));
                }
            }
            for chain in pending.unneeded_chains() {
                if let Some(old) = layers.remove(&chain.to_string())? {
                    pending.remove(Root::Layer(&old));
                }
            }
        }
        transaction.commit().map_err(|error| failed(error.into()))?;
        pending.settle();
        Ok(())
    }
}

/// A table being changed; each change gives the record that was there.
struct Rows<'a, T> {
    table: redb::Table<'a, &'static str, &'static [u8]>,
    newest: u32,
    record: PhantomData<T>,
}

impl<'a, T: Serialize + DeserializeOwned> Rows<'a, T> {
    fn open(
        transaction: &'a redb::WriteTransaction,
        table: TableDefinition<'static, &'static str, &'static [u8]>,
        newest: u32,
    ) -> Result<Self> {
        let table = transaction
            .open_table(table)
            .map_err(|error| ImageError::database("write the image records", error))?;
        Ok(Self {
            table,
            newest,
            record: PhantomData,
        })
    }

    fn insert(&mut self, key: &str, record: &T) -> Result<Option<T>> {
        let value = encode(record)?;
        let old = self
            .table
            .insert(key, value.as_slice())
            .map_err(|error| ImageError::database("write the image records", error))?;
        old.map(|old| decode(key, old.value(), self.newest))
            .transpose()
    }

    fn remove(&mut self, key: &str) -> Result<Option<T>> {
        let old = self
            .table
            .remove(key)
            .map_err(|error| ImageError::database("write the image records", error))?;
        old.map(|old| decode(key, old.value(), self.newest))
            .transpose()
    }
}
