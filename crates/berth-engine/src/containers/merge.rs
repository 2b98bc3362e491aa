//! What the image says and what was asked, as one: pure.

use berth_types::image_config::{HealthConfig, ImageConfig};
use std::time::Duration;

use super::spec::{ContainerConfig, HealthSettings, HealthTest};
use crate::error::EngineError;

/// Fills in from the image what was not asked for.
///
/// # Errors
/// When nothing is left to run.
pub fn merge(
    mut asked: ContainerConfig,
    image: &ImageConfig,
) -> Result<ContainerConfig, EngineError> {
    if asked.user.is_empty() {
        asked.user.clone_from(&image.user);
    }
    for port in image.exposed_ports.keys() {
        asked.exposed_ports.insert(port.clone());
    }
    add_missing_env(&mut asked.env, &image.env);
    let mut labels = image.labels.clone();
    labels.extend(std::mem::take(&mut asked.labels));
    asked.labels = labels;
    if asked.entrypoint.as_ref().is_none_or(Vec::is_empty) {
        let reset = asked.entrypoint.is_some();
        if asked.cmd.as_ref().is_none_or(Vec::is_empty) {
            asked.cmd.clone_from(&image.cmd);
            asked.args_escaped = image.args_escaped;
        }
        if !reset && asked.entrypoint.is_none() {
            asked.entrypoint.clone_from(&image.entrypoint);
        }
    }
    // `--entrypoint ""` arrives as one empty word and takes the image's entrypoint away.
    if asked.entrypoint.as_deref() == Some(&[String::new()][..]) {
        asked.entrypoint = None;
    }
    asked.healthcheck = merge_health(asked.healthcheck.take(), image.healthcheck.as_ref());
    if asked.working_dir.is_empty() {
        asked.working_dir.clone_from(&image.working_dir);
    }
    for path in image.volumes.keys() {
        asked.volumes.insert(path.clone());
    }
    if asked.stop_signal.is_empty() {
        asked.stop_signal.clone_from(&image.stop_signal);
    }
    if asked.stop_timeout.is_none() {
        asked.stop_timeout = image.stop_timeout;
    }
    if asked.shell.is_none() {
        asked.shell.clone_from(&image.shell);
    }
    if asked.on_build.is_empty() {
        asked.on_build.clone_from(&image.on_build);
    }
    let has = |list: &Option<Vec<String>>| list.as_ref().is_some_and(|l| !l.is_empty());
    if !has(&asked.cmd) && !has(&asked.entrypoint) {
        return Err(EngineError::Invalid("no command specified".to_owned()));
    }
    Ok(asked)
}

/// Program and arguments of a merged configuration.
#[must_use]
pub fn command(config: &ContainerConfig) -> (String, Vec<String>) {
    let mut words = config
        .entrypoint
        .iter()
        .flatten()
        .chain(config.cmd.iter().flatten())
        .cloned();
    let path = words.next().unwrap_or_default();
    (path, words.collect())
}

fn env_name(entry: &str) -> &str {
    entry.split_once('=').map_or(entry, |(name, _)| name)
}

/// Adds the image's variables that were not asked for (a bare name asks for none of that name).
fn add_missing_env(asked: &mut Vec<String>, image: &[String]) {
    let own: std::collections::HashSet<String> =
        asked.iter().map(|e| env_name(e).to_owned()).collect();
    asked.extend(image.iter().filter(|e| !own.contains(env_name(e))).cloned());
}

/// The base variables with others over them, in the order of the base; a bare name takes one away.
#[must_use]
pub fn merge_env(base: &[String], over: &[String]) -> Vec<String> {
    let name = |entry: &str| env_name(entry).to_owned();
    let mut merged: Vec<Option<String>> = base.iter().cloned().map(Some).collect();
    let mut places: std::collections::HashMap<String, usize> = base
        .iter()
        .enumerate()
        .map(|(place, entry)| (name(entry), place))
        .collect();
    for entry in over {
        let key = name(entry);
        let value = entry.contains('=').then(|| entry.clone());
        match places.get(&key) {
            Some(place) => merged[*place] = value,
            None => {
                if value.is_some() {
                    places.insert(key, merged.len());
                    merged.push(value);
                }
            }
        }
    }
    merged.into_iter().flatten().collect()
}

