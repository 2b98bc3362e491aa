//! Moments in time with nanoseconds, written as RFC 3339 the way Docker does.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// A text that is not a moment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("failed to parse value as time or duration: {text:?}")]
pub struct TimestampError {
    /// What was given, cut to a bounded length.
    pub text: String,
}

/// A moment in UTC, in nanoseconds since 1970, within the years 0 to 9999: what lies beyond becomes the first or last.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i128);

/// Nanoseconds from 1970 back to Go's zero time, 0001-01-01T00:00:00Z.
const GO_ZERO: i128 = -62_135_596_800_000_000_000;
const SECOND: i128 = 1_000_000_000;
/// 0000-01-01T00:00:00Z: RFC 3339 has no earlier years.
const FIRST: i128 = -62_167_219_200 * SECOND;
/// 9999-12-30T22:00:00.999999999Z: the last moment that the calendar has in every time zone.
const LAST: i128 = 253_402_207_200 * SECOND + 999_999_999;

impl Timestamp {
    /// Go's zero time, `0001-01-01T00:00:00Z`: what Docker writes for "never".
    pub const ZERO: Self = Self(GO_ZERO);

    /// The moment `nanoseconds` after 1970-01-01T00:00:00Z.
    #[must_use]
    pub fn from_unix_nanoseconds(nanoseconds: i128) -> Self {
        Self(nanoseconds.clamp(FIRST, LAST))
    }

    /// The moment `seconds` after 1970-01-01T00:00:00Z.
    #[must_use]
    pub fn from_unix_seconds(seconds: i64) -> Self {
        Self::from_unix_nanoseconds(i128::from(seconds) * SECOND)
    }

    /// Nanoseconds since 1970.
    #[must_use]
    pub fn unix_nanoseconds(self) -> i128 {
        self.0
    }

    /// Whole seconds since 1970.
    #[must_use]
    pub fn unix_seconds(self) -> i64 {
        i64::try_from(self.0.div_euclid(SECOND)).unwrap_or(i64::MAX)
    }

    /// Whether this is Go's zero time.
    #[must_use]
    pub fn is_zero(self) -> bool {
        self.0 == GO_ZERO
    }

    /// How long after `earlier` this is; zero when it is not.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        u64::try_from(self.0 - earlier.0).map_or(Duration::ZERO, Duration::from_nanos)
    }

    /// The moment `duration` later.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        Self::from_unix_nanoseconds(
            self.0 + i128::try_from(duration.as_nanos()).unwrap_or(i128::from(i64::MAX)),
        )
    }

    /// The moment `duration` earlier.
    #[must_use]
    pub fn minus(self, duration: Duration) -> Self {
        Self::from_unix_nanoseconds(
            self.0 - i128::try_from(duration.as_nanos()).unwrap_or(i128::from(i64::MAX)),
        )
    }

    /// Reads an RFC 3339 moment, with an offset or `Z`.
    ///
    /// # Errors
    /// When the text is not one.
    pub fn parse(text: &str) -> Result<Self, TimestampError> {
        text.parse::<jiff::Timestamp>()
            .ok()
            .map(jiff::Timestamp::as_nanosecond)
            .filter(|moment| *moment >= FIRST)
            .map(Self)
            .ok_or_else(|| TimestampError {
                text: text.chars().take(64).collect(),
            })
    }

    /// Reads what `--since` and `--until` take: RFC 3339 (date alone and local forms are UTC), Unix
    /// seconds with an optional fraction, or a duration before `now`.
    ///
    /// # Errors
    /// When the text is none of these.
    pub fn parse_relative(text: &str, now: Self) -> Result<Self, TimestampError> {
        let error = || TimestampError {
            text: text.chars().take(64).collect(),
        };
        if let Ok(nanoseconds) = crate::duration::parse_nanoseconds(text)
            && text.parse::<f64>().is_err()
        {
            return Ok(Self::from_unix_nanoseconds(now.0 - i128::from(nanoseconds)));
        }
        if text.bytes().all(|b| b.is_ascii_digit() || b == b'.') && !text.is_empty() {
            let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
            let seconds: i64 = seconds.parse().map_err(|_| error())?;
            if fraction.len() > 9 {
                return Err(error());
            }
            let nanoseconds: i128 = format!("{fraction:0<9}").parse().map_err(|_| error())?;
            return Ok(Self::from_unix_nanoseconds(
                i128::from(seconds) * SECOND + nanoseconds,
            ));
        }
        Self::parse(text).or_else(|_| {
            let civil = text.parse::<jiff::civil::DateTime>().map_err(|_| error())?;
            let zoned = civil
                .to_zoned(jiff::tz::TimeZone::UTC)
                .map_err(|_| error())?;
            Ok(Self::from_unix_nanoseconds(
                zoned.timestamp().as_nanosecond(),
            ))
        })
    }
}

impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        Self::from_unix_nanoseconds(match time.duration_since(UNIX_EPOCH) {
            Ok(after) => i128::try_from(after.as_nanos()).unwrap_or(i128::MAX),
            Err(before) => -i128::try_from(before.duration().as_nanos()).unwrap_or(i128::MAX),
        })
    }
}

impl fmt::Display for Timestamp {
    /// RFC 3339 in UTC; the fraction is cut after its last digit that is not zero, as Go's RFC3339Nano.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = i64::try_from(self.0.div_euclid(SECOND)).map_err(|_| fmt::Error)?;
        let nanoseconds = self.0.rem_euclid(SECOND);
        let moment = jiff::Timestamp::from_second(seconds).map_err(|_| fmt::Error)?;
        let civil = jiff::tz::TimeZone::UTC.to_datetime(moment);
        write!(
            f,
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}",
            civil.year(),
            civil.month(),
            civil.day(),
            civil.hour(),
            civil.minute(),
            civil.second()
        )?;
        if nanoseconds != 0 {
            let digits = format!("{nanoseconds:09}");
            write!(f, ".{}", digits.trim_end_matches('0'))?;
        }
        f.write_str("Z")
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Timestamp({self})")
    }
}

impl Serialize for Timestamp {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_beyond_the_years_is_bounded() {
        assert!(Timestamp::parse("-000021-01-02T03:05:16Z").is_err());
        let now = Timestamp::from_unix_seconds(0);
        let late = Timestamp::parse_relative("99999999999999", now).unwrap();
        assert_eq!(Timestamp::parse(&late.to_string()), Ok(late));
        let early = now.minus(Duration::from_secs(u64::MAX));
        assert_eq!(early.to_string(), "0000-01-01T00:00:00Z");
    }

    #[test]
    fn moments_are_written_as_go_does() {
        for text in [
            "0001-01-01T00:00:00Z",
            "2026-11-21T02:03:04.5Z",
            "1969-12-31T23:59:59.999999999Z",
        ] {
            assert_eq!(
                Timestamp::parse(text).map(|t| t.to_string()),
                Ok(text.into())
            );
        }
        assert_eq!(Timestamp::ZERO.to_string(), "0001-01-01T00:00:00Z");
        let offset = Timestamp::parse("2026-11-21T04:03:04+02:00").map(|t| t.to_string());
        assert_eq!(offset, Ok("2026-11-21T02:03:04Z".into()));
    }

    #[test]
    fn since_and_until_take_every_form() {
        let now = Timestamp::from_unix_seconds(1_000_000);
        for (text, nanoseconds) in [
            ("10m", 999_400 * SECOND),
            ("1000", 1_000 * SECOND),
            ("1000.5", 1_000 * SECOND + SECOND / 2),
            ("0", 0),
            ("1970-01-02T00:00:00Z", 86_400 * SECOND),
            ("1970-01-02T00:00:00", 86_400 * SECOND),
            ("1970-01-02", 86_400 * SECOND),
        ] {
            assert_eq!(
                Timestamp::parse_relative(text, now).map(Timestamp::unix_nanoseconds),
                Ok(nanoseconds),
                "{text}"
            );
        }
        for bad in ["", "yesterday", "1.2.3", "1970-13-01"] {
            assert!(
                Timestamp::parse_relative(bad, now).is_err(),
                "{bad:?} was taken"
            );
        }
    }
}
