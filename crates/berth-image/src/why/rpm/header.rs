//! The header of a package, as every database of rpm keeps it.
//!
//! ```text
//! u32 entries, u32 bytes of data
//! entry: u32 tag, u32 type, u32 offset into the data, u32 count      (as often as was said)
//! data
//! ```
//!
//! All numbers are big endian (rpm, "Package format", section header).

use super::Damage;
use super::pages::{array, be32, part};
use crate::why::packages::{Package, short};

const NAME: u32 = 1000;
const VERSION: u32 = 1001;
const RELEASE: u32 = 1002;
const EPOCH: u32 = 1003;
const SIZE: u32 = 1009;
const ARCHITECTURE: u32 = 1022;
const LONG_SIZE: u32 = 5009;

const INT32: u32 = 4;
const INT64: u32 = 5;
const STRING: u32 = 6;

/// Most entries; rpm itself takes no more.
const ENTRIES: usize = 0xffff;

/// Most bytes of a text, with its end; names and versions are far shorter.
const TEXT: usize = 4096;

/// Bytes before the entries, and of each.
const HEAD: usize = 8;
const ENTRY: usize = 16;

/// Reads what is shown of a package.
pub(super) fn package(blob: &[u8]) -> Result<Package, Damage> {
    let entries = be32(blob, 0)? as usize;
    if entries > ENTRIES {
        return Err(Damage::Form("a header has more entries than rpm allows"));
    }
    let data = HEAD + entries * ENTRY;
    let index = part(blob, HEAD, entries * ENTRY)?;
    let data = part(blob, data, be32(blob, 4)? as usize)?;
    if blob.len() != HEAD + index.len() + data.len() {
        return Err(Damage::Form("a header has another length than it says"));
    }
    let value = |tag: u32| -> Result<Option<Value<'_>>, Damage> {
        for entry in index.chunks_exact(ENTRY) {
            if be32(entry, 0)? == tag {
                return Ok(Some(Value {
                    data,
                    kind: be32(entry, 4)?,
                    at: be32(entry, 8)? as usize,
                    count: be32(entry, 12)?,
                }));
            }
        }
        Ok(None)
    };
    let text = |tag| value(tag)?.map_or(Ok(String::new()), |value| value.text());
    let number = |tag| value(tag)?.map(|value| value.number()).transpose();
    let name = text(NAME)?;
    if name.is_empty() {
        return Err(Damage::Form("a header has no name"));
    }
    let epoch = number(EPOCH)?.map_or(String::new(), |epoch| format!("{epoch}:"));
    let version = format!("{epoch}{}-{}", text(VERSION)?, text(RELEASE)?);
    // Packages of 4 GiB and more have the long size alone.
    let size = match number(LONG_SIZE)? {
        Some(size) => size,
        None => number(SIZE)?.unwrap_or(0),
    };
    Ok(Package {
        manager: "rpm",
        name,
        version: short(&version),
        architecture: text(ARCHITECTURE)?,
        size,
    })
}

/// Where an entry says its value is.
struct Value<'a> {
    data: &'a [u8],
    kind: u32,
    at: usize,
    count: u32,
}

impl Value<'_> {
    fn text(&self) -> Result<String, Damage> {
        if self.kind != STRING || self.count != 1 {
            return Err(Damage::Form("an entry of a header is no text"));
        }
        let rest = self.data.get(self.at..).ok_or(Damage::Cut)?;
        let rest = rest.get(..TEXT).unwrap_or(rest);
        let end = rest.iter().position(|byte| *byte == 0);
        let text = rest.get(..end.ok_or(Damage::Cut)?).ok_or(Damage::Cut)?;
        Ok(short(&String::from_utf8_lossy(text)))
    }

    fn number(&self) -> Result<u64, Damage> {
        match (self.kind, self.count) {
            (INT32, 1) => Ok(be32(self.data, self.at)?.into()),
            (INT64, 1) => array(self.data, self.at).map(u64::from_be_bytes),
            _ => Err(Damage::Form("an entry of a header is no number")),
        }
    }
}
