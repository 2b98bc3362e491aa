//! The table `Packages(hnum INTEGER PRIMARY KEY, blob BLOB)` of an SQLite database.
//!
//! Owns: table b-trees, cells with their overflow chains, records. It knows no indexes and no SQL, and it never
//! writes: "Database File Format" of SQLite, sections 1.3, 1.6, 2.1 and 2.6, is all that it needs.

use std::fs::File;

use super::log::Log;
use super::pages::{Pages, be16, be32, part, read_at};
use super::{Damage, Listed};
use crate::limits;

/// How a database begins.
const MAGIC: &[u8; 16] = b"SQLite format 3\0";

/// Bytes of the head, which stands at the beginning of the first page.
const HEAD: usize = 100;

/// How a journal begins that has what is needed to undo a change.
const JOURNAL: [u8; 8] = [0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7];

/// Kinds of pages.
const LEAF: u8 = 13;
const INTERIOR: u8 = 5;

/// The page with the root of the schema's table.
const SCHEMA: u32 = 1;

/// Whether this is a journal of a change that was not finished.
pub(super) fn is_hot(journal: &File) -> bool {
    let mut magic = [0; 8];
    read_at(journal, 0, &mut magic).is_ok() && magic == JOURNAL
}

/// Gives every header of the table.
pub(super) fn read(file: &File, log: Option<&File>, listed: &mut Listed) -> Result<(), Damage> {
    let mut head = [0; HEAD];
    read_at(file, 0, &mut head)?;
    if !head.starts_with(MAGIC) {
        return Err(Damage::Form("it is no SQLite database"));
    }
    let page_size = match be16(&head, 16)? {
        1 => 65_536,
        size if size >= 512 && size.is_power_of_two() => usize::from(size),
        _ => return Err(Damage::Form("its page size is none")),
    };
    let log = log.map(|log| Log::read(log, page_size)).transpose()?;
    let mut pages = Pages::new(file, log, page_size, 1)?;
    let mut first = Vec::new();
    pages.read(SCHEMA, &mut first)?;
    let reserved = usize::from(*first.get(20).ok_or(Damage::Cut)?);
    let usable = page_size - reserved;
    if usable < 480 {
        return Err(Damage::Form("its pages leave no room"));
    }
    if be32(&first, 56)? != 1 {
        return Err(Damage::Form("its text is not UTF-8"));
    }
    let mut root = None;
    Table {
        pages: &mut pages,
        usable,
    }
    .rows(SCHEMA, |record| {
        let is = |column, text: &[u8]| Ok::<_, Damage>(column_of(record, column)? == text);
        if is(0, b"table")? && is(1, b"Packages")? {
            let mut number = 0;
            for byte in column_of(record, 3)? {
                number = number << 8 | u64::from(*byte);
            }
            root = Some(u32::try_from(number).map_err(|_| Damage::Cut)?);
        }
        Ok(root.is_none())
    })?;
    let root = root.ok_or(Damage::Form("it has no table of packages"))?;
    Table {
        pages: &mut pages,
        usable,
    }
    .rows(root, |record| Ok(listed.add(column_of(record, 1)?)))
}

/// A b-tree of rows.
struct Table<'a, 'b> {
    pages: &'a mut Pages<'b>,
    usable: usize,
}

