//! Records on disk: one transactional file, one writer.
//!
//! Owns `state.db` and the thread that writes it. Savers hand over a change and get a ticket; the thread
//! puts whatever has gathered into one transaction, so that many savers share one flush. A ticket is durable
//! once its transaction is. The tables of images live in the same file and belong to `berth-image`.
//!
//! Invariants: changes become durable in the order they were handed over; a key is written whole or not;
//! what a ticket was awaited for survives a power cut.

mod schema;
mod writer;

use std::path::Path;
use std::sync::Arc;

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition, TableError};

use berth_types::{ContainerId, ErrorKind, NetworkId};

use crate::containers::record::ContainerRecord;
use crate::error::EngineError;
use crate::limits;
use crate::networks::NetworkRecord;
use crate::volumes::VolumeRecord;

pub use schema::{SCHEMA, SchemaError};
pub use writer::Ticket;
use writer::{Change, Writer};

const CONTAINERS: TableDefinition<&str, &[u8]> = TableDefinition::new("containers");
const NETWORKS: TableDefinition<&str, &[u8]> = TableDefinition::new("networks");
const VOLUMES: TableDefinition<&str, &[u8]> = TableDefinition::new("volumes");
const FACTS: TableDefinition<&str, &[u8]> = TableDefinition::new("engine");

/// Bytes of pages kept in memory: records are read once, at the start.
const CACHE: usize = 1024 * 1024;

/// What was read, and what could not be, by its key.
pub type Loaded<T> = (Vec<T>, Vec<(String, SchemaError)>);

/// The store. Cheap to clone.
#[derive(Clone)]
pub struct Records {
    database: Arc<Database>,
    writer: Arc<Writer>,
    path: Arc<Path>,
}

impl std::fmt::Debug for Records {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Records")
    }
}

fn failed(
    attempt: impl Into<String>,
    source: impl std::error::Error + Send + Sync + 'static,
) -> EngineError {
    EngineError::failed(attempt, ErrorKind::Internal, source)
}

impl Records {
    /// Opens or makes the file.
    ///
    /// # Errors
    /// When it cannot be opened, is damaged, or was written by a newer Berth.
    pub fn open(path: &Path) -> Result<Self, EngineError> {
        let attempt = || format!("open the records in {}", path.display());
        let mut builder = Database::builder();
        builder.set_cache_size(CACHE);
        if !berth_sys::fs::exists(path) {
            // Made under another name: a file that the end of the process left half-made would never open.
            let fresh = path.with_extension("new");
            let of_file = |e: berth_sys::Error| failed(attempt(), e);
            berth_sys::fs::remove_file(&fresh).map_err(of_file)?;
            drop(builder.create(&fresh).map_err(|e| failed(attempt(), e))?);
            writer::fill(&fresh).map_err(|e| EngineError::io(attempt(), e))?;
            berth_sys::fs::rename(&fresh, path).map_err(of_file)?;
            berth_sys::fs::sync_parent(path).map_err(of_file)?;
        }
        let database = builder.open(path).map_err(|e| failed(attempt(), e))?;
        let database = Arc::new(database);
        let writer = Writer::start(Arc::clone(&database), path)
            .map_err(|e| EngineError::io("start the writer of records", e))?;
        Ok(Self {
            database,
            writer: Arc::new(writer),
            path: path.into(),
        })
    }

    /// The file itself, for the tables of others.
    #[must_use]
    pub fn database(&self) -> Arc<Database> {
        Arc::clone(&self.database)
    }

    /// Whether new records would be taken: the disk is not nearly full.
    #[must_use]
    pub fn has_room(&self) -> bool {
        writer::has_room(&self.path)
    }

    /// Hands a container's first record over for writing, with those of the volumes that are made with it: they
    /// become durable together or not at all.
    ///
    /// # Errors
    /// When the records are closed.
    pub async fn insert(
        &self,
        record: &ContainerRecord,
        volumes: &[Arc<VolumeRecord>],
    ) -> Result<Ticket, EngineError> {
        let mut changes = vec![container_change(record, true)?];
        for volume in volumes {
            changes.push(volume_change(volume)?);
        }
        self.writer.submit_all(changes).await
    }

    /// Hands a container's changed record over for writing. Waits only when the writer is far behind.
    ///
    /// # Errors
    /// When the records are closed.
    pub async fn save(&self, record: &ContainerRecord) -> Result<Ticket, EngineError> {
        self.writer.submit(container_change(record, false)?).await
    }

    /// Hands the removal of a container's record over.
    ///
    /// # Errors
    /// When the records are closed.
    pub async fn remove(&self, id: &ContainerId) -> Result<Ticket, EngineError> {
        self.writer
            .submit(Change {
                table: CONTAINERS,
                key: id.as_str().into(),
                value: None,
                new: false,
            })
            .await
    }

