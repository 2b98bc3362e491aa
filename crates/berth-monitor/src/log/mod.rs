//! A container's log: the writer in the monitor, the reader in the engine.
//!
//! Owns the file formats (`json-file` as Docker writes it, `local` as below), rotation, and reading across
//! rotation. Does not own where output comes from (`process`) nor who may read it.
//!
//! Invariants: entries of one log have strictly increasing times, across both streams and across writers as far as the
//! clock allows; an entry is on disk whole or not seen at all (a torn one is skipped); nothing here ever waits for
//! the disk to be flushed.

mod attributes;
mod compress;
mod entry;
mod files;
mod follow;
mod json_file;
mod local;
mod reader;
mod rotation;
mod settings;
mod tail;
mod writer;

pub use attributes::{LogSubject, attributes};
pub(crate) use compress::{Compression, compress_standard_input};
pub use entry::{LogEntry, StreamKind};
pub use files::rotated_files;
pub use follow::LogStream;
pub use reader::{LogError, LogReader, ReadRequest};
pub use settings::{LogDriver, LogMode, LogSettings, SettingsError};
pub(crate) use writer::LogWriter;
