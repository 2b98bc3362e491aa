//! Which namespaces a container shares, and when it is started again.
//!
//! Each mode is parsed once, here, from Docker's spelling, and prints the same spelling.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A spelling that names no mode.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid {what} mode: {text}")]
pub struct ModeError {
    /// Which mode: `IPC`, `PID`, …
    pub what: &'static str,
    /// What was given.
    pub text: String,
}

fn cut(text: &str) -> String {
    text.chars().take(128).collect()
}

macro_rules! text_mode {
    ($name:ident) => {
        impl TryFrom<String> for $name {
            type Error = ModeError;
            fn try_from(text: String) -> Result<Self, ModeError> {
                Self::parse(&text)
            }
        }
        impl From<$name> for String {
            fn from(mode: $name) -> Self {
                mode.to_string()
            }
        }
    };
}

/// Where a container's network stack is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum NetworkMode {
    /// What the daemon gives when nothing is asked (`default` or empty).
    #[default]
    Default,
    /// The default bridge, by name.
    Bridge,
    /// Only a loopback interface.
    None,
    /// The host's own.
    Host,
    /// Another container's.
    Container(String),
    /// A network by name or id.
    Named(String),
}

impl NetworkMode {
    /// Reads Docker's spelling; every text is some mode.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        match text {
            "" | "default" => Self::Default,
            "bridge" => Self::Bridge,
            "none" => Self::None,
            "host" => Self::Host,
            _ => match text.strip_prefix("container:") {
                Some(other) => Self::Container(other.to_owned()),
                None => Self::Named(text.to_owned()),
            },
        }
    }

    /// Whether the container gets a network namespace of its own.
    #[must_use]
    pub fn is_private(&self) -> bool {
        !matches!(self, Self::Host | Self::Container(_))
    }
}

impl From<String> for NetworkMode {
    fn from(text: String) -> Self {
        Self::parse(&text)
    }
}

impl From<NetworkMode> for String {
    fn from(mode: NetworkMode) -> Self {
        mode.to_string()
    }
}

impl fmt::Display for NetworkMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Bridge => f.write_str("bridge"),
            Self::None => f.write_str("none"),
            Self::Host => f.write_str("host"),
            Self::Container(other) => write!(f, "container:{other}"),
            Self::Named(name) => f.write_str(name),
        }
    }
}

/// Where a container's System V and POSIX objects are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum IpcMode {
    /// The daemon's default, which is `private`.
    #[default]
    Default,
    /// Its own namespace without a `/dev/shm` mount.
    None,
    /// Its own.
    Private,
    /// Its own, which others may join.
    Shareable,
    /// The host's.
    Host,
    /// Another container's.
    Container(String),
}

impl IpcMode {
    /// Reads Docker's spelling.
    ///
    /// # Errors
    /// When it names no mode.
    pub fn parse(text: &str) -> Result<Self, ModeError> {
        Ok(match text {
            "" => Self::Default,
            "none" => Self::None,
            "private" => Self::Private,
            "shareable" => Self::Shareable,
            "host" => Self::Host,
            _ => match text.strip_prefix("container:") {
                Some(other) if !other.is_empty() => Self::Container(other.to_owned()),
                _ => {
                    return Err(ModeError {
                        what: "IPC",
                        text: cut(text),
                    });
                }
            },
        })
    }
}

impl fmt::Display for IpcMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => Ok(()),
            Self::None => f.write_str("none"),
            Self::Private => f.write_str("private"),
            Self::Shareable => f.write_str("shareable"),
            Self::Host => f.write_str("host"),
            Self::Container(other) => write!(f, "container:{other}"),
        }
    }
}
text_mode!(IpcMode);

/// Which processes a container sees.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum PidMode {
    /// Its own.
    #[default]
    Private,
    /// The host's.
    Host,
    /// Another container's.
    Container(String),
}

