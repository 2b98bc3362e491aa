//! Health checks and their results.

use berth_api::{Health, HealthConfig, HealthcheckResult};
use berth_engine::containers::health;
use berth_engine::containers::spec::{HealthSettings, HealthTest};
use std::time::Duration;

const MINIMUM: Duration = Duration::from_millis(1);

/// What was asked.
pub(crate) fn to_engine(config: HealthConfig) -> Result<HealthSettings, String> {
    let mut words = config.test.into_iter();
    let test = match words.next().as_deref() {
        None => HealthTest::Inherit,
        Some("NONE") => HealthTest::Disabled,
        Some("CMD") => HealthTest::Command(words.collect()),
        Some("CMD-SHELL") => HealthTest::Shell(words.next().unwrap_or_default()),
        Some(other) => {
            let shown: String = other.chars().take(64).collect();
            return Err(format!(
                "invalid healthcheck: unknown type {shown:?} of test: use \"NONE\", \"CMD\" or \"CMD-SHELL\""
            ));
        }
    };
    Ok(HealthSettings {
        test,
        interval: duration("Interval", config.interval)?,
        timeout: duration("Timeout", config.timeout)?,
        start_period: duration("StartPeriod", config.start_period)?,
        start_interval: duration("StartInterval", config.start_interval)?,
        retries: u32::try_from(config.retries)
            .map_err(|_| "Retries in Healthcheck cannot be negative".to_owned())?,
    })
}

fn duration(name: &str, nanoseconds: i64) -> Result<Duration, String> {
    match u64::try_from(nanoseconds).map(Duration::from_nanos) {
        Ok(duration) if duration.is_zero() || duration >= MINIMUM => Ok(duration),
        _ => Err(format!("{name} in Healthcheck cannot be less than 1ms")),
    }
}

/// What was asked, as the wire has it.
pub(crate) fn from_engine(settings: &HealthSettings) -> HealthConfig {
    let nanoseconds = |duration: Duration| i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX);
    HealthConfig {
        test: match &settings.test {
            HealthTest::Inherit => Vec::new(),
            HealthTest::Disabled => vec!["NONE".to_owned()],
            HealthTest::Command(words) => std::iter::once("CMD".to_owned())
                .chain(words.iter().cloned())
                .collect(),
            HealthTest::Shell(line) => vec!["CMD-SHELL".to_owned(), line.clone()],
        },
        interval: nanoseconds(settings.interval),
        timeout: nanoseconds(settings.timeout),
        start_period: nanoseconds(settings.start_period),
        start_interval: nanoseconds(settings.start_interval),
        retries: i64::from(settings.retries),
    }
}

/// What was found.
pub(crate) fn found(health: &health::Health) -> Health {
    Health {
        status: health.status.as_str().to_owned(),
        failing_streak: i64::from(health.failing_streak),
        log: Some(
            health
                .log
                .iter()
                .map(|result| HealthcheckResult {
                    start: result.start.to_string(),
                    end: result.end.to_string(),
                    exit_code: i64::from(result.exit_code),
                    output: result.output.clone(),
                })
                .collect(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_and_durations_round_trip_and_bad_ones_are_refused() {
        for test in [
            vec![],
            vec!["NONE"],
            vec!["CMD", "a", "b"],
            vec!["CMD-SHELL", "a b"],
        ] {
            let config = HealthConfig {
                test: test.into_iter().map(str::to_owned).collect(),
                interval: 5_000_000_000,
                retries: 3,
                ..HealthConfig::default()
            };
            assert_eq!(from_engine(&to_engine(config.clone()).unwrap()), config);
        }
        let bad = |change: fn(&mut HealthConfig)| {
            let mut config = HealthConfig::default();
            change(&mut config);
            to_engine(config).unwrap_err()
        };
        assert_eq!(
            bad(|c| c.interval = 10),
            "Interval in Healthcheck cannot be less than 1ms"
        );
        assert_eq!(
            bad(|c| c.timeout = -1),
            "Timeout in Healthcheck cannot be less than 1ms"
        );
        assert_eq!(
            bad(|c| c.retries = -1),
            "Retries in Healthcheck cannot be negative"
        );
        assert!(bad(|c| c.test = vec!["x".into()]).contains("unknown type"));
    }
}
