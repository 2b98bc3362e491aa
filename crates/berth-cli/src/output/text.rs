//! Shortening, aligning and telling times: what every table needs.

use std::cmp::Ordering;
use std::io::Write;

use berth_types::duration;
use berth_types::timestamp::Timestamp;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Number of hexadecimal digits of an id in tables.
const SHORT_ID: usize = 12;

/// The first twelve digits of an id, without its algorithm.
pub(crate) fn short_id(id: &str) -> &str {
    let digits = id.split_once(':').map_or(id, |(_, digits)| digits);
    digits.get(..SHORT_ID).unwrap_or(digits)
}

/// The text cut to `width` columns, the last of them an ellipsis, if it is longer.
pub(crate) fn ellipsis(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut taken = 0;
    let mut cut = String::new();
    for character in text.chars() {
        let columns = character.width().unwrap_or(0);
        if taken + columns > width.saturating_sub(1) {
            break;
        }
        taken += columns;
        cut.push(character);
    }
    cut.push('…');
    cut
}

/// Tab-separated lines as columns: at least ten wide, three spaces apart.
pub(crate) fn align(lines: &str) -> String {
    align_to(lines, 10)
}

/// Tab-separated lines as columns at least `width` wide, three spaces apart.
pub(crate) fn align_to(lines: &str, width: usize) -> String {
    /// Spaces between columns.
    const APART: usize = 3;
    let mut writer = tabwriter::TabWriter::new(Vec::new())
        .minwidth(width.saturating_sub(APART))
        .padding(APART);
    // Writing to memory does not fail.
    let _ = writer.write_all(lines.as_bytes());
    let bytes = writer.into_inner().unwrap_or_default();
    String::from_utf8(bytes).unwrap_or_else(|_| lines.to_owned())
}

/// `3 minutes ago`.
pub(crate) fn ago(then: Timestamp) -> String {
    format!("{} ago", duration::human(now().since(then)))
}

/// The present.
pub(crate) fn now() -> Timestamp {
    let since = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp::from_unix_nanoseconds(i128::try_from(since.as_nanos()).unwrap_or_default())
}

/// A moment in the local time zone as Go's `Time.String` writes it: `2026-01-02 15:04:05 +0100 CET`.
pub(crate) fn local_time(seconds: i64) -> String {
    let Ok(moment) = jiff::Timestamp::from_second(seconds) else {
        return seconds.to_string();
    };
    let zone = jiff::tz::TimeZone::try_system().unwrap_or(jiff::tz::TimeZone::UTC);
    moment
        .to_zoned(zone)
        .strftime("%Y-%m-%d %H:%M:%S %z %Z")
        .to_string()
}

/// A moment of the API (RFC 3339) as Go's `Time.String` writes it in UTC: `2026-01-02 15:04:05.5 +0000 UTC`.
/// A text that is no moment stays as it is.
pub(crate) fn utc_time(text: &str) -> String {
    match text.parse::<jiff::Timestamp>() {
        Ok(moment) => moment
            .to_zoned(jiff::tz::TimeZone::UTC)
            .strftime("%Y-%m-%d %H:%M:%S%.f +0000 UTC")
            .to_string(),
        Err(_) => text.to_owned(),
    }
}

/// Order of people: numbers inside texts by their value, everything else by its bytes.
pub(crate) fn natural_order(left: &str, right: &str) -> Ordering {
    let (mut left, mut right) = (left.as_bytes(), right.as_bytes());
    loop {
        match (left.first(), right.first()) {
            (Some(one), Some(other)) if one.is_ascii_digit() && other.is_ascii_digit() => {
                let (number, rest) = split_number(left);
                let (other_number, other_rest) = split_number(right);
                let order = number
                    .len()
                    .cmp(&other_number.len())
                    .then_with(|| number.cmp(other_number));
                if order != Ordering::Equal {
                    return order;
                }
                (left, right) = (rest, other_rest);
            }
            (Some(one), Some(other)) if one == other => {
                (left, right) = (&left[1..], &right[1..]);
            }
            _ => return left.cmp(right),
        }
    }
}

/// The digits at the beginning without leading zeros, and what follows.
fn split_number(text: &[u8]) -> (&[u8], &[u8]) {
    let end = text
        .iter()
        .position(|byte| !byte.is_ascii_digit())
        .unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    let zeros = digits.iter().take_while(|digit| **digit == b'0').count();
    (&digits[zeros..], rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_end_in_an_ellipsis() {
        for (text, width, wanted) in [
            ("abc", 3, "abc"),
            ("abcd", 3, "ab…"),
            ("日本語テキスト", 7, "日本語…"),
            ("日本語", 6, "日本語"),
        ] {
            assert_eq!(ellipsis(text, width), wanted);
        }
    }

    #[test]
    fn columns_are_ten_wide_or_three_apart() {
        assert_eq!(
            align("A\tB\nlonger text\tb\n"),
            "A             B\nlonger text   b\n"
        );
        assert_eq!(align("A\tB\na\tb\n"), "A         B\na         b\n");
    }

    #[test]
    fn numbers_inside_names_count_by_value() {
        let mut names = ["a10", "a9", "a09b", "b1", "a", "a1"];
        names.sort_by(|left, right| natural_order(left, right));
        assert_eq!(names, ["a", "a1", "a9", "a09b", "a10", "b1"]);
    }

    #[test]
    fn moments_are_written_as_go_writes_them() {
        for (text, wanted) in [
            ("2026-01-02T15:04:05.5Z", "2026-01-02 15:04:05.5 +0000 UTC"),
            ("2026-01-02T15:04:05Z", "2026-01-02 15:04:05 +0000 UTC"),
            ("soon", "soon"),
        ] {
            assert_eq!(utc_time(text), wanted);
        }
    }

    #[test]
    fn ids_are_cut_after_their_algorithm() {
        assert_eq!(short_id("sha256:0123456789abcdef"), "0123456789ab");
        assert_eq!(short_id("0123456789abcdef"), "0123456789ab");
        assert_eq!(short_id("abc"), "abc");
    }
}
