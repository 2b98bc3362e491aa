//! A hash of Berkeley DB, as rpm kept its packages up to version 4.15.
//!
//! ```text
//! page 0  … u32 magic at 12, version at 16, page size at 20, encryption at 24, kind at 25, flags at 26
//! page    … u32 next at 16, u16 items at 20, u16 free (or, of a chain, bytes) at 22, kind at 25, content from 26
//! item    u8 kind; its bytes, or (off page) u32 page at 4, u32 length at 8
//! ```
//!
//! Numbers have the byte order of the machine that wrote them; the magic tells which. Items are keys and values in
//! turn, and grow from the end of the page. The buckets do not matter: all pages are looked through in order.

use std::fs::File;

use super::pages::{Pages, array, part, read_at};
use super::{Damage, Listed};
use crate::limits;

const MAGIC: u32 = 0x0006_1561;
const VERSIONS: std::ops::RangeInclusive<u32> = 8..=10;

/// Bytes before a page's content.
const HEAD: usize = 26;

/// Kinds of pages.
const UNSORTED: u8 = 2;
const OVERFLOW: u8 = 7;
const META: u8 = 8;
const SORTED: u8 = 13;

/// Kinds of items.
const HERE: u8 = 1;
const OFF_PAGE: u8 = 3;

/// That every page has a sum, which makes its head longer.
const SUMS: u8 = 1;

/// How numbers are written.
#[derive(Clone, Copy)]
struct Order {
    big_endian: bool,
}

impl Order {
    fn u16(self, bytes: &[u8], at: usize) -> Result<u16, Damage> {
        let bytes = array(bytes, at)?;
        Ok(match self.big_endian {
            true => u16::from_be_bytes(bytes),
            false => u16::from_le_bytes(bytes),
        })
    }

    fn u32(self, bytes: &[u8], at: usize) -> Result<u32, Damage> {
        let bytes = array(bytes, at)?;
        Ok(match self.big_endian {
            true => u32::from_be_bytes(bytes),
            false => u32::from_le_bytes(bytes),
        })
    }
}

fn kind_of(page: &[u8]) -> Result<u8, Damage> {
    page.get(25).copied().ok_or(Damage::Cut)
}

/// Gives every header of the database.
pub(super) fn read(file: &File, listed: &mut Listed) -> Result<(), Damage> {
    let mut head = [0; 512];
    read_at(file, 0, &mut head)?;
    let order = [false, true]
        .map(|big_endian| Order { big_endian })
        .into_iter()
        .find(|order| order.u32(&head, 12).is_ok_and(|magic| magic == MAGIC))
        .ok_or(Damage::Form("it is no hash of Berkeley DB"))?;
    if !VERSIONS.contains(&order.u32(&head, 16)?) || kind_of(&head)? != META {
        return Err(Damage::Form("it is of a version that is not known"));
    }
    let page_size = order.u32(&head, 20)? as usize;
    if !(512..=65_536).contains(&page_size) || !page_size.is_power_of_two() {
        return Err(Damage::Form("its page size is none"));
    }
    let encryption = head.get(24).copied().unwrap_or_default();
    let flags = head.get(26).copied().unwrap_or_default();
    if encryption != 0 || flags & SUMS != 0 {
        return Err(Damage::Form("its pages are encrypted or have sums"));
    }
    let mut pages = Pages::new(file, None, page_size, 0)?;
    let mut page = Vec::new();
    let mut header = Vec::new();
    for number in pages.numbers().skip(1) {
        pages.read(number, &mut page)?;
        if !matches!(kind_of(&page)?, SORTED | UNSORTED) {
            continue;
        }
        let items = usize::from(order.u16(&page, 20)?);
        let mut end = page_size;
        let mut is_counter = false;
        for item in 0..items {
            let start = usize::from(order.u16(&page, HEAD + 2 * item)?);
            // Items share no byte: each ends where the one before begins, and none is in the list of places.
            let length = end.checked_sub(start).ok_or(Damage::Shared)?;
            if start < HEAD + 2 * items {
                return Err(Damage::Shared);
            }
            let content = part(&page, start, length)?;
            end = start;
            if item % 2 == 0 {
                // Under the key 0 stands how many packages there ever were.
                is_counter = content == [HERE, 0, 0, 0, 0];
                continue;
            }
            if is_counter {
                continue;
            }
            match content {
                [HERE, content @ ..] => {
                    header.clear();
                    header.extend_from_slice(content);
                }
                [OFF_PAGE, ..] => {
                    let first = order.u32(content, 4)?;
                    let length = order.u32(content, 8)?;
                    chain(&mut pages, order, (first, length), &mut header)?;
                }
                _ => return Err(Damage::Form("an item is of no kind that rpm uses")),
            }
            if !listed.add(&header) {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Reads a value that is on pages of its own.
fn chain(
    pages: &mut Pages<'_>,
    order: Order,
    (first, length): (u32, u32),
    value: &mut Vec<u8>,
) -> Result<(), Damage> {
    if u64::from(length) > limits::WHY_HEADER_BYTES {
        return Err(Damage::Form("a value is larger than any header"));
    }
    value.clear();
    let mut page = Vec::new();
    let mut next = first;
    while value.len() < length as usize {
        pages.claim(next)?;
        pages.read(next, &mut page)?;
        if kind_of(&page)? != OVERFLOW {
            return Err(Damage::Form("a chain leads to a page of another kind"));
        }
        value.extend_from_slice(part(&page, HEAD, order.u16(&page, 22)?.into())?);
        next = order.u32(&page, 16)?;
    }
    if value.len() != length as usize {
        return Err(Damage::Form("a value has another length than it says"));
    }
    Ok(())
}
