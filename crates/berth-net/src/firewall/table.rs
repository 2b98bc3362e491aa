//! Tables as nf_tables has them: written whole, changed by elements, read back.
//!
//! Owns the messages for tables, chains, rules, sets and elements (linux/netfilter/nf_tables.h). Decides nothing.

use std::collections::BTreeSet;

use super::chains::{Chain, bridge_chains, inet_chains};
use super::error::Result;
use super::message::{APPEND, Attributes, Batch, CREATE, NFTABLES, Reader};
use super::schema::{Data, Element, Holds, Set, fingerprint};
use super::socket::{Listing, Socket};
use crate::limits::FIREWALL_ELEMENTS;

/// `enum nf_tables_msg_types`.
pub(crate) mod kind {
    /// `NFT_MSG_NEWTABLE`
    pub(crate) const NEW_TABLE: u8 = 0;
    /// `NFT_MSG_DELTABLE`
    pub(crate) const DELETE_TABLE: u8 = 2;
    /// `NFT_MSG_NEWCHAIN`
    pub(crate) const NEW_CHAIN: u8 = 3;
    /// `NFT_MSG_GETCHAIN`
    pub(crate) const GET_CHAIN: u8 = 4;
    /// `NFT_MSG_NEWRULE`
    pub(crate) const NEW_RULE: u8 = 6;
    /// `NFT_MSG_GETRULE`
    pub(crate) const GET_RULE: u8 = 7;
    /// `NFT_MSG_DELRULE`
    pub(crate) const DELETE_RULE: u8 = 8;
    /// `NFT_MSG_NEWSET`
    pub(crate) const NEW_SET: u8 = 9;
    /// `NFT_MSG_NEWSETELEM`
    pub(crate) const NEW_ELEMENT: u8 = 12;
    /// `NFT_MSG_GETSETELEM`
    pub(crate) const GET_ELEMENT: u8 = 13;
    /// `NFT_MSG_DELSETELEM`
    pub(crate) const DELETE_ELEMENT: u8 = 14;
}

/// `NFPROTO_INET` and `NFPROTO_BRIDGE`.
pub(crate) const INET: u8 = 1;
/// Frames between bridge ports.
pub(crate) const BRIDGE: u8 = 7;

/// One of our tables: its family, name and fixed form.
#[derive(Debug)]
pub(crate) struct Table {
    family: u8,
    name: String,
    sets: Vec<Set>,
    chains: Vec<Chain>,
    fingerprint: String,
}

/// What the kernel has of a table.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// Nothing, or not our fixed form.
    Broken,
    /// Our form, with these elements.
    Whole(BTreeSet<Element>),
}

impl Table {
    /// The table of packets.
    pub(crate) fn inet(name: &str) -> Self {
        Self::new(INET, name, inet_chains())
    }

    /// The table of frames.
    pub(crate) fn bridge(name: &str) -> Self {
        Self::new(BRIDGE, name, bridge_chains())
    }

    fn new(family: u8, name: &str, chains: Vec<Chain>) -> Self {
        let sets: Vec<Set> = Set::all()
            .into_iter()
            .filter(|set| set.is_bridge() == (family == BRIDGE))
            .collect();
        let fingerprint = fingerprint(&chains, &sets);
        Self {
            family,
            name: name.to_owned(),
            sets,
            chains,
            fingerprint,
        }
    }

    /// Whether the element lies here.
    pub(crate) fn holds(&self, element: &Element) -> bool {
        element.set.is_bridge() == (self.family == BRIDGE)
    }

