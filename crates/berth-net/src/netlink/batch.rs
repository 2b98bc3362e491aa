//! Requests that travel in one send.

use netlink_packet_core::{NLM_F_ACK, NLM_F_REQUEST, NetlinkSerializable};
use rustix::io::Errno;

/// Length of a netlink message header: length, type, flags, sequence number, port (netlink(7)).
pub(super) const HEADER_LENGTH: usize = 16;

/// Several requests for one send.
///
/// The kernel carries them out in order and does not stop at one it refuses; what is refused is reported for each.
#[derive(Debug, Default)]
pub struct Batch {
    bytes: Vec<u8>,
    pub(super) requests: Vec<Request>,
}

/// What is remembered of a request: where it is, in words what it attempts, and what refusal is an outcome.
#[derive(Debug)]
pub(super) struct Request {
    offset: usize,
    pub(super) attempt: String,
    pub(super) tolerated: &'static [Errno],
}

impl Batch {
    /// None yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How many requests.
    #[must_use]
    pub fn len(&self) -> usize {
        self.requests.len()
    }

    /// Whether there is nothing to send.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.requests.is_empty()
    }

    /// Adds a request with these `NLM_F_*` flags beside `NLM_F_REQUEST`; `attempt` names what and on what.
    pub fn push(
        &mut self,
        attempt: impl Into<String>,
        flags: u16,
        message: &impl NetlinkSerializable,
    ) {
        self.push_tolerant(attempt, flags, message, &[]);
    }

    /// As [`Batch::push`]; a refusal with one of these numbers counts as done ("exists already").
    pub fn push_tolerant(
        &mut self,
        attempt: impl Into<String>,
        flags: u16,
        message: &impl NetlinkSerializable,
        tolerated: &'static [Errno],
    ) {
        let offset = self.bytes.len();
        let length = HEADER_LENGTH + message.buffer_len();
        self.bytes.resize(offset + length.next_multiple_of(4), 0);
        let bytes = &mut self.bytes[offset..offset + length];
        bytes[0..4].copy_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_ne_bytes());
        bytes[4..6].copy_from_slice(&message.message_type().to_ne_bytes());
        bytes[6..8].copy_from_slice(&(flags | NLM_F_REQUEST).to_ne_bytes());
        message.serialize(&mut bytes[HEADER_LENGTH..]);
        self.requests.push(Request {
            offset,
            attempt: attempt.into(),
            tolerated,
        });
    }

    /// What is sent.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Numbers the requests from `sequence` and lets the last one ask for an acknowledgement.
    ///
    /// Refusals are reported whether asked for or not, and in order, so one acknowledgement tells the end.
    pub(super) fn seal(&mut self, sequence: u32) {
        let last = self.requests.len().saturating_sub(1);
        for (place, request) in self.requests.iter().enumerate() {
            let number = sequence.wrapping_add(u32::try_from(place).unwrap_or(u32::MAX));
            let header = &mut self.bytes[request.offset..request.offset + HEADER_LENGTH];
            header[8..12].copy_from_slice(&number.to_ne_bytes());
            if place == last {
                let flags = u16::from_ne_bytes([header[6], header[7]]) | NLM_F_ACK;
                header[6..8].copy_from_slice(&flags.to_ne_bytes());
            }
        }
    }
}
