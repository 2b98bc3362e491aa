//! Messages: understanding queries, making answers, judging the replies of outside servers.
//!
//! Owns no sockets. The wire format is hickory-proto's; here is which part of a message matters. Queries that are forwarded
//! stay the bytes that they were, but for the number.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hickory_proto::op::{
    Edns, Header, Message, MessageType, Metadata, OpCode, Query as Question, ResponseCode,
};
use hickory_proto::rr::rdata::{A, AAAA, PTR};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder, BinEncodable, BinEncoder};

use crate::limits;

/// Bytes of a header.
const HEADER: usize = 12;
/// What every client takes by UDP (RFC 1035, 4.2.1).
const SMALLEST_LIMIT: usize = 512;
/// What fits into one packet of UDP over IPv4.
const LARGEST_LIMIT: usize = 65_507;
/// Bytes of an OPT record without options.
const OPT: usize = 11;

/// A query that one may answer.
#[derive(Debug)]
pub(super) struct Query {
    pub(super) id: u16,
    pub(super) question: Question,
    metadata: Metadata,
    /// Bytes that the client takes by UDP, when it told.
    edns: Option<(u16, u8)>,
}

/// What a packet of a client is.
#[derive(Debug)]
pub(super) enum Received {
    Query(Query),
    /// Nothing that can be answered otherwise than by these bytes.
    Refused(Vec<u8>),
    /// Nothing that is answered at all: too short, or itself an answer.
    Nothing,
}

/// The type of a question, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    Ipv4,
    Ipv6,
    AnyAddress,
    Pointer,
    Other,
}

/// What an outside server's packet is to the question it was asked.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Judgement {
    /// Not an answer to it.
    Stray,
    /// An answer.
    Answer,
    /// An answer that says that this server cannot, or will not.
    Failure,
}

impl Query {
    pub(super) fn parse(packet: &[u8]) -> Received {
        let Ok(header) = Header::read(&mut BinDecoder::new(packet)) else {
            return Received::Nothing;
        };
        let metadata = header.metadata;
        if metadata.message_type != MessageType::Query {
            return Received::Nothing;
        }
        if metadata.op_code != OpCode::Query {
            return Received::Refused(bare(&metadata, ResponseCode::NotImp));
        }
        // Looked at before anything is set aside for questions and records.
        let parsed = (header.counts.queries == 1 && packet.len() > HEADER)
            .then(|| Message::from_vec(packet).ok())
            .flatten();
        let Some(mut message) = parsed else {
            return Received::Refused(bare(&metadata, ResponseCode::FormErr));
        };
        let Some(question) = message.queries.pop() else {
            return Received::Refused(bare(&metadata, ResponseCode::FormErr));
        };
        let edns = message
            .edns
            .map(|edns| (edns.max_payload(), edns.version()));
        let query = Self {
            id: metadata.id,
            question,
            metadata,
            edns,
        };
        match query.edns {
            Some((_, version)) if version > 0 => {
                Received::Refused(query.failure(ResponseCode::BADVERS))
            }
            _ => Received::Query(query),
        }
    }

    /// Bytes that the client takes by UDP.
    pub(super) fn limit(&self) -> usize {
        self.edns
            .map_or(SMALLEST_LIMIT, |(payload, _)| payload.into())
            .clamp(SMALLEST_LIMIT, LARGEST_LIMIT)
    }

    pub(super) fn wanted(&self) -> Wanted {
        match self.question.query_type {
            RecordType::A => Wanted::Ipv4,
            RecordType::AAAA => Wanted::Ipv6,
            RecordType::ANY => Wanted::AnyAddress,
            RecordType::PTR => Wanted::Pointer,
            _ => Wanted::Other,
        }
    }

    pub(super) fn is_internet(&self) -> bool {
        matches!(self.question.query_class, DNSClass::IN | DNSClass::ANY)
    }

    /// The name as it is looked up: labels joined by dots, without the last dot. `None` when a label holds what no name of
    /// a container can hold.
    pub(super) fn name(&self) -> Option<String> {
        let mut text = String::new();
        for label in self.question.name.iter() {
            if !label.iter().all(u8::is_ascii_graphic) || label.contains(&b'.') {
                return None;
            }
            if !text.is_empty() {
                text.push('.');
            }
            text.push_str(std::str::from_utf8(label).ok()?);
        }
        Some(text)
    }

    /// Bytes of the question on the wire: labels with their lengths, the root, type and class.
    fn question_length(&self) -> usize {
        let labels = self.question.name.iter().map(|label| label.len() + 1);
        labels.sum::<usize>() + 1 + 4
    }

    pub(super) fn labels(&self) -> usize {
        self.question.name.iter().count()
    }

    /// The address that a reverse look-up is about.
    pub(super) fn reversed(&self) -> Option<IpAddr> {
        let labels: Vec<&str> = self
            .question
            .name
            .iter()
            .map(std::str::from_utf8)
            .collect::<Result<_, _>>()
            .ok()?;
        let (arpa, zone) = (labels.last()?, labels.get(labels.len().checked_sub(2)?)?);
        if !arpa.eq_ignore_ascii_case("arpa") {
            return None;
        }
        let digits = &labels[..labels.len() - 2];
        if zone.eq_ignore_ascii_case("in-addr") && digits.len() == 4 {
            let mut octets = [0_u8; 4];
            for (octet, label) in octets.iter_mut().rev().zip(digits) {
                *octet = label.parse().ok()?;
            }
            return Some(Ipv4Addr::from(octets).into());
        }
        if zone.eq_ignore_ascii_case("ip6") && digits.len() == 32 {
            let mut bits = 0_u128;
            for label in digits.iter().rev() {
                let nibble = u8::from_str_radix(label, 16)
                    .ok()
                    .filter(|n| *n < 16 && label.len() == 1)?;
                bits = bits << 4 | u128::from(nibble);
            }
            return Some(Ipv6Addr::from(bits).into());
        }
        None
    }

