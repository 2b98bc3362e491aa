//! Writing tar archives: POSIX ustar headers, and pax records for whatever does not fit into them.
//!
//! Owns: the form of headers. The same entries in the same order give the same bytes, since digests of layers
//! are digests of archives. Does not own: which entries there are, or how their times are rounded.

use std::io::{self, Write};

use super::header::padding_of;
use super::{BLOCK, Entry, Kind};

/// Largest number of the octal field of 8 bytes that ids have.
const ID_MAX: u64 = 0o7_777_777;
/// Largest number of the octal field of 12 bytes that sizes and times have.
const NUMBER_MAX: u64 = 0o77_777_777_777;

/// An archive on its way out.
///
/// Data follows each entry that has some: exactly as many bytes as the entry says.
pub struct ArchiveWriter<W> {
    target: W,
    remaining: u64,
    padding: u64,
}

impl<W: Write> ArchiveWriter<W> {
    /// Begins an archive.
    pub fn new(target: W) -> Self {
        Self {
            target,
            remaining: 0,
            padding: 0,
        }
    }

    /// Writes the headers of an entry. A map of holes is not written: what others make of archives with sparse files
    /// (tar-split, zstd:chunked) is damaged, so holes are zeros here.
    ///
    /// # Errors
    /// When the data of the entry before is not complete, a field cannot be expressed, or the target fails.
    pub fn entry(&mut self, entry: &Entry) -> io::Result<()> {
        self.end_entry()?;
        let size = match entry.kind {
            Kind::Regular => entry.size,
            _ => 0,
        };
        let mut records = records(entry, size);
        if !records.is_empty() {
            records.sort_by(|a, b| a.0.cmp(&b.0));
            let mut body = Vec::new();
            for (key, value) in &records {
                push_record(&mut body, key, value);
            }
            let mut name = b"PaxHeaders.0/".to_vec();
            name.extend(plain_name(&entry.path));
            let mut header = [0_u8; BLOCK];
            put_text(&mut header, 0, 100, &name);
            put_octal(&mut header, 100, 8, 0o644);
            put_octal(&mut header, 124, 12, body.len() as u64);
            header[156] = b'x';
            self.block(&mut header)?;
            self.target.write_all(&body)?;
            self.pad(padding_of(body.len() as u64))?;
        }
        let mut header = header(entry, size)?;
        self.block(&mut header)?;
        self.remaining = size;
        self.padding = padding_of(size);
        Ok(())
    }

    /// Writes a small file with its content.
    ///
    /// # Errors
    /// As [`Self::entry`].
    pub fn file(&mut self, entry: &Entry, content: &[u8]) -> io::Result<()> {
        self.entry(entry)?;
        self.data(content)
    }

    /// Writes data of the present entry.
    ///
    /// # Errors
    /// When it is more than the entry said, or the target fails.
    pub fn data(&mut self, bytes: &[u8]) -> io::Result<()> {
        if bytes.len() as u64 > self.remaining {
            return Err(io::Error::other(
                "more data than the header of the entry says",
            ));
        }
        self.target.write_all(bytes)?;
        self.remaining -= bytes.len() as u64;
        Ok(())
    }

    /// Bytes that the present entry still lacks.
    pub fn remaining(&self) -> u64 {
        self.remaining
    }

    /// Fills what the present entry lacks with zeros: the file became shorter while it was read.
    ///
    /// # Errors
    /// When the target fails.
    pub fn fill(&mut self) -> io::Result<()> {
        let lacking = std::mem::take(&mut self.remaining);
        self.pad(lacking)
    }

    /// Ends the archive and gives the target back.
    ///
    /// # Errors
    /// When the data of the last entry is not complete, or the target fails.
    pub fn finish(mut self) -> io::Result<W> {
        self.end_entry()?;
        self.pad(2 * BLOCK as u64)?;
        Ok(self.target)
    }

    fn end_entry(&mut self) -> io::Result<()> {
        if self.remaining > 0 {
            return Err(io::Error::other(
                "less data than the header of the entry says",
            ));
        }
        let padding = std::mem::take(&mut self.padding);
        self.pad(padding)
    }

