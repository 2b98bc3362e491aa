//! One line for each request, written when the last byte of its answer has gone, or when it no longer will.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use http::header::USER_AGENT;
use http::{HeaderMap, Method, Response, Uri};
use http_body_util::BodyExt;
use hyper::body::{Frame, SizeHint};

use crate::reply::Body;

/// Longest text of a client that a line repeats.
const TEXT: usize = 256;

/// What the line tells about the request.
#[derive(Debug)]
pub(crate) struct Line {
    peer: SocketAddr,
    method: Method,
    path: String,
    agent: String,
    begun: Instant,
    /// Who asked, once that is known.
    pub(crate) user: Option<String>,
}

impl Line {
    pub(crate) fn new(peer: SocketAddr, method: &Method, uri: &Uri, headers: &HeaderMap) -> Self {
        let agent = headers
            .get(USER_AGENT)
            .map(|value| String::from_utf8_lossy(value.as_bytes()))
            .unwrap_or_default();
        let path = uri.path_and_query().map_or("", |path| path.as_str());
        Self {
            peer,
            method: method.clone(),
            path: path.chars().take(2 * TEXT).collect(),
            agent: agent.chars().take(TEXT).collect(),
            begun: Instant::now(),
            user: None,
        }
    }

    /// Has the line written when the answer has gone.
    pub(crate) fn follow(self, response: Response<Body>) -> Response<Body> {
        let status = response.status().as_u16();
        response.map(|body| {
            Counted {
                body,
                line: self,
                status,
                sent: 0,
            }
            .boxed_unsync()
        })
    }
}

/// A body that counts what went.
struct Counted {
    body: Body,
    line: Line,
    status: u16,
    sent: u64,
}

impl hyper::body::Body for Counted {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &polled {
            self.sent += frame.data_ref().map_or(0, |data| data.len() as u64);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        hyper::body::Body::is_end_stream(&self.body)
    }

    fn size_hint(&self) -> SizeHint {
        hyper::body::Body::size_hint(&self.body)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let Line {
            peer,
            method,
            path,
            agent,
            begun,
            user,
        } = &self.line;
        // Quoted: what a client sends must not look like a line of its own.
        tracing::info!(
            "{peer} {} \"{method} {}\" {} {} {}ms {agent:?}",
            user.as_deref()
                .map_or_else(|| "-".to_owned(), |user| format!("{user:?}")),
            path.escape_debug(),
            self.status,
            self.sent,
            begun.elapsed().as_millis(),
        );
    }
}