    /// The whole table anew, in place of whatever has its name.
    pub(crate) fn rebuild<'a>(
        &self,
        batch: &mut Batch,
        elements: impl Iterator<Item = &'a Element>,
    ) {
        self.delete(batch);
        self.create(batch);
        for (id, set) in (1..).zip(&self.sets) {
            self.create_set(batch, *set, id);
        }
        for chain in &self.chains {
            self.create_chain(batch, chain);
        }
        for chain in &self.chains {
            for (number, rule) in chain.rules.iter().enumerate() {
                batch.push(kind::NEW_RULE, CREATE | APPEND, self.family, |row| {
                    row.text(1, &self.name);
                    row.text(2, chain.name);
                    row.nest(4, |list| {
                        for expression in &rule.0 {
                            expression.encode(list);
                        }
                    });
                    row.bytes(7, &comment(&format!("{} {number}", self.fingerprint)));
                });
            }
        }
        self.change(batch, kind::NEW_ELEMENT, elements);
    }

    /// Takes the table away, also when it is not there.
    pub(crate) fn delete(&self, batch: &mut Batch) {
        // Deleting needs something to delete; making it first never fails.
        batch.push(kind::NEW_TABLE, CREATE, self.family, |row| {
            row.text(1, &self.name);
        });
        batch.push(kind::DELETE_TABLE, 0, self.family, |row| {
            row.text(1, &self.name);
        });
    }

    /// Adds or removes elements.
    pub(crate) fn change<'a>(
        &self,
        batch: &mut Batch,
        kind: u8,
        elements: impl Iterator<Item = &'a Element>,
    ) {
        let mut elements = elements.filter(|element| self.holds(element)).peekable();
        while let Some(first) = elements.next() {
            let set = first.set;
            batch.push(kind, CREATE, self.family, |row| {
                row.text(1, &self.name);
                row.text(2, &set.name());
                row.nest(3, |list| {
                    encode_element(list, first, kind);
                    for _ in 1..FIREWALL_ELEMENTS {
                        match elements.next_if(|element| element.set == set) {
                            Some(element) => encode_element(list, element, kind),
                            None => break,
                        }
                    }
                });
            });
        }
    }

    /// Reads what the kernel has.
    pub(crate) fn read(&self, socket: &Socket) -> Result<Found> {
        if !self.has_form(socket)? {
            return Ok(Found::Broken);
        }
        let mut elements = BTreeSet::new();
        for set in &self.sets {
            let attempt = format!("list the set {} of the table {}", set.name(), self.name);
            let mut request = Attributes::default();
            request.text(1, &self.name);
            request.text(2, &set.name());
            let mut found = Vec::new();
            let listed = socket.dump(
                &attempt,
                (NFTABLES, kind::GET_ELEMENT, self.family),
                &request,
                |listing| match listing {
                    Listing::Begin => found.clear(),
                    Listing::Item(item) => {
                        for (_, element) in item.attributes().inside(3) {
                            found.extend(decode_element(*set, Reader(element)));
                        }
                    }
                },
            );
            match listed {
                Ok(()) => elements.extend(found),
                Err(error) if error.is(std::io::ErrorKind::NotFound) => return Ok(Found::Broken),
                Err(error) => return Err(error),
            }
        }
        Ok(Found::Whole(elements))
    }

    /// Whether a table with our name is there with all of our rules, and with nothing else.
    pub(crate) fn has_form(&self, socket: &Socket) -> Result<bool> {
        let attempt = format!("list the table {}", self.name);
        let mut request = Attributes::default();
        request.text(1, &self.name);
        let mut rules = Vec::new();
        let listed = socket.dump(
            &attempt,
            (NFTABLES, kind::GET_RULE, self.family),
            &request,
            |listing| match listing {
                Listing::Begin => rules.clear(),
                Listing::Item(item) => {
                    let row = item.attributes();
                    // Kernels that know no filter by table list all rules of the family.
                    if row.text(1) == Some(&self.name) {
                        let chain = row.text(2).unwrap_or_default().to_owned();
                        let comment = row.find(7).and_then(read_comment).unwrap_or_default();
                        rules.push((chain, comment));
                    }
                }
            },
        );
        match listed {
            Ok(()) => {}
            Err(error) if error.is(std::io::ErrorKind::NotFound) => return Ok(false),
            Err(error) => return Err(error),
        }
        let wanted: Vec<(String, String)> = self
            .chains
            .iter()
            .flat_map(|chain| {
                (0..chain.rules.len()).map(|number| {
                    (
                        chain.name.to_owned(),
                        format!("{} {number}", self.fingerprint),
                    )
                })
            })
            .collect();
        // Chains may be listed in any order, rules of one chain are in theirs.
        rules.sort_by(|a, b| a.0.cmp(&b.0));
        let mut wanted = wanted;
        wanted.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(rules == wanted)
    }

    fn create(&self, batch: &mut Batch) {
        batch.push(kind::NEW_TABLE, CREATE, self.family, |row| {
            row.text(1, &self.name);
        });
    }

    fn create_set(&self, batch: &mut Batch, set: Set, id: u32) {
        const INTERVAL: u32 = 4;
        const MAP: u32 = 8;
        const CONCATENATION: u32 = 0x80;
        let fields = set.fields();
        let mut flags = 0;
        if set.is_interval() {
            flags |= INTERVAL | CONCATENATION;
        }
        let holds = set.holds();
        if holds != Holds::Nothing {
            flags |= MAP;
        }
        batch.push(kind::NEW_SET, CREATE, self.family, |row| {
            row.text(1, &self.name);
            row.text(2, &set.name());
            row.number(3, flags);
            row.number(4, datatype(&fields));
            row.number(5, key_length(&fields));
            match &holds {
                Holds::Nothing => {}
                Holds::Fields(fields) => {
                    row.number(6, datatype(fields));
                    row.number(7, key_length(fields));
                }
                Holds::Verdict => {
                    // NFT_DATA_VERDICT
                    row.number(6, 0xffff_ff00);
                    row.number(7, 0);
                }
            }
            if set.is_interval() {
                row.nest(9, |description| {
                    description.nest(2, |list| {
                        for field in &fields {
                            list.nest(1, |entry| entry.number(1, field.length()));
                        }
                    });
                });
            }
            row.number(10, id);
            if let [_] = fields[..] {
                // NFTNL_UDATA_SET_KEYBYTEORDER, BYTEORDER_HOST_ENDIAN: how `nft` prints names and numbers.
                row.bytes(13, &[&[0, 4][..], &1_u32.to_ne_bytes()].concat());
            }
        });
    }

    fn create_chain(&self, batch: &mut Batch, chain: &Chain) {
        batch.push(kind::NEW_CHAIN, CREATE, self.family, |row| {
            row.text(1, &self.name);
            row.text(3, chain.name);
            if let Some(hook) = chain.hook {
                row.nest(4, |inner| {
                    inner.number(1, hook.number);
                    inner.number(2, hook.priority.cast_unsigned());
                });
                row.text(7, hook.kind);
            }
        });
    }
}

