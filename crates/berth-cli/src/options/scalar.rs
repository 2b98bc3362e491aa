//! Numbers, sizes, durations and fractions of processors.

use berth_types::{duration, size};

use crate::quote::go_quote;

/// Nanoseconds of one processor.
const NANO: i128 = 1_000_000_000;

/// A whole number as Go's `strconv` reads one with a free base: decimal, `0x`, `0o`, `0b`, and
/// underscores after a prefix.
fn whole(text: &str, function: &str, signed: bool) -> Result<i128, String> {
    let syntax = || {
        format!(
            "strconv.{function}: parsing {}: invalid syntax",
            go_quote(text)
        )
    };
    let (negative, digits) = match text.as_bytes().first() {
        Some(b'-') if signed => (true, &text[1..]),
        Some(b'+') if signed => (false, &text[1..]),
        _ => (false, text),
    };
    let lower = digits.to_ascii_lowercase();
    let (base, digits) = match lower.get(..2) {
        Some("0x") => (16, &lower[2..]),
        Some("0b") => (2, &lower[2..]),
        Some("0o") => (8, &lower[2..]),
        _ if lower.len() > 1 && lower.starts_with('0') => (8, &lower[1..]),
        _ => (10, lower.as_str()),
    };
    let digits = if base == 10 {
        digits.to_owned()
    } else {
        digits.replace('_', "")
    };
    if digits.is_empty() || !digits.chars().all(|digit| digit.is_digit(base)) {
        return Err(syntax());
    }
    let magnitude = i128::from_str_radix(&digits, base).unwrap_or(i128::MAX);
    Ok(if negative { -magnitude } else { magnitude })
}

fn in_range<T: TryFrom<i128>>(text: &str, function: &str, signed: bool) -> Result<T, String> {
    T::try_from(whole(text, function, signed)?).map_err(|_| {
        format!(
            "strconv.{function}: parsing {}: value out of range",
            go_quote(text)
        )
    })
}

/// A signed number.
pub(crate) fn int64(text: &str) -> Result<i64, String> {
    in_range(text, "ParseInt", true)
}

/// An unsigned number of 16 bits.
pub(crate) fn uint16(text: &str) -> Result<u16, String> {
    in_range(text, "ParseUint", false)
}

/// An unsigned number of 64 bits.
pub(crate) fn uint64(text: &str) -> Result<u64, String> {
    in_range(text, "ParseUint", false)
}

/// A Go duration, in nanoseconds.
pub(crate) fn nanoseconds(text: &str) -> Result<i64, String> {
    duration::parse_nanoseconds(text).map_err(|error| error.to_string())
}

/// A size with a binary unit, in bytes.
pub(crate) fn bytes(text: &str) -> Result<i64, String> {
    size::parse_binary(text).map_err(|error| {
        let Some(last) = text.rfind(|c: char| c.is_ascii_digit() || c == '.' || c == ' ') else {
            return error.to_string();
        };
        let (number, unit) = text.split_at(last + 1);
        let number = number.trim_end_matches(' ');
        match number.parse::<f64>() {
            Ok(value) if value < 0.0 => error.to_string(),
            Ok(_) => format!("invalid suffix: '{unit}'"),
            Err(_) => format!(
                "strconv.ParseFloat: parsing {}: invalid syntax",
                go_quote(number)
            ),
        }
    })
}

/// A size, or -1 for no limit.
pub(crate) fn bytes_or_unlimited(text: &str) -> Result<i64, String> {
    if text == "-1" { Ok(-1) } else { bytes(text) }
}

/// A number of processors (`1.5`, `1/2`, `2e-1`) in billionths.
pub(crate) fn nano_cpus(text: &str) -> Result<i64, String> {
    let failed = || format!("failed to parse {text} as a rational number");
    let (numerator, denominator) = rational(text).ok_or_else(failed)?;
    let scaled = numerator.checked_mul(NANO).ok_or_else(failed)?;
    if scaled % denominator != 0 {
        return Err("value is too precise".to_owned());
    }
    i64::try_from(scaled / denominator).map_err(|_| failed())
}