    fn respond(&self, code: ResponseCode) -> Message {
        let mut message = Message::response(self.id, OpCode::Query);
        message.metadata = Metadata::response_from_request(&self.metadata);
        message.metadata.recursion_available = true;
        message.metadata.response_code = code;
        message.add_query(self.question.clone());
        if self.edns.is_some() {
            let mut edns = Edns::new();
            edns.set_max_payload(u16::try_from(limits::DNS_UDP_QUERY).unwrap_or(u16::MAX));
            message.set_edns(edns);
        }
        message
    }

    /// An answer of nothing but a code.
    pub(super) fn failure(&self, code: ResponseCode) -> Vec<u8> {
        encode(&self.respond(code), &self.metadata)
    }

    /// An answer with addresses, as many as fit into `limit` bytes; if not all do, it says so. Without any it says that the name
    /// exists.
    pub(super) fn with_addresses(&self, addresses: &[IpAddr], limit: usize) -> Vec<u8> {
        let mut message = self.respond(ResponseCode::NoError);
        let mut room = limit.saturating_sub(
            HEADER + self.question_length() + if self.edns.is_some() { OPT } else { 0 },
        );
        for address in addresses {
            // A pointer to the question's name, type, class, time to live, length, and the address.
            let (data, size) = match address {
                IpAddr::V4(address) => (RData::A(A(*address)), 12 + 4),
                IpAddr::V6(address) => (RData::AAAA(AAAA(*address)), 12 + 16),
            };
            if room < size {
                message.metadata.truncation = true;
                break;
            }
            room -= size;
            message.add_answer(Record::from_rdata(
                self.question.name.clone(),
                limits::DNS_TTL,
                data,
            ));
        }
        encode(&message, &self.metadata)
    }

    /// The answer to a reverse look-up.
    pub(super) fn with_name(&self, name: &str) -> Vec<u8> {
        let mut message = self.respond(ResponseCode::NoError);
        match Name::from_ascii(format!("{name}.")) {
            Ok(name) => {
                message.add_answer(Record::from_rdata(
                    self.question.name.clone(),
                    limits::DNS_TTL,
                    RData::PTR(PTR(name)),
                ));
                encode(&message, &self.metadata)
            }
            // A container can be called what no domain can.
            Err(_) => self.failure(ResponseCode::NoError),
        }
    }

    /// What a packet is that came from a server that was asked this under the number `id`.
    pub(super) fn judge(&self, packet: &[u8], id: u16) -> Judgement {
        let mut decoder = BinDecoder::new(packet);
        let Ok(header) = Header::read(&mut decoder) else {
            return Judgement::Stray;
        };
        let metadata = header.metadata;
        if metadata.id != id || metadata.message_type != MessageType::Response {
            return Judgement::Stray;
        }
        let failed = matches!(
            metadata.response_code,
            ResponseCode::ServFail
                | ResponseCode::Refused
                | ResponseCode::NotImp
                | ResponseCode::FormErr
        );
        match header.counts.queries {
            // Some servers repeat no question that they did not understand.
            0 if failed => Judgement::Failure,
            1 => match Question::read(&mut decoder) {
                // Names are compared without regard to case.
                Ok(question) if question == self.question => {
                    if failed {
                        Judgement::Failure
                    } else {
                        Judgement::Answer
                    }
                }
                _ => Judgement::Stray,
            },
            _ => Judgement::Stray,
        }
    }

    /// A server's answer cut down to its question, marked as cut: what the client gets when the whole is more than it takes.
    pub(super) fn cut(&self, answer: &[u8]) -> Vec<u8> {
        let mut message = self.respond(ResponseCode::NoError);
        if let Ok(header) = Header::read(&mut BinDecoder::new(answer)) {
            message.metadata = header.metadata;
            message.metadata.id = self.id;
        }
        message.metadata.truncation = true;
        encode(&message, &self.metadata)
    }
}

/// Puts another number into a message.
pub(super) fn renumber(packet: &mut [u8], id: u16) {
    if let Some(place) = packet.first_chunk_mut::<2>() {
        *place = id.to_be_bytes();
    }
}

fn encode(message: &Message, asked: &Metadata) -> Vec<u8> {
    message
        .to_vec()
        .unwrap_or_else(|_| bare(asked, ResponseCode::ServFail))
}

/// A header alone.
fn bare(asked: &Metadata, code: ResponseCode) -> Vec<u8> {
    let mut metadata = Metadata::response_from_request(asked);
    metadata.recursion_available = true;
    metadata.response_code = code;
    let header = Header {
        metadata,
        counts: Default::default(),
    };
    let mut buffer = Vec::with_capacity(HEADER);
    // Twelve bytes into a buffer without a bound.
    let _ = header.emit(&mut BinEncoder::new(&mut buffer));
    buffer
}
