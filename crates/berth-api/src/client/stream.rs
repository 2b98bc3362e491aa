//! Answers that arrive bit by bit.

use super::ClientError;
use crate::framing;
use crate::limits::MAX_STREAM_OBJECT;
use bytes::{Buf, Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use std::marker::PhantomData;

/// Raw bytes. Dropping it hangs up.
#[derive(Debug)]
pub struct ByteStream {
    body: Incoming,
    path: String,
}

impl ByteStream {
    pub(super) fn new(body: Incoming, path: String) -> ByteStream {
        ByteStream { body, path }
    }

    /// The next bytes; None at the end.
    ///
    /// # Errors
    /// When the connection breaks.
    pub async fn next(&mut self) -> Result<Option<Bytes>, ClientError> {
        while let Some(frame) = self.body.frame().await {
            let frame = frame.map_err(|source| ClientError::Exchange {
                method: "read".to_owned(),
                path: self.path.clone(),
                source,
            })?;
            if let Ok(bytes) = frame.into_data() {
                return Ok(Some(bytes));
            }
        }
        Ok(None)
    }
}

/// JSON objects, one after another, whatever stands between them. Dropping it hangs up.
#[derive(Debug)]
pub struct JsonStream<T> {
    bytes: ByteStream,
    buffer: BytesMut,
    kind: PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned> JsonStream<T> {
    pub(super) fn new(bytes: ByteStream) -> JsonStream<T> {
        JsonStream {
            bytes,
            buffer: BytesMut::new(),
            kind: PhantomData,
        }
    }

    /// The next object; None at the end.
    ///
    /// # Errors
    /// When the connection breaks, an object is too long, cut off or not what the API promises.
    pub async fn next(&mut self) -> Result<Option<T>, ClientError> {
        loop {
            if let Some(value) = self.take()? {
                return Ok(Some(value));
            }
            if self.buffer.len() > MAX_STREAM_OBJECT {
                return Err(ClientError::TooLong {
                    path: self.bytes.path.clone(),
                    limit: MAX_STREAM_OBJECT,
                });
            }
            match self.bytes.next().await? {
                Some(bytes) => self.buffer.extend_from_slice(&bytes),
                None if self.buffer.iter().all(u8::is_ascii_whitespace) => return Ok(None),
                None => {
                    return Err(ClientError::Incomplete {
                        path: self.bytes.path.clone(),
                    });
                }
            }
        }
    }

    fn take(&mut self) -> Result<Option<T>, ClientError> {
        // A record separator stands before each object of application/json-seq.
        let between = self
            .buffer
            .iter()
            .take_while(|byte| byte.is_ascii_whitespace() || **byte == 0x1e)
            .count();
        self.buffer.advance(between);
        if self.buffer.is_empty() {
            return Ok(None);
        }
        // Whether the object is whole is asked before what it means: half an object is no error yet.
        let mut objects =
            serde_json::Deserializer::from_slice(&self.buffer).into_iter::<&RawValue>();
        let decode_error = |source| ClientError::Decode {
            path: self.bytes.path.clone(),
            source,
        };
        let text = match objects.next() {
            Some(Ok(text)) => text,
            Some(Err(error)) if error.is_eof() => return Ok(None),
            Some(Err(source)) => return Err(decode_error(source)),
            None => return Ok(None),
        };
        let value = serde_json::from_str(text.get()).map_err(decode_error)?;
        let length = objects.byte_offset();
        self.buffer.advance(length);
        Ok(Some(value))
    }
}

/// A container's log. Dropping it hangs up.
#[derive(Debug)]
pub struct LogStream {
    bytes: ByteStream,
    decoder: Option<framing::Decoder>,
}

impl LogStream {
    pub(super) fn new(bytes: ByteStream, framed: bool) -> LogStream {
        LogStream {
            bytes,
            decoder: framed.then(framing::Decoder::new),
        }
    }

    /// The next part and where it was written; None at the end. A terminal's output is all
    /// [`framing::Stream::Stdout`].
    ///
    /// # Errors
    /// When the connection breaks or the stream is not framed as it should be.
    pub async fn next(&mut self) -> Result<Option<(framing::Stream, Bytes)>, ClientError> {
        let Some(decoder) = &mut self.decoder else {
            return Ok(self
                .bytes
                .next()
                .await?
                .map(|bytes| (framing::Stream::Stdout, bytes)));
        };
        loop {
            let frame_error = |source| ClientError::Frame {
                path: self.bytes.path.clone(),
                source,
            };
            if let Some(part) = decoder.next().map_err(frame_error)? {
                return Ok(Some(part));
            }
            match self.bytes.next().await? {
                Some(bytes) => decoder.push(&bytes),
                None => {
                    decoder.finish().map_err(|source| ClientError::Frame {
                        path: self.bytes.path.clone(),
                        source,
                    })?;
                    return Ok(None);
                }
            }
        }
    }
}
