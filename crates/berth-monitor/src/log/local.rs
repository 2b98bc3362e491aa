//! The format of the `local` driver.
//!
//! ```text
//! record     := length body length          lengths: u32, big endian, of the body
//! body       := flags time [attributes] line
//! flags      := u8: 1 standard error, 2 partial line, 4 attributes follow
//! time       := i64, big endian, nanoseconds since 1970
//! attributes := u32 length, JSON object of strings
//! line       := the rest, without its newline
//! ```
//!
//! The length at both ends lets a reader go backwards, and tells a torn record from a whole one.

use berth_types::Timestamp;

use super::entry::{LogEntry, StreamKind};
use super::json_file::AttributeCache;
use crate::limits;

const FLAG_STDERR: u8 = 1;
const FLAG_PARTIAL: u8 = 2;
const FLAG_ATTRIBUTES: u8 = 4;
/// Bytes of a length.
pub(super) const LENGTH: usize = 4;
const FIXED: usize = 1 + 8;

/// Appends one record.
pub(super) fn encode(
    line: &[u8],
    complete: bool,
    stream: StreamKind,
    time: i128,
    attributes: &[u8],
    out: &mut Vec<u8>,
) {
    let attribute_bytes = if attributes.is_empty() {
        0
    } else {
        LENGTH + attributes.len()
    };
    let length = u32::try_from(FIXED + attribute_bytes + line.len())
        .unwrap_or(u32::MAX)
        .to_be_bytes();
    let mut flags = 0;
    if stream == StreamKind::Stderr {
        flags |= FLAG_STDERR;
    }
    if !complete {
        flags |= FLAG_PARTIAL;
    }
    if !attributes.is_empty() {
        flags |= FLAG_ATTRIBUTES;
    }
    out.extend_from_slice(&length);
    out.push(flags);
    out.extend_from_slice(&i64::try_from(time).unwrap_or(i64::MAX).to_be_bytes());
    if !attributes.is_empty() {
        out.extend_from_slice(
            &u32::try_from(attributes.len())
                .unwrap_or(u32::MAX)
                .to_be_bytes(),
        );
        out.extend_from_slice(attributes);
    }
    out.extend_from_slice(line);
    out.extend_from_slice(&length);
}

/// What the beginning of a buffer holds.
pub(super) enum Record<'a> {
    /// A whole record of this many bytes, with its body.
    Whole(usize, &'a [u8]),
    /// The beginning of what may become a record.
    Unfinished,
    /// No record.
    Invalid,
}

/// Looks at the record at the beginning of `bytes`.
pub(super) fn frame(bytes: &[u8]) -> Record<'_> {
    let Some((head, rest)) = bytes.split_first_chunk::<LENGTH>() else {
        return Record::Unfinished;
    };
    let Some(length) = body_length(*head) else {
        return Record::Invalid;
    };
    let Some(body) = rest.get(..length) else {
        return Record::Unfinished;
    };
    match rest.get(length..length + LENGTH) {
        None => Record::Unfinished,
        Some(tail) if tail == head => Record::Whole(length + 2 * LENGTH, body),
        Some(_) => Record::Invalid,
    }
}

/// The length that four bytes tell, when a body can be that long.
pub(super) fn body_length(bytes: [u8; LENGTH]) -> Option<usize> {
    let length = usize::try_from(u32::from_be_bytes(bytes)).ok()?;
    (FIXED..=limits::MAX_LOG_ENTRY)
        .contains(&length)
        .then_some(length)
}

/// Reads a body; `None` when it is not one.
pub(super) fn decode(body: &[u8], cache: &mut AttributeCache) -> Option<LogEntry> {
    let (&flags, rest) = body.split_first()?;
    let (time, mut rest) = rest.split_first_chunk::<8>()?;
    if flags & !(FLAG_STDERR | FLAG_PARTIAL | FLAG_ATTRIBUTES) != 0 {
        return None;
    }
    let mut attributes = "";
    if flags & FLAG_ATTRIBUTES != 0 {
        let (length, tail) = rest.split_first_chunk::<LENGTH>()?;
        let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
        attributes = std::str::from_utf8(tail.get(..length)?).ok()?;
        rest = &tail[length..];
    }
    let partial = flags & FLAG_PARTIAL != 0;
    let mut bytes = Vec::with_capacity(rest.len() + 1);
    bytes.extend_from_slice(rest);
    if !partial {
        bytes.push(b'\n');
    }
    Some(LogEntry {
        stream: if flags & FLAG_STDERR != 0 {
            StreamKind::Stderr
        } else {
            StreamKind::Stdout
        },
        time: Timestamp::from_unix_nanoseconds(i128::from(i64::from_be_bytes(*time))),
        bytes,
        partial,
        attributes: cache.get(attributes),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_round_trip_and_torn_ones_are_told() {
        let mut out = Vec::new();
        encode(
            b"\xff\x00",
            true,
            StreamKind::Stderr,
            42,
            b"{\"a\":\"b\"}",
            &mut out,
        );
        let Record::Whole(length, body) = frame(&out) else {
            panic!("not whole")
        };
        assert_eq!(length, out.len());
        let entry = decode(body, &mut AttributeCache::default()).unwrap();
        assert_eq!(entry.bytes, b"\xff\x00\n");
        assert_eq!(entry.time.unix_nanoseconds(), 42);
        assert_eq!(entry.attributes["a"], "b");
        for cut in 0..out.len() {
            assert!(matches!(frame(&out[..cut]), Record::Unfinished));
        }
        let last = out.len() - 1;
        out[last] ^= 1;
        assert!(matches!(frame(&out), Record::Invalid));
        assert!(matches!(frame(&[0xff; 64]), Record::Invalid));
    }
}
