//! Joining a container's namespace to a network, and leaving it.

use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Instant;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkAttribute, LinkMessage};
use rustix::io::Errno;

use super::announce;
use super::namespace::{PREPARED_NAME, Pair, Sandbox, no_detection, veth, without_ipv6};
use super::plan::{EndpointKind, EndpointPlan, Gateway};
use super::{Error, Result};
use crate::address::{HardwareAddress, Prefix};
use crate::limits;
use crate::link::{BridgePort, Host, LinkName, alias, setting};
use crate::netlink::{Batch, Route, message};

/// The main table, which `ip route` shows (`RT_TABLE_MAIN`).
const MAIN_TABLE: u32 = 254;

/// An endpoint that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attached {
    /// The interface's number inside.
    pub interface: u32,
    /// The number of the host's end of the pair; `None` for macvlan and ipvlan.
    pub host_end: Option<u32>,
    /// The interface's Ethernet address: the plan's, or the kernel's choice.
    pub hardware_address: Option<HardwareAddress>,
}

/// By which interface packets leave that have no other route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DefaultGateway {
    /// The interface inside.
    pub interface: LinkName,
    /// The router.
    pub gateway: Gateway,
}

/// An interface inside that is being made.
struct End {
    inside: u32,
    host: Option<u32>,
    /// What it is still called, when that is not what the plan says.
    called: Option<&'static str>,
    mtu: u32,
    /// The pair it came from, when that was prepared: then it is up, and IPv6 is off on it.
    pair: Option<Pair>,
}

impl Sandbox {
    /// Makes the endpoint: joins the host's side, then sets addresses, routes and settings inside.
    ///
    /// A prepared pair is taken for an endpoint on a bridge. When it fails, nothing of the endpoint is left.
    pub fn attach(&mut self, host: &Host, plan: &EndpointPlan) -> Result<Attached> {
        let end = match &plan.kind {
            EndpointKind::Bridge {
                bridge,
                host_end,
                owner,
                port,
            } => {
                let mut behaviour = *port;
                behaviour.hairpin |= host.filters_frames()?;
                let port = Port {
                    bridge,
                    name: host_end,
                    owner,
                    behaviour,
                };
                self.join_bridge(host, plan, &port)?
            }
            EndpointKind::Macvlan { parent, mode } => {
                self.lie_on(host, plan, parent, mode.attribute(), true)?
            }
            EndpointKind::Ipvlan { parent, mode, flag } => {
                self.lie_on(host, plan, parent, mode.attribute(*flag), false)?
            }
        };
        let configured = self.configure(host, plan, &end);
        if configured.is_err() {
            self.undo(host, &end);
        }
        let hardware_address = configured?;
        Ok(Attached {
            interface: end.inside,
            host_end: end.host,
            hardware_address,
        })
    }

    /// Removes an interface, and with it the host's end of its pair; one that is not there is fine.
    pub fn detach(&mut self, interface: &LinkName) -> Result<()> {
        let Some(link) = self.route.find_link(interface.as_str())? else {
            return Ok(());
        };
        let mut batch = Batch::new();
        let attempt = format!("remove interface {interface}");
        batch.remove_link(attempt, message::link(link.index, Vec::new()));
        Ok(self.route.execute(batch)?)
    }

    /// Makes `gateway` the only default route of a family, or removes all of them.
    ///
    /// The old route is replaced in one step, so that no packet finds none.
    pub fn set_default_gateway(
        &mut self,
        ipv4: bool,
        gateway: Option<&DefaultGateway>,
    ) -> Result<()> {
        let everywhere = everywhere(ipv4);
        let mut wanted = None;
        if let Some(gateway) = gateway {
            let link = self.route.link(gateway.interface.as_str())?;
            let mut batch = Batch::new();
            let router = gateway.gateway.address();
            batch.replace_route(everywhere, link.index, &link.name, router);
            self.route.execute(batch)?;
            wanted = Some((link.index, router));
        }
        let mut batch = Batch::new();
        for route in self.route.routes()? {
            let Some(link) = route.link else { continue };
            if route.destination == everywhere
                && route.table == MAIN_TABLE
                && wanted != Some((link, route.gateway))
            {
                batch.remove_route(everywhere, link, route.gateway);
            }
        }
        Ok(self.route.execute(batch)?)
    }

