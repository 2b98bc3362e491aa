//! Docker's json-file format: one object per line, `{"log":…,"stream":…,"attrs":…,"time":…}`.
//!
//! The order of the members, the escapes (Go's, HTML-safe) and the placeholder for bytes that are not UTF-8 are Docker's, so that
//! tools that read these files see no difference.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use berth_types::Timestamp;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::entry::{LogEntry, StreamKind};

/// Text of a moment, with the part down to the second kept, because neighbouring entries share it.
#[derive(Debug, Default)]
pub(super) struct TimeText {
    second: i128,
    prefix: String,
}

impl TimeText {
    fn append(&mut self, time: i128, out: &mut Vec<u8>) {
        const SECOND: i128 = 1_000_000_000;
        let second = time.div_euclid(SECOND);
        if self.prefix.is_empty() || self.second != second {
            self.prefix.clear();
            // Writing to a String cannot fail.
            let _ = write!(
                self.prefix,
                "{}",
                Timestamp::from_unix_nanoseconds(second * SECOND)
            );
            self.prefix.pop();
            self.second = second;
        }
        out.extend_from_slice(self.prefix.as_bytes());
        let mut fraction = time.rem_euclid(SECOND);
        if fraction != 0 {
            let mut digits = [b'0'; 9];
            for digit in digits.iter_mut().rev() {
                *digit = b'0' + u8::try_from(fraction % 10).unwrap_or(0);
                fraction /= 10;
            }
            let length = digits
                .iter()
                .rposition(|digit| *digit != b'0')
                .map_or(0, |last| last + 1);
            out.push(b'.');
            out.extend_from_slice(&digits[..length]);
        }
        out.push(b'Z');
    }
}

/// Appends one entry. `attributes` is a JSON object or empty; `complete` adds the newline that `line` lacks.
pub(super) fn encode(
    line: &[u8],
    complete: bool,
    stream: StreamKind,
    time: i128,
    attributes: &[u8],
    text: &mut TimeText,
    out: &mut Vec<u8>,
) {
    out.extend_from_slice(b"{\"log\":\"");
    escape(line, out);
    if complete {
        out.extend_from_slice(b"\\n");
    }
    out.extend_from_slice(b"\",\"stream\":\"");
    out.extend_from_slice(stream.name().as_bytes());
    out.push(b'"');
    if !attributes.is_empty() {
        out.extend_from_slice(b",\"attrs\":");
        out.extend_from_slice(attributes);
    }
    out.extend_from_slice(b",\"time\":\"");
    text.append(time, out);
    out.extend_from_slice(b"\"}\n");
}

/// A JSON object of string members as Go's `encoding/json` writes it.
pub(super) fn encode_attributes(attributes: &BTreeMap<String, String>) -> Vec<u8> {
    let mut out = Vec::new();
    if attributes.is_empty() {
        return out;
    }
    for (index, (key, value)) in attributes.iter().enumerate() {
        out.extend_from_slice(if index == 0 { b"{\"" } else { b",\"" });
        escape(key.as_bytes(), &mut out);
        out.extend_from_slice(b"\":\"");
        escape(value.as_bytes(), &mut out);
        out.push(b'"');
    }
    out.push(b'}');
    out
}

fn escape(bytes: &[u8], out: &mut Vec<u8>) {
    for chunk in bytes.utf8_chunks() {
        escape_text(chunk.valid(), out);
        // Go replaces byte by byte, not sequence by sequence.
        for _ in chunk.invalid() {
            out.extend_from_slice(b"\\ufffd");
        }
    }
}

fn escape_text(text: &str, out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let bytes = text.as_bytes();
    let mut start = 0;
    for (index, &byte) in bytes.iter().enumerate() {
        let plain = byte >= 0x20 && !matches!(byte, b'"' | b'\\' | b'<' | b'>' | b'&' | 0xe2);
        if plain {
            continue;
        }
        if byte == 0xe2 {
            // U+2028 and U+2029 end lines in JavaScript; Go escapes them.
            if let Some([0x80, last @ (0xa8 | 0xa9)]) = bytes.get(index + 1..index + 3) {
                out.extend_from_slice(&bytes[start..index]);
                out.extend_from_slice(if *last == 0xa8 {
                    b"\\u2028"
                } else {
                    b"\\u2029"
                });
                start = index + 3;
            }
            continue;
        }
        out.extend_from_slice(&bytes[start..index]);
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            _ => {
                out.extend_from_slice(b"\\u00");
                out.push(HEX[usize::from(byte >> 4)]);
                out.push(HEX[usize::from(byte & 15)]);
            }
        }
        start = index + 1;
    }
    out.extend_from_slice(&bytes[start..]);
}

