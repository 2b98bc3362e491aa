//! A file of pages that are all of one size, as SQLite and Berkeley DB have it, and numbers in bytes.
//!
//! Owns: that no page is beyond the end, and that none is claimed twice. Every loop over references from page to
//! page therefore ends, after at most as many steps as the file has pages.

use std::fs::File;
use std::os::unix::fs::FileExt;

use super::Damage;
use super::log::Log;
use crate::limits;

/// A range of bytes, or nothing when it is not all there.
pub(super) fn part(bytes: &[u8], at: usize, length: usize) -> Result<&[u8], Damage> {
    let end = at.checked_add(length).ok_or(Damage::Cut)?;
    bytes.get(at..end).ok_or(Damage::Cut)
}

/// `N` bytes at a place.
pub(super) fn array<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N], Damage> {
    part(bytes, at, N)?.try_into().map_err(|_| Damage::Cut)
}

/// Big endian, two bytes.
pub(super) fn be16(bytes: &[u8], at: usize) -> Result<u16, Damage> {
    array(bytes, at).map(u16::from_be_bytes)
}

/// Big endian, four bytes.
pub(super) fn be32(bytes: &[u8], at: usize) -> Result<u32, Damage> {
    array(bytes, at).map(u32::from_be_bytes)
}

/// Fills `into` from a place of a file.
pub(super) fn read_at(file: &File, at: u64, into: &mut [u8]) -> Result<(), Damage> {
    match file.read_exact_at(into, at) {
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Err(Damage::Cut),
        other => Ok(other?),
    }
}

/// Takes a file's pages by their number.
pub(super) struct Pages<'a> {
    file: &'a File,
    log: Option<Log<'a>>,
    size: usize,
    first: u32,
    count: u32,
    claimed: Vec<u64>,
}

impl<'a> Pages<'a> {
    /// Pages of `size` bytes, the first of which has the number `first`; those that a log has are taken from there.
    pub(super) fn new(
        file: &'a File,
        log: Option<Log<'a>>,
        size: usize,
        first: u32,
    ) -> Result<Self, Damage> {
        let whole = file.metadata()?.len() / size as u64;
        let count = log
            .as_ref()
            .and_then(Log::count)
            .map_or(whole, u64::from)
            .min(limits::WHY_RPM_BYTES / size as u64);
        let count = u32::try_from(count).map_err(|_| Damage::Large(limits::WHY_RPM_BYTES))?;
        Ok(Self {
            file,
            log,
            size,
            first,
            count,
            claimed: vec![0; (count as usize).div_ceil(64)],
        })
    }

    /// The numbers of all pages.
    pub(super) fn numbers(&self) -> std::ops::Range<u32> {
        self.first..self.first.saturating_add(self.count)
    }

    /// Says that a reference to this page was found, which may happen once.
    pub(super) fn claim(&mut self, number: u32) -> Result<(), Damage> {
        let index = number.checked_sub(self.first).ok_or(Damage::Cut)?;
        if index >= self.count {
            return Err(Damage::Cut);
        }
        let bit = 1 << (index % 64);
        let word = self
            .claimed
            .get_mut(index as usize / 64)
            .ok_or(Damage::Cut)?;
        if *word & bit != 0 {
            return Err(Damage::Shared);
        }
        *word |= bit;
        Ok(())
    }

    /// Reads a page.
    pub(super) fn read(&self, number: u32, page: &mut Vec<u8>) -> Result<(), Damage> {
        let index = number.checked_sub(self.first).ok_or(Damage::Cut)?;
        page.resize(self.size, 0);
        match self.log.as_ref().and_then(|log| log.place(number)) {
            Some((log, at)) => read_at(log, at, page),
            None => read_at(self.file, u64::from(index) * self.size as u64, page),
        }
    }
}
