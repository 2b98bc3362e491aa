//! Chains of `iptables-legacy` that would drop what our table lets pass.
//!
//! They are no part of nf_tables, so nobody tells when they change, and a table is read and replaced as a whole, under the lock
//! of the programs of iptables. Owns the form of its entries (linux/netfilter_ipv4/ip_tables.h,
//! linux/netfilter_ipv6/ip6_tables.h, linux/netfilter/x_tables.h) and what is put at the head of a chain that drops:
//! the same accepts as in chains of nf_tables ([`super::others`]), with the same comments.

use std::collections::BTreeSet;
use std::path::Path;

use berth_sys::fs;
use berth_sys::xtables::{self, Lock, Table};

use super::others::{Adjusted, Warning};
use super::schema::interface_key;

/// `NF_INET_LOCAL_IN` and `NF_INET_FORWARD`, which x_tables counts alike.
const INPUT: usize = 1;
const FORWARD: usize = 2;

/// Verdicts of standard targets: `-NF_DROP - 1`, `-NF_ACCEPT - 1`.
const DROP: i32 = -1;
const ACCEPT: i32 = -2;

/// Bytes of the head of a match or target: its size, name, revision.
const HEAD: usize = 32;
/// Bytes of a comment's text (`XT_MAX_COMMENT_LEN`).
const COMMENT: usize = 256;

/// Where the parts of an entry lie.
#[derive(Debug, Clone, Copy)]
struct Form {
    /// Names of interfaces: in, out, and their masks, 16 bytes each.
    interfaces: usize,
    /// The offset of the target, of the next entry.
    offsets: usize,
    /// Bytes of an entry without matches and target.
    length: usize,
}

const IPV4: Form = Form {
    interfaces: 16,
    offsets: 88,
    length: 112,
};
const IPV6: Form = Form {
    interfaces: 64,
    offsets: 140,
    length: 168,
};

fn form(ipv4: bool) -> Form {
    if ipv4 { IPV4 } else { IPV6 }
}

/// One entry of a table.
#[derive(Debug, Clone, Copy)]
struct Entry<'a> {
    at: usize,
    bytes: &'a [u8],
    target: usize,
    form: Form,
}

fn two(bytes: &[u8], at: usize) -> usize {
    bytes
        .get(at..at + 2)
        .and_then(|two| two.try_into().ok())
        .map_or(0, |two| usize::from(u16::from_ne_bytes(two)))
}

fn name_at(bytes: &[u8], at: usize) -> &str {
    let name = bytes.get(at + 2..at + HEAD - 1).unwrap_or_default();
    let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
    std::str::from_utf8(name).unwrap_or_default()
}

impl<'a> Entry<'a> {
    /// The verdict, or where it jumps to, of a standard target.
    fn verdict(&self) -> Option<i32> {
        if !name_at(self.bytes, self.target).is_empty() {
            return None;
        }
        let four = self.bytes.get(self.target + HEAD..self.target + HEAD + 4)?;
        Some(i32::from_ne_bytes(four.try_into().ok()?))
    }

    /// Whether it drops or rejects whatever comes.
    fn drops_all(&self) -> bool {
        let matches_all = self.target == self.form.length
            && self.bytes[..self.form.offsets - 4]
                .iter()
                .all(|byte| *byte == 0);
        matches_all
            && (self.verdict() == Some(DROP) || name_at(self.bytes, self.target) == "REJECT")
    }

    fn comment(&self) -> Option<&'a str> {
        let mut at = self.form.length;
        while at + HEAD <= self.target {
            let size = two(self.bytes, at);
            if name_at(self.bytes, at) == "comment" {
                let text = self.bytes.get(at + HEAD..at + size)?;
                return std::str::from_utf8(text.split(|byte| *byte == 0).next()?).ok();
            }
            at += size.max(HEAD);
        }
        None
    }
}