    fn pad(&mut self, mut count: u64) -> io::Result<()> {
        const ZEROS: [u8; 8192] = [0; 8192];
        while count > 0 {
            let step = usize::try_from(count)
                .unwrap_or(usize::MAX)
                .min(ZEROS.len());
            self.target.write_all(&ZEROS[..step])?;
            count -= step as u64;
        }
        Ok(())
    }

    /// Completes a header with magic and checksum and writes it.
    fn block(&mut self, header: &mut [u8; BLOCK]) -> io::Result<()> {
        header[257..265].copy_from_slice(b"ustar\x0000");
        header[148..156].fill(b' ');
        let sum: u64 = header.iter().map(|byte| u64::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self.target.write_all(header)
    }
}

/// The last name of a path in plain characters, for the name of a pax header, which nobody uses.
fn plain_name(path: &[u8]) -> Vec<u8> {
    let trimmed = path.strip_suffix(b"/").unwrap_or(path);
    let start = trimmed
        .iter()
        .rposition(|b| *b == b'/')
        .map_or(0, |at| at + 1);
    trimmed[start..]
        .iter()
        .filter(|byte| byte.is_ascii_graphic())
        .take(80)
        .copied()
        .collect()
}

fn fits(text: &[u8]) -> bool {
    text.len() <= 100 && text.is_ascii()
}

/// What of an entry does not fit into its header.
fn records(entry: &Entry, size: u64) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut records: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    let mut add = |key: &str, value: Vec<u8>| records.push((key.as_bytes().to_vec(), value));
    if !fits(&entry.path) {
        add("path", entry.path.clone());
    }
    if !fits(&entry.link) {
        add("linkpath", entry.link.clone());
    }
    if size > NUMBER_MAX {
        add("size", size.to_string().into_bytes());
    }
    for (key, id) in [("uid", entry.uid), ("gid", entry.gid)] {
        if u64::from(id) > ID_MAX {
            add(key, id.to_string().into_bytes());
        }
    }
    let time = entry.modified;
    let is_plain =
        time.nanoseconds == 0 && u64::try_from(time.seconds).is_ok_and(|s| s <= NUMBER_MAX);
    if !is_plain {
        add(
            "mtime",
            time_text(time.seconds, time.nanoseconds).into_bytes(),
        );
    }
    for (name, value) in &entry.xattrs {
        let key = [b"SCHILY.xattr.".as_slice(), name].concat();
        records.push((key, value.clone()));
    }
    records
}

fn time_text(seconds: i64, nanoseconds: u32) -> String {
    if nanoseconds == 0 {
        return seconds.to_string();
    }
    // Nanoseconds count forwards from the second below, in the text they count away from zero.
    let text = if seconds < 0 {
        format!("-{}.{:09}", -(seconds + 1), 1_000_000_000 - nanoseconds)
    } else {
        format!("{seconds}.{nanoseconds:09}")
    };
    text.trim_end_matches('0').to_owned()
}

/// `length key=value\n`, where the length counts its own digits.
fn push_record(body: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    body.extend_from_slice(length.to_string().as_bytes());
    body.push(b' ');
    body.extend_from_slice(key);
    body.push(b'=');
    body.extend_from_slice(value);
    body.push(b'\n');
}

