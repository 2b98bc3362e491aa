//! The host's side: the namespace in which bridges and parents are.

use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{LinkName, Result};
use crate::address::Prefix;
use crate::limits;
use crate::netlink::{Batch, DefaultRoute, Link, Namespace, Route, Watch, message};

/// The namespace in which bridges and parents are, and the conversation about it.
///
/// One conversation at a time: the kernel has one lock for all of them, so more would only wait there.
#[derive(Debug)]
pub struct Host {
    namespace: Namespace,
    route: Mutex<Route>,
}

/// A link that carries a mark of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stray {
    /// Its name.
    pub name: LinkName,
    /// What it is ("bridge", "veth").
    pub kind: Option<String>,
    /// The whole mark, as the plan said it (`owner`).
    pub owner: String,
}

impl Host {
    /// The namespace of the calling thread.
    pub fn open() -> Result<Self> {
        Self::open_in(Namespace::current()?)
    }

    /// Another namespace, which then plays the host.
    pub fn open_in(namespace: Namespace) -> Result<Self> {
        let route = Mutex::new(Route::open_in(&namespace)?);
        Ok(Self { namespace, route })
    }

    /// The namespace.
    #[must_use]
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// The conversation; held as short as possible.
    pub(crate) fn route(&self) -> MutexGuard<'_, Route> {
        // Every request reads all of its answer or none that counts, so a panic elsewhere leaves it usable.
        self.route.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `work` in the host's namespace.
    pub(crate) fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        Ok(self.namespace.run(work)?)
    }

    /// The networks that routes and addresses of the host lead to; those of loopback, and the default, left out.
    ///
    /// A subnet that overlaps one of them would hide it. Routes of links in `but` (bridges of our own networks,
    /// whose subnets are known from records) are left out.
    pub fn routes(&self, but: &[LinkName]) -> Result<Vec<Prefix>> {
        let mut route = self.route();
        let links = route.links()?;
        let counts = |index: Option<u32>| {
            links
                .iter()
                .find(|link| Some(link.index) == index)
                .is_none_or(|link| {
                    !link.loopback && !but.iter().any(|name| name.as_str() == link.name)
                })
        };
        let mut networks: Vec<Prefix> = route
            .routes()?
            .into_iter()
            .filter(|route| route.destination.length() > 0 && counts(route.link))
            .map(|route| route.destination.network())
            .collect();
        let addresses = route.addresses()?.into_iter();
        networks.extend(
            addresses
                .filter(|address| counts(Some(address.link)))
                .map(|address| address.prefix.network()),
        );
        // Every interface has one of these, and none hides another.
        networks.retain(|network| !is_link_local(network.address()));
        networks.sort_unstable();
        networks.dedup();
        Ok(networks)
    }

    /// The addresses of the host, with the interface each is on.
    pub fn addresses(&self) -> Result<Vec<(String, Prefix)>> {
        let mut route = self.route();
        let links = route.links()?;
        let name = |index: u32| links.iter().find(|link| link.index == index);
        Ok(route
            .addresses()?
            .into_iter()
            .filter_map(|address| Some((name(address.link)?.name.clone(), address.prefix)))
            .collect())
    }

    /// The default route of a family.
    pub fn default_route(&self, ipv4: bool) -> Result<Option<DefaultRoute>> {
        Ok(self.route().default_route(ipv4)?)
    }

    /// Bytes of the largest packet that leaves the host whole: of the default route of IPv4, else of IPv6, else 1500.
    pub fn default_mtu(&self) -> Result<u32> {
        let route = match self.default_route(true)? {
            Some(route) => Some(route),
            None => self.default_route(false)?,
        };
        Ok(route.map_or(limits::MTU_WITHOUT_ROUTE, |route| {
            route.mtu.clamp(limits::MTU_LEAST, limits::MTU_MOST)
        }))
    }

    /// A descriptor that becomes readable when routes, addresses or links change.
    pub fn watch(&self) -> Result<Watch> {
        Ok(Watch::open_in(&self.namespace)?)
    }

    /// The link of this name.
    pub fn find_link(&self, name: &LinkName) -> Result<Option<Link>> {
        Ok(self.route().find_link(name.as_str())?)
    }

    /// The links whose mark (`owner` of a plan) begins with `prefix`; those that no record knows are to be removed.
    pub fn strays(&self, prefix: &str) -> Result<Vec<Stray>> {
        let links = self.route().links()?;
        Ok(links
            .into_iter()
            .filter_map(|link| {
                let owner = link.alias.filter(|alias| alias.starts_with(prefix))?;
                Some(Stray {
                    name: link.name.parse().ok()?,
                    kind: link.kind,
                    owner,
                })
            })
            .collect())
    }

    /// Removes a link, whatever it is; one that is not there is fine. Of a pair, both ends go.
    ///
    /// Takes the kernel tens of milliseconds: not for the path of an answer.
    pub fn remove_link(&self, name: &LinkName) -> Result<()> {
        let mut route = self.route();
        let Some(link) = route.find_link(name.as_str())? else {
            return Ok(());
        };
        let mut batch = Batch::new();
        batch.remove_link(
            format!("remove {name}"),
            message::link(link.index, Vec::new()),
        );
        Ok(route.execute(batch)?)
    }
}

/// Whether an address is of fe80::/10.
fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(address) if address.is_unicast_link_local())
}
