//! What a handler answers.

use crate::failure::Failure;
use crate::hijack::HijackedClient;
use berth_api::ErrorResponse;
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http::{HeaderMap, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use hyper::body::Frame;
use serde::Serialize;
use std::future::Future;
use std::pin::Pin;

/// Body of an answer.
pub(crate) type Body = UnsyncBoxBody<Bytes, std::io::Error>;

/// What happens on a connection that left HTTP.
pub(crate) type Takeover =
    Box<dyn FnOnce(HijackedClient) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send>;

/// The answer to a request.
pub(crate) enum Reply {
    /// An ordinary one.
    Http(Response<Body>),
    /// The connection becomes a raw stream of this media type.
    Hijack {
        content_type: &'static str,
        takeover: Takeover,
    },
}

fn response(status: StatusCode, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response
}

fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into())
        .map_err(|never| match never {})
        .boxed_unsync()
}

fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

impl Reply {
    /// A status alone.
    pub(crate) fn empty(status: StatusCode) -> Reply {
        Reply::Http(response(status, empty()))
    }

    /// One JSON value and a newline.
    pub(crate) fn json(status: StatusCode, value: &impl Serialize) -> Reply {
        Reply::Http(json_response(status, value))
    }

    /// Plain text.
    pub(crate) fn text(status: StatusCode, text: &str) -> Reply {
        Reply::Http(text_response(status, text))
    }

    /// Bytes as they come; the head is sent at once.
    pub(crate) fn stream(
        content_type: &'static str,
        chunks: impl Stream<Item = Bytes> + Send + 'static,
    ) -> Reply {
        Self::fallible_stream(content_type, chunks.map(Ok))
    }

    /// Bytes as they come, until an error cuts the connection.
    pub(crate) fn fallible_stream(
        content_type: &'static str,
        chunks: impl Stream<Item = std::io::Result<Bytes>> + Send + 'static,
    ) -> Reply {
        let frames = chunks.map(|chunk| chunk.map(Frame::data));
        let mut response = response(StatusCode::OK, StreamBody::new(frames).boxed_unsync());
        response
            .headers_mut()
            .insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        Reply::Http(response)
    }

    /// Adds a header; one that HTTP cannot carry is left out.
    pub(crate) fn with_header(mut self, name: &'static str, value: &str) -> Reply {
        if let (Reply::Http(response), Ok(value)) = (&mut self, HeaderValue::from_str(value)) {
            response
                .headers_mut()
                .insert(HeaderName::from_static(name), value);
        }
        self
    }

    /// Adds headers.
    pub(crate) fn with_headers<const N: usize>(
        mut self,
        headers: [(&'static str, &'static str); N],
    ) -> Reply {
        if let Reply::Http(response) = &mut self {
            for (name, value) in headers {
                response.headers_mut().insert(
                    HeaderName::from_static(name),
                    HeaderValue::from_static(value),
                );
            }
        }
        self
    }
}

pub(crate) fn json_response(status: StatusCode, value: &impl Serialize) -> Response<Body> {
    let mut bytes = serde_json::to_vec(value).expect("wire types always serialise");
    bytes.push(b'\n');
    let mut response = response(status, full(bytes));
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn text_response(status: StatusCode, text: &str) -> Response<Body> {
    let mut response = response(status, full(text.to_owned()));
    response.headers_mut().insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    response
}

/// The answer to a failure: JSON, or plain text for clients so old that they know nothing else.
pub(crate) fn failure_response(failure: &Failure, plain: bool) -> Response<Body> {
    if failure.status == StatusCode::NOT_MODIFIED {
        return response(failure.status, empty());
    }
    if plain {
        return text_response(failure.status, &format!("{}\n", failure.message));
    }
    json_response(
        failure.status,
        &ErrorResponse {
            message: failure.message.clone(),
        },
    )
}

/// The headers every answer carries.
pub(crate) fn add_common_headers(headers: &mut HeaderMap) {
    headers.insert("api-version", HeaderValue::from_static("1.51"));
    headers.insert("docker-experimental", HeaderValue::from_static("false"));
    headers.insert("ostype", HeaderValue::from_static("linux"));
    headers.insert("server", HeaderValue::from_static(SERVER));
}

/// The `Server` header. No known client reads more of it than that it is there.
pub(crate) const SERVER: &str = concat!("Berth/", env!("CARGO_PKG_VERSION"), " (linux)");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_header_is_the_newest_version() {
        let mut headers = HeaderMap::new();
        add_common_headers(&mut headers);
        assert_eq!(
            headers["api-version"],
            berth_api::ApiVersion::MAX.to_string()
        );
    }
}
