//! Ports of a container and of the host: from texts to values. Pure.

use std::net::IpAddr;

use super::view::Protocol;
use crate::error::EngineError;
use crate::limits;

/// A port of a container that is to be published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PortRequest {
    /// The container's port.
    pub container_port: u16,
    /// Its protocol.
    pub protocol: Protocol,
    /// The host's address; `None` for the default one, which is all of both families unless set otherwise.
    pub host_address: Option<IpAddr>,
    /// The first of the host's ports that will do; zero for any.
    pub host_first: u16,
    /// The last of them.
    pub host_last: u16,
}

/// Reads the name of a protocol in any case; empty means TCP.
#[must_use]
pub fn protocol(text: &str) -> Option<Protocol> {
    match text.to_ascii_lowercase().as_str() {
        "" | "tcp" => Some(Protocol::Tcp),
        "udp" => Some(Protocol::Udp),
        "sctp" => Some(Protocol::Sctp),
        _ => None,
    }
}

fn cut(text: &str) -> String {
    text.chars().take(64).collect()
}

fn port(text: &str) -> Option<u16> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

/// Reads `80`, `80/udp`; the port is not zero.
///
/// # Errors
/// For what is no port.
pub fn container_port(text: &str) -> Result<(u16, Protocol), EngineError> {
    let invalid = || EngineError::Invalid(format!("invalid port specification: \"{}\"", cut(text)));
    let (number, named) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = protocol(named).ok_or_else(invalid)?;
    let number = port(number).filter(|n| *n != 0).ok_or_else(invalid)?;
    Ok((number, protocol))
}

/// Reads `80`, `80/udp`, `8000-8010/tcp`, as images and `--expose` name ports.
///
/// # Errors
/// For what is no port or range.
pub fn exposed(text: &str) -> Result<Vec<(u16, Protocol)>, EngineError> {
    let invalid = || EngineError::Invalid(format!("invalid port specification: \"{}\"", cut(text)));
    let (range, named) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = protocol(named).ok_or_else(invalid)?;
    let (first, last) = match range.split_once('-') {
        Some((first, last)) => (
            port(first).ok_or_else(invalid)?,
            port(last).ok_or_else(invalid)?,
        ),
        None => {
            let only = port(range).ok_or_else(invalid)?;
            (only, only)
        }
    };
    if first == 0 || last < first {
        return Err(invalid());
    }
    Ok((first..=last).map(|n| (n, protocol)).collect())
}

/// Reads one binding: the container's port, the host's address and its port or range.
///
/// # Errors
/// For what makes no sense.
pub fn binding(
    (container_port, protocol): (u16, Protocol),
    host_ip: &str,
    host_port: &str,
) -> Result<PortRequest, EngineError> {
    let host_address =
        match host_ip.trim_start_matches('[').trim_end_matches(']') {
            "" => None,
            text => Some(text.parse().map_err(|_| {
                EngineError::Invalid(format!("invalid IP address: {}", cut(host_ip)))
            })?),
        };
    let invalid = || {
        EngineError::Invalid(format!(
            "invalid port specification: \"{}\"",
            cut(host_port)
        ))
    };
    let (host_first, host_last) = match host_port {
        "" => (0, 0),
        text => match text.split_once('-') {
            Some((first, last)) => (
                port(first).ok_or_else(invalid)?,
                port(last).ok_or_else(invalid)?,
            ),
            None => {
                let only = port(text).ok_or_else(invalid)?;
                (only, only)
            }
        },
    };
    if host_last < host_first || (host_first == 0 && host_last != 0) {
        return Err(invalid());
    }
    Ok(PortRequest {
        container_port,
        protocol,
        host_address,
        host_first,
        host_last,
    })
}

/// Refuses more ports than one container may have.
///
/// # Errors
/// When there are too many.
pub fn check_count(count: usize) -> Result<(), EngineError> {
    if count > limits::PUBLISHED_PORTS_MAX {
        return Err(EngineError::Invalid(format!(
            "{count} published ports are more than the {} one container may have",
            limits::PUBLISHED_PORTS_MAX
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_and_bindings_are_read() {
        assert_eq!(container_port("80").unwrap(), (80, Protocol::Tcp));
        assert_eq!(container_port("53/UDP").unwrap(), (53, Protocol::Udp));
        assert_eq!(exposed("7000-7002/sctp").unwrap().len(), 3);
        let bound = binding((80, Protocol::Tcp), "[::1]", "8000-8010").unwrap();
        assert_eq!(bound.host_address, Some("::1".parse().unwrap()));
        assert_eq!((bound.host_first, bound.host_last), (8000, 8010));
        assert_eq!(
            binding((80, Protocol::Tcp), "", "").unwrap().host_address,
            None
        );
    }

    #[test]
    fn what_is_no_port_is_refused() {
        for bad in ["", "0", "x", "80/icmp", "65536", "-1", "+80", "80-81"] {
            assert!(container_port(bad).is_err(), "{bad:?} was taken");
        }
        for bad in ["9-8", "0-3", "x-y", "70000"] {
            assert!(exposed(bad).is_err(), "{bad:?} was taken");
            assert!(
                binding((1, Protocol::Tcp), "", bad).is_err() || bad == "0",
                "{bad:?}"
            );
        }
        assert!(binding((1, Protocol::Tcp), "300.0.0.1", "").is_err());
    }
}
