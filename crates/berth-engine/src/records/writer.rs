//! The one thread that writes records, many changes to one flush.
//!
//! A full disk must not harm the file: redb takes no further writes after one that failed. So room for the
//! file's own growth is reserved ahead, and new records are refused while the disk has little left; changes
//! and removals of existing ones go on into the reserve.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use berth_types::ErrorKind;
use redb::{Database, TableDefinition};
use rustix::fs::{FallocateFlags, fallocate, statvfs};
use tokio::sync::{mpsc, oneshot};

use crate::error::EngineError;
use crate::limits;

/// What became of a change that was handed over.
#[derive(Debug)]
pub struct Ticket(oneshot::Receiver<Result<(), WriteError>>);

#[derive(Debug, Clone, thiserror::Error)]
enum WriteError {
    #[error("no space left on the disk of {path}")]
    DiskFull { path: String },
    #[error("{0}")]
    Store(Arc<redb::Error>),
}

/// One change: a value for a key, or its removal.
pub(super) struct Change {
    pub(super) table: TableDefinition<'static, &'static str, &'static [u8]>,
    pub(super) key: Box<str>,
    pub(super) value: Option<Vec<u8>>,
    /// Whether the key is new, so that the change is refused when the disk is nearly full.
    pub(super) new: bool,
}

/// Changes that are written together or not at all, and who waits for that.
type Entry = (Vec<Change>, oneshot::Sender<Result<(), WriteError>>);

pub(super) struct Writer {
    sender: Mutex<Option<mpsc::Sender<Entry>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

fn closed() -> EngineError {
    EngineError::Unavailable("the records are closed".to_owned())
}

impl Ticket {
    /// Waits until the change is on disk.
    ///
    /// # Errors
    /// When it could not be written.
    pub async fn durable(self) -> Result<(), EngineError> {
        match self.0.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error @ WriteError::DiskFull { .. })) => Err(EngineError::failed(
                "write a record",
                ErrorKind::ResourceExhausted,
                error,
            )),
            Ok(Err(error)) => Err(EngineError::failed(
                "write a record",
                ErrorKind::Internal,
                error,
            )),
            Err(_) => Err(closed()),
        }
    }
}

impl Writer {
    pub(super) fn start(database: Arc<Database>, path: &Path) -> std::io::Result<Self> {
        let (sender, receiver) = mpsc::channel(limits::RECORDS_QUEUE);
        let reserve = Reserve::open(path)?;
        let thread = std::thread::Builder::new()
            .name("records".to_owned())
            .spawn(move || write_all(&database, receiver, reserve))?;
        Ok(Self {
            sender: Mutex::new(Some(sender)),
            thread: Mutex::new(Some(thread)),
        })
    }

    pub(super) async fn submit(&self, change: Change) -> Result<Ticket, EngineError> {
        self.submit_all(vec![change]).await
    }

    /// Hands over changes that become durable together.
    pub(super) async fn submit_all(&self, changes: Vec<Change>) -> Result<Ticket, EngineError> {
        let sender = self
            .sender
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
            .ok_or_else(closed)?;
        let (reply, ticket) = oneshot::channel();
        sender.send((changes, reply)).await.map_err(|_| closed())?;
        Ok(Ticket(ticket))
    }

    pub(super) async fn close(&self) {
        drop(
            self.sender
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take(),
        );
        let thread = self
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(thread) = thread {
            let _ = tokio::task::spawn_blocking(move || thread.join()).await;
        }
    }
}

fn write_all(database: &Database, mut receiver: mpsc::Receiver<Entry>, mut reserve: Reserve) {
    let mut batch: Vec<Entry> = Vec::with_capacity(limits::RECORDS_BATCH);
    while let Some(first) = receiver.blocking_recv() {
        batch.push(first);
        while batch.len() < limits::RECORDS_BATCH {
            match receiver.try_recv() {
                Ok(entry) => batch.push(entry),
                Err(_) => break,
            }
        }
        let is_new = |(changes, _): &Entry| changes.iter().any(|c| c.new);
        if batch.iter().any(is_new) && !reserve.has_room() {
            let (refused, rest): (Vec<Entry>, Vec<Entry>) = batch.drain(..).partition(is_new);
            for (_, reply) in refused {
                let _ = reply.send(Err(WriteError::DiskFull {
                    path: reserve.path.display().to_string(),
                }));
            }
            batch = rest;
        }
        if batch.is_empty() {
            continue;
        }
        let result = write(database, &batch).map_err(|e| WriteError::Store(Arc::new(e)));
        for (_, reply) in batch.drain(..) {
            let _ = reply.send(result.clone());
        }
        if result.is_ok() {
            reserve.keep();
        }
    }
}

fn write(database: &Database, batch: &[Entry]) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    for change in batch.iter().flat_map(|(changes, _)| changes) {
        let mut table = transaction.open_table(change.table)?;
        match &change.value {
            Some(value) => {
                table.insert(&*change.key, value.as_slice())?;
            }
            None => {
                table.remove(&*change.key)?;
            }
        }
    }
    transaction.commit()?;
    Ok(())
}

/// Writes a fresh file's content over itself, so that no block of it is a hole or merely reserved: a flush of
/// a block that was written before needs no change of the file system's own records, which takes many times
/// as long.
pub(super) fn fill(path: &Path) -> std::io::Result<()> {
    use std::io::{Read as _, Seek as _, Write as _};
    let mut file = File::options().read(true).write(true).open(path)?;
    let mut content = Vec::new();
    file.read_to_end(&mut content)?;
    file.rewind()?;
    file.write_all(&content)?;
    file.sync_all()
}

/// Room kept for the file's growth.
struct Reserve {
    path: PathBuf,
    file: File,
    reserved: u64,
}

impl Reserve {
    fn open(path: &Path) -> std::io::Result<Self> {
        let file = File::options().write(true).open(path)?;
        let mut reserve = Self {
            path: path.to_owned(),
            file,
            reserved: 0,
        };
        reserve.keep();
        Ok(reserve)
    }

    /// Reserves room beyond the end, and in the holes before it. Some file systems cannot: then there is none.
    fn keep(&mut self) {
        let Ok(length) = self.file.metadata().map(|m| m.len()) else {
            return;
        };
        let wanted = length + limits::RECORDS_RESERVE;
        if wanted > self.reserved
            && fallocate(&self.file, FallocateFlags::KEEP_SIZE, 0, wanted).is_ok()
        {
            self.reserved = wanted;
        }
    }

    fn has_room(&self) -> bool {
        has_room(&self.path)
    }
}

/// Whether the disk that holds `path` is not nearly full.
pub(super) fn has_room(path: &Path) -> bool {
    match statvfs(path) {
        Ok(facts) => facts.f_bavail.saturating_mul(facts.f_frsize) >= limits::DISK_MIN,
        Err(_) => true,
    }
}
