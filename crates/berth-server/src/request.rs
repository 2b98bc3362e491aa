//! A request on its way to a handler.

use crate::failure::Failure;
use crate::limits::{BODY_TIMEOUT, MAX_JSON_BODY};
use berth_api::{ApiVersion, Query};
use bytes::{Bytes, BytesMut};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, StatusCode};
use http_body_util::BodyExt;
use hyper::body::{Body as _, Incoming};
use serde::de::DeserializeOwned;

/// What a handler gets.
#[derive(Debug)]
pub(crate) struct Request {
    /// Version the client speaks.
    pub(crate) version: ApiVersion,
    /// What stood in the route's placeholder.
    pub(crate) name: String,
    pub(crate) query: Query,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Incoming,
}

impl Request {
    /// The first value of a parameter; empty when there is none.
    pub(crate) fn text(&self, name: &str) -> &str {
        self.query.get(name).unwrap_or_default()
    }

    /// Docker's truth values: everything but these words is true.
    pub(crate) fn flag(&self, name: &str) -> bool {
        is_true(self.text(name))
    }

    /// A truth value that has a default when the parameter is absent.
    pub(crate) fn flag_or(&self, name: &str, default: bool) -> bool {
        self.query.get(name).map_or(default, is_true)
    }

    /// A whole number; None when the parameter is absent or empty.
    pub(crate) fn integer(&self, name: &str) -> Result<Option<i64>, Failure> {
        let text = self.text(name);
        if text.is_empty() {
            return Ok(None);
        }
        match text.parse() {
            Ok(number) => Ok(Some(number)),
            Err(_) => Err(Failure::bad_request(format!(
                "invalid value for {name:?}: {:?} is not a whole number",
                cut(text)
            ))),
        }
    }

    /// The `filters` parameter.
    pub(crate) fn filters(&self) -> Result<berth_engine::Filters, Failure> {
        let filters = berth_api::Filters::from_json(self.text("filters"))
            .map_err(|error| Failure::bad_request(error.to_string()))?;
        Ok(crate::convert::filters(&filters))
    }

    /// Reads a JSON body. None when there is no body at all.
    pub(crate) async fn json<T: DeserializeOwned>(&mut self) -> Result<Option<T>, Failure> {
        let exact_length = self.body.size_hint().exact();
        let content_type = self.headers.get(CONTENT_TYPE);
        if exact_length == Some(0) && content_type.is_none() {
            return Ok(None);
        }
        check_content_type(content_type.map(|value| value.as_bytes()))?;
        if exact_length == Some(0) {
            return Ok(None);
        }
        let bytes = self.bytes().await?;
        parse_json(&bytes).map(Some)
    }

    async fn bytes(&mut self) -> Result<Bytes, Failure> {
        let too_long = || {
            Failure::bad_request(format!(
                "invalid JSON: request body is longer than {MAX_JSON_BODY} bytes"
            ))
        };
        if self.body.size_hint().lower() > MAX_JSON_BODY as u64 {
            return Err(too_long());
        }
        let body = &mut self.body;
        let gather = async {
            let mut whole = BytesMut::new();
            while let Some(frame) = body.frame().await {
                let frame = frame.map_err(|error| {
                    Failure::bad_request(format!("reading the request body: {error}"))
                })?;
                if let Ok(bytes) = frame.into_data() {
                    if whole.len() + bytes.len() > MAX_JSON_BODY {
                        return Err(too_long());
                    }
                    whole.extend_from_slice(&bytes);
                }
            }
            Ok(whole.freeze())
        };
        match tokio::time::timeout(BODY_TIMEOUT, gather).await {
            Ok(bytes) => bytes,
            Err(_) => Err(Failure::new(
                StatusCode::REQUEST_TIMEOUT,
                "the request body did not arrive in time",
            )),
        }
    }
}

/// Docker's reading of a truth value.
fn is_true(text: &str) -> bool {
    !matches!(
        text.trim().to_ascii_lowercase().as_str(),
        "" | "0" | "no" | "false" | "none"
    )
}

/// A text short enough for a message.
pub(crate) fn cut(text: &str) -> String {
    text.chars().take(128).collect()
}

fn check_content_type(content_type: Option<&[u8]>) -> Result<(), Failure> {
    let text = String::from_utf8_lossy(content_type.unwrap_or_default());
    let kind = text.split(';').next().unwrap_or_default().trim();
    if kind.is_empty() {
        return Err(Failure::bad_request(format!(
            "malformed Content-Type header ({}): mime: no media type",
            cut(&text)
        )));
    }
    if !kind.eq_ignore_ascii_case("application/json") {
        return Err(Failure::bad_request(format!(
            "unsupported Content-Type header ({}): must be 'application/json'",
            cut(&text)
        )));
    }
    Ok(())
}

/// Reads one JSON value and nothing after it.
pub(crate) fn parse_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Failure> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = T::deserialize(&mut reader).map_err(|error| {
        if error.is_eof() {
            Failure::bad_request("invalid JSON: got EOF while reading request body")
        } else {
            Failure::bad_request(format!("invalid JSON: {error}"))
        }
    })?;
    reader
        .end()
        .map_err(|_| Failure::bad_request("unexpected content after JSON"))?;
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn truth_is_read_as_docker_reads_it() {
        for no in ["", "0", "no", "False", " none "] {
            assert!(!is_true(no), "{no}");
        }
        for yes in ["1", "true", "t", "on", "2"] {
            assert!(is_true(yes), "{yes}");
        }
    }

    #[test]
    fn json_is_one_value_and_nothing_else() {
        let message = |text: &str| {
            parse_json::<berth_api::ExecStartConfig>(text.as_bytes())
                .unwrap_err()
                .message
        };
        assert_eq!(
            message(""),
            "invalid JSON: got EOF while reading request body"
        );
        assert_eq!(
            message("{"),
            "invalid JSON: got EOF while reading request body"
        );
        assert_eq!(message("{} {}"), "unexpected content after JSON");
        assert!(message(r#"{"Detach":1}"#).starts_with("invalid JSON: Detach: invalid type"));
        assert!(message(r#"{"Detach":true,"detach":true}"#).contains("duplicate key"));
    }

    #[test]
    fn only_json_is_taken_for_json() {
        assert!(check_content_type(Some(b"application/json; charset=utf-8")).is_ok());
        assert!(check_content_type(Some(b"text/plain")).is_err());
        assert!(check_content_type(None).is_err());
    }
}
