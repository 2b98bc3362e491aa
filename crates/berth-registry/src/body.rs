//! Bodies that come: gathered into parts, with a time for each.

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Incoming;

use crate::limits;

/// Why a body ended before its end.
#[derive(Debug)]
pub(crate) enum Broken {
    /// Nothing came for too long.
    Slow,
    /// The connection or the framing broke.
    Off(hyper::Error),
}

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Slow => f.write_str("nothing came for too long"),
            Self::Off(error) => write!(f, "the body broke off: {error}"),
        }
    }
}

/// The next bytes of a body, some at once; none at its end.
pub(crate) async fn gather(body: &mut Incoming) -> Result<Vec<Bytes>, Broken> {
    let mut chunks = Vec::new();
    let gathering = async {
        let mut size = 0;
        while size < limits::CHUNK_BYTES {
            match tokio::time::timeout(limits::BODY_STALL, body.frame()).await {
                Ok(None) => break,
                Ok(Some(Ok(frame))) => {
                    if let Ok(data) = frame.into_data() {
                        size += data.len();
                        chunks.push(data);
                    }
                }
                // What came before it counts; the next round meets the end again.
                Ok(Some(Err(_))) | Err(_) if !chunks.is_empty() => break,
                Ok(Some(Err(error))) => return Err(Broken::Off(error)),
                Err(_) => return Err(Broken::Slow),
            }
        }
        Ok(())
    };
    tokio::time::timeout(limits::CHUNK_TIMEOUT, gathering)
        .await
        .unwrap_or(Err(Broken::Slow))?;
    Ok(chunks)
}
