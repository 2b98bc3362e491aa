//! Which networks there are, who is a member, and which addresses are taken. Pure.
//!
//! The book is memory: built from records when the engine opens, changed by the service under a lock that is held
//! for no wait and no call of the kernel. A network that is being made or removed is in the book, so that its name
//! and its subnets are taken, but nobody can join it.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use berth_net::address::{AddressError, Prefix, SubnetAddresses};
use berth_types::{ContainerId, NetworkId};
use indexmap::IndexMap;

use super::options::DriverOptions;
use super::record::NetworkRecord;
use super::view::{Member, NetworkView, RunNetwork};
use crate::error::EngineError;
use crate::limits;

/// Where a network is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// Being made.
    Making,
    /// There.
    Ready,
    /// Being removed.
    Removing,
}

/// A network with its members.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) record: Arc<NetworkRecord>,
    pub(super) options: Arc<DriverOptions>,
    pub(super) stage: Stage,
    subnets: Vec<SubnetAddresses>,
    members: IndexMap<ContainerId, Member>,
    /// Counts changes of the members, so that a names file is never written over by an older one.
    pub(super) version: u64,
    /// Whether it is made when it is first needed, and has not been yet.
    pub(super) lazy: bool,
}

/// All networks.
#[derive(Debug, Default)]
pub(super) struct Book {
    entries: IndexMap<NetworkId, Entry>,
    names: HashMap<String, NetworkId>,
    runs: HashMap<ContainerId, Arc<RunNetwork>>,
}

/// Addresses taken for an endpoint.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Addresses {
    pub(super) ipv4: Option<Prefix>,
    pub(super) ipv6: Option<Prefix>,
}

impl Entry {
    fn new(record: Arc<NetworkRecord>, options: Arc<DriverOptions>, stage: Stage) -> Self {
        let subnets = record
            .subnets
            .iter()
            .map(|subnet| {
                let mut addresses = SubnetAddresses::new(subnet.subnet, subnet.ip_range);
                for address in subnet.gateway.iter().chain(subnet.auxiliary.values()) {
                    // Two names for one address are fine.
                    let _ = addresses.take(*address);
                }
                addresses
            })
            .collect();
        Self {
            record,
            options,
            stage,
            subnets,
            members: IndexMap::new(),
            version: 0,
            lazy: false,
        }
    }

    /// Members, in the order they came.
    pub(super) fn members(&self) -> impl Iterator<Item = &Member> {
        self.members.values()
    }

    pub(super) fn member(&self, container: &ContainerId) -> Option<&Member> {
        self.members.get(container)
    }