fn duration(nanoseconds: i64) -> Duration {
    Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(0))
}

/// The image's probe in the engine's words.
#[must_use]
pub fn health_of_image(image: &HealthConfig) -> HealthSettings {
    let test = match image.test.split_first() {
        None => HealthTest::Inherit,
        Some((kind, rest)) => match kind.as_str() {
            "NONE" => HealthTest::Disabled,
            "CMD" => HealthTest::Command(rest.to_vec()),
            "CMD-SHELL" => HealthTest::Shell(rest.first().cloned().unwrap_or_default()),
            _ => HealthTest::Disabled,
        },
    };
    HealthSettings {
        test,
        interval: duration(image.interval),
        timeout: duration(image.timeout),
        start_period: duration(image.start_period),
        start_interval: duration(image.start_interval),
        retries: u32::try_from(image.retries).unwrap_or(0),
    }
}

fn merge_health(
    asked: Option<HealthSettings>,
    image: Option<&HealthConfig>,
) -> Option<HealthSettings> {
    let image = image.map(health_of_image);
    let (mut asked, image) = match (asked, image) {
        (None, image) => return image.filter(|h| h.test != HealthTest::Inherit),
        (Some(asked), None) => return Some(asked),
        (Some(asked), Some(image)) => (asked, image),
    };
    if asked.test == HealthTest::Inherit {
        asked.test = image.test;
    }
    let fill = |value: &mut Duration, from: Duration| {
        if value.is_zero() {
            *value = from;
        }
    };
    fill(&mut asked.interval, image.interval);
    fill(&mut asked.timeout, image.timeout);
    fill(&mut asked.start_period, image.start_period);
    fill(&mut asked.start_interval, image.start_interval);
    if asked.retries == 0 {
        asked.retries = image.retries;
    }
    Some(asked)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    fn image() -> ImageConfig {
        ImageConfig {
            entrypoint: Some(words("/entry -x")),
            cmd: Some(words("serve now")),
            env: words("PATH=/bin A=1 B=2"),
            user: "web".to_owned(),
            ..ImageConfig::default()
        }
    }

    fn run(entrypoint: Option<&str>, cmd: Option<&str>) -> Vec<String> {
        let asked = ContainerConfig {
            entrypoint: entrypoint.map(|e| {
                if e.is_empty() {
                    vec![String::new()]
                } else {
                    words(e)
                }
            }),
            cmd: cmd.map(words),
            ..ContainerConfig::default()
        };
        let merged = merge(asked, &image()).expect("merged");
        let (path, mut args) = command(&merged);
        args.insert(0, path);
        args
    }

    #[test]
    fn entrypoint_and_command_are_merged_as_docker_merges_them() {
        assert_eq!(run(None, None), words("/entry -x serve now"));
        assert_eq!(run(None, Some("a b")), words("/entry -x a b"));
        assert_eq!(run(Some("/other"), None), words("/other"));
        assert_eq!(run(Some("/other"), Some("c")), words("/other c"));
        assert_eq!(run(Some(""), Some("c d")), words("c d"));
        let empty = merge(ContainerConfig::default(), &ImageConfig::default());
        assert_eq!(
            empty.map_err(|e| e.to_string()),
            Err("no command specified".to_owned())
        );
    }

    #[test]
    fn variables_are_replaced_in_place_added_and_taken_away() {
        assert_eq!(
            merge_env(&words("PATH=/bin A=1 B=2"), &words("A=9 C=3 B D")),
            words("PATH=/bin A=9 C=3")
        );
    }
}
