//! What an answer means: whether to try again and when, where a redirect leads, why it is a refusal.

use std::time::Duration;

use berth_types::ErrorKind;
use bytes::Bytes;
use http::header::{LOCATION, RETRY_AFTER};
use http::{HeaderMap, Response, Uri};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use serde::Deserialize;

use super::session::Asked;
use crate::error::ImageError;
use crate::limits;

/// The wait before the next attempt after `attempt` ones, doubling.
pub(crate) fn backoff(attempt: u32) -> Duration {
    limits::BACKOFF_FIRST
        .saturating_mul(1 << attempt.saturating_sub(1).min(10))
        .min(limits::BACKOFF_MAX)
}

pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds: u64 = headers
        .get(RETRY_AFTER)?
        .to_str()
        .ok()?
        .trim()
        .parse()
        .ok()?;
    Some(Duration::from_secs(seconds))
}

/// Failures that another attempt cannot change: nobody listens, no such host, a certificate that is not
/// good. Trying them again only makes a person wait.
pub(super) fn is_final(error: &ImageError) -> bool {
    let ImageError::Transport { source, .. } = error else {
        return false;
    };
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(source.as_ref());
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<std::io::Error>()
            && error.kind() == std::io::ErrorKind::ConnectionRefused
        {
            return true;
        }
        if error.is::<rustls::Error>() || error.to_string().contains("dns error") {
            return true;
        }
        cause = error.source();
    }
    false
}

/// `bytes start-end/total`.
pub(super) fn range_start(text: &str) -> Option<u64> {
    text.trim()
        .strip_prefix("bytes ")?
        .split('-')
        .next()?
        .trim()
        .parse()
        .ok()
}

pub(super) fn redirect_target(from: &Uri, headers: &HeaderMap) -> Option<Uri> {
    let text = headers.get(LOCATION)?.to_str().ok()?;
    let next: Uri = text.parse().ok()?;
    if next.authority().is_some() {
        return matches!(next.scheme_str(), Some("http" | "https")).then_some(next);
    }
    let path = next.path_and_query()?.as_str();
    // A path without a leading slash is relative to the directory of the request.
    let path = if path.starts_with('/') {
        path.to_owned()
    } else {
        let directory = from
            .path()
            .rsplit_once('/')
            .map_or("", |(directory, _)| directory);
        format!("{directory}/{path}")
    };
    Uri::builder()
        .scheme(from.scheme()?.clone())
        .authority(from.authority()?.clone())
        .path_and_query(path)
        .build()
        .ok()
}

/// Turns a refusing answer into an error with the registry's own words, bounded and without control characters.
pub(super) async fn refusal(response: Response<Incoming>, asked: &Asked<'_>) -> ImageError {
    #[derive(Deserialize)]
    struct Body {
        #[serde(default)]
        errors: Vec<Item>,
        #[serde(default)]
        details: Option<String>,
        #[serde(default)]
        message: Option<String>,
    }
    #[derive(Deserialize)]
    struct Item {
        #[serde(default)]
        code: String,
        #[serde(default)]
        message: String,
    }
    let status = response.status();
    let size = usize::try_from(limits::ERROR_BYTES_MAX).unwrap_or(usize::MAX);
    let body = tokio::time::timeout(
        limits::STALL_TIMEOUT,
        Limited::new(response.into_body(), size).collect(),
    )
    .await;
    let bytes = match body {
        Ok(Ok(body)) => body.to_bytes(),
        _ => Bytes::new(),
    };
    let mut code = String::new();
    let mut words = String::new();
    if let Ok(body) = serde_json::from_slice::<Body>(&bytes) {
        if let Some(first) = body.errors.first() {
            code.clone_from(&first.code);
            words = format!(
                "{}: {}",
                first.code.to_ascii_lowercase().replace('_', " "),
                first.message
            );
        } else if let Some(text) = body.details.or(body.message) {
            words = text;
        }
    }
    if words.is_empty() {
        words = format!(
            "status {} {}",
            status.as_u16(),
            status.canonical_reason().unwrap_or_default()
        );
    }
    let kind = match (status.as_u16(), code.as_str()) {
        (401, _) => ErrorKind::Unauthorized,
        (403, _) => ErrorKind::Forbidden,
        (404, _) => ErrorKind::NotFound,
        (429, _) => ErrorKind::ResourceExhausted,
        (408 | 425 | 500..=599, _) => ErrorKind::Unavailable,
        _ => ErrorKind::Internal,
    };
    ImageError::Registry {
        attempt: asked.words.clone(),
        reason: crate::archive::printable(words.as_bytes()),
        kind,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_are_resolved() {
        let from: Uri = "https://r.example/v2/a/blobs/x".parse().unwrap();
        let to = |location: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(LOCATION, location.parse().unwrap());
            redirect_target(&from, &headers).map(|uri| uri.to_string())
        };
        assert_eq!(
            to("https://cdn.example/y?z=1").as_deref(),
            Some("https://cdn.example/y?z=1")
        );
        assert_eq!(to("/y").as_deref(), Some("https://r.example/y"));
        assert_eq!(to("file:///etc/passwd"), None);
        assert_eq!(range_start("bytes 10-19/20"), Some(10));
        assert_eq!(range_start("items 10-19/20"), None);
        assert!(backoff(40) <= limits::BACKOFF_MAX);
    }
}