/// All entries; `None` where the form is not what we know.
fn entries(table: &Table, ipv4: bool) -> Option<Vec<Entry<'_>>> {
    let form = form(ipv4);
    let mut found = Vec::new();
    let mut at = 0;
    while at < table.entries.len() {
        let rest = table.entries.get(at..)?;
        let (target, next) = (two(rest, form.offsets), two(rest, form.offsets + 2));
        if target < form.length || next < target + HEAD {
            return None;
        }
        let bytes = rest.get(..next)?;
        found.push(Entry {
            at,
            bytes,
            target,
            form,
        });
        at += next;
    }
    (found.len() == table.count as usize).then_some(found)
}

/// The rules of a hook's chain and its policy, as places in the list.
fn chain(table: &Table, entries: &[Entry<'_>], hook: usize) -> Option<(usize, usize)> {
    let place = |offset: u32| entries.iter().position(|entry| entry.at == offset as usize);
    let (begin, policy) = (place(table.begins[hook])?, place(table.policies[hook])?);
    (begin <= policy).then_some((begin, policy))
}

/// Whether a chain drops what no rule of it names.
fn drops(table: &Table, ipv4: bool, hook: usize) -> Option<bool> {
    let entries = entries(table, ipv4)?;
    let (begin, policy) = chain(table, &entries, hook)?;
    let last_drops = entries[begin..policy].last().is_some_and(Entry::drops_all);
    Some(last_drops || entries[policy].verdict() == Some(DROP))
}

/// An accept of everything that comes in by (or leaves by) a bridge.
fn accept(ipv4: bool, bridge: &str, incoming: bool, tag: &str) -> Vec<u8> {
    let form = form(ipv4);
    let target = form.length + HEAD + COMMENT;
    // A standard target is its verdict behind the head, aligned to eight bytes.
    let next = target + HEAD + 8;
    let mut entry = vec![0_u8; next];
    let place = form.interfaces + if incoming { 0 } else { 16 };
    entry[place..place + 16].copy_from_slice(&interface_key(bridge));
    // The terminating zero counts: otherwise it would be the beginning of names.
    let length = (bridge.len() + 1).min(16);
    entry[place + 32..place + 32 + length].fill(0xff);
    let write = |entry: &mut [u8], at: usize, value: usize| {
        let value = u16::try_from(value).unwrap_or(u16::MAX);
        entry[at..at + 2].copy_from_slice(&value.to_ne_bytes());
    };
    write(&mut entry, form.offsets, target);
    write(&mut entry, form.offsets + 2, next);
    write(&mut entry, form.length, HEAD + COMMENT);
    entry[form.length + 2..form.length + 9].copy_from_slice(b"comment");
    for (to, from) in entry[form.length + HEAD..target - 1]
        .iter_mut()
        .zip(tag.bytes())
    {
        *to = from;
    }
    write(&mut entry, target, HEAD + 8);
    entry[target + HEAD..target + HEAD + 4].copy_from_slice(&ACCEPT.to_ne_bytes());
    entry
}

/// A table with other accepts of ours, and which of the old entries each of its entries was.
#[derive(Debug)]
struct Changed {
    table: Table,
    source: Vec<Option<usize>>,
    added: usize,
}

/// The table with the accepts that `bridges` need, or `None` where it is as it should be or of another form.
fn changed(table: &Table, ipv4: bool, name: &str, bridges: &BTreeSet<String>) -> Option<Changed> {
    let all = entries(table, ipv4)?;
    let (begin, policy) = chain(table, &all, FORWARD)?;
    let mut wanted: Vec<(String, &str, bool)> = Vec::new();
    if drops(table, ipv4, FORWARD)? {
        for bridge in bridges {
            wanted.push((format!("{name}: from {bridge}"), bridge, true));
            wanted.push((format!("{name}: to {bridge}"), bridge, false));
        }
    }
    let prefix = format!("{name}: ");
    let gone: BTreeSet<usize> = (begin..policy)
        .filter(|place| {
            all[*place].comment().is_some_and(|comment| {
                comment.starts_with(&prefix) && !wanted.iter().any(|(tag, ..)| tag == comment)
            })
        })
        .collect();
    wanted.retain(|(tag, ..)| {
        !(begin..policy).any(|place| all[place].comment() == Some(tag.as_str()))
    });
    if wanted.is_empty() && gone.is_empty() {
        return None;
    }
    let mut bytes = Vec::with_capacity(table.entries.len());
    let mut source = Vec::new();
    // Where each of the old entries is now; a removed one stands for the next.
    let mut places = Vec::with_capacity(all.len());
    let mut head = 0;
    for (number, entry) in all.iter().enumerate() {
        if number == begin {
            head = bytes.len();
            for (tag, bridge, incoming) in &wanted {
                bytes.extend(accept(ipv4, bridge, *incoming, tag));
                source.push(None);
            }
        }
        places.push((entry.at, bytes.len()));
        if !gone.contains(&number) {
            bytes.extend(entry.bytes);
            source.push(Some(number));
        }
    }
    let moved = |offset: usize| {
        let place = places.binary_search_by_key(&offset, |(old, _)| *old).ok()?;
        u32::try_from(places[place].1).ok()
    };
    for (number, (_, place)) in places.iter().enumerate() {
        let entry = &all[number];
        if gone.contains(&number) {
            continue;
        }
        if let Some(jump) = entry
            .verdict()
            .and_then(|verdict| usize::try_from(verdict).ok())
        {
            let at = place + entry.target + HEAD;
            let to = i32::try_from(moved(jump)?).ok()?;
            bytes[at..at + 4].copy_from_slice(&to.to_ne_bytes());
        }
    }
    let mut new = Table {
        count: u32::try_from(source.len()).ok()?,
        ..table.clone()
    };
    for hook in (0..5).filter(|hook| table.hooks & 1 << hook != 0) {
        new.begins[hook] = moved(table.begins[hook] as usize)?;
        new.policies[hook] = moved(table.policies[hook] as usize)?;
    }
    new.begins[FORWARD] = u32::try_from(head).ok()?;
    new.entries = bytes;
    Some(Changed {
        table: new,
        source,
        added: wanted.len(),
    })
}

/// Whether the kernel has filtering rules of x_tables: asking for their table would make it.
fn has_filter(ipv4: bool) -> bool {
    let path = Path::new(if ipv4 {
        "/proc/thread-self/net/ip_tables_names"
    } else {
        "/proc/thread-self/net/ip6_tables_names"
    });
    fs::read_to_string(path).is_ok_and(|tables| tables.lines().any(|table| table == "filter"))
}

/// Gives chains that drop the accepts that `bridges` need, and takes back those that nobody needs.
pub(super) fn adjust(name: &str, bridges: &BTreeSet<String>) -> Adjusted {
    let mut adjusted = Adjusted::default();
    for ipv4 in [true, false] {
        if !has_filter(ipv4) {
            continue;
        }
        match adjust_family(ipv4, name, bridges) {
            Ok(added) => adjusted.added += added,
            Err(error) => adjusted.warnings.push(cannot(ipv4, &error, bridges)),
        }
    }
    adjusted
}

fn adjust_family(
    ipv4: bool,
    name: &str,
    bridges: &BTreeSet<String>,
) -> Result<usize, berth_sys::Error> {
    // Most looks find everything in order, and need no lock.
    let table = xtables::read(ipv4, "filter")?;
    if changed(&table, ipv4, name, bridges).is_none() {
        return Ok(0);
    }
    let lock = Lock::take()?;
    let table = xtables::read(ipv4, "filter")?;
    let Some(changed) = changed(&table, ipv4, name, bridges) else {
        return Ok(0);
    };
    xtables::replace(
        ipv4,
        "filter",
        &table,
        &changed.table,
        &changed.source,
        &lock,
    )?;
    Ok(changed.added)
}

fn cannot(ipv4: bool, error: &berth_sys::Error, bridges: &BTreeSet<String>) -> Warning {
    let program = xtables::program(ipv4);
    let bridge = bridges.first().map_or("BRIDGE", String::as_str);
    let cause = std::error::Error::source(error).map_or_else(String::new, |c| format!(": {c}"));
    Warning {
        text: format!(
            "if the chain FORWARD of {program} drops, containers reach nothing; {error}{cause}"
        ),
        command: format!(
            "{program} -I FORWARD -i {bridge} -j ACCEPT && {program} -I FORWARD -o {bridge} -j ACCEPT"
        ),
    }
}

/// Whether an input chain drops what no rule of it names; `None` where it cannot be read.
pub(super) fn input_drops() -> Option<bool> {
    let mut drop = false;
    for ipv4 in [true, false].into_iter().filter(|ipv4| has_filter(*ipv4)) {
        let table = xtables::read(ipv4, "filter").ok()?;
        drop |= drops(&table, ipv4, INPUT)?;
    }
    Some(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standard(ipv4: bool, verdict: i32) -> Vec<u8> {
        let form = form(ipv4);
        let mut entry = vec![0; form.length + HEAD + 8];
        let length = u16::try_from(entry.len()).unwrap();
        let target = u16::try_from(form.length).unwrap();
        entry[form.offsets..form.offsets + 2].copy_from_slice(&target.to_ne_bytes());
        entry[form.offsets + 2..form.offsets + 4].copy_from_slice(&length.to_ne_bytes());
        entry[form.length + HEAD..form.length + HEAD + 4].copy_from_slice(&verdict.to_ne_bytes());
        entry
    }

    /// INPUT with its policy, FORWARD with a jump to a chain and its policy, OUTPUT, the chain.
    fn table(ipv4: bool, policy: i32) -> Table {
        let one = standard(ipv4, 0).len();
        let jump = i32::try_from(one * 4).unwrap();
        let verdicts = [ACCEPT, jump, policy, ACCEPT, -5];
        let at = |place: usize| u32::try_from(one * place).unwrap();
        Table {
            hooks: 0b1110,
            begins: [0, at(0), at(1), at(3), 0],
            policies: [0, at(0), at(2), at(3), 0],
            count: 5,
            entries: verdicts.iter().flat_map(|v| standard(ipv4, *v)).collect(),
        }
    }

    #[test]
    fn accepts_come_to_the_head_of_a_chain_that_drops_and_go_again() {
        let bridges = BTreeSet::from(["br-a".to_owned(), "br-b".to_owned()]);
        for ipv4 in [true, false] {
            let before = table(ipv4, DROP);
            let there = changed(&before, ipv4, "berth", &bridges).unwrap();
            assert_eq!(there.added, 4);
            let all = entries(&there.table, ipv4).unwrap();
            let (begin, policy) = chain(&there.table, &all, FORWARD).unwrap();
            let comments: Vec<_> = all[begin..policy].iter().map(Entry::comment).collect();
            let tags = [
                "berth: from br-a",
                "berth: to br-a",
                "berth: from br-b",
                "berth: to br-b",
            ];
            assert_eq!(comments[..4], tags.map(Some));
            // The jump leads to where its chain is now.
            let jump = usize::try_from(all[begin + 4].verdict().unwrap()).unwrap();
            assert_eq!(jump, all.last().unwrap().at);
            assert!(changed(&there.table, ipv4, "berth", &bridges).is_none());
            // Another daemon's are none of ours.
            assert!(changed(&there.table, ipv4, "berth-two", &BTreeSet::new()).is_none());
            let back = changed(&there.table, ipv4, "berth", &BTreeSet::new()).unwrap();
            assert_eq!(back.table, before);
            assert_eq!(back.source.iter().flatten().count(), 5);
        }
    }

    #[test]
    fn a_chain_that_accepts_is_left_alone() {
        let bridges = BTreeSet::from(["br-a".to_owned()]);
        assert!(changed(&table(true, ACCEPT), true, "berth", &bridges).is_none());
        assert_eq!(drops(&table(true, ACCEPT), true, INPUT), Some(false));
    }

    #[test]
    fn what_is_no_table_is_left_alone() {
        let mut cut = table(true, DROP);
        cut.entries.truncate(300);
        assert!(changed(&cut, true, "berth", &BTreeSet::new()).is_none());
        assert_eq!(drops(&cut, true, FORWARD), None);
    }
}