impl Table<'_, '_> {
    /// Gives the record of every row until the answer is false.
    fn rows(
        &mut self,
        root: u32,
        mut each: impl FnMut(&[u8]) -> Result<bool, Damage>,
    ) -> Result<(), Damage> {
        let mut page = Vec::new();
        self.pages.claim(root)?;
        let mut pending = vec![root];
        while let Some(number) = pending.pop() {
            self.pages.read(number, &mut page)?;
            let page = part(&page, 0, self.usable)?;
            let start = if number == SCHEMA { HEAD } else { 0 };
            let kind = *page.get(start).ok_or(Damage::Cut)?;
            let cells = usize::from(be16(page, start + 3)?);
            let array = match kind {
                LEAF => start + 8,
                INTERIOR => start + 12,
                _ => return Err(Damage::Form("a page is none of a table")),
            };
            // Cells share no byte, so that all of a page are not longer than it.
            let mut room = page.len();
            for cell in 0..cells {
                let at = usize::from(be16(page, array + 2 * cell)?);
                if at < array + 2 * cells {
                    return Err(Damage::Shared);
                }
                if kind == INTERIOR {
                    let child = be32(page, at)?;
                    self.pages.claim(child)?;
                    pending.push(child);
                    continue;
                }
                let (record, local) = self.record(page, at)?;
                room = room.checked_sub(local).ok_or(Damage::Shared)?;
                if !each(&record)? {
                    return Ok(());
                }
            }
            if kind == INTERIOR {
                let child = be32(page, start + 8)?;
                self.pages.claim(child)?;
                pending.push(child);
            }
        }
        Ok(())
    }

    /// The record of a leaf's cell with what of it is on further pages, and how many bytes of it are on this one.
    fn record(&mut self, page: &[u8], at: usize) -> Result<(Vec<u8>, usize), Damage> {
        let (length, after) = varint(page, at)?;
        let (_, after) = varint(page, after)?;
        let length = usize::try_from(length).map_err(|_| Damage::Cut)?;
        if length as u64 > limits::WHY_HEADER_BYTES {
            return Err(Damage::Form("a row is larger than any header"));
        }
        // Section 1.6: how much stays on the page.
        let most = self.usable - 35;
        let local = if length <= most {
            length
        } else {
            let least = (self.usable - 12) * 32 / 255 - 23;
            let fitting = least + (length - least) % (self.usable - 4);
            if fitting <= most { fitting } else { least }
        };
        let mut record = part(page, after, local)?.to_vec();
        let mut next = match local < length {
            true => be32(page, after + local)?,
            false => 0,
        };
        let mut overflow = Vec::new();
        while record.len() < length {
            self.pages.claim(next)?;
            self.pages.read(next, &mut overflow)?;
            let here = (length - record.len()).min(self.usable - 4);
            record.extend_from_slice(part(&overflow, 4, here)?);
            next = be32(&overflow, 0)?;
        }
        // An empty record takes two bytes as well.
        Ok((record, local.max(2)))
    }
}

/// A number of one to nine bytes, and where it ends.
fn varint(bytes: &[u8], at: usize) -> Result<(u64, usize), Damage> {
    let mut number = 0;
    for (place, byte) in bytes.get(at..).ok_or(Damage::Cut)?.iter().enumerate() {
        if place == 8 {
            return Ok((number << 8 | u64::from(*byte), at + 9));
        }
        number = number << 7 | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            return Ok((number, at + place + 1));
        }
    }
    Err(Damage::Cut)
}

/// The bytes of a column, whatever its type.
fn column_of(record: &[u8], column: usize) -> Result<&[u8], Damage> {
    let (end, mut at) = varint(record, 0)?;
    let end = usize::try_from(end).map_err(|_| Damage::Cut)?;
    let mut value = end;
    for number in 0.. {
        if at >= end {
            break;
        }
        let (kind, after) = varint(record, at)?;
        at = after;
        let length = match kind {
            0 | 8 | 9 => 0,
            1..=4 => kind,
            5 => 6,
            6 | 7 => 8,
            10 | 11 => {
                return Err(Damage::Form(
                    "a row has a type that SQLite keeps for itself",
                ));
            }
            _ => (kind - 12) / 2,
        };
        let length = usize::try_from(length).map_err(|_| Damage::Cut)?;
        if number == column {
            return part(record, value, length);
        }
        value = value.checked_add(length).ok_or(Damage::Cut)?;
    }
    Err(Damage::Form("a row has too few columns"))
}
