//! Tar archives: reading headers, extensions (pax, GNU) and sparse maps, pure parsing over a `BufRead`; and
//! writing them ([`ArchiveWriter`]).
//!
//! Owns: the position in the archive. Does not own: what is done with an entry, or decompression.
//!
//! The forms taken and their order of precedence are those of Go's `archive/tar`, because that decides
//! what other engines see in the same bytes; an archive that two programs read differently is a way to
//! hide content. Invariants: memory is bounded by [`limits`]; the sizes in extension headers never move
//! the position of any entry but the one they stand in front of; every data byte of an entry is
//! consumed before the next header is read.

mod header;
mod sparse;
mod write;

pub use write::ArchiveWriter;

use std::io::BufRead;

use crate::error::{ImageError, Result, unwrap_carried};
use crate::limits;
use header::{Header, decimal, numeric, padding_of, pax_time, until_nul};

const BLOCK: usize = 512;

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A file with content.
    Regular,
    /// Another name of a file that came earlier.
    HardLink,
    /// A symbolic link.
    Symlink,
    /// A character device.
    Character,
    /// A block device.
    Block,
    /// A directory.
    Directory,
    /// A named pipe.
    Fifo,
}

/// Seconds and nanoseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Time {
    /// Seconds, negative before 1970.
    pub seconds: i64,
    /// Nanoseconds, below 10^9.
    pub nanoseconds: u32,
}

/// Where the data of a sparse file goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SparseMap {
    /// Size of the file with its holes.
    pub size: u64,
    /// Offset and length of each piece of data, ascending, not overlapping, within `size`.
    pub segments: Vec<(u64, u64)>,
}

/// One entry of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Path as the archive has it, not yet made safe.
    pub path: Vec<u8>,
    /// Target of a hard or symbolic link.
    pub link: Vec<u8>,
    /// What it is.
    pub kind: Kind,
    /// Bytes of data that follow.
    pub size: u64,
    /// Permission bits with set-id and sticky bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Modification time.
    pub modified: Time,
    /// Access time when the archive has one.
    pub accessed: Option<Time>,
    /// Major and minor number of a device.
    pub device: (u32, u32),
    /// Extended attributes.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Where the data goes when the file has holes.
    pub sparse: Option<SparseMap>,
}

impl Entry {
    /// An entry of root's without content, made at the beginning of time.
    #[must_use]
    pub fn new(kind: Kind, path: &[u8]) -> Self {
        Self {
            path: path.to_vec(),
            link: Vec::new(),
            kind,
            size: 0,
            mode: match kind {
                Kind::Directory => 0o755,
                Kind::Symlink => 0o777,
                _ => 0o644,
            },
            uid: 0,
            gid: 0,
            modified: Time::default(),
            accessed: None,
            device: (0, 0),
            xattrs: Vec::new(),
            sparse: None,
        }
    }

    /// The path for people: cut, and without control characters.
    #[must_use]
    pub fn name(&self) -> String {
        printable(&self.path)
    }
}

/// Hostile bytes for people: cut to a bounded length, control characters escaped.
#[must_use]
pub fn printable(bytes: &[u8]) -> String {
    let cut = &bytes[..bytes.len().min(256)];
    let mut text: String = String::from_utf8_lossy(cut)
        .chars()
        .flat_map(|c| {
            let escaped: Vec<char> = if c.is_control() {
                c.escape_default().collect()
            } else {
                vec![c]
            };
            escaped
        })
        .collect();
    if cut.len() < bytes.len() {
        text.push('…');
    }
    text
}

/// A position in an archive.
pub struct ArchiveReader<R> {
    source: R,
    object: String,
    /// Data bytes of the current entry that were not consumed yet.
    remaining: u64,
    /// Bytes that fill the last block of the current entry.
    padding: u64,
    entries: u64,
    entries_max: u64,
    ended: bool,
}

/// What the headers in front of an entry said about it.
#[derive(Default)]
struct Extensions {
    pax: Vec<(Vec<u8>, Vec<u8>)>,
    long_name: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
}

impl Extensions {
    /// The last record of a key; an empty value withdraws it (POSIX.1-2001 pax, "Extended Header").
    fn get(&self, key: &[u8]) -> Option<&[u8]> {
        self.pax
            .iter()
            .rev()
            .find(|(name, _)| name == key)
            .map(|(_, value)| value.as_slice())
            .filter(|value| !value.is_empty())
    }
}