impl PidMode {
    /// Reads Docker's spelling.
    ///
    /// # Errors
    /// When it names no mode.
    pub fn parse(text: &str) -> Result<Self, ModeError> {
        Ok(match text {
            "" | "private" => Self::Private,
            "host" => Self::Host,
            _ => match text.strip_prefix("container:") {
                Some(other) if !other.is_empty() => Self::Container(other.to_owned()),
                _ => {
                    return Err(ModeError {
                        what: "PID",
                        text: cut(text),
                    });
                }
            },
        })
    }
}

impl fmt::Display for PidMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Private => Ok(()),
            Self::Host => f.write_str("host"),
            Self::Container(other) => write!(f, "container:{other}"),
        }
    }
}
text_mode!(PidMode);

macro_rules! host_or_private {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub enum $name {
            /// The daemon's default.
            #[default]
            Default,
            /// The host's.
            Host,
        }

        impl $name {
            /// Reads Docker's spelling.
            ///
            /// # Errors
            /// When it names no mode.
            pub fn parse(text: &str) -> Result<Self, ModeError> {
                match text {
                    "" => Ok(Self::Default),
                    "host" => Ok(Self::Host),
                    _ => Err(ModeError { what: $what, text: cut(text) }),
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self {
                    Self::Default => "",
                    Self::Host => "host",
                })
            }
        }
        text_mode!($name);
    };
}

host_or_private! {
    /// Whose host name a container has.
    UtsMode, "UTS"
}
host_or_private! {
    /// Whose user ids a container has.
    UsernsMode, "USER"
}

/// Which part of the cgroup tree a container sees.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum CgroupnsMode {
    /// `private` on cgroup v2, `host` on v1.
    #[default]
    Default,
    /// Its own.
    Private,
    /// The host's.
    Host,
}

impl CgroupnsMode {
    /// Reads Docker's spelling.
    ///
    /// # Errors
    /// When it names no mode.
    pub fn parse(text: &str) -> Result<Self, ModeError> {
        match text {
            "" => Ok(Self::Default),
            "private" => Ok(Self::Private),
            "host" => Ok(Self::Host),
            _ => Err(ModeError {
                what: "cgroup namespace",
                text: cut(text),
            }),
        }
    }
}

impl fmt::Display for CgroupnsMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Default => "",
            Self::Private => "private",
            Self::Host => "host",
        })
    }
}
text_mode!(CgroupnsMode);

/// When an ended container is started again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RestartPolicy {
    /// Never.
    #[default]
    No,
    /// Always, also when the daemon starts.
    Always,
    /// Always, but not when a person stopped it.
    UnlessStopped,
    /// When its exit code is not zero, at most `retries` times (0: without limit).
    OnFailure {
        /// Bound on restarts in a row; zero for none.
        retries: u32,
    },
}

impl RestartPolicy {
    /// From Docker's name and retry count.
    ///
    /// # Errors
    /// With Docker's sentence when the name is unknown or a count does not go with it.
    pub fn from_parts(name: &str, retries: i64) -> Result<Self, String> {
        if retries < 0 {
            return Err(if name == "on-failure" {
                "invalid restart policy: maximum retry count cannot be negative".to_owned()
            } else {
                "invalid restart policy: maximum retry count cannot be negative and can only be used with 'on-failure'".to_owned()
            });
        }
        let plain = |policy: Self| {
            if retries == 0 {
                Ok(policy)
            } else {
                Err("invalid restart policy: maximum retry count can only be used with 'on-failure'".to_owned())
            }
        };
        match name {
            "" | "no" => plain(Self::No),
            "always" => plain(Self::Always),
            "unless-stopped" => plain(Self::UnlessStopped),
            "on-failure" => Ok(Self::OnFailure {
                retries: u32::try_from(retries).unwrap_or(u32::MAX),
            }),
            other => Err(format!(
                "invalid restart policy: unknown policy '{}'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'",
                cut(other)
            )),
        }
    }

    /// Docker's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::No => "no",
            Self::Always => "always",
            Self::UnlessStopped => "unless-stopped",
            Self::OnFailure { .. } => "on-failure",
        }
    }

    /// Docker's `MaximumRetryCount`.
    #[must_use]
    pub fn retries(self) -> u32 {
        match self {
            Self::OnFailure { retries } => retries,
            _ => 0,
        }
    }
}
