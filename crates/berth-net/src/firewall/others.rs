//! Chains of other programs that would drop what our table lets pass.
//!
//! An accept in one table does not keep another table from dropping the packet (nft(8), "verdict statements"). Docker
//! and ufw give their forward chain the policy `drop`; firewalld ends it with a reject. Such a chain gets two accepts
//! for each of our bridges at its head, in and out, told by their comment; our own table has decided, or decides,
//! what really passes. They go with the network.
//!
//! Chains of `iptables-legacy` get the same by other means ([`super::legacy`]).

use std::collections::{BTreeMap, BTreeSet};

use super::audit::InputPolicy;
use super::error::Result;
use super::expression::{Expression, Meta, Verdict};
use super::legacy;
use super::message::{Attributes, Batch, CREATE, NFTABLES, Reader};
use super::schema::interface_key;
use super::socket::{Listing, Socket};
use super::table::{INET, comment, kind, read_comment};

/// Something the operator has to do, because we cannot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// What is so, in a sentence.
    pub text: String,
    /// A command that settles it.
    pub command: String,
}

/// What was found and done.
#[derive(Debug, Default)]
pub(crate) struct Adjusted {
    /// Accepts that were missing.
    pub(crate) added: usize,
    /// What remains.
    pub(crate) warnings: Vec<Warning>,
}

/// `NF_INET_LOCAL_IN` and `NF_INET_FORWARD`.
const INPUT: u32 = 1;
const FORWARD: u32 = 2;

type ChainKey = (u8, String, String);

#[derive(Debug, Default)]
struct ForeignChain {
    drops_by_policy: bool,
    /// The last rule drops or rejects without a condition.
    ends_in_drop: bool,
    /// Our accepts: what their comment says → handle.
    ours: BTreeMap<String, u64>,
}

/// Gives chains of others the accepts that `bridges` need, and takes back those that nobody needs.
pub(crate) fn adjust(socket: &Socket, name: &str, bridges: &BTreeSet<String>) -> Result<Adjusted> {
    let mut adjusted = Adjusted::default();
    let mut chains = chains_at(socket, name, FORWARD)?;
    read_rules(socket, name, &mut chains)?;
    for ((family, table, chain), found) in &chains {
        let mut wanted = BTreeMap::new();
        if found.drops_by_policy || found.ends_in_drop {
            for bridge in bridges {
                for meta in [Meta::InInterface, Meta::OutInterface] {
                    wanted.insert(tag(name, bridge, meta), (bridge, meta));
                }
            }
        }
        let mut batch = Batch::default();
        for (tag, handle) in &found.ours {
            if !wanted.contains_key(tag) {
                batch.push(kind::DELETE_RULE, 0, *family, |row| {
                    row.text(1, table);
                    row.text(2, chain);
                    row.bytes(3, &handle.to_be_bytes());
                });
            }
        }
        let missing = wanted
            .iter()
            .filter(|(tag, _)| !found.ours.contains_key(*tag));
        let mut added = 0;
        for (tag, (bridge, meta)) in missing {
            added += 1;
            batch.push(kind::NEW_RULE, CREATE, *family, |row| {
                row.text(1, table);
                row.text(2, chain);
                row.nest(4, |list| {
                    for expression in [
                        Expression::meta_is(*meta, interface_key(bridge).to_vec()),
                        Expression::Counter,
                        Expression::Verdict(Verdict::Accept),
                    ] {
                        expression.encode(list);
                    }
                });
                row.bytes(7, &comment(tag));
            });
        }
        let attempt = format!("let our networks pass the chain {chain} of the table {table}");
        match socket.commit(&attempt, &batch) {
            Ok(()) => adjusted.added += added,
            Err(error)
                if error.is(std::io::ErrorKind::PermissionDenied) || error.code() == Some(1) =>
            {
                adjusted
                    .warnings
                    .push(owned_by_another(table, chain, bridges));
            }
            // The chain went meanwhile; its program makes it anew, and we hear of that.
            Err(error) if error.is(std::io::ErrorKind::NotFound) => {}
            Err(error) => return Err(error),
        }
    }
    let of_legacy = legacy::adjust(name, bridges);
    adjusted.added += of_legacy.added;
    adjusted.warnings.extend(of_legacy.warnings);
    Ok(adjusted)
}