    /// Tells neighbours of these addresses of an interface again.
    pub fn announce(&mut self, interface: &LinkName, addresses: &[Prefix]) -> Result<()> {
        let link = self.route.link(interface.as_str())?;
        match link.hardware_address {
            Some(owner) => self.send_announcements(link.index, owner, addresses.iter().copied()),
            None => Ok(()),
        }
    }

    fn join_bridge(&mut self, host: &Host, plan: &EndpointPlan, port: &Port<'_>) -> Result<End> {
        let mut on_host = host.route();
        let bridge = match on_host.find_link(port.bridge.as_str())? {
            Some(link) if link.kind.as_deref() == Some("bridge") => link.index,
            Some(_) => {
                return Err(Error::WrongKind {
                    name: port.bridge.clone(),
                    wanted: "bridge",
                });
            }
            None => return Err(Error::BridgeMissing(port.bridge.clone())),
        };
        let Some(pair) = self.pair.take() else {
            drop(on_host);
            return self.make_port(host, plan, port, bridge);
        };
        let end = End {
            inside: pair.inside,
            host: Some(pair.host),
            called: (plan.interface.as_str() != PREPARED_NAME).then_some(PREPARED_NAME),
            mtu: pair.mtu,
            pair: Some(pair),
        };
        let joined = end.join(&mut on_host, plan, port, bridge);
        drop(on_host);
        if let Err(error) = joined {
            self.undo(host, &end);
            return Err(port.explain(error));
        }
        Ok(end)
    }

    /// Makes a pair that is a port of the bridge from the start; its end inside is still down.
    fn make_port(
        &mut self,
        host: &Host,
        plan: &EndpointPlan,
        port: &Port<'_>,
        bridge: u32,
    ) -> Result<End> {
        let name = port.name.as_str();
        let request = || {
            let mut outside = vec![LinkAttribute::IfName(name.to_owned())];
            let mut inside = vec![LinkAttribute::IfName(plan.interface.to_string())];
            for attributes in [&mut outside, &mut inside] {
                attributes.extend(plan.mtu.map(LinkAttribute::Mtu));
            }
            inside.extend(address(plan));
            let mut batch = Batch::new();
            let attempt = format!("create veth pair {name} for {}", plan.interface);
            batch.create_link(attempt, veth(outside, &self.namespace, inside));
            batch
        };
        let mut on_host = host.route();
        if let Err(error) = on_host.execute(request()) {
            // Left by an endpoint whose namespace the kernel is still taking away, or by a crash in between.
            let present = on_host.find_link(name)?;
            let stale = present.filter(|link| {
                error.is_already_exists() && link.alias.as_deref() == Some(alias(port.owner))
            });
            let Some(stale) = stale else {
                return Err(error.into());
            };
            on_host.execute(removal(stale.index, name))?;
            on_host.execute(request())?;
        }
        let made = on_host.link(name)?;
        drop(on_host);
        let mut batch = Batch::new();
        port.push(&mut batch, made.index, bridge, Vec::new());
        let inside = without_ipv6(host, name)
            .and_then(|()| Ok(host.route().execute(batch)?))
            .and_then(|()| Ok(self.route.link(plan.interface.as_str())?));
        match inside {
            Ok(inside) => Ok(End {
                inside: inside.index,
                host: Some(made.index),
                called: None,
                mtu: inside.mtu,
                pair: None,
            }),
            Err(error) => {
                // The failure is what the caller needs to hear of; what is left carries the endpoint's name.
                let _ = host.route().execute(removal(made.index, name));
                Err(port.explain(error))
            }
        }
    }

