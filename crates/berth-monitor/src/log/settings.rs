//! What the log options of a container mean.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::limits;

/// A log option that cannot be accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// There is no such driver.
    #[error("logger: no log driver named '{0}' is registered")]
    UnknownDriver(String),
    /// The driver does not know the option.
    #[error("unknown log opt '{option}' for {driver} log driver")]
    UnknownOption {
        /// The option's name.
        option: String,
        /// The driver's name.
        driver: &'static str,
    },
    /// The value is not one for this option.
    #[error("invalid value for {option}: {value}: {reason}")]
    InvalidValue {
        /// The option's name.
        option: &'static str,
        /// What was given.
        value: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Two options contradict each other.
    #[error("{0}")]
    Contradiction(&'static str),
    /// Labels, environment and tag are too long to be put into every entry.
    #[error("log attributes are {0} bytes long, the limit is {limit}", limit = limits::MAX_LOG_ATTRIBUTES)]
    AttributesTooLong(usize),
}

/// How entries are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogDriver {
    /// One JSON object per line, exactly as Docker writes them.
    JsonFile,
    /// Compact binary entries.
    Local,
    /// Nothing is kept.
    None,
}

impl LogDriver {
    /// The name users write.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::JsonFile => "json-file",
            Self::Local => "local",
            Self::None => "none",
        }
    }
}

/// What happens when entries come faster than they are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogMode {
    /// The container waits.
    #[default]
    Blocking,
    /// Up to `buffer` bytes wait in memory and are written when the container is silent; what comes on top is dropped.
    NonBlocking {
        /// Bytes of lines that may wait.
        buffer: u64,
    },
}

/// A container's log, resolved: what the writer and the reader need.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogSettings {
    /// How entries are kept.
    pub driver: LogDriver,
    /// The current file; rotated ones lie beside it as `<path>.1`, `<path>.2.gz`, … Unused by `none`.
    pub path: PathBuf,
    /// A file that has reached this many bytes is rotated; `None` never rotates.
    pub max_size: Option<u64>,
    /// Files kept, the current one included; at least 1.
    pub max_files: u32,
    /// Whether rotated files are compressed.
    pub compress: bool,
    /// What happens under pressure.
    #[serde(default)]
    pub mode: LogMode,
    /// What every entry carries (see [`super::attributes`]).
    #[serde(default)]
    pub attributes: BTreeMap<String, String>,
}

/// Berth rotates json-file logs unless told otherwise, so that no log fills a disk: 10 MiB, three files.
const JSON_FILE_MAX_SIZE: u64 = 10 << 20;
const JSON_FILE_MAX_FILES: u32 = 3;
/// Docker's defaults for `local`.
const LOCAL_MAX_SIZE: u64 = 20 << 20;
const LOCAL_MAX_FILES: u32 = 5;
/// Docker's default for `max-buffer-size`.
const NON_BLOCKING_BUFFER: u64 = 1 << 20;

