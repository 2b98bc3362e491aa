//! Frames: a header of eight bytes, then JSON.
//!
//! ```text
//! header := length  u32, big endian: bytes of JSON, at most 4 MiB
//!           count   u8: descriptors that travel with this frame (SCM_RIGHTS, with its first byte), at most 4
//!           zero    3 bytes, for later use; not looked at
//! ```

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::MonitorError;
use crate::limits;

/// Bytes of a header.
pub const HEADER: usize = 8;

/// Encodes one frame.
///
/// # Errors
/// When the message is too long.
pub fn encode<T: Serialize>(message: &T, descriptors: usize) -> Result<Vec<u8>, MonitorError> {
    let mut frame = vec![0; HEADER];
    serde_json::to_writer(&mut frame, message)
        .map_err(|error| MonitorError::Protocol(format!("encode a monitor message: {error}")))?;
    let length = frame.len() - HEADER;
    let count = u8::try_from(descriptors).unwrap_or(u8::MAX);
    if length > limits::MAX_FRAME || usize::from(count) > limits::MAX_FRAME_DESCRIPTORS {
        return Err(MonitorError::Protocol(format!(
            "a monitor message of {length} bytes and {descriptors} descriptors exceeds the limits of {} and {}",
            limits::MAX_FRAME,
            limits::MAX_FRAME_DESCRIPTORS
        )));
    }
    let length = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
    frame[..4].copy_from_slice(&length);
    frame[4] = count;
    Ok(frame)
}

/// The header at the beginning of `bytes`, when it is whole: length of the JSON and number of descriptors.
///
/// # Errors
/// When it exceeds the limits.
pub fn header(bytes: &[u8]) -> Result<Option<(usize, usize)>, MonitorError> {
    let Some(header) = bytes.first_chunk::<HEADER>() else {
        return Ok(None);
    };
    let length = u32::from_be_bytes([header[0], header[1], header[2], header[3]]);
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    let count = usize::from(header[4]);
    if length > limits::MAX_FRAME || count > limits::MAX_FRAME_DESCRIPTORS {
        return Err(MonitorError::Protocol(format!(
            "a monitor frame announces {length} bytes and {count} descriptors"
        )));
    }
    Ok(Some((length, count)))
}

/// Takes the first frame off `buffer`: its JSON and its number of descriptors; `None` until it is whole.
///
/// # Errors
/// When its header exceeds the limits.
pub fn take(buffer: &mut Vec<u8>) -> Result<Option<(Vec<u8>, usize)>, MonitorError> {
    let Some((length, count)) = header(buffer)? else {
        return Ok(None);
    };
    if buffer.len() < HEADER + length {
        return Ok(None);
    }
    let rest = buffer.split_off(HEADER + length);
    let mut body = std::mem::replace(buffer, rest);
    body.drain(..HEADER);
    Ok(Some((body, count)))
}

/// Understands the JSON of a frame.
///
/// # Errors
/// When it is not such a message.
pub fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, MonitorError> {
    serde_json::from_slice(body)
        .map_err(|error| MonitorError::Protocol(format!("understand a monitor message: {error}")))
}

#[cfg(test)]
mod tests {
    use super::super::{FromDaemon, Request};
    use super::*;

    #[test]
    fn frames_are_taken_one_by_one() {
        let one = encode(&FromDaemon::Hello { version: 1 }, 0).unwrap();
        let two = encode(
            &FromDaemon::Request {
                number: 7,
                request: Request::Kill {
                    signal: 9,
                    all: true,
                },
            },
            1,
        )
        .unwrap();
        let mut buffer = Vec::new();
        let mut seen = Vec::new();
        for byte in one.iter().chain(&two) {
            buffer.push(*byte);
            while let Some((body, count)) = take(&mut buffer).unwrap() {
                seen.push((String::from_utf8(body).unwrap(), count));
            }
        }
        assert_eq!(
            seen,
            [
                (r#"{"hello":{"version":1}}"#.to_owned(), 0),
                (
                    r#"{"request":{"number":7,"request":{"kill":{"signal":9,"all":true}}}}"#
                        .to_owned(),
                    1
                ),
            ]
        );
        assert!(buffer.is_empty());
    }

    #[test]
    fn oversized_announcements_are_refused() {
        assert!(header(&[0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]).is_err());
        assert!(header(&[0, 0, 0, 1, 200, 0, 0, 0]).is_err());
        assert_eq!(header(&[0, 0, 0, 1, 1, 9, 9, 9]).unwrap(), Some((1, 1)));
    }
}
