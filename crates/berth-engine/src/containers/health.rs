//! A container's health: what probes found, and the arithmetic of Docker's states.
//!
//! Pure: the owner runs the probes and feeds their results in.

use std::collections::VecDeque;

use berth_types::Timestamp;
use serde::{Deserialize, Serialize};

use super::spec::HealthSettings;
use crate::limits;

/// Docker's word for a container's health.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HealthStatus {
    /// Too early to say.
    Starting,
    /// The last probe succeeded.
    Healthy,
    /// Enough probes failed in a row.
    Unhealthy,
}

impl HealthStatus {
    /// Docker's spelling.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
        }
    }
}

/// Result of one probe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeResult {
    /// When it began.
    pub start: Timestamp,
    /// When it ended.
    pub end: Timestamp,
    /// Its exit code; -1 when it took too long or could not be run.
    pub exit_code: i32,
    /// What it wrote, cut to a bounded length.
    pub output: String,
}

/// State of a container's probing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// Docker's word.
    pub status: HealthStatus,
    /// Failures in a row.
    pub failing_streak: u32,
    /// The last results, oldest first.
    pub log: VecDeque<ProbeResult>,
}

impl Health {
    /// The state at a start.
    #[must_use]
    pub fn starting() -> Self {
        Self {
            status: HealthStatus::Starting,
            failing_streak: 0,
            log: VecDeque::new(),
        }
    }

    /// Takes a probe's result in; tells the new status when it changed.
    ///
    /// A failure that began within the start period of a container that was never healthy is logged but
    /// not counted.
    pub fn record(
        &mut self,
        settings: &HealthSettings,
        started: Timestamp,
        mut result: ProbeResult,
    ) -> Option<HealthStatus> {
        cut_output(&mut result.output);
        let before = self.status;
        if result.exit_code == 0 {
            self.failing_streak = 0;
            self.status = HealthStatus::Healthy;
        } else {
            let within_start_period = result.start.since(started) < settings.start_period;
            if !(self.status == HealthStatus::Starting && within_start_period) {
                self.failing_streak = self.failing_streak.saturating_add(1);
                if self.failing_streak >= settings.effective_retries() {
                    self.status = HealthStatus::Unhealthy;
                }
            }
        }
        while self.log.len() >= limits::HEALTH_LOG_ENTRIES {
            self.log.pop_front();
        }
        self.log.push_back(result);
        (before != self.status).then_some(self.status)
    }

    /// How long to wait, from the end of one probe (or the start) to the next.
    #[must_use]
    pub fn pause(
        &self,
        settings: &HealthSettings,
        started: Timestamp,
        now: Timestamp,
    ) -> std::time::Duration {
        let within_start_period =
            self.status == HealthStatus::Starting && now.since(started) < settings.start_period;
        if within_start_period {
            settings.effective_start_interval()
        } else {
            settings.effective_interval()
        }
    }
}

/// Cuts at a character boundary within the bound.
fn cut_output(output: &mut String) {
    if output.len() > limits::HEALTH_OUTPUT {
        let mut end = limits::HEALTH_OUTPUT;
        while !output.is_char_boundary(end) {
            end -= 1;
        }
        output.truncate(end);
    }
}
