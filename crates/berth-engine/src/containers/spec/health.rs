//! How a container's health is probed.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::limits;

/// What a probe runs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HealthTest {
    /// Whatever the image says.
    #[default]
    Inherit,
    /// Nothing: probing is switched off.
    Disabled,
    /// A program with arguments.
    Command(Vec<String>),
    /// A line for the container's shell.
    Shell(String),
}

/// Probe and timing; a duration of zero means "inherit, else the default".
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HealthSettings {
    /// What is run.
    pub test: HealthTest,
    /// Time between two probes.
    pub interval: Duration,
    /// Time one probe may take.
    pub timeout: Duration,
    /// Time after the start in which failures do not count.
    pub start_period: Duration,
    /// Time between two probes within that.
    pub start_interval: Duration,
    /// Failures in a row that make the container unhealthy; zero means "inherit".
    pub retries: u32,
}

impl HealthSettings {
    /// Whether there is a probe to run.
    #[must_use]
    pub fn enabled(&self) -> bool {
        matches!(self.test, HealthTest::Command(_) | HealthTest::Shell(_))
    }

    /// Time between two probes, default applied.
    #[must_use]
    pub fn effective_interval(&self) -> Duration {
        or_default(self.interval, limits::HEALTH_INTERVAL_DEFAULT)
    }

    /// Time one probe may take, default applied.
    #[must_use]
    pub fn effective_timeout(&self) -> Duration {
        or_default(self.timeout, limits::HEALTH_TIMEOUT_DEFAULT)
    }

    /// Time between two probes within the start period, default applied.
    #[must_use]
    pub fn effective_start_interval(&self) -> Duration {
        or_default(self.start_interval, limits::HEALTH_START_INTERVAL_DEFAULT)
    }

    /// Failures in a row that count, default applied.
    #[must_use]
    pub fn effective_retries(&self) -> u32 {
        if self.retries == 0 {
            limits::HEALTH_RETRIES_DEFAULT
        } else {
            self.retries
        }
    }
}

fn or_default(value: Duration, default: Duration) -> Duration {
    if value.is_zero() { default } else { value }
}