impl LogSettings {
    /// Reads a driver name and its options. `path` is the current file's path.
    ///
    /// `max-size=-1` switches json-file rotation off, as Docker's own default is written.
    ///
    /// # Errors
    /// For unknown drivers and options, bad values, and combinations that Docker refuses.
    pub fn resolve(
        driver: &str,
        options: &BTreeMap<String, String>,
        path: PathBuf,
        attributes: BTreeMap<String, String>,
    ) -> Result<Self, SettingsError> {
        let driver = match driver {
            "json-file" | "" => LogDriver::JsonFile,
            "local" => LogDriver::Local,
            "none" => LogDriver::None,
            other => {
                return Err(SettingsError::UnknownDriver(
                    other.chars().take(80).collect(),
                ));
            }
        };
        check_names(driver, options)?;
        let length: usize = attributes.iter().map(|(k, v)| k.len() + v.len()).sum();
        if length > limits::MAX_LOG_ATTRIBUTES {
            return Err(SettingsError::AttributesTooLong(length));
        }
        let mode = parse_mode(options)?;
        let (mut max_size, mut max_files, mut compress) = match driver {
            LogDriver::JsonFile => (Some(JSON_FILE_MAX_SIZE), JSON_FILE_MAX_FILES, false),
            LogDriver::Local => (Some(LOCAL_MAX_SIZE), LOCAL_MAX_FILES, true),
            LogDriver::None => (None, 1, false),
        };
        let size_given = options.get("max-size");
        if let Some(text) = size_given {
            max_size = parse_max_size(driver, text)?;
        }
        match options.get("max-file") {
            Some(text) => max_files = parse_max_files(text)?,
            // Docker keeps one file when only the size is told.
            None if driver == LogDriver::JsonFile && size_given.is_some() => max_files = 1,
            None => {}
        }
        if let Some(text) = options.get("compress") {
            compress = parse_bool("compress", text)?;
            if compress && driver == LogDriver::JsonFile && (max_files < 2 || max_size.is_none()) {
                return Err(SettingsError::Contradiction(
                    "compress cannot be true when max-file is less than 2 or max-size is not set",
                ));
            }
        }
        if driver == LogDriver::Local && compress && max_files < 2 {
            return Err(SettingsError::Contradiction(
                "compression cannot be enabled when max file count is 1",
            ));
        }
        Ok(Self {
            driver,
            path,
            max_size,
            max_files,
            compress,
            mode,
            attributes,
        })
    }

    /// A log that keeps nothing.
    #[must_use]
    pub fn none() -> Self {
        Self {
            driver: LogDriver::None,
            path: PathBuf::new(),
            max_size: None,
            max_files: 1,
            compress: false,
            mode: LogMode::Blocking,
            attributes: BTreeMap::new(),
        }
    }
}

fn check_names(driver: LogDriver, options: &BTreeMap<String, String>) -> Result<(), SettingsError> {
    for option in options.keys() {
        let known = match option.as_str() {
            "mode" | "max-buffer-size" => true,
            "max-size" | "max-file" | "compress" | "labels" | "labels-regex" | "env"
            | "env-regex" | "tag" => driver != LogDriver::None,
            _ => false,
        };
        if !known {
            return Err(SettingsError::UnknownOption {
                option: option.chars().take(80).collect(),
                driver: driver.name(),
            });
        }
    }
    Ok(())
}

fn parse_mode(options: &BTreeMap<String, String>) -> Result<LogMode, SettingsError> {
    let buffer = options.get("max-buffer-size");
    match options.get("mode").map(String::as_str) {
        None | Some("" | "blocking") => match buffer {
            None => Ok(LogMode::Blocking),
            Some(_) => Err(SettingsError::Contradiction(
                "logger: max-buffer-size option is only supported with 'mode=non-blocking'",
            )),
        },
        Some("non-blocking") => {
            let buffer = match buffer {
                None => NON_BLOCKING_BUFFER,
                Some(text) => parse_size("max-buffer-size", text)?,
            };
            Ok(LogMode::NonBlocking { buffer })
        }
        Some(other) => Err(SettingsError::InvalidValue {
            option: "mode",
            value: other.chars().take(80).collect(),
            reason: "expected blocking or non-blocking".into(),
        }),
    }
}

fn parse_max_size(driver: LogDriver, text: &str) -> Result<Option<u64>, SettingsError> {
    if text.trim() == "-1" {
        return Ok(None);
    }
    match parse_size("max-size", text)? {
        // Docker's `local` takes 0 for "no limit", its json-file refuses it.
        0 if driver == LogDriver::Local => Ok(None),
        0 => Err(SettingsError::Contradiction(
            "max-size must be a positive number",
        )),
        size => Ok(Some(size)),
    }
}

fn parse_max_files(text: &str) -> Result<u32, SettingsError> {
    let error = |reason: &str| SettingsError::InvalidValue {
        option: "max-file",
        value: text.chars().take(80).collect(),
        reason: reason.into(),
    };
    match text.parse::<u32>() {
        Err(_) => Err(error("not a number")),
        Ok(0) => Err(SettingsError::Contradiction(
            "max-file cannot be less than 1",
        )),
        Ok(count) if count > limits::MAX_LOG_FILES => Err(error("too many files")),
        Ok(count) => Ok(count),
    }
}

