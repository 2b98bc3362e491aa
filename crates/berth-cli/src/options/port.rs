//! `-p` and `--expose`: `[[ip:][hostPort]:]containerPort[/protocol]`, single ports or ranges.

use std::collections::BTreeMap;
use std::net::IpAddr;

use berth_api::{EmptyObject, PortBinding};

use crate::limits::MAX_PORTS;
use crate::quote::go_quote;

/// Ports a container exposes, and where they are published.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Ports {
    /// `port/protocol`.
    pub(crate) exposed: BTreeMap<String, EmptyObject>,
    /// `port/protocol` to host addresses.
    pub(crate) bindings: BTreeMap<String, Option<Vec<PortBinding>>>,
}

/// Reads all `-p` and `--expose` of a command line.
pub(crate) fn all(publish: &[String], expose: &[String]) -> Result<Ports, String> {
    let mut ports = Ports::default();
    for text in publish {
        let text = standard_notation(text)?;
        for (port, binding) in published(&text)? {
            ports.exposed.insert(port.clone(), EmptyObject);
            ports
                .bindings
                .entry(port)
                .or_default()
                .get_or_insert_default()
                .push(binding);
        }
    }
    for text in expose {
        if text.contains(':') {
            return Err(format!("invalid port format for --expose: {text}"));
        }
        let (range, protocol) = split_protocol(text);
        let (first, last) = range_of(range).map_err(|reason| {
            format!("invalid range format for --expose: {range}, error: {reason}")
        })?;
        for port in first..=last {
            ports
                .exposed
                .insert(format!("{port}/{protocol}"), EmptyObject);
        }
    }
    Ok(ports)
}

/// `published=8080,target=80,protocol=tcp` as `8080:80/tcp`; other texts as they are.
fn standard_notation(text: &str) -> Result<String, String> {
    if !text.contains('=') {
        return Ok(text.to_owned());
    }
    let mut fields = BTreeMap::from([("protocol", "tcp")]);
    for field in text.split(',') {
        let (key, value) = field
            .split_once('=')
            .filter(|(key, _)| !key.is_empty())
            .ok_or_else(|| {
                format!("invalid publish opts format (should be name=value but got '{field}')")
            })?;
        fields.insert(key, value);
    }
    let field = |key: &str| fields.get(key).copied().unwrap_or_default();
    Ok(format!(
        "{}:{}/{}",
        field("published"),
        field("target"),
        field("protocol")
    ))
}

fn split_protocol(text: &str) -> (&str, String) {
    match text.split_once('/') {
        Some((ports, protocol)) if !ports.is_empty() && !protocol.is_empty() => {
            (ports, protocol.to_lowercase())
        }
        Some((ports, _)) => (ports, "tcp".to_owned()),
        None => (text, "tcp".to_owned()),
    }
}

fn number(text: &str) -> Result<u16, String> {
    if text.is_empty() || !text.bytes().all(|digit| digit.is_ascii_digit()) {
        return Err(format!(
            "strconv.ParseUint: parsing {}: invalid syntax",
            go_quote(text)
        ));
    }
    text.parse().map_err(|_| {
        format!(
            "strconv.ParseUint: parsing {}: value out of range",
            go_quote(text)
        )
    })
}

fn range_of(text: &str) -> Result<(u16, u16), String> {
    if text.is_empty() {
        return Err("empty string specified for ports".to_owned());
    }
    let Some((first, last)) = text.split_once('-') else {
        let port = number(text)?;
        return Ok((port, port));
    };
    let (first, last) = (number(first)?, number(last)?);
    if last < first {
        return Err(format!("invalid range specified for port: {text}"));
    }
    Ok((first, last))
}