fn rational(text: &str) -> Option<(i128, i128)> {
    if let Some((numerator, denominator)) = text.split_once('/') {
        let denominator: u32 = denominator.parse().ok()?;
        let numerator: i64 = numerator.parse().ok()?;
        return (denominator != 0).then_some((numerator.into(), denominator.into()));
    }
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
        None => (text, 0),
    };
    let (negative, mantissa) = match mantissa.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, mantissa.strip_prefix('+').unwrap_or(mantissa)),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    if digits.is_empty() || digits.len() > 18 || !digits.bytes().all(|digit| digit.is_ascii_digit())
    {
        return None;
    }
    let magnitude: i128 = digits.parse().ok()?;
    let power = exponent.checked_sub(i32::try_from(fraction.len()).ok()?)?;
    if power.unsigned_abs() > 18 {
        return None;
    }
    let scale = 10_i128.pow(power.unsigned_abs());
    let numerator = if negative { -magnitude } else { magnitude };
    Some(if power >= 0 {
        (numerator.checked_mul(scale)?, 1)
    } else {
        (numerator, scale)
    })
}

/// Turns a parser into a check for a flag.
macro_rules! check {
    ($name:ident, $parser:path) => {
        /// The check of the parser of the same kind.
        pub(crate) fn $name(text: &str) -> Result<(), String> {
            $parser(text).map(|_| ())
        }
    };
}

check!(check_int, int64);
check!(check_uint16, uint16);
check!(check_uint64, uint64);
check!(check_duration, nanoseconds);
check!(check_bytes, bytes);
check!(check_bytes_or_unlimited, bytes_or_unlimited);
check!(check_nano_cpus, nano_cpus);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_go_does() {
        for (text, wanted) in [
            ("10", Ok(10)),
            ("-1", Ok(-1)),
            ("0x10", Ok(16)),
            ("010", Ok(8)),
            (
                "x",
                Err("strconv.ParseInt: parsing \"x\": invalid syntax".to_owned()),
            ),
            (
                "",
                Err("strconv.ParseInt: parsing \"\": invalid syntax".to_owned()),
            ),
            (
                "9223372036854775808",
                Err(
                    "strconv.ParseInt: parsing \"9223372036854775808\": value out of range"
                        .to_owned(),
                ),
            ),
        ] {
            assert_eq!(int64(text), wanted);
        }
        assert_eq!(
            uint16("70000"),
            Err("strconv.ParseUint: parsing \"70000\": value out of range".to_owned())
        );
    }

    #[test]
    fn sizes_name_what_is_wrong() {
        for (text, wanted) in [
            ("512m", Ok(512 << 20)),
            ("5 m", Ok(5 << 20)),
            ("", Err("invalid size: ''")),
            ("abc", Err("invalid size: 'abc'")),
            ("-1", Err("invalid size: '-1'")),
            ("5x", Err("invalid suffix: 'x'")),
            ("10xb", Err("invalid suffix: 'xb'")),
            (
                "1.5.5m",
                Err("strconv.ParseFloat: parsing \"1.5.5\": invalid syntax"),
            ),
            (
                "1m m",
                Err("strconv.ParseFloat: parsing \"1m\": invalid syntax"),
            ),
        ] {
            assert_eq!(bytes(text), wanted.map_err(str::to_owned), "{text}");
        }
        assert_eq!(bytes_or_unlimited("-1"), Ok(-1));
    }

    #[test]
    fn processors_are_exact() {
        for (text, wanted) in [
            ("1.5", Ok(1_500_000_000)),
            (".5", Ok(500_000_000)),
            ("1e-9", Ok(1)),
            ("1/2", Ok(500_000_000)),
            ("-1", Ok(-1_000_000_000)),
            ("1/3", Err("value is too precise")),
            ("0.0000000001", Err("value is too precise")),
            ("x", Err("failed to parse x as a rational number")),
            ("", Err("failed to parse  as a rational number")),
        ] {
            assert_eq!(nano_cpus(text), wanted.map_err(str::to_owned), "{text}");
        }
    }
}
