//! Instructions of Dockerfiles that change an image's configuration alone: `commit --change`, `import --change`.
//!
//! Owns: reading and applying them, as Docker does. Pure.

use berth_types::Signal;
use berth_types::image_config::{HealthConfig, ImageConfig};

use crate::containers::spec::clean_path;
use crate::error::EngineError;

/// Ports that one range of EXPOSE may name.
const PORTS_MAX: usize = 65_536;

/// Applies `changes`, each one instruction (or several lines of them), to `config`.
///
/// # Errors
/// When an instruction is none that changes the configuration, or cannot be understood.
pub(crate) fn apply(config: &mut ImageConfig, changes: &[String]) -> Result<(), EngineError> {
    let mut cmd_is_set = false;
    for line in changes.iter().flat_map(|change| change.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (name, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let rest = rest.trim();
        let name = name.to_ascii_lowercase();
        one(config, &name, rest, &mut cmd_is_set).map_err(|reason| {
            EngineError::Invalid(match reason {
                Refusal::NotAChange => format!("{name} is not a valid change command"),
                Refusal::Because(reason) => format!("{}: {reason}", name.to_ascii_uppercase()),
            })
        })?;
    }
    Ok(())
}

enum Refusal {
    NotAChange,
    Because(String),
}

impl From<String> for Refusal {
    fn from(reason: String) -> Self {
        Self::Because(reason)
    }
}

impl From<&str> for Refusal {
    fn from(reason: &str) -> Self {
        Self::Because(reason.to_owned())
    }
}

fn one(
    config: &mut ImageConfig,
    name: &str,
    rest: &str,
    cmd_is_set: &mut bool,
) -> Result<(), Refusal> {
    let needed = |rest: &str| match rest.is_empty() {
        true => Err(Refusal::from("requires at least one argument")),
        false => Ok(()),
    };
    match name {
        "cmd" => {
            config.cmd = command(config, rest);
            *cmd_is_set = true;
        }
        "entrypoint" => {
            config.entrypoint = command(config, rest);
            if !*cmd_is_set {
                config.cmd = None;
            }
        }
        "env" => {
            needed(rest)?;
            for (name, value) in pairs(rest, &config.env)? {
                set_env(&mut config.env, &name, &value);
            }
        }
        "label" => {
            needed(rest)?;
            for (name, value) in pairs(rest, &config.env)? {
                config.labels.insert(name, value);
            }
        }
        "expose" => {
            needed(rest)?;
            for word in words(rest) {
                for port in ports(&expand(&word, &config.env)?)? {
                    config
                        .exposed_ports
                        .insert(port, serde_json::Value::Object(serde_json::Map::new()));
                }
            }
        }
        "volume" => {
            needed(rest)?;
            let paths = match json_words(rest) {
                Some(words) => words,
                None => words(rest),
            };
            for path in paths {
                let path = expand(&path, &config.env)?;
                if path.is_empty() {
                    return Err("a volume cannot be an empty path".into());
                }
                config
                    .volumes
                    .insert(path, serde_json::Value::Object(serde_json::Map::new()));
            }
        }
        "user" => {
            needed(rest)?;
            config.user = expand(rest, &config.env)?;
        }
        "workdir" => {
            needed(rest)?;
            let path = expand(rest, &config.env)?;
            config.working_dir = match path.starts_with('/') {
                true => clean_path(&path),
                false => clean_path(&format!("{}/{path}", config.working_dir)),
            };
            if !config.working_dir.starts_with('/') {
                config.working_dir.insert(0, '/');
            }
        }
        "stopsignal" => {
            needed(rest)?;
            let signal = expand(rest, &config.env)?;
            if Signal::parse(&signal).is_err() {
                return Err(format!("invalid signal: {signal}").into());
            }
            config.stop_signal = signal;
        }
        "shell" => match json_words(rest).filter(|words| !words.is_empty()) {
            Some(words) => config.shell = Some(words),
            None => return Err("requires the arguments to be in JSON form".into()),
        },
        "onbuild" => {
            needed(rest)?;
            let first = rest.split_whitespace().next().unwrap_or_default();
            match first.to_ascii_uppercase().as_str() {
                "ONBUILD" => {
                    return Err("chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed".into());
                }
                "MAINTAINER" | "FROM" => {
                    return Err(format!("{first} isn't allowed as an ONBUILD trigger").into());
                }
                _ => config.on_build.push(rest.to_owned()),
            }
        }
        "healthcheck" => config.healthcheck = Some(health(rest)?),
        _ => return Err(Refusal::NotAChange),
    }
    Ok(())
}

/// The exec form is JSON, everything else the shell form.
fn command(config: &ImageConfig, rest: &str) -> Option<Vec<String>> {
    if let Some(words) = json_words(rest) {
        return Some(words);
    }
    if rest.is_empty() {
        return None;
    }
    Some(shell_form(config, rest))
}

fn shell_form(config: &ImageConfig, text: &str) -> Vec<String> {
    let mut words = match &config.shell {
        Some(shell) if !shell.is_empty() => shell.clone(),
        _ => vec!["/bin/sh".to_owned(), "-c".to_owned()],
    };
    words.push(text.to_owned());
    words
}

fn json_words(text: &str) -> Option<Vec<String>> {
    text.starts_with('[')
        .then(|| serde_json::from_str(text).ok())?
}

fn set_env(env: &mut Vec<String>, name: &str, value: &str) {
    let entry = format!("{name}={value}");
    match env.iter_mut().find(|other| {
        other
            .split_once('=')
            .map_or(other.as_str(), |(name, _)| name)
            == name
    }) {
        Some(other) => *other = entry,
        None => env.push(entry),
    }
}

fn health(rest: &str) -> Result<HealthConfig, Refusal> {
    let mut health = HealthConfig::default();
    let mut rest = rest;
    while let Some(flag) = rest.strip_prefix("--") {
        let (flag, after) = flag.split_once(char::is_whitespace).unwrap_or((flag, ""));
        let (name, value) = flag
            .split_once('=')
            .ok_or_else(|| format!("missing a value on flag: {flag}"))?;
        let duration = || {
            berth_types::duration::parse_nanoseconds(value)
                .map_err(|error| Refusal::Because(format!("invalid duration {value:?}: {error}")))
        };
        match name {
            "interval" => health.interval = duration()?,
            "timeout" => health.timeout = duration()?,
            "start-period" => health.start_period = duration()?,
            "start-interval" => health.start_interval = duration()?,
            "retries" => {
                health.retries = value
                    .parse()
                    .map_err(|_| format!("--retries must be a number, not {value:?}"))?;
            }
            other => return Err(format!("unknown flag: {other}").into()),
        }
        rest = after.trim_start();
    }
    let (kind, test) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    let test = test.trim();
    match kind.to_ascii_uppercase().as_str() {
        "NONE" if test.is_empty() => health.test = vec!["NONE".to_owned()],
        "NONE" => return Err("NONE takes no arguments".into()),
        "CMD" if test.is_empty() => return Err("missing command after CMD".into()),
        "CMD" => match json_words(test) {
            Some(words) => {
                health.test = vec!["CMD".to_owned()];
                health.test.extend(words);
            }
            None => health.test = vec!["CMD-SHELL".to_owned(), test.to_owned()],
        },
        "" => return Err("requires at least one argument".into()),
        other => return Err(format!("unknown type {other:?} (try CMD)").into()),
    }
    Ok(health)
}

/// `port`, `port/protocol` and ranges of ports, each as `port/protocol`.
fn ports(text: &str) -> Result<Vec<String>, Refusal> {
    let bad = || Refusal::Because(format!("invalid containerPort: {text}"));
    let (range, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = protocol.to_ascii_lowercase();
    if !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
        return Err(format!("invalid proto: {protocol}").into());
    }
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    let first: u16 = first.parse().map_err(|_| bad())?;
    let last: u16 = last.parse().map_err(|_| bad())?;
    if first > last {
        return Err(bad());
    }
    Ok((first..=last)
        .take(PORTS_MAX)
        .map(|port| format!("{port}/{protocol}"))
        .collect())
}

/// `name=value …`, or the old `name value`.
fn pairs(rest: &str, env: &[String]) -> Result<Vec<(String, String)>, Refusal> {
    let words = words(rest);
    let first = words.first().map(String::as_str).unwrap_or_default();
    if !first.contains('=') {
        let (name, value) = rest
            .split_once(char::is_whitespace)
            .ok_or("must have two arguments")?;
        return Ok(vec![(expand(name, env)?, expand(value.trim(), env)?)]);
    }
    words
        .iter()
        .map(|word| {
            let (name, value) = word.split_once('=').ok_or_else(|| {
                format!("Syntax error - can't find = in {word:?}. Must be of the form: name=value")
            })?;
            let name = expand(name, env)?;
            if name.is_empty() {
                return Err(Refusal::from("names can not be blank"));
            }
            Ok((name, expand(value, env)?))
        })
        .collect()
}

/// Words as they stand, separated by blanks that are neither quoted nor escaped.
fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quote = None;
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match (character, quote) {
            ('\\', None | Some('"')) => {
                word.push('\\');
                word.extend(characters.next());
            }
            ('\'' | '"', None) => {
                quote = Some(character);
                word.push(character);
            }
            (character, Some(open)) => {
                if character == open {
                    quote = None;
                }
                word.push(character);
            }
            (blank, None) if blank.is_whitespace() => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
            }
            (other, None) => word.push(other),
        }
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

