//! Byte sizes as users write them (`512m`, 1024-based) and as tables show them (`1.5MB`, 1000-based).

/// A text that is not a size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid size: '{text}'")]
pub struct SizeError {
    /// What was given, cut to a bounded length.
    pub text: String,
}

/// Reads a size in bytes where `k`, `m`, `g`, `t`, `p` (also `kb`, `kib`, in any case) are powers of 1024.
///
/// # Errors
/// When the text is not a non-negative number with such a unit, or does not fit.
pub fn parse_binary(text: &str) -> Result<i64, SizeError> {
    let error = || SizeError {
        text: text.chars().take(64).collect(),
    };
    let lower = text.to_ascii_lowercase();
    let end = lower
        .rfind(|c: char| c.is_ascii_digit() || c == '.')
        .ok_or_else(error)?
        + 1;
    let (number, unit) = lower.split_at(end);
    let power = match unit.trim_start_matches(' ') {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 1,
        "m" | "mb" | "mib" => 2,
        "g" | "gb" | "gib" => 3,
        "t" | "tb" | "tib" => 4,
        "p" | "pb" | "pib" => 5,
        _ => return Err(error()),
    };
    if !number.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        return Err(error());
    }
    let scale = 1_i64 << (10 * power);
    if let Ok(whole) = number.parse::<i64>() {
        return whole.checked_mul(scale).ok_or_else(error);
    }
    let value = number.parse::<f64>().map_err(|_| error())? * scale as f64;
    // 2^63 is the first value that an i64 cannot hold.
    if value < 9_223_372_036_854_775_808.0 {
        Ok(value as i64)
    } else {
        Err(error())
    }
}

/// Writes a size with four significant digits and units of 1000: `0B`, `1.5kB`, `74.8MB`.
#[must_use]
pub fn format_decimal(bytes: u64) -> String {
    format_scaled(
        bytes as f64,
        1000.0,
        &["B", "kB", "MB", "GB", "TB", "PB", "EB"],
        4,
    )
}

/// Writes a size with three significant digits and units of 1000, as image tables do.
#[must_use]
pub fn format_decimal_short(bytes: u64) -> String {
    format_scaled(
        bytes as f64,
        1000.0,
        &["B", "kB", "MB", "GB", "TB", "PB", "EB"],
        3,
    )
}

/// Writes a size with four significant digits and units of 1024: `512KiB`, `1.5GiB`.
#[must_use]
pub fn format_binary(bytes: u64) -> String {
    format_scaled(
        bytes as f64,
        1024.0,
        &["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"],
        4,
    )
}

fn format_scaled(mut value: f64, base: f64, units: &[&str], digits: usize) -> String {
    let mut unit = 0;
    while value >= base && unit + 1 < units.len() {
        value /= base;
        unit += 1;
    }
    format!("{}{}", significant(value, digits), units[unit])
}

/// Writes `value` as C's `%.<digits>g` does for the range that sizes have.
fn significant(value: f64, digits: usize) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    let magnitude = value.abs().log10().floor() as i32 + 1;
    let places = usize::try_from(digits as i32 - magnitude).unwrap_or(0);
    let text = format!("{value:.places$}");
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn binary_sizes_are_read() {
        for (text, bytes) in [
            ("0", 0),
            ("32", 32),
            ("32b", 32),
            ("1k", 1024),
            ("1.5K", 1536),
            ("6m", 6 << 20),
            ("2GiB", 2 << 30),
            ("1tb", 1 << 40),
            ("3 mb", 3 << 20),
        ] {
            assert_eq!(parse_binary(text), Ok(bytes), "{text}");
        }
        for bad in [
            "", "m", "-1", "1x", "1.2.3m", "9999999p", "0x10", "1e9", "nan",
        ] {
            assert!(parse_binary(bad).is_err(), "{bad:?} was taken");
        }
    }

    #[test]
    fn sizes_are_written_as_docker_does() {
        assert_eq!(format_decimal(0), "0B");
        assert_eq!(format_decimal(999), "999B");
        assert_eq!(format_decimal(1_500), "1.5kB");
        assert_eq!(format_decimal_short(74_812_345), "74.8MB");
        assert_eq!(format_binary(512 << 10), "512KiB");
        assert_eq!(format_binary(23 << 30 | 1 << 29), "23.5GiB");
    }
}
