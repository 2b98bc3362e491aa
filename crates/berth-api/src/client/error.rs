//! What can go wrong between a client and an engine.

use super::Host;
use crate::framing::FrameError;
use std::io;

/// A request that did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// There is no socket at the address.
    #[error("no engine listens at {host}: there is no such socket")]
    SocketMissing {
        /// The address.
        host: Host,
        /// The system's error.
        source: io::Error,
    },
    /// There is an address, but nobody listens.
    #[error("no engine listens at {host}: the connection is refused")]
    Refused {
        /// The address.
        host: Host,
        /// The system's error.
        source: io::Error,
    },
    /// The socket may not be opened by this user.
    #[error("permission denied while trying to connect to the engine at {host}")]
    PermissionDenied {
        /// The address.
        host: Host,
        /// The system's error.
        source: io::Error,
    },
    /// Any other reason why there is no connection.
    #[error("connect to the engine at {host}")]
    Connect {
        /// The address.
        host: Host,
        /// The system's error.
        source: io::Error,
    },
    /// The connection broke, or the answer is not HTTP.
    #[error("{method} {path}")]
    Exchange {
        /// The method.
        method: String,
        /// The path.
        path: String,
        /// What happened.
        source: hyper::Error,
    },
    /// The request cannot be written as HTTP.
    #[error("request for {path} cannot be written")]
    Request {
        /// The path.
        path: String,
        /// What is wrong with it.
        source: http::Error,
    },
    /// A header that was asked for cannot be written as HTTP.
    #[error("header {name:?} cannot be sent")]
    Header {
        /// Its name.
        name: String,
        /// What is wrong with it.
        source: http::Error,
    },
    /// The engine refused.
    #[error("{message}")]
    Api {
        /// HTTP status.
        status: u16,
        /// The engine's words.
        message: String,
    },
    /// An answer is not the JSON it should be.
    #[error("answer to {path} is not what the API promises")]
    Decode {
        /// The path.
        path: String,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// An answer is longer than the limit.
    #[error("answer to {path} is longer than {limit} bytes")]
    TooLong {
        /// The path.
        path: String,
        /// The limit in bytes.
        limit: usize,
    },
    /// The engine did not switch to a raw stream.
    #[error("{path} answered {status} instead of switching to a stream")]
    NoStream {
        /// The path.
        path: String,
        /// HTTP status.
        status: u16,
    },
    /// An answer does not say what stands at the path.
    #[error("answer to {path} does not say what stands there")]
    NoPathStat {
        /// The path of the request.
        path: String,
    },
    /// A stream is not framed as it should be.
    #[error("stream of {path}")]
    Frame {
        /// The path.
        path: String,
        /// What is wrong.
        source: FrameError,
    },
    /// The answer ended before it was complete.
    #[error("the engine closed the connection before the answer to {path} was complete")]
    Incomplete {
        /// The path.
        path: String,
    },
}

impl ClientError {
    /// HTTP status of a refusal.
    pub fn status(&self) -> Option<u16> {
        match self {
            ClientError::Api { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// Whether the engine said that the thing does not exist.
    pub fn is_not_found(&self) -> bool {
        self.status() == Some(404)
    }

    /// Whether no engine is there, so that starting one may help.
    pub fn engine_is_absent(&self) -> bool {
        matches!(
            self,
            ClientError::SocketMissing { .. } | ClientError::Refused { .. }
        )
    }

    /// Whether a connection was never made.
    pub fn is_connect(&self) -> bool {
        matches!(
            self,
            ClientError::SocketMissing { .. }
                | ClientError::Refused { .. }
                | ClientError::PermissionDenied { .. }
                | ClientError::Connect { .. }
        )
    }

    pub(super) fn connect(host: &Host, source: io::Error) -> ClientError {
        let host = host.clone();
        match source.kind() {
            io::ErrorKind::NotFound => ClientError::SocketMissing { host, source },
            io::ErrorKind::ConnectionRefused => ClientError::Refused { host, source },
            io::ErrorKind::PermissionDenied => ClientError::PermissionDenied { host, source },
            _ => ClientError::Connect { host, source },
        }
    }
}