/// Takes quotes and escapes away, and puts the values of variables in.
fn expand(text: &str, env: &[String]) -> Result<String, Refusal> {
    let value_of = |name: &str| {
        env.iter()
            .find_map(|entry| entry.split_once('=').filter(|(other, _)| *other == name))
            .map(|(_, value)| value.to_owned())
    };
    let mut out = String::new();
    let mut characters = text.chars().peekable();
    let mut quote = None;
    while let Some(character) = characters.next() {
        match (character, quote) {
            ('\'', None) | ('"', None) => quote = Some(character),
            (close, Some(open)) if close == open => quote = None,
            ('\\', None) => out.extend(characters.next()),
            ('\\', Some('"')) => match characters.peek() {
                Some('"' | '$' | '\\') => out.extend(characters.next()),
                _ => out.push('\\'),
            },
            ('$', None | Some('"')) => {
                if characters.next_if_eq(&'{').is_some() {
                    let inner: String = characters.by_ref().take_while(|c| *c != '}').collect();
                    let end = inner
                        .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
                        .unwrap_or(inner.len());
                    let (name, modifier) = inner.split_at(end);
                    let value = value_of(name);
                    match modifier.get(..2) {
                        _ if modifier.is_empty() => out.push_str(&value.unwrap_or_default()),
                        Some(":-") => match value.filter(|value| !value.is_empty()) {
                            Some(value) => out.push_str(&value),
                            None => out.push_str(&expand(&modifier[2..], env)?),
                        },
                        Some(":+") => {
                            if value.is_some_and(|value| !value.is_empty()) {
                                out.push_str(&expand(&modifier[2..], env)?);
                            }
                        }
                        _ => {
                            return Err(format!(
                                "unsupported modifier ({modifier}) in substitution"
                            )
                            .into());
                        }
                    }
                } else {
                    let mut name = String::new();
                    while let Some(next) =
                        characters.next_if(|c| c.is_ascii_alphanumeric() || *c == '_')
                    {
                        name.push(next);
                    }
                    match name.is_empty() {
                        true => out.push('$'),
                        false => out.push_str(&value_of(&name).unwrap_or_default()),
                    }
                }
            }
            (other, _) => out.push(other),
        }
    }
    if let Some(open) = quote {
        return Err(
            format!("unexpected end of statement while looking for matching {open}").into(),
        );
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(changes: &[&str]) -> ImageConfig {
        let mut config = ImageConfig {
            env: vec!["PATH=/bin".into()],
            cmd: Some(vec!["sh".into()]),
            working_dir: "/srv".into(),
            ..ImageConfig::default()
        };
        let changes: Vec<String> = changes.iter().map(ToString::to_string).collect();
        apply(&mut config, &changes).expect("good instructions");
        config
    }

    #[test]
    fn each_instruction_changes_its_part() {
        let config = applied(&[
            r#"ENTRYPOINT ["/run", "me"]"#,
            "env A=1 B=\"two words\" PATH=$PATH:/sbin",
            "ENV OLD the old form",
            "LABEL one=1\nLABEL \"quoted name\"='single $A'",
            "EXPOSE 80 443/udp 8000-8002",
            "USER www:33",
            "VOLUME /data /more",
            "WORKDIR sub/../inner",
            "STOPSIGNAL SIGINT",
            "ONBUILD RUN true",
            "HEALTHCHECK --interval=5s --retries=3 CMD test -e /x",
            r#"SHELL ["/bin/ash", "-c"]"#,
        ]);
        assert_eq!(config.entrypoint, Some(vec!["/run".into(), "me".into()]));
        assert_eq!(config.cmd, None, "an entrypoint takes the command away");
        assert_eq!(
            config.env,
            ["PATH=/bin:/sbin", "A=1", "B=two words", "OLD=the old form"]
        );
        assert_eq!(config.labels["quoted name"], "single $A");
        let ports: Vec<&String> = config.exposed_ports.keys().collect();
        assert_eq!(
            ports,
            ["80/tcp", "443/udp", "8000/tcp", "8001/tcp", "8002/tcp"]
        );
        assert_eq!(config.working_dir, "/srv/inner");
        assert_eq!(config.volumes.len(), 2);
        let health = config.healthcheck.expect("a check");
        assert_eq!((health.interval, health.retries), (5_000_000_000, 3));
        assert_eq!(health.test, ["CMD-SHELL", "test -e /x"]);
        assert_eq!(config.on_build, ["RUN true"]);
    }

    #[test]
    fn the_shell_form_asks_the_shell() {
        let config = applied(&["CMD echo $HOME", r#"ENTRYPOINT ["a"]"#]);
        assert_eq!(
            config.cmd,
            Some(vec!["/bin/sh".into(), "-c".into(), "echo $HOME".into()])
        );
    }

    #[test]
    fn what_is_no_change_is_refused() {
        for (change, message) in [
            ("RUN true", "run is not a valid change command"),
            ("COPY a b", "copy is not a valid change command"),
            ("EXPOSE x", "EXPOSE: invalid containerPort: x"),
            ("ENV", "ENV: requires at least one argument"),
            ("LABEL a=1 b", "LABEL: Syntax error - can't find = in \"b\""),
            ("ENV A='x", "ENV: unexpected end of statement"),
            ("STOPSIGNAL nope", "STOPSIGNAL: invalid signal: nope"),
            ("HEALTHCHECK RUN x", "HEALTHCHECK: unknown type"),
        ] {
            let error = apply(&mut ImageConfig::default(), &[change.to_owned()])
                .expect_err("a refusal")
                .to_string();
            assert!(error.starts_with(message), "{change}: {error}");
        }
    }
}