impl<R: BufRead> ArchiveReader<R> {
    /// Starts at the beginning of an archive; `object` names it in errors.
    pub fn new(source: R, object: impl Into<String>, entries_max: u64) -> Self {
        Self {
            source,
            object: object.into(),
            remaining: 0,
            padding: 0,
            entries: 0,
            entries_max,
            ended: false,
        }
    }

    /// The next entry; data of the one before that was not consumed is passed over. `None` at the end.
    ///
    /// # Errors
    /// When the archive is damaged, truncated or beyond a limit, and when the source fails.
    pub fn next_entry(&mut self) -> Result<Option<Entry>> {
        if self.ended {
            return Ok(None);
        }
        self.skip_data()?;
        let mut extensions = Extensions::default();
        let mut extension_count = 0;
        loop {
            let Some(block) = self.header_block()? else {
                if extension_count > 0 {
                    return Err(self.bad("the archive ends after an extension header"));
                }
                self.ended = true;
                return Ok(None);
            };
            let header = Header { block: &block };
            if !header.checksum_is_right() {
                return Err(self.bad("a header has a wrong checksum"));
            }
            let flag = header.type_flag();
            if matches!(flag, b'x' | b'X' | b'g' | b'L' | b'K') {
                extension_count += 1;
                if extension_count > limits::EXTENSIONS_MAX {
                    return Err(self.bad("too many extension headers in front of one entry"));
                }
                let size = self.number(header.field(124, 12), "size")?;
                let data = self.extension_data(size)?;
                match flag {
                    b'x' | b'X' => extensions.pax = self.pax_records(&data)?,
                    b'L' => extensions.long_name = Some(until_nul(&data).to_vec()),
                    b'K' => extensions.long_link = Some(until_nul(&data).to_vec()),
                    // Global records: other engines ignore them, so they may not change what is seen.
                    _ => extension_count -= 1,
                }
                if flag == b'g' {
                    self.count_entry()?;
                }
                continue;
            }
            self.count_entry()?;
            return self.entry(&header, &extensions).map(Some);
        }
    }

    fn count_entry(&mut self) -> Result<()> {
        self.entries += 1;
        if self.entries > self.entries_max {
            return Err(ImageError::Limit {
                object: self.object.clone(),
                limit: self.entries_max,
                unit: "entries",
            });
        }
        Ok(())
    }

    /// Data of the current entry that is at hand, at least one byte; empty when all was consumed.
    ///
    /// # Errors
    /// When the archive ends within the entry or the source fails.
    pub fn data(&mut self) -> Result<&[u8]> {
        if self.remaining == 0 {
            return Ok(&[]);
        }
        // Asked twice because of the borrow; the second call only gives the buffer again.
        if self.fill()? == 0 {
            return Err(self.bad("the archive is truncated"));
        }
        let object = &self.object;
        let buffer = self
            .source
            .fill_buf()
            .map_err(|error| unwrap_carried(|| format!("read {object}"), error))?;
        let length = usize::try_from(self.remaining)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        Ok(&buffer[..length])
    }

    /// Marks `length` bytes of [`Self::data`] as consumed.
    pub fn consume(&mut self, length: usize) {
        self.source.consume(length);
        self.remaining -= length as u64;
    }

    /// Gives the source back, for what follows the archive.
    pub fn into_source(self) -> R {
        self.source
    }

    /// All data of the current entry, when it is no more than `limit` bytes.
    ///
    /// # Errors
    /// When it is more, and as [`Self::data`].
    pub fn read_data(&mut self, limit: u64, what: &str) -> Result<Vec<u8>> {
        if self.remaining > limit {
            return Err(ImageError::Limit {
                object: format!("{}: {what}", self.object),
                limit,
                unit: "bytes",
            });
        }
        let mut content = Vec::new();
        while self.remaining > 0 {
            let piece = self.data()?;
            content.extend_from_slice(piece);
            let length = piece.len();
            self.consume(length);
        }
        Ok(content)
    }

    fn fill(&mut self) -> Result<usize> {
        let object = &self.object;
        self.source
            .fill_buf()
            .map(<[u8]>::len)
            .map_err(|error| unwrap_carried(|| format!("read {object}"), error))
    }