    /// Makes a macvlan or ipvlan link on a parent of the host, at once inside; it is still down.
    fn lie_on(
        &mut self,
        host: &Host,
        plan: &EndpointPlan,
        parent: &LinkName,
        kind: LinkAttribute,
        addressed: bool,
    ) -> Result<End> {
        let name = plan.interface.as_str();
        let mut on_host = host.route();
        let parent = match on_host.find_link(parent.as_str())? {
            Some(link) if link.loopback => return Err(Error::ParentLoopback),
            Some(link) => link,
            None => return Err(Error::ParentMissing(parent.clone())),
        };
        let mut attributes = vec![
            LinkAttribute::IfName(name.to_owned()),
            LinkAttribute::Link(parent.index),
            LinkAttribute::NetNsFd(self.namespace.as_fd().as_raw_fd()),
            kind,
        ];
        attributes.extend(plan.mtu.map(LinkAttribute::Mtu));
        if addressed {
            attributes.extend(address(plan));
        }
        let mut batch = Batch::new();
        batch.push(
            format!("create interface {name} on {}", parent.name),
            NLM_F_CREATE | NLM_F_EXCL,
            &RouteNetlinkMessage::NewLink(message::link(0, attributes)),
        );
        on_host.execute(batch)?;
        drop(on_host);
        let made = self.route.link(name)?;
        Ok(End {
            inside: made.index,
            host: None,
            called: None,
            mtu: made.mtu,
            pair: None,
        })
    }

    /// Sets all that is set inside; the answer is the interface's Ethernet address.
    fn configure(
        &mut self,
        host: &Host,
        plan: &EndpointPlan,
        end: &End,
    ) -> Result<Option<HardwareAddress>> {
        let name = plan.interface.as_str();
        match &end.pair {
            Some(pair) if plan.has_ipv6() => {
                // The kernel makes an address of its own from the Ethernet address when IPv6 is switched on.
                let mut batch = Batch::new();
                if let Some(address) = address(plan) {
                    let link = message::link(end.inside, vec![address]);
                    batch.change_link(format!("give {name} its Ethernet address"), link);
                }
                self.route.execute(batch)?;
                pair.enable_ipv6()?;
            }
            Some(_) => {}
            None => {
                let disabled = if plan.has_ipv6() { "0" } else { "1" };
                self.namespace.run(|| {
                    if end.host.is_some() {
                        setting::ensure(&no_detection(name), "0")?;
                    }
                    setting::ensure(&format!("ipv6/conf/{name}/disable_ipv6"), disabled)
                })??;
            }
        }
        let mut batch = Batch::new();
        end.push_link(&mut batch, plan);
        for address in plan.all_addresses() {
            batch.add_address(end.inside, name, address);
        }
        if plan.settings.is_empty() {
            push_routes(&mut batch, plan, end.inside);
            end.execute(&mut self.route, batch, plan)?;
        } else {
            end.execute(&mut self.route, batch, plan)?;
            self.namespace.run(|| {
                plan.settings
                    .iter()
                    .try_for_each(|setting| setting.apply(name))
            })??;
            let mut batch = Batch::new();
            push_routes(&mut batch, plan, end.inside);
            self.route.execute(batch)?;
        }
        let owner = match plan.hardware_address {
            Some(address) => Some(address),
            None => self
                .route
                .find_link_by_index(end.inside)?
                .and_then(|link| link.hardware_address),
        };
        end.wait_for_port(host)?;
        if plan.announce
            && let Some(owner) = owner
        {
            self.send_announcements(end.inside, owner, plan.all_addresses())?;
        }
        Ok(owner)
    }

