//! What an answer means: whether to try again and when, where a redirect leads, why it is a refusal.

use std::time::Duration;

use berth_types::ErrorKind;
use bytes::Bytes;
use http::header::{DATE, LOCATION, RETRY_AFTER};
use http::{HeaderMap, Response, Uri};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use serde::Deserialize;

use super::proxy::{ProxyFailure, Refusal};
use super::session::Asked;
use crate::error::ImageError;
use crate::limits;

/// What the standard library says of a host's name that leads to no address, which has no type of its own.
const NAME_UNKNOWN: &str = "failed to lookup address information";

/// The wait before the next attempt after `attempt` ones, doubling.
pub(crate) fn backoff(attempt: u32) -> Duration {
    limits::BACKOFF_FIRST
        .saturating_mul(1 << attempt.saturating_sub(1).min(10))
        .min(limits::BACKOFF_MAX)
}

/// How long to wait before the next attempt, in seconds or until a moment (RFC 9110 section 10.2.3).
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    // By the server's own clock where it tells it: ours may be wrong.
    let now = headers
        .get(DATE)
        .and_then(|date| http_date(date.to_str().ok()?))
        .or_else(|| {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
            Some(now.ok()?.as_secs())
        })?;
    Some(Duration::from_secs(http_date(text)?.saturating_sub(now)))
}

/// Seconds since 1970 of `Sun, 06 Nov 1994 08:49:37 GMT`, the only form that servers may still send.
fn http_date(text: &str) -> Option<u64> {
    const MONTHS: &str = "JanFebMarAprMayJunJulAugSepOctNovDec";
    let mut words = text.split_once(", ")?.1.split(' ');
    let day: u64 = words.next()?.parse().ok()?;
    let month = words.next().filter(|month| month.len() == 3)?;
    let month = MONTHS.find(month).filter(|at| at % 3 == 0)? as u64 / 3 + 1;
    let year: u64 = words.next()?.parse().ok()?;
    let mut time = words.next()?.splitn(3, ':').map(str::parse::<u64>);
    let mut next = |below: u64| time.next()?.ok().filter(|value| *value < below);
    let (hour, minute, second) = (next(24)?, next(60)?, next(61)?);
    if words.next() != Some("GMT") || !(1970..10_000).contains(&year) || !(1..=31).contains(&day) {
        return None;
    }
    // Days by a year that begins in March, so that the leap day is its last.
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + day - 1;
    Some((days - 719_468) * 86_400 + hour * 3600 + minute * 60 + second)
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
        if let Some(refusal) = error.downcast_ref::<Refusal>() {
            return refusal.is_final();
        }
        if error.is::<rustls::Error>() || error.to_string().starts_with(NAME_UNKNOWN) {
            return true;
        }
        cause = error.source();
    }
    false
}

/// Whether a handshake failed because the other end does not speak TLS: it said something else, or hung up.
pub(super) fn is_other_protocol(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        // It is the proxy that hung up or speaks no TLS.
        if error.is::<ProxyFailure>() {
            return false;
        }
        if let Some(error) = error.downcast_ref::<rustls::Error>() {
            return matches!(error, rustls::Error::InvalidMessage(_));
        }
        let kind = error
            .downcast_ref::<std::io::Error>()
            .map(std::io::Error::kind);
        if matches!(
            kind,
            Some(std::io::ErrorKind::UnexpectedEof | std::io::ErrorKind::ConnectionReset)
        ) {
            return true;
        }
        // What an io::Error wraps is behind it, too.
        cause = match error.downcast_ref::<std::io::Error>() {
            Some(error) => error.get_ref().map(|inner| inner as _),
            None => error.source(),
        };
    }
    false
}

/// `bytes first-last/total` as first, the one after the last, and the total where it is told.
pub(super) fn content_range(text: &str) -> Option<(u64, u64, Option<u64>)> {
    let (range, total) = text.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last): (u64, u64) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
    let total = match total.trim() {
        "*" => None,
        total => Some(total.parse().ok()?),
    };
    let fits = first <= last && total.is_none_or(|total| last < total);
    fits.then_some((first, last.checked_add(1)?, total))
}

