//! Reading a log: all of its files as one sequence, from the beginning or the last entries, between two moments.
//!
//! A reader holds its files open, so rotation and removal take nothing away from it. It never reads on from the middle of an
//! entry: a line that is not finished yet is read again from its beginning, because the writer may take it back when
//! the disk is full.

use std::collections::VecDeque;

use berth_types::{ErrorKind, Timestamp};

use super::entry::LogEntry;
use super::files::{self, Segment, Source};
use super::json_file::{self, AttributeCache};
use super::local;
use super::settings::{LogDriver, LogSettings};
use super::tail;
use crate::limits;

/// What went wrong with reading a log.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// Nothing is kept.
    #[error("configured logging driver does not support reading")]
    NotKept,
    /// A file cannot be opened.
    #[error(transparent)]
    System(#[from] berth_sys::Error),
    /// A file cannot be read.
    #[error("read the log {path}")]
    Read {
        /// The current file of the log.
        path: String,
        /// The cause.
        source: std::io::Error,
    },
}

impl LogError {
    /// What the caller can do about it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NotKept => ErrorKind::NotImplemented,
            Self::System(error) => error.kind(),
            Self::Read { source, .. } => ErrorKind::from_io(source),
        }
    }
}

/// Which entries are wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadRequest {
    /// Entries of standard output.
    pub stdout: bool,
    /// Entries of standard error.
    pub stderr: bool,
    /// Nothing older than this.
    pub since: Option<Timestamp>,
    /// Nothing younger than this.
    pub until: Option<Timestamp>,
    /// At most this many of the entries that are there already; counted before the other conditions, as Docker does.
    pub tail: Option<u64>,
}

impl Default for ReadRequest {
    fn default() -> Self {
        Self {
            stdout: true,
            stderr: true,
            since: None,
            until: None,
            tail: None,
        }
    }
}

/// A position in a log.
pub struct LogReader {
    settings: LogSettings,
    request: ReadRequest,
    segments: VecDeque<Segment>,
    decoder: Decoder,
    /// The youngest entry seen, wanted or not.
    last: Option<Timestamp>,
    /// Entries up to this one were seen in files that are gone from our chain.
    after: Option<Timestamp>,
    finished: bool,
}

impl LogReader {
    /// Opens the log; one that nobody has written to yet is empty.
    ///
    /// # Errors
    /// [`LogError::NotKept`] for driver `none`; files that cannot be opened or read.
    pub fn open(settings: &LogSettings, request: ReadRequest) -> Result<Self, LogError> {
        if settings.driver == LogDriver::None {
            return Err(LogError::NotKept);
        }
        let mut chain = files::open_chain(settings)?;
        if let Some(count) = request.tail {
            tail::keep_last(&mut chain, settings.driver, count)
                .map_err(|source| read_error(settings, source))?;
        }
        drop_older(&mut chain, request.since);
        Ok(Self {
            settings: settings.clone(),
            decoder: Decoder::new(settings.driver),
            segments: chain.into(),
            request,
            last: None,
            after: None,
            finished: false,
        })
    }

    /// The next entries that are there now; none when everything that is there has been read. May block on the disk.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn next_batch(&mut self) -> Result<Vec<LogEntry>, LogError> {
        let mut batch = Vec::new();
        while !self.finished && batch.len() < limits::LOG_BATCH {
            let Some(entry) = self.next_entry()? else {
                break;
            };
            if self.after.is_some_and(|after| entry.time <= after) {
                continue;
            }
            self.last = Some(entry.time);
            if self.request.until.is_some_and(|until| entry.time > until) {
                self.finished = true;
                break;
            }
            let wanted = match entry.stream {
                super::StreamKind::Stdout => self.request.stdout,
                super::StreamKind::Stderr => self.request.stderr,
            };
            if wanted && self.request.since.is_none_or(|since| entry.time >= since) {
                batch.push(entry);
            }
        }
        Ok(batch)
    }

    /// True when no entry can come any more, because one was younger than `until`.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.finished
    }

    pub(super) fn settings(&self) -> &LogSettings {
        &self.settings
    }

    pub(super) fn until(&self) -> Option<Timestamp> {
        self.request.until
    }

    fn next_entry(&mut self) -> Result<Option<LogEntry>, LogError> {
        loop {
            if self.segments.is_empty() && !self.reopen()? {
                return Ok(None);
            }
            let last = self.segments.len() == 1;
            let Some(segment) = self.segments.front_mut() else {
                return Ok(None);
            };
            // Asked before reading: what was written before the rotation is then surely seen by the read.
            let rotated =
                last && files::current_identity(&self.settings.path) != Some(segment.identity);
            let step = self
                .decoder
                .step(&mut segment.source, !last || rotated)
                .map_err(|source| read_error(&self.settings, source))?;
            match step {
                Step::Entry(entry) => return Ok(Some(entry)),
                Step::End if !last => {
                    self.segments.pop_front();
                    self.decoder = Decoder::new(self.settings.driver);
                }
                Step::End if rotated => {
                    if !self.reopen()? {
                        return Ok(None);
                    }
                }
                Step::End => return Ok(None),
            }
        }
    }

    /// Takes the files that came after the one we are at. False when there are none yet.
    fn reopen(&mut self) -> Result<bool, LogError> {
        let mut chain = files::open_chain(&self.settings)?;
        match self.segments.front().map(|segment| segment.identity) {
            Some(identity) => match chain
                .iter()
                .position(|segment| segment.identity == identity)
            {
                Some(index) => drop(chain.drain(..=index)),
                // Compressed or removed meanwhile: go by the times, which only increase.
                None => {
                    self.after = self.last;
                    drop_older(&mut chain, self.last);
                }
            },
            None => self.after = self.last,
        }
        if chain.is_empty() {
            return Ok(false);
        }
        self.segments = chain.into();
        self.decoder = Decoder::new(self.settings.driver);
        Ok(true)
    }
}