#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow, default)]
    log: Cow<'a, str>,
    stream: StreamKind,
    time: Timestamp,
    #[serde(borrow, default)]
    attrs: Option<&'a RawValue>,
}

/// Attributes seen last and their text: entries of one log nearly always share them.
#[derive(Debug, Default)]
pub(super) struct AttributeCache {
    text: String,
    value: Arc<BTreeMap<String, String>>,
}

impl AttributeCache {
    pub(super) fn get(&mut self, text: &str) -> Arc<BTreeMap<String, String>> {
        if self.text != text {
            self.value = Arc::new(serde_json::from_str(text).unwrap_or_default());
            self.text = text.to_owned();
        }
        Arc::clone(&self.value)
    }
}

/// Reads one line, without its newline; `None` when it is torn or not an entry.
pub(super) fn decode(line: &[u8], cache: &mut AttributeCache) -> Option<LogEntry> {
    let parsed: Line<'_> = serde_json::from_slice(line).ok()?;
    let bytes = parsed.log.into_owned().into_bytes();
    Some(LogEntry {
        stream: parsed.stream,
        time: parsed.time,
        partial: bytes.last() != Some(&b'\n'),
        bytes,
        attributes: cache.get(parsed.attrs.map_or("", RawValue::get)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(line: &[u8], complete: bool, attributes: &[u8]) -> String {
        let mut out = Vec::new();
        let time = 1_763_693_432_120_000_000;
        encode(
            line,
            complete,
            StreamKind::Stdout,
            time,
            attributes,
            &mut TimeText::default(),
            &mut out,
        );
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn entries_are_dockers_byte_for_byte() {
        assert_eq!(
            written(b"a \"b\" <c>&\\\t\x1b[0m\r", true, b""),
            "{\"log\":\"a \\\"b\\\" \\u003cc\\u003e\\u0026\\\\\\u0009\\u001b[0m\\r\\n\",\"stream\":\"stdout\",\"time\":\"2025-11-21T02:50:32.12Z\"}\n"
        );
        assert_eq!(
            written("é\u{2028}\u{20ac}".as_bytes(), false, b"{\"k\":\"v\"}"),
            "{\"log\":\"é\\u2028€\",\"stream\":\"stdout\",\"attrs\":{\"k\":\"v\"},\"time\":\"2025-11-21T02:50:32.12Z\"}\n"
        );
        assert!(
            written(b"\xff\xe2\x80", false, b"").starts_with("{\"log\":\"\\ufffd\\ufffd\\ufffd\",")
        );
    }

    #[test]
    fn what_is_written_is_read_again() {
        let mut out = Vec::new();
        let attributes = BTreeMap::from([("a".to_owned(), "b\"".to_owned())]);
        let raw = encode_attributes(&attributes);
        encode(
            b"x\x00y",
            true,
            StreamKind::Stderr,
            -1,
            &raw,
            &mut TimeText::default(),
            &mut out,
        );
        let entry = decode(
            out.strip_suffix(b"\n").unwrap(),
            &mut AttributeCache::default(),
        )
        .unwrap();
        assert_eq!(entry.bytes, b"x\x00y\n");
        assert_eq!(entry.stream, StreamKind::Stderr);
        assert_eq!(entry.time.unix_nanoseconds(), -1);
        assert_eq!(*entry.attributes, attributes);
        assert!(!entry.partial);
        for torn in [&out[..out.len() / 2], b"", b"{}", b"null", b"\x00\x00"] {
            assert!(decode(torn, &mut AttributeCache::default()).is_none());
        }
    }
}
