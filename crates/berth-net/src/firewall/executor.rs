//! The firewall of one daemon in one network namespace: what is wanted, and the kernel brought to it.
//!
//! Owns the [`Book`] of what is wanted and the socket. Every method leaves the kernel as the book says, or fails and
//! leaves it as it was; [`Firewall::heal`] finds and repairs any difference.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;

use super::audit::InputPolicy;
use super::book::Book;
use super::chains::FAMILIES;
use super::conntrack;
use super::error::{Error, Result};
use super::forwarding::{self, Forwarding};
use super::legacy;
use super::message::Batch;
use super::others::{self, Warning};
use super::parts::{Change, Parts, Protocol};
use super::schema::{Element, Set, interface_key};
use super::socket::Socket;
use super::table::{Found, Table, kind};
use crate::netlink::{Link, Route};

/// The firewall of one daemon.
#[derive(Debug)]
pub struct Firewall {
    socket: Socket,
    name: String,
    inet: Table,
    bridge: Table,
    /// Whether the table of frames is there.
    bridging: bool,
    book: Book,
    /// In which families what is not ours is not forwarded, because it was not before us either ([`Set::Strict`]), and
    /// which bridges had none then ([`Set::Earlier`]).
    strict: BTreeSet<Element>,
    /// Whether the table is there: it comes with the first change and stays until [`Firewall::remove`].
    present: bool,
}

/// What a repair found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Healed {
    /// The table was gone or changed in its fixed form, and was made anew.
    pub rebuilt: bool,
    /// Elements that were missing.
    pub added: usize,
    /// Elements that were too many.
    pub removed: usize,
    /// Accepts that chains of others were missing.
    pub accepts: usize,
    /// What the operator has to do, since we cannot.
    pub warnings: Vec<Warning>,
}

impl Firewall {
    /// Opens the firewall with the table `inet NAME` in the calling thread's network namespace. Changes nothing yet.
    ///
    /// # Errors
    ///
    /// The kernel has no nfnetlink.
    pub fn open(name: &str) -> Result<Self> {
        Ok(Self {
            socket: Socket::open()?,
            name: name.to_owned(),
            inet: Table::inet(name),
            bridge: Table::bridge(name),
            bridging: false,
            book: Book::default(),
            strict: BTreeSet::new(),
            present: false,
        })
    }

    /// The port of this firewall's socket: a [`super::Watch`] passes over notices of its changes.
    #[must_use]
    pub fn port(&self) -> u32 {
        self.socket.port()
    }

    /// What is wanted now.
    #[must_use]
    pub fn parts(&self) -> Parts {
        self.book.parts()
    }

    /// Takes over what an earlier daemon left: the kernel's elements are compared with `wanted`, and only the
    /// difference is sent. Connections go on.
    ///
    /// # Errors
    ///
    /// The kernel refuses; nothing is changed then.
    pub fn adopt(&mut self, wanted: Parts) -> Result<Healed> {
        if let Found::Whole(found) = self.inet.read(&self.socket)? {
            self.present = true;
            self.strict = found
                .iter()
                .filter(|element| matches!(element.set, Set::Strict | Set::Earlier))
                .cloned()
                .collect();
        }
        self.bridging = self.bridge.has_form(&self.socket)?;
        self.book = Book::default();
        self.book.enter(&Change {
            added: wanted,
            ..Change::default()
        });
        self.heal()
    }

    /// Lets the kernel forward packets of the families of these addresses. Where it did not do so before, what is not
    /// ours goes on not to be forwarded, but for networks on bridges that others make from then on.
    ///
    /// # Errors
    ///
    /// `/proc/sys` cannot be written, or the kernel does not list the links.
    pub fn enable_forwarding(&mut self, ipv4: bool, ipv6: bool) -> Result<()> {
        let before = self.strict.clone();
        let mut turn_on = Vec::new();
        for ((is_ipv4, family), wanted) in FAMILIES.into_iter().zip([ipv4, ipv6]) {
            if wanted && forwarding::state(is_ipv4)? == Forwarding::Off {
                let key = vec![family, 0, 0, 0];
                self.strict.insert(Element::of(Set::Strict, key));
                turn_on.push(is_ipv4);
            }
        }
        if !turn_on.is_empty() {
            let ours = self.bridges();
            let others = bridges_here()?
                .into_iter()
                .filter(|one| !ours.contains(one));
            self.strict
                .extend(others.map(|one| Element::of(Set::Earlier, interface_key(&one).to_vec())));
        }
        // The drop stands before the door is opened.
        if before != self.strict && self.present {
            let mut batch = Batch::default();
            let added = self.strict.difference(&before);
            self.inet.change(&mut batch, kind::NEW_ELEMENT, added);
            self.socket
                .commit("keep what is not ours from being forwarded", &batch)?;
        }
        for is_ipv4 in turn_on {
            forwarding::enable(is_ipv4)?;
        }
        Ok(())
    }

    /// Carries out a change, in one transaction whose cost does not depend on what is there.
    ///
    /// Connections that lead to what was removed are forgotten, and so are those of UDP ports that come, which were
    /// answered by something else before.
    ///
    /// # Errors
    ///
    /// The kernel refuses; neither it nor the book is changed then.
    pub fn apply(&mut self, change: &Change) -> Result<Vec<Warning>> {
        let (difference, back) = self.book.enter(change);
        // Where the kernel refuses, perhaps it is not as we left it: comparing all also carries the change out.
        if self.send(&difference).is_err()
            && let Err(error) = self.reconcile()
        {
            self.book.enter(&back);
            return Err(error);
        }
        self.forget(change)?;
        if change.added.networks.is_empty() && change.removed.networks.is_empty() {
            return Ok(Vec::new());
        }
        let accepts = others::adjust(&self.socket, &self.name, &self.bridges())?;
        Ok(accepts.warnings)
    }

