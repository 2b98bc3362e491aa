//! The network of a container as its monitor knows it: descriptors that it keeps, and names that it answers.
//!
//! The daemon prepares everything (a namespace, the resolver's sockets, sockets bound to published ports) and hands it over as
//! descriptors, which live as long as the monitor: a daemon that ends takes nothing of it away.

use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use berth_net::dns::{DnsSettings, DnsSockets};
use berth_net::firewall::{Policy, Protocol};
use serde::{Deserialize, Serialize};

use crate::error::MonitorError;

/// A published port that a monitor holds, and where it leads what the kernel does not translate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldPort {
    /// Its name, which the daemon chooses (`0.0.0.0:80/tcp`).
    pub name: String,
    /// Its protocol.
    pub protocol: Protocol,
    /// Address and port of the container.
    pub target: SocketAddr,
    /// Who is served.
    pub policy: Policy,
}

/// What a monitor is told about the network at its start; a part of [`crate::LaunchRequest`].
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct NetworkLaunch {
    /// Whether the container's network namespace comes as a descriptor. The network namespace of `config.json` then has no
    /// path; the monitor puts in its own.
    #[serde(default)]
    pub namespace: bool,
    /// How names are answered; `None` without a resolver of ours. Its sockets come as descriptors.
    #[serde(default)]
    pub dns: Option<DnsSettings>,
    /// Published ports whose sockets come as descriptors.
    #[serde(default)]
    pub ports: Vec<HeldPort>,
}

/// The descriptors of a launch, to fit its [`NetworkLaunch`].
#[derive(Debug, Default)]
pub struct LaunchDescriptors {
    /// The root file system, a mount attached nowhere ([`crate::LaunchRequest::mounted`]).
    pub root: Option<OwnedFd>,
    /// The container's network namespace.
    pub namespace: Option<OwnedFd>,
    /// The sockets of its resolver, opened in that namespace.
    pub dns: Option<DnsSockets>,
    /// Sockets of published ports, in the order of [`NetworkLaunch::ports`].
    pub ports: Vec<OwnedFd>,
}

/// A change while the container runs: it joined or left a network.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct NetworkChange {
    /// New settings of the resolver; `None` leaves it as it is.
    #[serde(default)]
    pub dns: Option<DnsSettings>,
    /// Whether the resolver's sockets come with this, because there was no resolver.
    #[serde(default)]
    pub sockets: bool,
    /// Names of held ports that are given up. Done before new ones are taken.
    #[serde(default)]
    pub release: Vec<String>,
    /// Ports that are held already and lead somewhere else now.
    #[serde(default)]
    pub lead: Vec<HeldPort>,
    /// Ports whose sockets come with this.
    #[serde(default)]
    pub hold: Vec<HeldPort>,
}

impl NetworkLaunch {
    /// How many descriptors come with the launch.
    pub(crate) fn descriptors(&self) -> usize {
        usize::from(self.namespace) + if self.dns.is_some() { 2 } else { 0 } + self.ports.len()
    }
}

impl LaunchDescriptors {
    /// Those of the network, in the order in which they travel.
    pub(crate) fn list(&self) -> Vec<BorrowedFd<'_>> {
        let namespace = self.namespace.iter().map(AsFd::as_fd);
        let dns = self
            .dns
            .iter()
            .flat_map(|sockets| [sockets.udp.as_fd(), sockets.tcp.as_fd()]);
        namespace
            .chain(dns)
            .chain(self.ports.iter().map(AsFd::as_fd))
            .collect()
    }

    /// The reverse of [`LaunchDescriptors::list`].
    pub(crate) fn sort(launch: &NetworkLaunch, list: Vec<OwnedFd>) -> Result<Self, MonitorError> {
        if list.len() != launch.descriptors() {
            return Err(MonitorError::Protocol(format!(
                "{} descriptors came with a launch that needs {}",
                list.len(),
                launch.descriptors()
            )));
        }
        let mut list = list.into_iter();
        let mut sorted = Self::default();
        if launch.namespace {
            sorted.namespace = list.next();
        }
        if launch.dns.is_some() {
            sorted.dns = sockets(&mut list);
        }
        sorted.ports = list.collect();
        Ok(sorted)
    }
}

/// The resolver's sockets, when these are the next.
pub(crate) fn sockets(list: &mut impl Iterator<Item = OwnedFd>) -> Option<DnsSockets> {
    let udp = list.next()?;
    let tcp = list.next()?;
    Some(DnsSockets { udp, tcp })
}