/// How the host's own input chains stand towards what no rule of theirs names.
pub(crate) fn input_policy(socket: &Socket, name: &str) -> Result<InputPolicy> {
    let mut chains = chains_at(socket, name, INPUT)?;
    read_rules(socket, name, &mut chains)?;
    let drops = chains
        .values()
        .any(|chain| chain.drops_by_policy || chain.ends_in_drop);
    Ok(match legacy::input_drops() {
        _ if drops => InputPolicy::Drop,
        Some(true) => InputPolicy::Drop,
        Some(false) => InputPolicy::Accept,
        None => InputPolicy::Unknown,
    })
}

fn tag(name: &str, bridge: &str, meta: Meta) -> String {
    let way = if meta == Meta::InInterface {
        "from"
    } else {
        "to"
    };
    format!("{name}: {way} {bridge}")
}

fn owned_by_another(table: &str, chain: &str, bridges: &BTreeSet<String>) -> Warning {
    let bridge = bridges.first().map_or("BRIDGE", String::as_str);
    Warning {
        text: format!(
            "the chain {chain} of the table {table} drops what containers send and belongs to another program alone"
        ),
        command: if table == "firewalld" {
            format!(
                "firewall-cmd --permanent --zone=trusted --add-interface={bridge} && firewall-cmd --reload"
            )
        } else {
            format!("nft insert rule inet {table} {chain} iifname {bridge} accept")
        },
    }
}

fn chains_at(socket: &Socket, name: &str, hook: u32) -> Result<BTreeMap<ChainKey, ForeignChain>> {
    let mut chains = BTreeMap::new();
    socket.dump(
        "list the chains of other firewalls",
        (NFTABLES, kind::GET_CHAIN, 0),
        &Attributes::default(),
        |listing| match listing {
            Listing::Begin => chains.clear(),
            Listing::Item(item) => {
                let row = item.attributes();
                let (Some(table), Some(chain)) = (row.text(1), row.text(3)) else {
                    return;
                };
                // The families that see packets.
                let here = row.inside(4).number(1) == Some(hook);
                let family = item.family();
                if !here || ![INET, 2, 10].contains(&family) || table == name {
                    return;
                }
                if row.text(7) != Some("filter") {
                    return;
                }
                chains.insert(
                    (family, table.to_owned(), chain.to_owned()),
                    ForeignChain {
                        drops_by_policy: row.number(5) == Some(0),
                        ..ForeignChain::default()
                    },
                );
            }
        },
    )?;
    Ok(chains)
}

fn read_rules(
    socket: &Socket,
    name: &str,
    chains: &mut BTreeMap<ChainKey, ForeignChain>,
) -> Result<()> {
    let prefix = format!("{name}: ");
    for (key, found) in chains.iter_mut() {
        let (family, table, chain) = key;
        let mut request = Attributes::default();
        request.text(1, table);
        request.text(2, chain);
        let listed = socket.dump(
            &format!("list the chain {chain} of the table {table}"),
            (NFTABLES, kind::GET_RULE, *family),
            &request,
            |listing| match listing {
                Listing::Begin => {
                    found.ours.clear();
                    found.ends_in_drop = false;
                }
                Listing::Item(item) => {
                    let row = item.attributes();
                    if row.text(1) != Some(table) || row.text(2) != Some(chain) {
                        return;
                    }
                    found.ends_in_drop = is_plain_drop(row.inside(4));
                    let tag = row.find(7).and_then(read_comment);
                    if let (Some(tag), Some(handle)) = (tag, row.long(3))
                        && tag.starts_with(&prefix)
                    {
                        found.ours.insert(tag, handle);
                    }
                }
            },
        );
        match listed {
            Ok(()) => {}
            Err(error) if error.is(std::io::ErrorKind::NotFound) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Whether a rule drops or rejects whatever comes.
fn is_plain_drop(expressions: Reader<'_>) -> bool {
    let mut drops = false;
    for (_, expression) in expressions {
        let expression = Reader(expression);
        match expression.text(1) {
            Some("counter" | "log") => {}
            Some("reject") => drops = true,
            Some("immediate") => {
                // NFTA_IMMEDIATE_DATA, NFTA_DATA_VERDICT, NFTA_VERDICT_CODE; NF_DROP.
                drops = expression.inside(2).inside(2).inside(2).number(1) == Some(0);
            }
            _ => return false,
        }
    }
    drops
}