    fn take_family(
        &mut self,
        ipv4: bool,
        asked: Option<IpAddr>,
    ) -> Result<Option<Prefix>, AddressError> {
        let mut of_family = self
            .subnets
            .iter_mut()
            .filter(|s| s.subnet().is_ipv4() == ipv4)
            .peekable();
        if of_family.peek().is_none() {
            return match asked {
                Some(asked) => Err(AddressError::OutOfRange(asked)),
                None => Ok(None),
            };
        }
        let mut last = AddressError::Exhausted;
        for subnet in of_family {
            let length = subnet.subnet().length();
            let taken = match asked {
                Some(asked) => subnet.take(asked).map(|()| asked),
                None => subnet.take_next(),
            };
            match taken {
                Ok(address) => return Ok(Prefix::new(address, length)),
                Err(error @ AddressError::InUse) => return Err(error),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Takes addresses of both families, or none.
    pub(super) fn take(
        &mut self,
        ipv4: Option<IpAddr>,
        ipv6: Option<IpAddr>,
    ) -> Result<Addresses, EngineError> {
        let told = |family: u8, error: AddressError, record: &NetworkRecord| match error {
            AddressError::InUse => EngineError::Forbidden(error.to_string()),
            AddressError::OutOfRange(address) => EngineError::Invalid(format!(
                "invalid address {address}: It does not belong to any of this network's subnets"
            )),
            AddressError::Exhausted => EngineError::Conflict(format!(
                "no available IPv{family} addresses on this network's address pools: {} ({})",
                record.name, record.id
            )),
        };
        let first = self
            .take_family(true, ipv4)
            .map_err(|e| told(4, e, &self.record))?;
        match self.take_family(false, ipv6) {
            Ok(second) => Ok(Addresses {
                ipv4: first,
                ipv6: second,
            }),
            Err(error) => {
                if let Some(first) = first {
                    self.give_back(first.address());
                }
                Err(told(6, error, &self.record))
            }
        }
    }

    /// Takes what a running container has already, after a start of the engine. What somebody else has too stays
    /// with both: the kernel already answers for both.
    pub(super) fn adopt(&mut self, member: Member) {
        for address in [member.endpoint.ipv4, member.endpoint.ipv6]
            .into_iter()
            .flatten()
        {
            for subnet in &mut self.subnets {
                let _ = subnet.take(address.address());
            }
        }
        self.join(member);
    }

    pub(super) fn give_back(&mut self, address: IpAddr) {
        for subnet in &mut self.subnets {
            subnet.release(address);
        }
    }

    pub(super) fn join(&mut self, member: Member) {
        self.version += 1;
        self.members.insert(member.container.clone(), member);
    }

    /// Takes a member out and gives its addresses back.
    pub(super) fn leave(&mut self, container: &ContainerId) -> Option<Member> {
        let member = self.members.shift_remove(container)?;
        self.version += 1;
        for address in [member.endpoint.ipv4, member.endpoint.ipv6]
            .into_iter()
            .flatten()
        {
            self.give_back(address.address());
        }
        Some(member)
    }

    pub(super) fn view(&self) -> NetworkView {
        NetworkView {
            record: Arc::clone(&self.record),
            members: self.members.values().cloned().collect(),
        }
    }
}

impl Book {
    /// Puts a network in.
    pub(super) fn insert(
        &mut self,
        record: Arc<NetworkRecord>,
        options: Arc<DriverOptions>,
        stage: Stage,
    ) {
        self.names.insert(record.name.clone(), record.id.clone());
        self.entries
            .insert(record.id.clone(), Entry::new(record, options, stage));
    }

    /// Takes a network out.
    pub(super) fn remove(&mut self, id: &NetworkId) {
        if let Some(entry) = self.entries.shift_remove(id)
            && self.names.get(&entry.record.name) == Some(id)
        {
            self.names.remove(&entry.record.name);
        }
    }

    pub(super) fn get(&self, id: &NetworkId) -> Option<&Entry> {
        self.entries.get(id)
    }

    pub(super) fn get_mut(&mut self, id: &NetworkId) -> Option<&mut Entry> {
        self.entries.get_mut(id)
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values()
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The network of this name, id, or beginning of an id; in this order, as Docker.
    pub(super) fn find(&self, reference: &str) -> Result<&Entry, EngineError> {
        let missing = || {
            let shown: String = reference.chars().take(limits::NETWORK_NAME_MAX).collect();
            EngineError::NotFound(format!("network {shown} not found"))
        };
        if reference.is_empty() {
            return Err(missing());
        }
        let name = if reference == "default" {
            "bridge"
        } else {
            reference
        };
        if let Ok(id) = NetworkId::parse(reference)
            && let Some(entry) = self.entries.get(&id)
        {
            return Ok(entry);
        }
        if let Some(entry) = self.names.get(name).and_then(|id| self.entries.get(id)) {
            return Ok(entry);
        }
        let mut found = self
            .entries
            .values()
            .filter(|e| e.record.id.as_str().starts_with(reference));
        let first = found.next().ok_or_else(missing)?;
        match found.count() {
            0 => Ok(first),
            more => Err(EngineError::Invalid(format!(
                "network {reference} is ambiguous ({} matches found based on ID prefix)",
                more + 1
            ))),
        }
    }

    /// As [`find`](Self::find), and one that can be joined.
    pub(super) fn find_ready(&self, reference: &str) -> Result<&Entry, EngineError> {
        let entry = self.find(reference)?;
        if entry.stage == Stage::Ready {
            return Ok(entry);
        }
        Err(EngineError::NotFound(format!(
            "network {} not found",
            entry.record.name
        )))
    }

    /// What a running container has.
    pub(super) fn run(&self, container: &ContainerId) -> Option<&Arc<RunNetwork>> {
        self.runs.get(container)
    }

    /// What every running container has.
    pub(super) fn runs(&self) -> impl Iterator<Item = (&ContainerId, &RunNetwork)> {
        self.runs.iter().map(|(id, run)| (id, &**run))
    }

    /// Says what a container has now, and brings its membership in line.
    pub(super) fn set_run(&mut self, container: &ContainerId, run: Arc<RunNetwork>) {
        for endpoint in &run.endpoints {
            if let Some(entry) = self.entries.get_mut(&endpoint.network)
                && let Some(member) = entry.members.get_mut(container)
                && member.endpoint != *endpoint
            {
                member.endpoint = Arc::clone(endpoint);
                entry.version += 1;
            }
        }
        self.runs.insert(container.clone(), run);
    }

    /// Forgets what a container had; its memberships stay until it leaves them.
    pub(super) fn take_run(&mut self, container: &ContainerId) -> Option<Arc<RunNetwork>> {
        self.runs.remove(container)
    }

    /// Calls a container by another name, and says in which networks that is heard.
    pub(super) fn rename(&mut self, container: &ContainerId, name: &str) -> Vec<NetworkId> {
        let Some(run) = self.runs.get(container) else {
            return Vec::new();
        };
        let mut run = RunNetwork::clone(run);
        called(&mut run, name);
        for endpoint in &run.endpoints {
            if let Some(member) = self
                .entries
                .get_mut(&endpoint.network)
                .and_then(|e| e.members.get_mut(container))
            {
                name.clone_into(&mut member.name);
            }
        }
        let networks = run.endpoints.iter().map(|e| e.network.clone()).collect();
        self.set_run(container, Arc::new(run));
        networks
    }

    /// Takes up what a container has that ran before this book.
    pub(super) fn adopt(&mut self, container: &ContainerId, name: &str, mut run: RunNetwork) {
        called(&mut run, name);
        for endpoint in &run.endpoints {
            if let Some(entry) = self.entries.get_mut(&endpoint.network) {
                entry.adopt(Member {
                    container: container.clone(),
                    name: name.to_owned(),
                    endpoint: Arc::clone(endpoint),
                });
            }
        }
        self.runs.insert(container.clone(), Arc::new(run));
    }
}

/// Puts a container's name first among what it is called, where it is called anything.
fn called(run: &mut RunNetwork, name: &str) {
    for endpoint in &mut run.endpoints {
        if endpoint.names.first().is_some_and(|first| first != name) {
            name.clone_into(&mut Arc::make_mut(endpoint).names[0]);
        }
    }
}
