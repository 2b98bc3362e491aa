//! Where an engine listens.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// An engine's address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Host {
    /// `unix:///run/berth/berth.sock`
    Unix(PathBuf),
    /// `tcp://name:port`; the port is 2375 unless given.
    Tcp {
        /// Name or address, without brackets.
        name: String,
        /// TCP port.
        port: u16,
    },
}

/// Text that is not an engine's address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// No `scheme://`.
    #[error("unable to parse docker host `{0}`")]
    NoScheme(String),
    /// A scheme that is not spoken.
    #[error("protocol {scheme:?} of host {host:?} is not supported: use unix:// or tcp://")]
    Scheme {
        /// What was given.
        host: String,
        /// Its scheme.
        scheme: String,
    },
    /// No path, or no valid name and port.
    #[error("invalid bind address format: {0}")]
    Address(String),
}

impl FromStr for Host {
    type Err = HostError;

    fn from_str(text: &str) -> Result<Host, HostError> {
        let (scheme, rest) = text
            .split_once("://")
            .ok_or_else(|| HostError::NoScheme(text.to_owned()))?;
        let bad = || HostError::Address(text.to_owned());
        match scheme {
            "unix" if rest.is_empty() => Err(bad()),
            "unix" => Ok(Host::Unix(PathBuf::from(rest))),
            "tcp" | "http" => {
                let rest = rest.trim_end_matches('/');
                let (name, port) = match rest.strip_prefix('[') {
                    Some(rest) => {
                        let (name, rest) = rest.split_once(']').ok_or_else(bad)?;
                        (name, rest.strip_prefix(':'))
                    }
                    None => match rest.split_once(':') {
                        Some((name, port)) => (name, Some(port)),
                        None => (rest, None),
                    },
                };
                if name.contains('/') {
                    return Err(bad());
                }
                let port = port.map_or(Ok(2375), |port| port.parse().map_err(|_| bad()))?;
                let name = if name.is_empty() { "127.0.0.1" } else { name };
                Ok(Host::Tcp {
                    name: name.to_owned(),
                    port,
                })
            }
            _ => Err(HostError::Scheme {
                host: text.to_owned(),
                scheme: scheme.to_owned(),
            }),
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Host::Unix(path) => write!(formatter, "unix://{}", path.display()),
            Host::Tcp { name, port } if name.contains(':') => {
                write!(formatter, "tcp://[{name}]:{port}")
            }
            Host::Tcp { name, port } => write!(formatter, "tcp://{name}:{port}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_round_trip() {
        for text in [
            "unix:///run/x.sock",
            "tcp://127.0.0.1:80",
            "tcp://[::1]:2375",
        ] {
            assert_eq!(text.parse::<Host>().unwrap().to_string(), text);
        }
        assert_eq!(
            "tcp://box".parse::<Host>().unwrap().to_string(),
            "tcp://box:2375"
        );
        for bad in [
            "",
            "/run/x.sock",
            "unix://",
            "ssh://me@box",
            "tcp://a:b",
            "tcp://a:1/x",
        ] {
            assert!(bad.parse::<Host>().is_err(), "{bad}");
        }
    }
}
