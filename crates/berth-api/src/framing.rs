//! Stream framing of attach, exec and logs without a terminal.
//!
//! ```text
//! byte 0      1 2 3   4 5 6 7            8 …
//!      stream 0 0 0   length, big endian payload
//! ```
//!
//! Owns the layout and the bounds. Does not own where the bytes come from or go.

use crate::limits::MAX_FRAME;
use bytes::{Buf, Bytes, BytesMut};

/// Bytes before each payload.
pub const HEADER_LENGTH: usize = 8;

/// Which stream a payload belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stream {
    /// Echoed input; nobody sends it, but it is defined.
    Stdin,
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// An error of the engine itself, in the middle of a stream.
    SystemError,
}

impl Stream {
    /// The number on the wire.
    pub const fn number(self) -> u8 {
        match self {
            Stream::Stdin => 0,
            Stream::Stdout => 1,
            Stream::Stderr => 2,
            Stream::SystemError => 3,
        }
    }

    /// The stream of a number.
    pub const fn from_number(number: u8) -> Option<Stream> {
        match number {
            0 => Some(Stream::Stdin),
            1 => Some(Stream::Stdout),
            2 => Some(Stream::Stderr),
            3 => Some(Stream::SystemError),
            _ => None,
        }
    }
}

/// A stream that is not framed as it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The first byte names no stream, or the padding is not zero.
    #[error("frame header {0:02x?} names no stream")]
    UnknownStream([u8; 4]),
    /// The payload is longer than the limit.
    #[error("frame of {0} bytes is longer than the limit of {MAX_FRAME}")]
    TooLong(u64),
    /// The stream ended inside a frame.
    #[error("stream ended inside a frame, {missing} bytes are missing")]
    Truncated {
        /// How many at least.
        missing: usize,
    },
}

/// The header of a payload of `length` bytes.
pub const fn header(stream: Stream, length: u32) -> [u8; HEADER_LENGTH] {
    let [a, b, c, d] = length.to_be_bytes();
    [stream.number(), 0, 0, 0, a, b, c, d]
}

/// Appends `payload` as frames of at most [`MAX_FRAME`] bytes. An empty payload adds nothing.
pub fn encode(stream: Stream, payload: &[u8], out: &mut BytesMut) {
    for part in payload.chunks(MAX_FRAME) {
        out.reserve(HEADER_LENGTH + part.len());
        out.extend_from_slice(&header(stream, part.len() as u32));
        out.extend_from_slice(part);
    }
}

/// Takes frames out of bytes that arrive in any portions.
///
/// A payload is handed out as soon as some of it is there, so a long frame is not gathered first;
/// the buffer never holds more than what was last pushed and a partial header.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: BytesMut,
    current: Option<(Stream, usize)>,
}

impl Decoder {
    /// A decoder at the start of a stream.
    pub fn new() -> Decoder {
        Decoder::default()
    }

    /// Adds bytes that arrived.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next part of a payload, None when more bytes are needed.
    ///
    /// # Errors
    /// When the stream is not framed.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Result<Option<(Stream, Bytes)>, FrameError> {
        loop {
            if let Some((stream, left)) = self.current {
                if left == 0 {
                    self.current = None;
                    continue;
                }
                if self.buffer.is_empty() {
                    return Ok(None);
                }
                let part = self.buffer.split_to(left.min(self.buffer.len())).freeze();
                self.current = Some((stream, left - part.len()));
                return Ok(Some((stream, part)));
            }
            if self.buffer.len() < HEADER_LENGTH {
                return Ok(None);
            }
            let start = [
                self.buffer[0],
                self.buffer[1],
                self.buffer[2],
                self.buffer[3],
            ];
            let stream = match start {
                [number, 0, 0, 0] => Stream::from_number(number),
                _ => None,
            }
            .ok_or(FrameError::UnknownStream(start))?;
            self.buffer.advance(4);
            let length = self.buffer.get_u32();
            if length as usize > MAX_FRAME {
                return Err(FrameError::TooLong(length.into()));
            }
            self.current = Some((stream, length as usize));
        }
    }

    /// Tells whether the stream may end here.
    ///
    /// # Errors
    /// When it ended inside a frame.
    pub fn finish(&self) -> Result<(), FrameError> {
        match self.current {
            Some((_, left)) if left > 0 => Err(FrameError::Truncated {
                missing: left - self.buffer.len().min(left),
            }),
            _ if self.buffer.is_empty() => Ok(()),
            _ => Err(FrameError::Truncated {
                missing: HEADER_LENGTH - self.buffer.len().min(HEADER_LENGTH - 1),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn stream() -> impl Strategy<Value = Stream> {
        (0u8..4).prop_map(|number| Stream::from_number(number).unwrap())
    }

    /// Joins neighbouring parts of one stream.
    fn gather(parts: impl IntoIterator<Item = (Stream, Vec<u8>)>) -> Vec<(Stream, Vec<u8>)> {
        let mut joined: Vec<(Stream, Vec<u8>)> = Vec::new();
        for (stream, part) in parts {
            match joined.last_mut() {
                Some((last, bytes)) if *last == stream => bytes.extend(part),
                _ if part.is_empty() => {}
                _ => joined.push((stream, part)),
            }
        }
        joined
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded_in_any_portions(
            payloads in prop::collection::vec((stream(), prop::collection::vec(any::<u8>(), 0..200)), 0..20),
            portion in 1usize..64,
        ) {
            let mut wire = BytesMut::new();
            for (stream, payload) in &payloads {
                encode(*stream, payload, &mut wire);
            }
            let mut decoder = Decoder::new();
            let mut parts = Vec::new();
            for bytes in wire.chunks(portion) {
                decoder.push(bytes);
                while let Some((stream, part)) = decoder.next().unwrap() {
                    parts.push((stream, part.to_vec()));
                }
            }
            decoder.finish().unwrap();
            prop_assert_eq!(gather(parts), gather(payloads));
        }

        #[test]
        fn no_bytes_make_it_panic_or_grow(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let mut decoder = Decoder::new();
            decoder.push(&bytes);
            let mut taken = 0;
            while let Ok(Some((_, part))) = decoder.next() {
                taken += part.len();
            }
            prop_assert!(taken <= bytes.len());
            let _ = decoder.finish();
        }
    }

    #[test]
    fn long_and_cut_frames_are_told() {
        let mut decoder = Decoder::new();
        decoder.push(&[1, 0, 0, 0, 0xff, 0, 0, 0]);
        assert_eq!(decoder.next(), Err(FrameError::TooLong(0xff00_0000)));
        let mut decoder = Decoder::new();
        decoder.push(&header(Stream::Stdout, 5));
        decoder.push(b"abc");
        assert!(decoder.next().unwrap().is_some());
        assert_eq!(decoder.finish(), Err(FrameError::Truncated { missing: 2 }));
        let mut decoder = Decoder::new();
        decoder.push(b"hello world");
        assert!(matches!(decoder.next(), Err(FrameError::UnknownStream(_))));
    }
}