fn published(text: &str) -> Result<Vec<(String, PortBinding)>, String> {
    let (address, host, container) = split_parts(text);
    let (container, protocol) = split_protocol(container);
    if container.is_empty() {
        return Err(format!("no port specified: {text}<empty>"));
    }
    if !address.is_empty() && address.parse::<IpAddr>().is_err() {
        return Err(format!("invalid IP address: {address}"));
    }
    let (first, last) =
        range_of(container).map_err(|_| format!("invalid containerPort: {container}"))?;
    let host_range = match host {
        "" => None,
        host => Some(range_of(host).map_err(|_| format!("invalid hostPort: {host}"))?),
    };
    if let Some((host_first, host_last)) = host_range
        && last - first != host_last - host_first
        // A single container port may be given a range to choose from.
        && last != first
    {
        return Err(format!(
            "invalid ranges specified for container and host Ports: {container} and {host}"
        ));
    }
    if !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
        return Err(format!(
            "invalid proto: {}",
            split_protocol_as_written(text)
        ));
    }
    let count = usize::from(last - first) + 1;
    debug_assert!(count <= MAX_PORTS);
    Ok((first..=last)
        .map(|port| {
            let host_port = match host_range {
                None => String::new(),
                Some((host_first, host_last)) if first == last && host_first != host_last => {
                    format!("{host_first}-{host_last}")
                }
                Some((host_first, _)) => (host_first + (port - first)).to_string(),
            };
            (
                format!("{port}/{protocol}"),
                PortBinding {
                    host_ip: address.to_owned(),
                    host_port,
                },
            )
        })
        .collect())
}

fn split_protocol_as_written(text: &str) -> &str {
    text.rsplit_once('/').map_or("", |(_, protocol)| protocol)
}

/// Address, host ports and container ports; an IPv6 address may stand in brackets.
fn split_parts(text: &str) -> (&str, &str, &str) {
    let Some((front, container)) = text.rsplit_once(':') else {
        return ("", "", text);
    };
    let Some((address, host)) = front.rsplit_once(':') else {
        return ("", front, container);
    };
    let inner = address
        .strip_prefix('[')
        .and_then(|address| address.strip_suffix(']'));
    (inner.unwrap_or(address), host, container)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        match all(&[text.to_owned()], &[]) {
            Err(error) => error,
            Ok(ports) => ports
                .bindings
                .iter()
                .flat_map(|(port, bindings)| {
                    bindings.iter().flatten().map(move |binding| {
                        format!("{}|{}|{port}", binding.host_ip, binding.host_port)
                    })
                })
                .collect::<Vec<_>>()
                .join(" "),
        }
    }

    #[test]
    fn published_ports_are_read() {
        for (text, wanted) in [
            ("80", "||80/tcp"),
            ("8080:80", "|8080|80/tcp"),
            ("127.0.0.1:8080:80/udp", "127.0.0.1|8080|80/udp"),
            ("127.0.0.1::80", "127.0.0.1||80/tcp"),
            ("[::1]:80:80", "::1|80|80/tcp"),
            ("::1:80:80", "::1|80|80/tcp"),
            ("8000-8001:80-81", "|8000|80/tcp |8001|81/tcp"),
            ("8000-8010:80", "|8000-8010|80/tcp"),
            ("published=8080,target=80", "|8080|80/tcp"),
            ("abc", "invalid containerPort: abc"),
            ("99999", "invalid containerPort: 99999"),
            ("x:80", "invalid hostPort: x"),
            ("1:2:3:4", "invalid IP address: 1:2"),
            ("1.2.3:80:80", "invalid IP address: 1.2.3"),
            ("80/foo", "invalid proto: foo"),
            (
                "8000-8001:80-83",
                "invalid ranges specified for container and host Ports: 80-83 and 8000-8001",
            ),
            (
                "foo=80,=x",
                "invalid publish opts format (should be name=value but got '=x')",
            ),
        ] {
            assert_eq!(shown(text), wanted, "{text}");
        }
    }

    #[test]
    fn exposed_ports_are_read() {
        let exposed = |text: &str| {
            all(&[], &[text.to_owned()]).map(|ports| ports.exposed.into_keys().collect::<Vec<_>>())
        };
        assert_eq!(
            exposed("80-81/udp"),
            Ok(vec!["80/udp".into(), "81/udp".into()])
        );
        for (text, wanted) in [
            (
                "x",
                "invalid range format for --expose: x, error: strconv.ParseUint: parsing \"x\": invalid syntax",
            ),
            (
                "80-70",
                "invalid range format for --expose: 80-70, error: invalid range specified for port: 80-70",
            ),
            ("80:80", "invalid port format for --expose: 80:80"),
        ] {
            assert_eq!(exposed(text).expect_err(text), wanted);
        }
    }
}
