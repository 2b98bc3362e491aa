//! A request that got no answer, in the words of whoever knows why.

use std::error::Error;
use std::fmt;

use hyper_util::client::legacy;

use super::proxy::{ProxyFailure, Refusal};

type Cause<'a> = Option<&'a (dyn Error + 'static)>;

/// Why a request got no answer.
///
/// Its text is what was under way; [`Error::source`] is the [`first_telling`] cause.
#[derive(Debug)]
pub(super) struct RequestFailure(legacy::Error);

impl From<legacy::Error> for RequestFailure {
    fn from(error: legacy::Error) -> Self {
        Self(error)
    }
}

impl fmt::Display for RequestFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_connect() {
            "connect"
        } else {
            "wait for the answer"
        })
    }
}

impl Error for RequestFailure {
    fn source(&self) -> Cause<'_> {
        first_telling(self.0.source())
    }
}

/// The first of these causes that the network, TLS or a proxy gave, without the layers that the HTTP client puts around
/// it; the outermost where there is none.
pub(super) fn first_telling(outermost: Cause<'_>) -> Cause<'_> {
    let mut cause = outermost;
    while let Some(error) = cause {
        if error.is::<std::io::Error>()
            || error.is::<rustls::Error>()
            || error.is::<ProxyFailure>()
            || error.is::<Refusal>()
        {
            return cause;
        }
        cause = error.source();
    }
    outermost
}
