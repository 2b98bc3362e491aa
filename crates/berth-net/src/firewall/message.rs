//! Messages of nfnetlink: attributes written and read, and batches. Pure.
//!
//! Owns the layout (linux/netlink.h, linux/netfilter/nfnetlink.h). Numbers are in network order, as all of
//! nfnetlink wants them.

/// `NFNL_SUBSYS_NFTABLES`.
pub(crate) const NFTABLES: u8 = 10;
/// `NFNL_SUBSYS_CTNETLINK`.
pub(crate) const CONNTRACK: u8 = 1;

/// `NLM_F_REQUEST`, `NLM_F_ACK`, `NLM_F_DUMP`, `NLM_F_CREATE`, `NLM_F_APPEND`.
pub(crate) const REQUEST: u16 = 1;
/// The kernel shall confirm.
pub(crate) const ACK: u16 = 4;
/// Everything that fits.
pub(crate) const DUMP: u16 = 0x300;
/// Make what is not there.
pub(crate) const CREATE: u16 = 0x400;
/// Behind the others.
pub(crate) const APPEND: u16 = 0x800;

/// Length of `struct nlmsghdr`, and with `struct nfgenmsg` behind it.
pub(crate) const HEADER: usize = 16;
/// Where the attributes begin.
pub(crate) const BODY: usize = HEADER + 4;

const NESTED: u16 = 0x8000;
const TYPE: u16 = 0x3fff;

/// A row of attributes being written.
#[derive(Debug, Default, Clone)]
pub(crate) struct Attributes {
    bytes: Vec<u8>,
}

impl Attributes {
    /// An attribute of plain bytes.
    pub(crate) fn bytes(&mut self, kind: u16, value: &[u8]) {
        self.header(kind, value.len());
        self.bytes.extend_from_slice(value);
        self.pad();
    }

    /// A text with its end.
    pub(crate) fn text(&mut self, kind: u16, value: &str) {
        self.header(kind, value.len() + 1);
        self.bytes.extend_from_slice(value.as_bytes());
        self.bytes.push(0);
        self.pad();
    }

    /// A number of 32 bits.
    pub(crate) fn number(&mut self, kind: u16, value: u32) {
        self.bytes(kind, &value.to_be_bytes());
    }

    /// Attributes inside an attribute. They must stay below 64 KiB.
    pub(crate) fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) {
        let start = self.bytes.len();
        self.header(kind | NESTED, 0);
        fill(self);
        let length = u16::try_from(self.bytes.len() - start).unwrap_or(u16::MAX);
        self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
    }

    /// Bytes so far.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    fn header(&mut self, kind: u16, length: usize) {
        let length = u16::try_from(length + 4).unwrap_or(u16::MAX);
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
    }

    fn pad(&mut self) {
        while !self.bytes.len().is_multiple_of(4) {
            self.bytes.push(0);
        }
    }
}

/// Reads attributes; damaged ones end the row.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reader<'a>(pub &'a [u8]);

impl<'a> Iterator for Reader<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let length = usize::from(u16::from_ne_bytes(self.0.get(0..2)?.try_into().ok()?));
        let kind = u16::from_ne_bytes(self.0.get(2..4)?.try_into().ok()?) & TYPE;
        let value = self.0.get(4..length)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    }
}

impl<'a> Reader<'a> {
    /// The first attribute of this kind.
    pub(crate) fn find(self, kind: u16) -> Option<&'a [u8]> {
        let mut row = self;
        row.find_map(|(found, value)| (found == kind).then_some(value))
    }

    /// The attributes inside the first attribute of this kind.
    pub(crate) fn inside(self, kind: u16) -> Reader<'a> {
        Reader(self.find(kind).unwrap_or_default())
    }

    /// A text, without its end.
    pub(crate) fn text(self, kind: u16) -> Option<&'a str> {
        let bytes = self.find(kind)?;
        std::str::from_utf8(bytes.split(|byte| *byte == 0).next()?).ok()
    }

    /// A number of 32 bits.
    pub(crate) fn number(self, kind: u16) -> Option<u32> {
        Some(u32::from_be_bytes(self.find(kind)?.try_into().ok()?))
    }

    /// A number of 64 bits.
    pub(crate) fn long(self, kind: u16) -> Option<u64> {
        Some(u64::from_be_bytes(self.find(kind)?.try_into().ok()?))
    }
}

/// One message as it was received.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Received<'a> {
    /// Subsystem and message, or a control message below 16.
    pub(crate) kind: u16,
    /// Flags.
    pub(crate) flags: u16,
    /// The sequence number of the request it answers.
    pub(crate) sequence: u32,
    /// The port that caused it.
    pub(crate) port: u32,
    /// What follows the header.
    pub(crate) body: &'a [u8],
}

impl<'a> Received<'a> {
    /// The family that `struct nfgenmsg` names.
    pub(crate) fn family(&self) -> u8 {
        self.body.first().copied().unwrap_or(0)
    }

    /// The attributes behind `struct nfgenmsg`.
    pub(crate) fn attributes(&self) -> Reader<'a> {
        Reader(self.body.get(4..).unwrap_or_default())
    }

    /// The error number of `NLMSG_ERROR`; zero confirms.
    pub(crate) fn error(&self) -> Option<i32> {
        (self.kind == 2)
            .then(|| self.body.get(0..4))
            .flatten()
            .and_then(|bytes| bytes.try_into().ok())
            .map(i32::from_ne_bytes)
    }
}