    fn send_announcements(
        &self,
        interface: u32,
        owner: HardwareAddress,
        addresses: impl Iterator<Item = Prefix> + Send,
    ) -> Result<()> {
        self.namespace.run(|| {
            for address in addresses {
                let frame = announce::frame(owner, address.address());
                match berth_sys::network::send_frame(interface, &frame) {
                    Ok(()) => {}
                    // The parent is down, so there is nobody to tell, or the link takes no frames (ipvlan l3).
                    Err(error)
                        if matches!(
                            error.errno(),
                            Some(Errno::NETDOWN | Errno::NXIO | Errno::NOBUFS | Errno::AGAIN)
                        ) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            Ok(())
        })?
    }

    /// Removes what is there of an endpoint that could not be completed.
    fn undo(&mut self, host: &Host, end: &End) {
        // The failure that led here is what the caller needs to hear of. Either end takes the other with it.
        let removed = match end.host {
            Some(index) => host
                .route()
                .execute(removal(index, "an endpoint's host end")),
            None => self.route.execute(removal(end.inside, "an endpoint")),
        };
        let _ = removed;
    }
}

/// The host's end of an endpoint on a bridge.
struct Port<'a> {
    bridge: &'a LinkName,
    name: &'a LinkName,
    owner: &'a str,
    behaviour: BridgePort,
}

impl Port<'_> {
    /// Lets the link become the port, with further `attributes`, and sets it up.
    fn push(&self, batch: &mut Batch, link: u32, bridge: u32, mut attributes: Vec<LinkAttribute>) {
        attributes.push(LinkAttribute::IfAlias(alias(self.owner).to_owned()));
        attributes.push(LinkAttribute::Controller(bridge));
        let mut joined = message::link(link, attributes);
        message::set_up(&mut joined, true);
        batch.change_link(
            format!("join {} to bridge {}", self.name, self.bridge),
            joined,
        );
        if self.behaviour != BridgePort::default() {
            batch.change_link(
                format!(
                    "set how port {} of bridge {} behaves",
                    self.name, self.bridge
                ),
                message::link(link, vec![self.behaviour.attribute()]),
            );
        }
    }

    /// The kernel answers "Exchange full" when a bridge has no number left for another port.
    fn explain(&self, error: Error) -> Error {
        match &error {
            Error::Netlink(refused) if refused.errno() == Some(Errno::XFULL) => {
                Error::BridgeFull(self.bridge.clone())
            }
            _ => error,
        }
    }
}

impl End {
    /// Lets the host's end of a prepared pair become the port.
    fn join(
        &self,
        on_host: &mut Route,
        plan: &EndpointPlan,
        port: &Port<'_>,
        bridge: u32,
    ) -> Result<()> {
        let Some(link) = self.host else { return Ok(()) };
        let request = |down_first: bool| {
            let mut batch = Batch::new();
            if down_first {
                batch.change_link(format!("set down {}", port.name), set(link, false));
            }
            let mut attributes = vec![LinkAttribute::IfName(port.name.to_string())];
            attributes.extend(
                plan.mtu
                    .filter(|mtu| *mtu != self.mtu)
                    .map(LinkAttribute::Mtu),
            );
            port.push(&mut batch, link, bridge, attributes);
            batch
        };
        let (mut down_first, mut freed) = (false, false);
        loop {
            match on_host.execute(request(down_first)) {
                // As in `make_port`: the name is still held by an earlier run of the same endpoint.
                Err(error) if error.is_already_exists() && !freed => {
                    let present = on_host.find_link(port.name.as_str())?;
                    let stale =
                        present.filter(|link| link.alias.as_deref() == Some(alias(port.owner)));
                    let Some(stale) = stale else {
                        return Err(error.into());
                    };
                    on_host.execute(removal(stale.index, port.name.as_str()))?;
                    freed = true;
                }
                // Kernels before 6.2 rename links only while they are down.
                Err(error) if error.errno() == Some(Errno::BUSY) && !down_first => {
                    down_first = true;
                }
                answer => return Ok(answer?),
            }
        }
    }

