//! rpm's own database, "ndb": slots that say where blobs are.
//!
//! ```text
//! head   "RpmP", version, generation, pages of slots, next package, … (32 bytes)
//! slot   "Slot", package (0 when free), block, blocks                 (16 bytes each, up to the end of the slots)
//! blob   "BlbS", package, generation, length, content, filling, sum, length, "BlbE"
//! ```
//!
//! All numbers are little endian; a block has 16 bytes.

use std::fs::File;

use super::pages::{array, read_at};
use super::{Damage, Listed};
use crate::limits;

const PAGE: usize = 4096;
const SLOT: usize = 16;
const BLOCK: u64 = 16;

/// Bytes of the head, which takes the place of two slots, and those before and behind a blob's content.
const HEAD: usize = 32;
const BLOB_HEAD: usize = 16;
const BLOB_TAIL: u64 = 12;

fn le32(bytes: &[u8], at: usize) -> Result<u32, Damage> {
    array(bytes, at).map(u32::from_le_bytes)
}

/// Gives every header of the database.
pub(super) fn read(file: &File, listed: &mut Listed) -> Result<(), Damage> {
    let length = file.metadata()?.len();
    // Blobs share no byte, so that all are not longer than the file.
    let mut room = length;
    let mut page = vec![0; PAGE];
    read_at(file, 0, &mut page)?;
    if !page.starts_with(b"RpmP") || le32(&page, 4)? != 0 {
        return Err(Damage::Form("it is no ndb database"));
    }
    let slot_pages = u64::from(le32(&page, 12)?);
    if slot_pages * PAGE as u64 > length {
        return Err(Damage::Cut);
    }
    let mut blob = Vec::new();
    for number in 0..slot_pages {
        read_at(file, number * PAGE as u64, &mut page)?;
        let skipped = if number == 0 { HEAD / SLOT } else { 0 };
        for slot in page.chunks_exact(SLOT).skip(skipped) {
            if !slot.starts_with(b"Slot") {
                return Err(Damage::Form("a slot is none"));
            }
            let package = le32(slot, 4)?;
            if package == 0 {
                continue;
            }
            let size = u64::from(le32(slot, 12)?) * BLOCK;
            let at = u64::from(le32(slot, 8)?) * BLOCK;
            if at + size > length {
                return Err(Damage::Cut);
            }
            room = room.checked_sub(size).ok_or(Damage::Shared)?;
            let mut head = [0; BLOB_HEAD];
            read_at(file, at, &mut head)?;
            let content = u64::from(le32(&head, 12)?);
            let taken = (BLOB_HEAD as u64 + content + BLOB_TAIL).next_multiple_of(BLOCK);
            if !head.starts_with(b"BlbS") || le32(&head, 4)? != package || taken != size {
                return Err(Damage::Form("a slot does not lead to its blob"));
            }
            if content > limits::WHY_HEADER_BYTES {
                return Err(Damage::Form("a blob is larger than any header"));
            }
            blob.resize(usize::try_from(content).map_err(|_| Damage::Cut)?, 0);
            read_at(file, at + BLOB_HEAD as u64, &mut blob)?;
            if !listed.add(&blob) {
                return Ok(());
            }
        }
    }
    Ok(())
}