    /// Every container's record. Records that cannot be read are named, not dropped.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn load(&self) -> Result<Loaded<ContainerRecord>, EngineError> {
        self.all(CONTAINERS, "read the records of containers", schema::decode)
    }

    /// Hands a network's record over for writing.
    ///
    /// # Errors
    /// When the records are closed.
    pub async fn insert_network(&self, record: &NetworkRecord) -> Result<Ticket, EngineError> {
        let value = schema::encode_network(record)
            .map_err(|e| failed(format!("write the record of network {}", record.name), e))?;
        self.writer
            .submit(Change {
                table: NETWORKS,
                key: record.id.as_str().into(),
                value: Some(value),
                new: true,
            })
            .await
    }

    /// Hands the removal of a network's record over.
    ///
    /// # Errors
    /// When the records are closed.
    pub async fn remove_network(&self, id: &NetworkId) -> Result<Ticket, EngineError> {
        self.writer
            .submit(Change {
                table: NETWORKS,
                key: id.as_str().into(),
                value: None,
                new: false,
            })
            .await
    }

    /// Every network's record. Records that cannot be read are named, not dropped.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn networks(&self) -> Result<Loaded<NetworkRecord>, EngineError> {
        self.all(
            NETWORKS,
            "read the records of networks",
            schema::decode_network,
        )
    }

    /// Hands a volume's first record over for writing.
    ///
    /// # Errors
    /// When the records are closed.
    pub async fn insert_volume(&self, record: &VolumeRecord) -> Result<Ticket, EngineError> {
        self.writer.submit(volume_change(record)?).await
    }

    /// Hands a volume's record under a new name over: the old one goes in the same moment.
    ///
    /// # Errors
    /// When the records are closed.
    pub async fn rename_volume(
        &self,
        former: &str,
        record: &VolumeRecord,
    ) -> Result<Ticket, EngineError> {
        let mut change = volume_change(record)?;
        // It takes no more room than before.
        change.new = false;
        let changes = vec![volume_removal(former), change];
        self.writer.submit_all(changes).await
    }

    /// Hands the removal of a volume's record over.
    ///
    /// # Errors
    /// When the records are closed.
    pub async fn remove_volume(&self, name: &str) -> Result<Ticket, EngineError> {
        self.writer.submit(volume_removal(name)).await
    }

    /// Every volume's record. Records that cannot be read are named, not dropped.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn volumes(&self) -> Result<Loaded<VolumeRecord>, EngineError> {
        self.all(
            VOLUMES,
            "read the records of volumes",
            schema::decode_volume,
        )
    }

    fn all<T>(
        &self,
        table: TableDefinition<'static, &'static str, &'static [u8]>,
        attempt: &str,
        decode: impl Fn(&[u8]) -> Result<T, SchemaError>,
    ) -> Result<Loaded<T>, EngineError> {
        let transaction = self.database.begin_read().map_err(|e| failed(attempt, e))?;
        let table = match transaction.open_table(table) {
            Ok(table) => table,
            Err(TableError::TableDoesNotExist(_)) => return Ok((Vec::new(), Vec::new())),
            Err(error) => return Err(failed(attempt, error)),
        };
        let (mut records, mut damaged) = (Vec::new(), Vec::new());
        for entry in table.iter().map_err(|e| failed(attempt, e))? {
            let (key, value) = entry.map_err(|e| failed(attempt, e))?;
            match decode(value.value()) {
                Ok(record) => records.push(record),
                Err(error) => damaged.push((key.value().to_owned(), error)),
            }
        }
        Ok((records, damaged))
    }

    /// A fact about this data root, such as its id.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn fact(&self, name: &str) -> Result<Option<String>, EngineError> {
        let attempt = "read the facts of the data root";
        let transaction = self.database.begin_read().map_err(|e| failed(attempt, e))?;
        let table = match transaction.open_table(FACTS) {
            Ok(table) => table,
            Err(TableError::TableDoesNotExist(_)) => return Ok(None),
            Err(error) => return Err(failed(attempt, error)),
        };
        let value = table.get(name).map_err(|e| failed(attempt, e))?;
        Ok(value.map(|v| String::from_utf8_lossy(v.value()).into_owned()))
    }

    /// Sets a fact about this data root.
    ///
    /// # Errors
    /// When the records are closed.
    pub async fn set_fact(&self, name: &str, value: &str) -> Result<(), EngineError> {
        let ticket = self
            .writer
            .submit(Change {
                table: FACTS,
                key: name.into(),
                value: Some(value.as_bytes().to_vec()),
                new: true,
            })
            .await?;
        ticket.durable().await
    }

    /// Writes what is waiting and ends the writer.
    pub async fn close(&self) {
        self.writer.close().await;
    }
}

fn container_change(record: &ContainerRecord, new: bool) -> Result<Change, EngineError> {
    let value = schema::encode(record)
        .map_err(|e| failed(format!("write the record of container {}", record.id), e))?;
    Ok(Change {
        table: CONTAINERS,
        key: record.id.as_str().into(),
        value: Some(value),
        new,
    })
}

fn volume_change(record: &VolumeRecord) -> Result<Change, EngineError> {
    let value = schema::encode_volume(record)
        .map_err(|e| failed(format!("write the record of volume {}", record.name), e))?;
    Ok(Change {
        table: VOLUMES,
        key: record.name.as_str().into(),
        value: Some(value),
        new: true,
    })
}

fn volume_removal(name: &str) -> Change {
    Change {
        table: VOLUMES,
        key: name.into(),
        value: None,
        new: false,
    }
}

/// A record larger than this is refused before it is written, so that it can always be read.
fn check_size(bytes: usize) -> Result<(), SchemaError> {
    if bytes > limits::RECORD_SIZE {
        Err(SchemaError::TooLarge { bytes })
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
