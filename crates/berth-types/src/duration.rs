//! Durations as Go writes them (`1h30m`, `1.5s`, `300ms`): the spelling of every Docker client and file.

use std::time::Duration;

/// A text that is not a duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// Not a number with a unit, repeated.
    #[error("time: invalid duration {0:?}")]
    Invalid(String),
    /// A number without a unit.
    #[error("time: missing unit in duration {0:?}")]
    MissingUnit(String),
    /// A unit that Go does not know.
    #[error("time: unknown unit {unit:?} in duration {text:?}")]
    UnknownUnit {
        /// The unit as written.
        unit: String,
        /// The whole text.
        text: String,
    },
    /// A negative duration where only a positive one makes sense.
    #[error("duration {0:?} is negative")]
    Negative(String),
}

/// Reads a duration in nanoseconds, which may be negative.
///
/// # Errors
/// When the text is not in the form of Go's `time.ParseDuration`, or outside of ±292 years.
pub fn parse_nanoseconds(text: &str) -> Result<i64, DurationError> {
    let shown = || text.chars().take(64).collect::<String>();
    let invalid = || DurationError::Invalid(shown());
    let (negative, mut rest) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total: i128 = 0;
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(rest.len());
        let (whole, tail) = rest.split_at(digits);
        let (fraction, tail) = match tail.strip_prefix('.') {
            Some(tail) => {
                let digits = tail
                    .find(|c: char| !c.is_ascii_digit())
                    .unwrap_or(tail.len());
                tail.split_at(digits)
            }
            None => ("", tail),
        };
        if whole.is_empty() && fraction.is_empty() {
            return Err(invalid());
        }
        let unit_end = tail
            .find(|c: char| c == '.' || c.is_ascii_digit())
            .unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_end);
        let scale: i128 = match unit {
            "" => return Err(DurationError::MissingUnit(shown())),
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => {
                return Err(DurationError::UnknownUnit {
                    unit: unit.chars().take(16).collect(),
                    text: shown(),
                });
            }
        };
        let whole: i128 = if whole.is_empty() {
            0
        } else {
            whole.parse().map_err(|_| invalid())?
        };
        total = total
            .checked_add(whole.checked_mul(scale).ok_or_else(invalid)?)
            .ok_or_else(invalid)?;
        let mut unit_part = scale;
        for digit in fraction.bytes().take(18) {
            unit_part /= 10;
            total += i128::from(digit - b'0') * unit_part;
        }
        rest = tail;
    }
    i64::try_from(if negative { -total } else { total }).map_err(|_| invalid())
}

/// Reads a duration that may not be negative.
///
/// # Errors
/// As [`parse_nanoseconds`], and for a negative one.
pub fn parse(text: &str) -> Result<Duration, DurationError> {
    let nanoseconds = parse_nanoseconds(text)?;
    u64::try_from(nanoseconds)
        .map(Duration::from_nanos)
        .map_err(|_| DurationError::Negative(text.chars().take(64).collect()))
}

/// Writes a duration as Go's `Duration.String` does: `1h0m3.5s`, `150ms`, `0s`.
#[must_use]
pub fn format(duration: Duration) -> String {
    let nanoseconds = duration.as_nanos();
    let decimal = |value: u128, unit: u128, name: &str| {
        let whole = value / unit;
        let mut fraction = String::new();
        let (mut rest, mut place) = (value % unit, unit);
        while rest > 0 && place > 1 {
            place /= 10;
            fraction.push(char::from(b'0' + u8::try_from(rest / place).unwrap_or(0)));
            rest %= place;
        }
        if fraction.is_empty() {
            format!("{whole}{name}")
        } else {
            format!("{whole}.{fraction}{name}")
        }
    };
    match nanoseconds {
        0 => "0s".to_owned(),
        n if n < 1_000 => format!("{n}ns"),
        n if n < 1_000_000 => decimal(n, 1_000, "µs"),
        n if n < 1_000_000_000 => decimal(n, 1_000_000, "ms"),
        n => {
            let minutes = n / 60_000_000_000;
            let seconds = decimal(n % 60_000_000_000, 1_000_000_000, "s");
            match (minutes / 60, minutes % 60) {
                (0, 0) => seconds,
                (0, m) => format!("{m}m{seconds}"),
                (h, m) => format!("{h}h{m}m{seconds}"),
            }
        }
    }
}

/// Says how long ago something was as docker's tables do: `About a minute`, `3 hours`, `2 weeks`.
#[must_use]
pub fn human(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let minutes = seconds / 60;
    let hours = (seconds + 1800) / 3600;
    match seconds {
        0 => return "Less than a second".to_owned(),
        1 => return "1 second".to_owned(),
        2..=59 => return format!("{seconds} seconds"),
        _ => {}
    }
    match minutes {
        1 => return "About a minute".to_owned(),
        2..=59 => return format!("{minutes} minutes"),
        _ => {}
    }
    match hours {
        0 | 1 => "About an hour".to_owned(),
        2..=47 => format!("{hours} hours"),
        48..=335 => format!("{} days", hours / 24),
        336..=1439 => format!("{} weeks", hours / 24 / 7),
        1440..=17519 => format!("{} months", hours / 24 / 30),
        _ => format!("{} years", seconds / (365 * 24 * 3600)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_durations_are_read() {
        for (text, nanoseconds) in [
            ("0", 0),
            ("5s", 5_000_000_000),
            ("1.5h", 5_400_000_000_000),
            ("1m30s", 90_000_000_000),
            ("-2ms", -2_000_000),
            (".5s", 500_000_000),
            ("1µs", 1_000),
            ("1h0m1ns", 3_600_000_000_001),
        ] {
            assert_eq!(parse_nanoseconds(text), Ok(nanoseconds), "{text}");
        }
        for bad in [
            "",
            "-",
            "5",
            "s",
            "5x",
            "1..5s",
            "1s2",
            "999999999999h",
            "1e3s",
        ] {
            assert!(parse_nanoseconds(bad).is_err(), "{bad:?} was taken");
        }
    }

    #[test]
    fn durations_are_written_as_go_does() {
        for (text, want) in [
            ("0s", "0s"),
            ("1500ms", "1.5s"),
            ("90s", "1m30s"),
            ("1h", "1h0m0s"),
            ("1500us", "1.5ms"),
            ("999ns", "999ns"),
            ("1050ns", "1.05µs"),
            ("3600500ms", "1h0m0.5s"),
        ] {
            assert_eq!(parse(text).map(format), Ok(want.into()), "{text}");
        }
    }

    #[test]
    fn ages_are_told_as_docker_does() {
        for (seconds, want) in [
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "About a minute"),
            (180, "3 minutes"),
            (3600, "About an hour"),
            (7200, "2 hours"),
            (172_800, "2 days"),
            (1_209_600, "2 weeks"),
            (5_184_000, "2 months"),
            (63_072_000, "2 years"),
        ] {
            assert_eq!(human(Duration::from_secs(seconds)), want);
        }
    }
}