fn header(entry: &Entry, size: u64) -> io::Result<[u8; BLOCK]> {
    let mut header = [0_u8; BLOCK];
    if fits(&entry.path) {
        put_text(&mut header, 0, 100, &entry.path);
    } else {
        let mut name = plain_name(&entry.path);
        if entry.kind == Kind::Directory {
            name.push(b'/');
        }
        put_text(&mut header, 0, 100, &name);
    }
    if fits(&entry.link) {
        put_text(&mut header, 157, 100, &entry.link);
    }
    put_octal(&mut header, 100, 8, u64::from(entry.mode & 0o7777));
    for (offset, id) in [(108, entry.uid), (116, entry.gid)] {
        let id = u64::from(id);
        put_octal(&mut header, offset, 8, if id > ID_MAX { 0 } else { id });
    }
    put_octal(
        &mut header,
        124,
        12,
        if size > NUMBER_MAX { 0 } else { size },
    );
    let seconds = u64::try_from(entry.modified.seconds).unwrap_or(0);
    put_octal(&mut header, 136, 12, seconds.min(NUMBER_MAX));
    header[156] = match entry.kind {
        Kind::Regular => b'0',
        Kind::HardLink => b'1',
        Kind::Symlink => b'2',
        Kind::Character => b'3',
        Kind::Block => b'4',
        Kind::Directory => b'5',
        Kind::Fifo => b'6',
    };
    if matches!(entry.kind, Kind::Character | Kind::Block) {
        for (offset, part) in [(329, entry.device.0), (337, entry.device.1)] {
            if u64::from(part) > ID_MAX {
                return Err(io::Error::other("a device number that no archive can hold"));
            }
            put_octal(&mut header, offset, 8, part.into());
        }
    }
    Ok(header)
}

fn put_text(header: &mut [u8; BLOCK], offset: usize, length: usize, text: &[u8]) {
    let count = text.len().min(length);
    header[offset..offset + count].copy_from_slice(&text[..count]);
}

/// Octal digits and a NUL.
fn put_octal(header: &mut [u8; BLOCK], offset: usize, length: usize, value: u64) {
    let text = format!("{value:0width$o}", width = length - 1);
    put_text(header, offset, length - 1, text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::{ArchiveReader, Time};

    fn round(entry: &Entry, data: &[u8]) -> (Entry, Vec<u8>) {
        let mut writer = ArchiveWriter::new(Vec::new());
        writer.entry(entry).unwrap();
        writer.data(data).unwrap();
        let bytes = writer.finish().unwrap();
        let mut reader = ArchiveReader::new(bytes.as_slice(), "test", 10);
        let read = reader.next_entry().unwrap().unwrap();
        let content = reader.read_data(1 << 20, "data").unwrap();
        assert!(reader.next_entry().unwrap().is_none());
        (read, content)
    }

    #[test]
    fn what_is_written_is_read_the_same() {
        let plain = Entry {
            path: b"etc/passwd".to_vec(),
            size: 3,
            mode: 0o4755,
            uid: 7,
            gid: 8,
            modified: Time {
                seconds: 1_704_067_200,
                nanoseconds: 0,
            },
            ..Entry::new(Kind::Regular, b"etc/passwd")
        };
        let strange = Entry {
            uid: 4_000_000_000,
            gid: 2_097_152,
            modified: Time {
                seconds: -2,
                nanoseconds: 500_000_000,
            },
            xattrs: vec![
                (
                    b"security.capability".to_vec(),
                    vec![1, 0, 0, 2, 0, 10, 255],
                ),
                (b"user.note".to_vec(), b"a=b\n".to_vec()),
            ],
            path: [b"deep/".repeat(60), "ü\n".into()].concat(),
            ..plain.clone()
        };
        let link = Entry {
            link: b"x".repeat(300),
            ..Entry::new(Kind::Symlink, b"link")
        };
        let device = Entry {
            device: (8, 300),
            ..Entry::new(Kind::Block, b"dev/disk")
        };
        for entry in [plain, strange] {
            assert_eq!(round(&entry, b"abc"), (entry, b"abc".to_vec()));
        }
        for entry in [
            link,
            device,
            Entry::new(Kind::Directory, b"d/"),
            Entry::new(Kind::Fifo, b"p"),
        ] {
            assert_eq!(round(&entry, b""), (entry, Vec::new()));
        }
    }

    #[test]
    fn an_entry_has_exactly_the_data_it_says() {
        let mut writer = ArchiveWriter::new(Vec::new());
        let entry = Entry {
            size: 5,
            ..Entry::new(Kind::Regular, b"f")
        };
        writer.entry(&entry).unwrap();
        assert!(writer.data(b"123456").is_err());
        writer.data(b"12").unwrap();
        assert!(writer.entry(&entry).is_err());
        writer.fill().unwrap();
        writer.entry(&Entry::new(Kind::Directory, b"d")).unwrap();
    }
}