    fn skip_data(&mut self) -> Result<()> {
        self.skip(self.remaining)?;
        self.remaining = 0;
        self.skip(self.padding)?;
        self.padding = 0;
        Ok(())
    }

    fn skip(&mut self, mut count: u64) -> Result<()> {
        while count > 0 {
            let have = self.fill()?;
            if have == 0 {
                return Err(self.bad("the archive is truncated"));
            }
            let step = usize::try_from(count).unwrap_or(usize::MAX).min(have);
            self.source.consume(step);
            count -= step as u64;
        }
        Ok(())
    }

    /// Reads one block; `None` when the source is at its end before the first byte.
    fn block(&mut self) -> Result<Option<[u8; BLOCK]>> {
        let mut block = [0; BLOCK];
        let mut have = 0;
        while have < BLOCK {
            let read = self
                .source
                .read(&mut block[have..])
                .map_err(|error| unwrap_carried(|| format!("read {}", self.object), error))?;
            if read == 0 {
                if have == 0 {
                    return Ok(None);
                }
                return Err(self.bad("the archive is truncated"));
            }
            have += read;
        }
        Ok(Some(block))
    }

    /// The next block that is a header; `None` at two blocks of zeros or at the end of the source.
    fn header_block(&mut self) -> Result<Option<[u8; BLOCK]>> {
        let Some(block) = self.block()? else {
            return Ok(None);
        };
        if block.iter().any(|byte| *byte != 0) {
            return Ok(Some(block));
        }
        match self.block()? {
            Some(second) if second.iter().any(|byte| *byte != 0) => {
                Err(self.bad("a header follows a single block of zeros"))
            }
            _ => Ok(None),
        }
    }

    fn extension_data(&mut self, size: u64) -> Result<Vec<u8>> {
        if size > limits::EXTENSION_BYTES_MAX {
            return Err(ImageError::Limit {
                object: format!("{}: an extension header", self.object),
                limit: limits::EXTENSION_BYTES_MAX,
                unit: "bytes",
            });
        }
        self.remaining = size;
        self.padding = padding_of(size);
        let data = self.read_data(limits::EXTENSION_BYTES_MAX, "an extension header")?;
        self.skip_data()?;
        Ok(data)
    }