    /// Compares the kernel with what is wanted and repairs it, as after another program flushed the rules.
    ///
    /// # Errors
    ///
    /// The kernel refuses.
    pub fn heal(&mut self) -> Result<Healed> {
        let mut healed = self.reconcile()?;
        let accepts = others::adjust(&self.socket, &self.name, &self.bridges())?;
        healed.accepts = accepts.added;
        healed.warnings = accepts.warnings;
        Ok(healed)
    }

    /// Looks at the chains of `iptables-legacy`, whose changes nobody tells of; cheap where there are none.
    pub fn heal_legacy(&self) -> Vec<Warning> {
        legacy::adjust(&self.name, &self.bridges()).warnings
    }

    /// How the host's own input chains stand towards what no rule of theirs names, for [`super::reach`].
    ///
    /// # Errors
    ///
    /// The kernel does not list its chains.
    pub fn input_policy(&self) -> Result<InputPolicy> {
        others::input_policy(&self.socket, &self.name)
    }

    /// Takes away everything of ours, also the accepts in chains of others.
    ///
    /// # Errors
    ///
    /// The kernel refuses.
    pub fn remove(&mut self) -> Result<()> {
        others::adjust(&self.socket, &self.name, &BTreeSet::new())?;
        let mut batch = Batch::default();
        self.inet.delete(&mut batch);
        if self.bridging || self.bridge.has_form(&self.socket)? {
            self.bridge.delete(&mut batch);
        }
        self.socket
            .commit(&format!("remove the table {}", self.name), &batch)?;
        self.book = Book::default();
        self.present = false;
        self.bridging = false;
        Ok(())
    }

    fn bridges(&self) -> BTreeSet<String> {
        self.book.bridges().map(str::to_owned).collect()
    }

    fn wanted(&self) -> BTreeSet<Element> {
        self.book
            .elements()
            .cloned()
            .chain(self.strict.iter().cloned())
            .collect()
    }

    fn send(&mut self, difference: &super::book::Difference) -> Result<()> {
        let bridging = self.book.keeps_members_apart();
        if !self.present || bridging != self.bridging {
            return self.reconcile().map(drop);
        }
        let mut batch = Batch::default();
        let tables = [Some(&self.inet), bridging.then_some(&self.bridge)];
        for table in tables.into_iter().flatten() {
            table.change(&mut batch, kind::DELETE_ELEMENT, difference.removed.iter());
            table.change(&mut batch, kind::NEW_ELEMENT, difference.added.iter());
        }
        self.socket
            .commit(&format!("change the table {}", self.name), &batch)
    }

    /// Brings the kernel's tables to what is wanted.
    fn reconcile(&mut self) -> Result<Healed> {
        let mut healed = Healed::default();
        let wanted = self.wanted();
        let bridging = self.book.keeps_members_apart();
        let mut batch = Batch::default();
        let mut tables = vec![&self.inet];
        if bridging {
            tables.push(&self.bridge);
        } else if self.bridging {
            self.bridge.delete(&mut batch);
        }
        for table in tables {
            let wanted = wanted.iter().filter(|element| table.holds(element));
            match table.read(&self.socket)? {
                Found::Broken => {
                    healed.rebuilt = true;
                    table.rebuild(&mut batch, wanted);
                }
                Found::Whole(found) => {
                    let wanted: BTreeSet<&Element> = wanted.collect();
                    let extra: Vec<&Element> = found
                        .iter()
                        .filter(|element| !wanted.contains(element))
                        .collect();
                    let missing: Vec<&Element> = wanted
                        .into_iter()
                        .filter(|element| !found.contains(element))
                        .collect();
                    healed.removed += extra.len();
                    healed.added += missing.len();
                    table.change(&mut batch, kind::DELETE_ELEMENT, extra.into_iter());
                    table.change(&mut batch, kind::NEW_ELEMENT, missing.into_iter());
                }
            }
        }
        self.socket
            .commit(&format!("write the table {}", self.name), &batch)?;
        self.present = true;
        self.bridging = bridging;
        Ok(healed)
    }

    fn forget(&self, change: &Change) -> Result<()> {
        let addresses: Vec<IpAddr> = change
            .removed
            .endpoints
            .iter()
            .flat_map(|endpoint| endpoint.addresses.iter().copied())
            .collect();
        conntrack::forget_addresses(&self.socket, &addresses)?;
        let ports: Vec<_> = change
            .removed
            .ports
            .iter()
            .chain(&change.added.ports)
            .filter(|port| port.protocol == Protocol::Udp && port.first != 0)
            .cloned()
            .collect();
        conntrack::forget_ports(&self.socket, &ports)
    }
}

/// The bridges of the calling thread's network namespace.
fn bridges_here() -> Result<Vec<String>> {
    let links = Route::open().and_then(|mut route| route.links());
    let links = links.map_err(|cause| {
        Error::new(
            "look which bridges are there before packets are forwarded",
            io::Error::other(cause),
        )
    })?;
    let is_bridge = |link: &Link| link.kind.as_deref() == Some("bridge");
    let bridges = links.into_iter().filter(is_bridge);
    Ok(bridges.map(|link| link.name).collect())
}