    /// Waits until the bridge has noticed that the host's end is up: what is sent before is lost, and tried again
    /// after a second only.
    ///
    /// The kernel tells the bridge from a work queue when a pair comes up; of a prepared pair it has done so long ago.
    fn wait_for_port(&self, host: &Host) -> Result<()> {
        let Some(index) = self.host else {
            return Ok(());
        };
        let deadline = Instant::now() + limits::PORT_FORWARDS;
        loop {
            let link = host.route().find_link_by_index(index)?;
            if !link.is_some_and(|link| link.port_disabled) || Instant::now() >= deadline {
                return Ok(());
            }
            std::thread::sleep(limits::PORT_LOOKS);
        }
    }

    /// What is set on the link itself: name, Ethernet address, size, up.
    fn push_link(&self, batch: &mut Batch, plan: &EndpointPlan) {
        let name = plan.interface.as_str();
        let mut attributes = Vec::new();
        if self.called.is_some() {
            attributes.push(LinkAttribute::IfName(name.to_owned()));
        }
        if self.pair.is_some() {
            attributes.extend(address(plan));
            attributes.extend(
                plan.mtu
                    .filter(|mtu| *mtu != self.mtu)
                    .map(LinkAttribute::Mtu),
            );
        }
        let mut link = message::link(self.inside, attributes);
        if self.pair.is_none() {
            message::set_up(&mut link, true);
        }
        if self.pair.is_none() || !link.attributes.is_empty() {
            batch.change_link(format!("set up interface {name}"), link);
        }
    }

    /// Carries out a batch that may rename the link, which kernels before 6.2 do only while it is down.
    fn execute(&self, route: &mut Route, batch: Batch, plan: &EndpointPlan) -> Result<()> {
        match route.execute(batch) {
            Err(error) if self.called.is_some() && error.errno() == Some(Errno::BUSY) => {
                let name = plan.interface.as_str();
                let mut batch = Batch::new();
                batch.change_link(format!("set down {name}"), set(self.inside, false));
                self.push_link(&mut batch, plan);
                batch.change_link(format!("set up {name}"), set(self.inside, true));
                for address in plan.all_addresses() {
                    batch.add_address(self.inside, name, address);
                }
                if plan.settings.is_empty() {
                    push_routes(&mut batch, plan, self.inside);
                }
                Ok(route.execute(batch)?)
            }
            answer => Ok(answer?),
        }
    }
}

/// The routes of the plan, the default ones last.
fn push_routes(batch: &mut Batch, plan: &EndpointPlan, link: u32) {
    let name = plan.interface.as_str();
    let ipv6 = plan.routes_ipv6();
    for route in plan
        .routes
        .iter()
        .filter(|route| ipv6 || route.destination.is_ipv4())
    {
        batch.replace_route(route.destination, link, name, route.gateway);
    }
    let gateway_ipv6 = plan.gateway_ipv6.filter(|_| ipv6);
    for (ipv4, gateway) in [(true, plan.gateway_ipv4), (false, gateway_ipv6)] {
        if let Some(gateway) = gateway {
            batch.replace_route(everywhere(ipv4), link, name, gateway.address());
        }
    }
}

/// The Ethernet address of the plan.
fn address(plan: &EndpointPlan) -> Option<LinkAttribute> {
    plan.hardware_address
        .map(|address| LinkAttribute::Address(address.0.to_vec()))
}

/// The message that sets a link up or down.
fn set(link: u32, up: bool) -> LinkMessage {
    let mut message = message::link(link, Vec::new());
    message::set_up(&mut message, up);
    message
}

/// The batch that removes one link.
fn removal(link: u32, name: &str) -> Batch {
    let mut batch = Batch::new();
    batch.remove_link(format!("remove {name}"), message::link(link, Vec::new()));
    batch
}

/// The destination of a default route.
fn everywhere(ipv4: bool) -> Prefix {
    let unspecified: IpAddr = if ipv4 {
        std::net::Ipv4Addr::UNSPECIFIED.into()
    } else {
        std::net::Ipv6Addr::UNSPECIFIED.into()
    };
    Prefix::new(unspecified, 0).expect("every family has a prefix of no bits")
}