    /// `length key=value\n`, repeated; the length counts itself.
    fn pax_records(&self, mut data: &[u8]) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let bad = || self.bad("a pax record is malformed");
        let mut records = Vec::new();
        while !data.is_empty() {
            let space = data.iter().position(|b| *b == b' ').ok_or_else(bad)?;
            let length: usize = decimal(&data[..space])
                .and_then(|length| usize::try_from(length).ok())
                .ok_or_else(bad)?;
            if length <= space + 1 || length > data.len() || data[length - 1] != b'\n' {
                return Err(bad());
            }
            let record = &data[space + 1..length - 1];
            let equals = record.iter().position(|b| *b == b'=').ok_or_else(bad)?;
            let (key, value) = (&record[..equals], &record[equals + 1..]);
            if key.is_empty() || key.contains(&0) {
                return Err(bad());
            }
            // Values of attributes are binary; a NUL anywhere else is a trick.
            let text = !key.starts_with(b"SCHILY.xattr.") && !key.starts_with(b"LIBARCHIVE.");
            if text && value.contains(&0) {
                return Err(bad());
            }
            records.push((key.to_vec(), value.to_vec()));
            data = &data[length..];
        }
        Ok(records)
    }

    fn entry(&mut self, header: &Header<'_>, extensions: &Extensions) -> Result<Entry> {
        let mut path = extensions
            .get(b"path")
            .map(<[u8]>::to_vec)
            .or_else(|| extensions.long_name.clone())
            .unwrap_or_else(|| header.path());
        let link = extensions
            .get(b"linkpath")
            .map(<[u8]>::to_vec)
            .or_else(|| extensions.long_link.clone())
            .unwrap_or_else(|| until_nul(header.field(157, 100)).to_vec());
        let flag = header.type_flag();
        let kind = match flag {
            0 if path.ends_with(b"/") => Kind::Directory,
            0 | b'0' | b'7' | b'S' => Kind::Regular,
            b'1' => Kind::HardLink,
            b'2' => Kind::Symlink,
            b'3' => Kind::Character,
            b'4' => Kind::Block,
            b'5' => Kind::Directory,
            b'6' => Kind::Fifo,
            other => {
                return Err(self.bad_entry(
                    &path,
                    format!("entries of type {:?} are not taken", char::from(other)),
                ));
            }
        };
        let stated = match extensions.get(b"size") {
            Some(text) => decimal(text).ok_or_else(|| self.bad("a pax size is malformed"))?,
            None => self.number(header.field(124, 12), "size")?,
        };
        if stated > i64::MAX as u64 {
            return Err(self.bad_entry(&path, "the size is not possible".into()));
        }
        // Entries that are a header alone carry no data, whatever their size field says.
        let size = if kind == Kind::Regular { stated } else { 0 };
        self.remaining = size;
        self.padding = padding_of(size);
        let sparse = if kind == Kind::Regular {
            self.sparse_map(header, extensions, &mut path)?
        } else {
            None
        };
        let modified = match extensions.get(b"mtime") {
            Some(text) => pax_time(text).ok_or_else(|| self.bad("a pax time is malformed"))?,
            None => Time {
                seconds: self.signed(header.field(136, 12), "time")?,
                nanoseconds: 0,
            },
        };
        let accessed = match extensions.get(b"atime") {
            Some(text) => Some(pax_time(text).ok_or_else(|| self.bad("a pax time is malformed"))?),
            None => None,
        };
        let id = |key: &[u8], field: &[u8]| -> Result<u32> {
            let value = match extensions.get(key) {
                Some(text) => decimal(text).ok_or_else(|| self.bad("a pax id is malformed"))?,
                None => self.number(field, "id")?,
            };
            // The kernel reserves the largest id as "no change".
            u32::try_from(value)
                .ok()
                .filter(|id| *id != u32::MAX)
                .ok_or_else(|| self.bad_entry(&path, format!("the owner {value} is not possible")))
        };
        let uid = id(b"uid", header.field(108, 8))?;
        let gid = id(b"gid", header.field(116, 8))?;
        let device = if matches!(kind, Kind::Character | Kind::Block) {
            let part = |field: &[u8]| -> Result<u32> {
                u32::try_from(self.number(field, "device number")?)
                    .map_err(|_| self.bad("a device number is not possible"))
            };
            (part(header.field(329, 8))?, part(header.field(337, 8))?)
        } else {
            (0, 0)
        };
        let mode = u32::try_from(self.number(header.field(100, 8), "mode")? & 0o7777)
            .map_err(|_| self.bad("a mode is not possible"))?;
        let xattrs = self.xattrs(extensions)?;
        Ok(Entry {
            path,
            link,
            kind,
            size: self.remaining,
            mode,
            uid,
            gid,
            modified,
            accessed,
            device,
            xattrs,
            sparse,
        })
    }

    fn xattrs(&self, extensions: &Extensions) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let mut xattrs: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
        for (key, value) in &extensions.pax {
            let Some(name) = key.strip_prefix(b"SCHILY.xattr.") else {
                continue;
            };
            if value.len() > limits::XATTR_BYTES_MAX || name.len() > limits::NAME_BYTES_MAX {
                return Err(self.bad("an extended attribute is too large"));
            }
            xattrs.retain(|(other, _)| other != name);
            xattrs.push((name.to_vec(), value.clone()));
            if xattrs.len() > limits::XATTRS_MAX {
                return Err(self.bad("an entry has too many extended attributes"));
            }
        }
        Ok(xattrs)
    }

    fn bad(&self, reason: &str) -> ImageError {
        ImageError::archive(self.object.clone(), reason)
    }

    fn bad_entry(&self, path: &[u8], reason: String) -> ImageError {
        ImageError::archive(format!("{}: {}", self.object, printable(path)), reason)
    }

    fn number(&self, field: &[u8], what: &str) -> Result<u64> {
        let value = self.signed(field, what)?;
        u64::try_from(value).map_err(|_| self.bad(&format!("a {what} is negative")))
    }

    fn signed(&self, field: &[u8], what: &str) -> Result<i64> {
        numeric(field).ok_or_else(|| self.bad(&format!("a {what} field is malformed")))
    }
}
