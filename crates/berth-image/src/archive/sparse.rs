//! Sparse files: where the pieces of data go, in each of the forms that GNU tar has had.

use std::io::BufRead;

use super::header::{Header, decimal, padding_of};
use super::{ArchiveReader, Extensions, SparseMap};
use crate::error::Result;
use crate::limits;

impl<R: BufRead> ArchiveReader<R> {
    /// The map of a sparse file in any of GNU's four forms (GNU tar manual, "Storing Sparse Files").
    pub(super) fn sparse_map(
        &mut self,
        header: &Header<'_>,
        extensions: &Extensions,
        path: &mut Vec<u8>,
    ) -> Result<Option<SparseMap>> {
        let (size, segments) = if header.type_flag() == b'S' {
            self.sparse_old(header)?
        } else {
            let major = extensions.get(b"GNU.sparse.major");
            let minor = extensions.get(b"GNU.sparse.minor");
            let listed = extensions.get(b"GNU.sparse.map").is_some()
                || extensions.get(b"GNU.sparse.numblocks").is_some();
            let in_data = match (major, minor) {
                (Some(b"1"), Some(b"0")) => true,
                (Some(b"0"), Some(b"0" | b"1")) => false,
                (None, None) if listed => false,
                (None, None) => return Ok(None),
                _ => return Err(self.bad("a sparse file has an unknown form")),
            };
            if let Some(name) = extensions.get(b"GNU.sparse.name") {
                *path = name.to_vec();
            }
            let size = extensions
                .get(b"GNU.sparse.realsize")
                .or_else(|| extensions.get(b"GNU.sparse.size"))
                .and_then(decimal)
                .ok_or_else(|| self.bad("a sparse file has no size"))?;
            let segments = if in_data {
                self.sparse_in_data()?
            } else {
                self.sparse_in_pax(extensions)?
            };
            (size, segments)
        };
        // Checked as a whole, whatever form it came in.
        let mut end = 0;
        let mut total = 0_u64;
        for (offset, length) in &segments {
            let next = offset.checked_add(*length);
            let Some(next) = next.filter(|next| *offset >= end && *next <= size) else {
                return Err(self.bad("a sparse map is not in order"));
            };
            end = next;
            total += length;
        }
        if total != self.remaining || size > i64::MAX as u64 {
            return Err(self.bad("a sparse map does not fit its data"));
        }
        Ok(Some(SparseMap { size, segments }))
    }

    fn sparse_old(&mut self, header: &Header<'_>) -> Result<(u64, Vec<(u64, u64)>)> {
        let size = self.number(header.field(483, 12), "sparse size")?;
        let mut segments = Vec::new();
        let mut extended = header.field(482, 1)[0] != 0;
        self.sparse_table(header.field(386, 96), &mut segments)?;
        while extended {
            let block = self
                .block()?
                .ok_or_else(|| self.bad("the archive is truncated"))?;
            self.sparse_table(&block[..504], &mut segments)?;
            extended = block[504] != 0;
        }
        Ok((size, segments))
    }

    fn sparse_table(&self, table: &[u8], segments: &mut Vec<(u64, u64)>) -> Result<()> {
        for pair in table.chunks_exact(24) {
            if pair[0] == 0 || pair[12] == 0 {
                break;
            }
            let offset = self.number(&pair[..12], "sparse offset")?;
            let length = self.number(&pair[12..], "sparse length")?;
            self.push_segment(segments, offset, length)?;
        }
        Ok(())
    }

    fn push_segment(&self, segments: &mut Vec<(u64, u64)>, offset: u64, length: u64) -> Result<()> {
        if segments.len() >= limits::SPARSE_SEGMENTS_MAX {
            return Err(self.bad("a sparse map has too many segments"));
        }
        segments.push((offset, length));
        Ok(())
    }

    fn sparse_in_pax(&self, extensions: &Extensions) -> Result<Vec<(u64, u64)>> {
        let bad = || self.bad("a sparse map is malformed");
        let mut numbers = Vec::new();
        if let Some(map) = extensions.get(b"GNU.sparse.map") {
            for text in map.split(|b| *b == b',') {
                numbers.push(decimal(text).ok_or_else(bad)?);
            }
        } else {
            for (key, value) in &extensions.pax {
                let wanted = match key.as_slice() {
                    b"GNU.sparse.offset" => 0,
                    b"GNU.sparse.numbytes" => 1,
                    _ => continue,
                };
                if numbers.len() % 2 != wanted {
                    return Err(bad());
                }
                numbers.push(decimal(value).ok_or_else(bad)?);
            }
        }
        if numbers.len() % 2 != 0 {
            return Err(bad());
        }
        let mut segments = Vec::new();
        for pair in numbers.chunks_exact(2) {
            self.push_segment(&mut segments, pair[0], pair[1])?;
        }
        Ok(segments)
    }

    /// Form 1.0: decimal lines at the head of the data, filled up to a whole block.
    fn sparse_in_data(&mut self) -> Result<Vec<(u64, u64)>> {
        let mut consumed = 0_u64;
        let count = self.sparse_line(&mut consumed)?;
        if count > limits::SPARSE_SEGMENTS_MAX as u64 {
            return Err(self.bad("a sparse map has too many segments"));
        }
        let mut segments = Vec::new();
        for _ in 0..count {
            let offset = self.sparse_line(&mut consumed)?;
            let length = self.sparse_line(&mut consumed)?;
            self.push_segment(&mut segments, offset, length)?;
        }
        let mut fill = padding_of(consumed);
        if fill > self.remaining {
            return Err(self.bad("a sparse map is malformed"));
        }
        while fill > 0 {
            let have = self.data()?.len();
            let step = usize::try_from(fill).unwrap_or(usize::MAX).min(have);
            self.consume(step);
            fill -= step as u64;
        }
        Ok(segments)
    }

    fn sparse_line(&mut self, consumed: &mut u64) -> Result<u64> {
        let mut digits = Vec::with_capacity(20);
        loop {
            let Some(byte) = self.data()?.first().copied() else {
                return Err(self.bad("a sparse map is malformed"));
            };
            self.consume(1);
            *consumed += 1;
            if byte == b'\n' {
                return decimal(&digits).ok_or_else(|| self.bad("a sparse map is malformed"));
            }
            digits.push(byte);
            if digits.len() > 20 {
                return Err(self.bad("a sparse map is malformed"));
            }
        }
    }
}
