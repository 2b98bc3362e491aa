//! The fixed block in front of every entry, and the ways in which numbers and times are written in it.

use super::{BLOCK, Time};

/// A header block seen through the field offsets of POSIX ustar and GNU tar.
pub(super) struct Header<'a> {
    pub(super) block: &'a [u8; BLOCK],
}

impl<'a> Header<'a> {
    pub(super) fn field(&self, offset: usize, length: usize) -> &'a [u8] {
        &self.block[offset..offset + length]
    }

    pub(super) fn type_flag(&self) -> u8 {
        self.block[156]
    }

    /// Sum of all bytes with the field itself as spaces; old programs summed signed bytes.
    pub(super) fn checksum_is_right(&self) -> bool {
        let Some(stated) = numeric(self.field(148, 8)) else {
            return false;
        };
        let (mut unsigned, mut signed) = (0_i64, 0_i64);
        for (index, byte) in self.block.iter().enumerate() {
            let byte = if (148..156).contains(&index) {
                b' '
            } else {
                *byte
            };
            unsigned += i64::from(byte);
            signed += i64::from(byte.cast_signed());
        }
        stated == unsigned || stated == signed
    }

    pub(super) fn path(&self) -> Vec<u8> {
        let name = until_nul(self.field(0, 100));
        // GNU headers use the place of the prefix for times and the sparse map.
        let prefix = if self.field(257, 6) != b"ustar\0" {
            &[][..]
        } else if self.field(508, 4) == b"tar\0" {
            until_nul(self.field(345, 131))
        } else {
            until_nul(self.field(345, 155))
        };
        if prefix.is_empty() {
            return name.to_vec();
        }
        [prefix, b"/", name].concat()
    }
}

pub(super) fn padding_of(size: u64) -> u64 {
    (BLOCK as u64 - size % BLOCK as u64) % BLOCK as u64
}

pub(super) fn until_nul(field: &[u8]) -> &[u8] {
    let end = field.iter().position(|b| *b == 0).unwrap_or(field.len());
    &field[..end]
}

pub(super) fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// Octal digits with blanks around, or base 256 when the highest bit is set (GNU, "Extensions").
pub(super) fn numeric(field: &[u8]) -> Option<i64> {
    let first = *field.first()?;
    if first & 0x80 != 0 {
        // Two's complement with the flag bit as sign-extension of the next one.
        let negative = first & 0x40 != 0;
        let mut value: i128 = if negative { -1 } else { 0 };
        for (index, byte) in field.iter().enumerate() {
            let byte = if index == 0 && !negative {
                byte & 0x7f
            } else {
                *byte
            };
            value = (value << 8) | i128::from(byte);
            if i64::try_from(value).is_err() {
                return None;
            }
        }
        return i64::try_from(value).ok();
    }
    let text = until_nul(field).trim_ascii();
    if text.is_empty() {
        return Some(0);
    }
    text.iter().try_fold(0_i64, |value, byte| match byte {
        b'0'..=b'7' => value.checked_mul(8)?.checked_add(i64::from(byte - b'0')),
        _ => None,
    })
}

/// `[-]seconds[.fraction]`.
pub(super) fn pax_time(text: &[u8]) -> Option<Time> {
    let text = std::str::from_utf8(text).ok()?;
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let seconds = i64::try_from(decimal(whole.as_bytes())?).ok()?;
    if !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let nanoseconds: u32 = format!("{:0<9}", &fraction[..fraction.len().min(9)])
        .parse()
        .ok()?;
    Some(match (negative, nanoseconds) {
        (false, _) => Time {
            seconds,
            nanoseconds,
        },
        (true, 0) => Time {
            seconds: -seconds,
            nanoseconds: 0,
        },
        (true, _) => Time {
            seconds: -seconds - 1,
            nanoseconds: 1_000_000_000 - nanoseconds,
        },
    })
}