/// Sizes as Docker's log options take them: units are powers of 1000 there, unlike memory limits.
fn parse_size(option: &'static str, text: &str) -> Result<u64, SettingsError> {
    let error = |reason: &str| SettingsError::InvalidValue {
        option,
        value: text.chars().take(80).collect(),
        reason: reason.into(),
    };
    let trimmed = text.trim().to_ascii_lowercase();
    let split = trimmed
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(trimmed.len());
    let (number, unit) = trimmed.split_at(split);
    let factor: u64 = match unit.trim_start() {
        "" | "b" => 1,
        "k" | "kb" | "kib" => 1_000,
        "m" | "mb" | "mib" => 1_000_000,
        "g" | "gb" | "gib" => 1_000_000_000,
        "t" | "tb" | "tib" => 1_000_000_000_000,
        "p" | "pb" | "pib" => 1_000_000_000_000_000,
        _ => return Err(error("unknown unit")),
    };
    if let Ok(whole) = number.parse::<u64>() {
        return whole
            .checked_mul(factor)
            .filter(|size| *size <= i64::MAX as u64)
            .ok_or_else(|| error("too large"));
    }
    let fraction: f64 = number.parse().map_err(|_| error("not a number"))?;
    let size = fraction * factor as f64;
    if size.is_finite() && (0.0..9.0e18).contains(&size) {
        Ok(size as u64)
    } else {
        Err(error("too large"))
    }
}

/// Go's `strconv.ParseBool`.
fn parse_bool(option: &'static str, text: &str) -> Result<bool, SettingsError> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(false),
        _ => Err(SettingsError::InvalidValue {
            option,
            value: text.chars().take(80).collect(),
            reason: "expected true or false".into(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(driver: &str, options: &[(&str, &str)]) -> Result<LogSettings, SettingsError> {
        let options = options
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect();
        LogSettings::resolve(driver, &options, "/x".into(), BTreeMap::new())
    }

    #[test]
    fn defaults_rotate() {
        let json = resolve("json-file", &[]).unwrap();
        assert_eq!(
            (json.max_size, json.max_files, json.compress),
            (Some(10 << 20), 3, false)
        );
        let local = resolve("local", &[]).unwrap();
        assert_eq!(
            (local.max_size, local.max_files, local.compress),
            (Some(20 << 20), 5, true)
        );
        assert_eq!(resolve("none", &[]).unwrap().driver, LogDriver::None);
    }

    #[test]
    fn options_mean_what_they_mean_in_docker() {
        let some = resolve(
            "json-file",
            &[("max-size", "10k"), ("max-file", "4"), ("compress", "true")],
        )
        .unwrap();
        assert_eq!(
            (some.max_size, some.max_files, some.compress),
            (Some(10_000), 4, true)
        );
        assert_eq!(
            resolve("json-file", &[("max-size", "1m")])
                .unwrap()
                .max_files,
            1
        );
        assert_eq!(
            resolve("json-file", &[("max-size", "-1")])
                .unwrap()
                .max_size,
            None
        );
        assert_eq!(
            resolve("json-file", &[("max-size", "1.5k")])
                .unwrap()
                .max_size,
            Some(1500)
        );
        let ring = resolve(
            "local",
            &[("mode", "non-blocking"), ("max-buffer-size", "4m")],
        )
        .unwrap();
        assert_eq!(ring.mode, LogMode::NonBlocking { buffer: 4_000_000 });
    }

    #[test]
    fn nonsense_is_refused() {
        for (driver, options) in [
            ("syslog-of-mine", &[][..]),
            ("json-file", &[("max-sise", "1m")][..]),
            ("json-file", &[("max-size", "0")][..]),
            ("json-file", &[("max-size", "big")][..]),
            ("json-file", &[("max-file", "0")][..]),
            ("json-file", &[("max-size", "1m"), ("compress", "true")][..]),
            ("local", &[("max-file", "1")][..]),
            ("local", &[("mode", "sometimes")][..]),
            ("local", &[("max-buffer-size", "1m")][..]),
            ("none", &[("max-size", "1m")][..]),
        ] {
            assert!(
                resolve(driver, options).is_err(),
                "{driver} {options:?} was taken"
            );
        }
    }
}
