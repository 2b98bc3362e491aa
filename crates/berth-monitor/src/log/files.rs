//! Names of rotated files, and opening all files of a log as one consistent chain.

use std::fs::{File, OpenOptions};
use std::io::{BufReader, Read};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;

use super::settings::LogSettings;

/// Attempts at opening a chain while the writer rotates.
const ATTEMPTS: usize = 16;

/// The file that was rotated `index` times: `<path>.<index>`, with `.gz` when compressed.
pub(super) fn rotated(path: &Path, index: u32, compressed: bool) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{index}"));
    if compressed {
        name.push(".gz");
    }
    name.into()
}

/// The rotated files of a log, the oldest first. The file that is written to is none of them.
///
/// # Errors
/// When their directory cannot be read.
pub fn rotated_files(path: &Path) -> berth_sys::Result<Vec<PathBuf>> {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name().and_then(|n| n.to_str()))
    else {
        return Ok(Vec::new());
    };
    let mut found: Vec<(u32, PathBuf)> = match berth_sys::fs::list(directory) {
        Ok(names) => names
            .iter()
            .filter_map(|entry| {
                let rest = entry.to_str()?.strip_prefix(name)?.strip_prefix('.')?;
                let index = rest.strip_suffix(".gz").unwrap_or(rest).parse().ok()?;
                Some((index, directory.join(entry)))
            })
            .collect(),
        Err(error) if error.is_not_found() => Vec::new(),
        Err(error) => return Err(error),
    };
    found.sort_unstable_by(|one, other| other.cmp(one));
    Ok(found.into_iter().map(|(_, path)| path).collect())
}

/// One open file of a log.
pub(super) struct Segment {
    pub(super) source: Source,
    /// Device and inode: the identity that survives renaming.
    pub(super) identity: (u64, u64),
    /// When it was last written, in nanoseconds since 1970.
    pub(super) modified: i128,
}

/// Where bytes come from.
pub(super) enum Source {
    /// A plain file; `position` is where the next undecoded byte lies.
    Plain {
        /// The file.
        file: File,
        /// Offset in bytes.
        position: u64,
    },
    /// A compressed file, read from its beginning; `skip` entries are passed over.
    Gzip {
        /// The stream.
        decoder: Box<MultiGzDecoder<BufReader<File>>>,
        /// Entries to pass over.
        skip: u64,
    },
}

impl Source {
    /// Appends up to `limit` bytes that follow those in `buffer`. 0 means the end, for now.
    pub(super) fn read(&mut self, buffer: &mut Vec<u8>, limit: usize) -> std::io::Result<usize> {
        let start = buffer.len();
        buffer.resize(start + limit, 0);
        let result = loop {
            let result = match self {
                Self::Plain { file, position } => {
                    file.read_at(&mut buffer[start..], *position + start as u64)
                }
                Self::Gzip { decoder, .. } => decoder.read(&mut buffer[start..]),
            };
            match result {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                // A compressed file cut short by a power loss is read as far as it goes.
                Err(error)
                    if matches!(self, Self::Gzip { .. })
                        && matches!(
                            error.kind(),
                            std::io::ErrorKind::UnexpectedEof | std::io::ErrorKind::InvalidInput
                        ) =>
                {
                    break Ok(0);
                }
                other => break other,
            }
        };
        buffer.truncate(start + *result.as_ref().unwrap_or(&0));
        result
    }
}

fn open(path: &Path, compressed: bool) -> berth_sys::Result<Option<Segment>> {
    let file = match berth_sys::fs::open(path, OpenOptions::new().read(true)) {
        Ok(file) => file,
        Err(error) if error.is_not_found() => return Ok(None),
        Err(error) => return Err(error),
    };
    let metadata = file
        .metadata()
        .map_err(|error| berth_sys::Error::new(format!("look at {}", path.display()), error))?;
    let identity = (metadata.dev(), metadata.ino());
    let modified = i128::from(metadata.mtime()) * 1_000_000_000 + i128::from(metadata.mtime_nsec());
    let source = if compressed {
        Source::Gzip {
            decoder: Box::new(MultiGzDecoder::new(BufReader::new(file))),
            skip: 0,
        }
    } else {
        Source::Plain { file, position: 0 }
    };
    Ok(Some(Segment {
        source,
        identity,
        modified,
    }))
}

/// Opens the compressed or the plain form of a rotated file. Compressing replaces one by the other, so whichever
/// is found first is complete.
fn open_rotated(path: &Path, index: u32) -> berth_sys::Result<Option<Segment>> {
    if let Some(segment) = open(&rotated(path, index, false), false)? {
        return Ok(Some(segment));
    }
    open(&rotated(path, index, true), true)
}

/// The identity of the current file; `None` when there is none.
pub(super) fn current_identity(path: &Path) -> Option<(u64, u64)> {
    berth_sys::fs::metadata(path)
        .ok()
        .map(|metadata| (metadata.dev(), metadata.ino()))
}

/// Opens every file of the log, oldest first. The chain is one that existed at some moment: no file is missed or taken twice
/// because of a rotation meanwhile.
pub(super) fn open_chain(settings: &LogSettings) -> berth_sys::Result<Vec<Segment>> {
    let path = &settings.path;
    let mut chain = Vec::new();
    for _ in 0..ATTEMPTS {
        chain.clear();
        let current = open(path, false)?;
        let identity = current.as_ref().map(|segment| segment.identity);
        chain.extend(current);
        // A monitor that was killed between two renames leaves one number out, never two.
        let mut missing = 0;
        for index in 1..settings.max_files {
            match open_rotated(path, index)? {
                Some(segment) => {
                    chain.push(segment);
                    missing = 0;
                }
                None if missing == 1 => break,
                None => missing += 1,
            }
        }
        if current_identity(path) == identity {
            break;
        }
    }
    chain.reverse();
    Ok(chain)
}