/// The kernel's length of a key: a single field as it is, several padded to four bytes each.
fn key_length(fields: &[super::schema::Field]) -> u32 {
    match fields {
        [single] => single.length(),
        _ => fields
            .iter()
            .map(|field| field.length().next_multiple_of(4))
            .sum(),
    }
}

fn datatype(fields: &[super::schema::Field]) -> u32 {
    fields
        .iter()
        .fold(0, |whole, field| whole << 6 | field.datatype())
}

/// Bytes as the kernel wants them for a key or value of these fields.
fn cut<'a>(bytes: &'a [u8], fields: &[super::schema::Field]) -> &'a [u8] {
    let length = usize::try_from(key_length(fields)).unwrap_or(bytes.len());
    bytes.get(..length).unwrap_or(bytes)
}

fn encode_element(list: &mut Attributes, element: &Element, kind: u8) {
    let fields = element.set.fields();
    list.nest(1, |row| {
        row.nest(1, |key| key.bytes(1, cut(&element.key, &fields)));
        if let Some(last) = &element.last {
            row.nest(10, |key| key.bytes(1, cut(last, &fields)));
        }
        if kind == kind::DELETE_ELEMENT {
            return;
        }
        match (&element.data, element.set.holds()) {
            (Data::Value(value), Holds::Fields(fields)) => {
                row.nest(2, |data| data.bytes(1, cut(value, &fields)));
            }
            (Data::Jump(chain), _) => row.nest(2, |data| {
                data.nest(2, |verdict| {
                    // NFT_JUMP
                    verdict.number(1, (-3_i32).cast_unsigned());
                    verdict.text(2, chain);
                });
            }),
            _ => {}
        }
    });
}

fn decode_element(set: Set, row: Reader<'_>) -> Option<Element> {
    let padded = |bytes: &[u8]| {
        let mut bytes = bytes.to_vec();
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    };
    let key = padded(row.inside(1).find(1)?);
    let last = row.inside(10).find(1).map(padded);
    let data = row.inside(2);
    let data = match (data.find(1), data.inside(2).text(2)) {
        (Some(value), _) => Data::Value(padded(value)),
        (None, Some(chain)) => Data::Jump(chain.to_owned()),
        (None, None) => Data::None,
    };
    Some(Element {
        set,
        last: set
            .is_interval()
            .then(|| last.unwrap_or_else(|| key.clone())),
        key,
        data,
    })
}

/// A comment as `nft` keeps it in the user data of a rule (`NFTNL_UDATA_RULE_COMMENT`).
pub(crate) fn comment(text: &str) -> Vec<u8> {
    let length = u8::try_from(text.len() + 1).unwrap_or(u8::MAX);
    let mut bytes = vec![0, length];
    bytes.extend(text.bytes().take(usize::from(length) - 1));
    bytes.push(0);
    bytes
}

/// The comment in the user data of a rule.
pub(crate) fn read_comment(bytes: &[u8]) -> Option<String> {
    let mut rest = bytes;
    while let [kind, length, tail @ ..] = rest {
        let value = tail.get(..usize::from(*length))?;
        if *kind == 0 {
            let text = value.split(|byte| *byte == 0).next()?;
            return Some(String::from_utf8_lossy(text).into_owned());
        }
        rest = tail.get(usize::from(*length)..)?;
    }
    None
}
