//! The write-ahead log of an SQLite database: pages that were changed and are not yet written back.
//!
//! ```text
//! u32 magic, u32 version, u32 page size, u32 checkpoint, u32 salt, u32 salt, u32 sum, u32 sum
//! frame: u32 page, u32 pages of the database (when it ends a transaction), salts, sums, the page     (any number)
//! ```
//!
//! A frame counts when it has the salts of the head and a sum that goes on from the frame before, and when a
//! transaction ends with it or later ("Database File Format", section 4).

use std::collections::HashMap;
use std::fs::File;

use super::Damage;
use super::pages::{array, be32, part, read_at};

const HEAD: usize = 32;
const FRAME: usize = 24;

/// The sums are made of little-endian words when the last bit is not set, else of big-endian ones.
const MAGIC: u32 = 0x377f_0682;
const VERSION: u32 = 3_007_000;

/// Which pages the log has, and where.
pub(super) struct Log<'a> {
    file: &'a File,
    places: HashMap<u32, u64>,
    count: u32,
}

/// Two numbers over all bytes so far.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Sum {
    big_endian: bool,
    halves: [u32; 2],
}

impl Sum {
    fn add(&mut self, bytes: &[u8]) {
        let [mut first, mut second] = self.halves;
        let (pairs, _) = bytes.as_chunks::<8>();
        for pair in pairs {
            let [a, b, c, d, e, f, g, h] = *pair;
            let (x, y) = match self.big_endian {
                true => (
                    u32::from_be_bytes([a, b, c, d]),
                    u32::from_be_bytes([e, f, g, h]),
                ),
                false => (
                    u32::from_le_bytes([a, b, c, d]),
                    u32::from_le_bytes([e, f, g, h]),
                ),
            };
            first = first.wrapping_add(x).wrapping_add(second);
            second = second.wrapping_add(y).wrapping_add(first);
        }
        self.halves = [first, second];
    }

    fn is(&self, bytes: &[u8], at: usize) -> Result<bool, Damage> {
        Ok([be32(bytes, at)?, be32(bytes, at + 4)?] == self.halves)
    }
}

impl<'a> Log<'a> {
    /// Reads a log; without a valid head, or without a whole transaction, it has no pages.
    pub(super) fn read(file: &'a File, page_size: usize) -> Result<Self, Damage> {
        let mut log = Self {
            file,
            places: HashMap::new(),
            count: 0,
        };
        let length = file.metadata()?.len();
        if length < HEAD as u64 {
            return Ok(log);
        }
        let mut head = [0; HEAD];
        read_at(file, 0, &mut head)?;
        let magic = be32(&head, 0)?;
        let mut sum = Sum {
            big_endian: magic & 1 == 1,
            halves: [0, 0],
        };
        sum.add(part(&head, 0, 24)?);
        if magic & !1 != MAGIC || be32(&head, 4)? != VERSION || !sum.is(&head, 24)? {
            return Ok(log);
        }
        if be32(&head, 8)? as usize != page_size {
            return Err(Damage::Form("its log has pages of another size"));
        }
        let salts: [u8; 8] = array(&head, 16)?;
        let mut frame = vec![0; FRAME + page_size];
        let mut unfinished: Vec<(u32, u64)> = Vec::new();
        let mut at = HEAD as u64;
        while at + frame.len() as u64 <= length {
            read_at(file, at, &mut frame)?;
            sum.add(part(&frame, 0, 8)?);
            sum.add(part(&frame, FRAME, page_size)?);
            if array(&frame, 8)? != salts || !sum.is(&frame, 16)? {
                break;
            }
            unfinished.push((be32(&frame, 0)?, at + FRAME as u64));
            let count = be32(&frame, 4)?;
            if count > 0 {
                log.places.extend(unfinished.drain(..));
                log.count = count;
            }
            at += frame.len() as u64;
        }
        Ok(log)
    }

    /// Pages of the database with the last transaction; nothing when the log has none.
    pub(super) fn count(&self) -> Option<u32> {
        (self.count > 0).then_some(self.count)
    }

    /// Where a page is, when the log has it.
    pub(super) fn place(&self, number: u32) -> Option<(&File, u64)> {
        self.places.get(&number).map(|at| (self.file, *at))
    }
}