/// Where `Location` leads, which may be relative (RFC 3986 section 4.2).
pub(super) fn redirect_target(from: &Uri, headers: &HeaderMap) -> Option<Uri> {
    let text = headers.get(LOCATION)?.to_str().ok()?;
    if text.contains("://") {
        let next: Uri = text.parse().ok()?;
        return matches!(next.scheme_str(), Some("http" | "https")).then_some(next);
    }
    let scheme = from.scheme_str()?;
    if let Some(elsewhere) = text.strip_prefix("//") {
        return format!("{scheme}://{elsewhere}").parse().ok();
    }
    let directory = from
        .path()
        .rsplit_once('/')
        .map_or("", |(directory, _)| directory);
    let path = match text.as_bytes().first()? {
        b'/' => text.to_owned(),
        b'?' => format!("{}{text}", from.path()),
        _ => format!("{directory}/{text}"),
    };
    Uri::builder()
        .scheme(scheme)
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
    let wait = retry_after(response.headers());
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
        (429, _) | (_, "TOOMANYREQUESTS") => ErrorKind::ResourceExhausted,
        (408 | 425 | 500..=599, _) => ErrorKind::Unavailable,
        _ => ErrorKind::Internal,
    };
    let mut reason = crate::archive::printable(words.as_bytes());
    if kind == ErrorKind::ResourceExhausted {
        reason = match wait.filter(|wait| !wait.is_zero()) {
            Some(wait) => format!("{reason} (try again in {} s, or log in)", wait.as_secs()),
            None => format!("{reason} (try again later, or log in)"),
        };
    }
    ImageError::Registry {
        attempt: asked.words.clone(),
        reason,
        kind,
    }
}

/// For [`crate::fuzzing`]: one text in every header that is read here.
///
/// # Panics
/// When what is read is not what it has to be.
#[cfg(feature = "fuzzing")]
pub(super) fn fuzz(text: &str) {
    if let Some((first, after, total)) = content_range(text) {
        assert!(first < after && total.is_none_or(|total| after <= total));
    }
    let Ok(value) = http::HeaderValue::from_str(text) else {
        return;
    };
    let mut headers = HeaderMap::new();
    for name in [LOCATION, RETRY_AFTER, DATE] {
        headers.insert(name, value.clone());
    }
    let _ = retry_after(&headers);
    let from = Uri::from_static("https://registry.example/v2/a/blobs/b?c");
    if let Some(next) = redirect_target(&from, &headers) {
        assert!(matches!(next.scheme_str(), Some("http" | "https")));
        assert!(next.authority().is_some());
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
        assert!(backoff(40) <= limits::BACKOFF_MAX);
    }

    #[test]
    fn ranges_are_read_whole_or_not_at_all() {
        assert_eq!(content_range("bytes 10-19/20"), Some((10, 20, Some(20))));
        assert_eq!(content_range("bytes 0-0/*"), Some((0, 1, None)));
        for odd in [
            "items 10-19/20",
            "bytes 10-19",
            "bytes 10-20/20",
            "bytes 5-4/20",
            "bytes */20",
            "bytes 0-18446744073709551615/*",
            "",
        ] {
            assert_eq!(content_range(odd), None, "{odd}");
        }
    }

    #[test]
    fn waits_are_seconds_or_a_moment() {
        assert_eq!(http_date("Thu, 01 Jan 1970 00:00:00 GMT"), Some(0));
        assert_eq!(
            http_date("Sun, 06 Nov 1994 08:49:37 GMT"),
            Some(784_111_777)
        );
        assert_eq!(
            http_date("Thu, 29 Feb 2024 23:59:59 GMT"),
            Some(1_709_251_199)
        );
        for odd in [
            "",
            "Sunday",
            "Sun, 06 Nov 1994 08:49:37 CET",
            "Sun, 0 Nov 1994 08:49:37 GMT",
        ] {
            assert_eq!(http_date(odd), None, "{odd}");
        }
        let wait = |after: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(DATE, "Sun, 06 Nov 1994 08:49:37 GMT".parse().unwrap());
            headers.insert(RETRY_AFTER, after.parse().unwrap());
            retry_after(&headers)
        };
        assert_eq!(wait("120"), Some(Duration::from_secs(120)));
        assert_eq!(
            wait("Sun, 06 Nov 1994 08:50:37 GMT"),
            Some(Duration::from_secs(60))
        );
        assert_eq!(wait("Sun, 06 Nov 1994 08:40:37 GMT"), Some(Duration::ZERO));
        assert_eq!(wait("soon"), None);
    }
}