/// The messages of one datagram.
pub(crate) fn received(mut bytes: &[u8]) -> impl Iterator<Item = Received<'_>> {
    std::iter::from_fn(move || {
        let header = bytes.get(..HEADER)?;
        let number = |at: usize| {
            header
                .get(at..at + 4)
                .and_then(|field| field.try_into().ok())
                .map_or(0, u32::from_ne_bytes)
        };
        let short = |at: usize| u16::from_ne_bytes([header[at], header[at + 1]]);
        let length = usize::try_from(number(0)).ok()?;
        let message = Received {
            kind: short(4),
            flags: short(6),
            sequence: number(8),
            port: number(12),
            body: bytes.get(HEADER..length)?,
        };
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(message)
    })
}

/// One message to send.
pub(crate) fn message(
    subsystem: u8,
    kind: u8,
    flags: u16,
    family: u8,
    sequence: u32,
    attributes: &Attributes,
) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(BODY + attributes.len());
    append(
        &mut bytes,
        u16::from(subsystem) << 8 | u16::from(kind),
        flags,
        family,
        0,
        sequence,
        attributes,
    );
    bytes
}

fn append(
    bytes: &mut Vec<u8>,
    kind: u16,
    flags: u16,
    family: u8,
    resource: u16,
    sequence: u32,
    attributes: &Attributes,
) {
    let length = u32::try_from(BODY + attributes.len()).unwrap_or(u32::MAX);
    bytes.extend(length.to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend((flags | REQUEST).to_ne_bytes());
    bytes.extend(sequence.to_ne_bytes());
    bytes.extend([0; 4]);
    bytes.extend([family, 0]);
    bytes.extend(resource.to_be_bytes());
    bytes.extend_from_slice(&attributes.bytes);
}

/// Messages that the kernel carries out all together or not at all.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    messages: Vec<(u8, u16, u8, Attributes)>,
}

impl Batch {
    /// Adds a message of nf_tables.
    pub(crate) fn push(
        &mut self,
        kind: u8,
        flags: u16,
        family: u8,
        fill: impl FnOnce(&mut Attributes),
    ) {
        let mut attributes = Attributes::default();
        fill(&mut attributes);
        self.messages.push((kind, flags, family, attributes));
    }

    /// Messages so far.
    pub(crate) fn len(&self) -> usize {
        self.messages.len()
    }

    /// Whether nothing was added.
    pub(crate) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// The datagram, and the sequence number that the kernel confirms at the end. The first takes `sequence`.
    pub(crate) fn encode(&self, sequence: u32) -> (Vec<u8>, u32) {
        let none = Attributes::default();
        let mut bytes = Vec::new();
        let mut next = sequence;
        // NFNL_MSG_BATCH_BEGIN, for the subsystem of all that follows.
        append(&mut bytes, 0x10, 0, 0, u16::from(NFTABLES), next, &none);
        let last = self.messages.len().saturating_sub(1);
        let mut confirmed = next;
        for (index, (kind, flags, family, attributes)) in self.messages.iter().enumerate() {
            next = next.wrapping_add(1);
            let flags = if index == last { flags | ACK } else { *flags };
            let kind = u16::from(NFTABLES) << 8 | u16::from(*kind);
            append(&mut bytes, kind, flags, *family, 0, next, attributes);
            confirmed = next;
        }
        next = next.wrapping_add(1);
        // NFNL_MSG_BATCH_END
        append(&mut bytes, 0x11, 0, 0, u16::from(NFTABLES), next, &none);
        (bytes, confirmed)
    }

    /// What the message with this number does, for errors.
    pub(crate) fn kind_of(&self, sequence: u32, first: u32) -> Option<u8> {
        let index = sequence.wrapping_sub(first).checked_sub(1)?;
        self.messages
            .get(usize::try_from(index).ok()?)
            .map(|(kind, ..)| *kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_read_as_written() {
        let mut row = Attributes::default();
        row.text(1, "berth");
        row.nest(2, |inner| {
            inner.number(1, 7);
            inner.bytes(3, &[1, 2, 3]);
        });
        let reader = Reader(&row.bytes);
        assert_eq!(reader.text(1), Some("berth"));
        assert_eq!(reader.inside(2).number(1), Some(7));
        assert_eq!(reader.inside(2).find(3), Some(&[1, 2, 3][..]));
        assert_eq!(reader.find(9), None);
    }

    #[test]
    fn damaged_rows_end() {
        for bytes in [
            &[1_u8][..],
            &[0, 0, 1, 0],
            &[200, 0, 1, 0, 1],
            &[3, 0, 1, 0],
        ] {
            assert_eq!(Reader(bytes).count(), 0);
            assert_eq!(received(bytes).count(), 0);
        }
    }

    #[test]
    fn a_batch_is_read_as_written() {
        let mut batch = Batch::default();
        batch.push(0, CREATE, 1, |row| row.text(1, "t"));
        batch.push(3, CREATE, 1, |row| row.text(1, "t"));
        let (bytes, confirmed) = batch.encode(5);
        let messages: Vec<_> = received(&bytes).collect();
        assert_eq!(
            messages.iter().map(|m| m.kind).collect::<Vec<_>>(),
            [0x10, 0xa00, 0xa03, 0x11]
        );
        assert_eq!(confirmed, 7);
        assert_eq!(batch.kind_of(7, 5), Some(3));
        assert_eq!(messages[2].flags & ACK, ACK);
    }
}