fn read_error(settings: &LogSettings, source: std::io::Error) -> LogError {
    LogError::Read {
        path: settings.path.display().to_string(),
        source,
    }
}

/// Passes over plain files that were last written before `moment`. The current file always stays.
fn drop_older(chain: &mut Vec<Segment>, moment: Option<Timestamp>) {
    /// Clocks of file systems are coarser than ours.
    const MARGIN: i128 = 1_000_000_000;
    let Some(moment) = moment else { return };
    let first = chain
        .iter()
        .position(|segment| {
            matches!(segment.source, Source::Gzip { .. })
                || segment.modified + MARGIN >= moment.unix_nanoseconds()
        })
        .unwrap_or(chain.len().saturating_sub(1));
    chain.drain(..first);
}

/// What one look into a file gave.
pub(super) enum Step {
    /// An entry.
    Entry(LogEntry),
    /// Nothing more, for now.
    End,
}

/// Turns the bytes of one file into entries.
pub(super) struct Decoder {
    driver: LogDriver,
    buffer: Vec<u8>,
    /// Bytes of `buffer` that are decoded.
    used: usize,
    cache: AttributeCache,
}

impl Decoder {
    pub(super) fn new(driver: LogDriver) -> Self {
        Self {
            driver,
            buffer: Vec::new(),
            used: 0,
            cache: AttributeCache::default(),
        }
    }

    /// The offset of the next undecoded byte of a plain file.
    pub(super) fn position(&self, source: &Source) -> u64 {
        match source {
            Source::Plain { position, .. } => *position + self.used as u64,
            Source::Gzip { .. } => 0,
        }
    }

    /// The next entry. `complete` tells that the file will not grow any more, so that an unfinished entry is a torn one.
    pub(super) fn step(&mut self, source: &mut Source, complete: bool) -> std::io::Result<Step> {
        loop {
            match self.take() {
                Taken::Entry(entry) => {
                    if let Source::Gzip { skip, .. } = source
                        && *skip > 0
                    {
                        *skip -= 1;
                        continue;
                    }
                    return Ok(Step::Entry(entry));
                }
                Taken::More => {}
            }
            self.compact(source);
            if source.read(&mut self.buffer, limits::LOG_READ_CHUNK)? > 0 {
                continue;
            }
            // The end. What is left is torn if the file is complete, and read again from its beginning if not.
            if complete && !self.buffer.is_empty() && self.driver == LogDriver::Local {
                self.used = 1;
                continue;
            }
            if let Source::Plain { .. } = source {
                self.buffer = Vec::new();
                self.used = 0;
            }
            return Ok(Step::End);
        }
    }

    fn compact(&mut self, source: &mut Source) {
        if let Source::Plain { position, .. } = source {
            *position += self.used as u64;
        }
        self.buffer.drain(..self.used);
        self.used = 0;
        if self.buffer.len() > limits::MAX_LOG_ENTRY {
            // Longer than any entry: not one. The next line end or record is looked for behind it.
            if let Source::Plain { position, .. } = source {
                *position += self.buffer.len() as u64;
            }
            self.buffer.clear();
        }
    }

    fn take(&mut self) -> Taken {
        loop {
            let rest = &self.buffer[self.used..];
            match self.driver {
                LogDriver::Local => match local::frame(rest) {
                    local::Record::Whole(length, body) => {
                        let entry = local::decode(body, &mut self.cache);
                        self.used += length;
                        if let Some(entry) = entry {
                            return Taken::Entry(entry);
                        }
                    }
                    local::Record::Invalid => self.used += 1,
                    local::Record::Unfinished => return Taken::More,
                },
                LogDriver::JsonFile | LogDriver::None => {
                    let Some(end) = rest.iter().position(|byte| *byte == b'\n') else {
                        return Taken::More;
                    };
                    let entry = json_file::decode(&rest[..end], &mut self.cache);
                    self.used += end + 1;
                    if let Some(entry) = entry {
                        return Taken::Entry(entry);
                    }
                }
            }
        }
    }
}

enum Taken {
    Entry(LogEntry),
    More,
}
