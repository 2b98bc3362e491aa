//! What networks have in the kernel: bridges and parents, endpoints, filtering. Everything here blocks.
//!
//! Opened when the first network is needed, so that an engine whose containers have none touches nothing of the
//! host, and a host that cannot do it still runs those.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use berth_net::address::{HardwareAddress, Prefix};
use berth_net::firewall::{self, Change, Firewall, Parts};
use berth_net::link::{self, BridgePlan, BridgePort, Host, LinkName, ParentPlan};
use berth_net::sandbox::{EndpointKind, EndpointPlan, Gateway, Sandbox, SandboxPool};
use berth_types::{ContainerId, ErrorKind};

use super::endpoint::Reserved;
use super::notices::{Notice, tell, wait_for_notice, watch};
use super::options::{
    BridgeOptions, DriverOptions, GatewayMode, IpvlanMode, MacvlanMode, ParentOptions,
};
use super::plan::bridge_name;
use super::record::{Driver, NetworkRecord};
use super::settings::NetworkSettings;
use super::view::Endpoint;
use crate::error::{EngineError, chain};

/// Time between two looks at the host's routes, which change with every bridge and pair of ours.
const ROUTES_PAUSE: Duration = Duration::from_secs(2);

/// The host's side of all networks.
pub(super) struct Ground {
    pub(super) host: Arc<Host>,
    firewall: Option<Arc<Mutex<Firewall>>>,
    /// Made when the first container on a bridge is in sight: who has none has no pairs on the host.
    pool: OnceLock<SandboxPool>,
    /// Beginning of the marks of what is ours.
    mark: String,
    /// Bytes of a packet on the host's default route.
    mtu: AtomicU32,
    forwards: bool,
}

impl std::fmt::Debug for Ground {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Ground")
    }
}

fn failed(
    attempt: impl Into<String>,
    error: impl std::error::Error + Send + Sync + 'static,
    kind: ErrorKind,
) -> EngineError {
    EngineError::failed(attempt, kind, error)
}

fn of_link(attempt: impl Into<String>, error: link::Error) -> EngineError {
    let kind = error.kind();
    failed(attempt, error, kind)
}

pub(super) fn of_firewall(attempt: impl Into<String>, error: firewall::Error) -> EngineError {
    let kind = error.kind();
    failed(attempt, error, kind)
}

fn named(name: &str) -> Result<LinkName, EngineError> {
    name.parse()
        .map_err(|e: link::LinkNameError| EngineError::Invalid(e.to_string()))
}

pub(super) fn lock(firewall: &Mutex<Firewall>) -> MutexGuard<'_, Firewall> {
    // A change is a transaction of the kernel's; the book is rebuilt by the next heal.
    firewall.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Ground {
    /// Opens it, with everything that is wanted filtered already.
    pub(super) fn open(
        table: &str,
        mark: String,
        settings: &NetworkSettings,
        wanted: Parts,
    ) -> Result<Self, EngineError> {
        let host = Host::open().map_err(|e| of_link("open the host's network", e))?;
        let host = Arc::new(host);
        let mtu = host.default_mtu().unwrap_or(1500);
        let firewall = if settings.filtering {
            let mut firewall = Firewall::open(table)
                .map_err(|e| of_firewall("set up the filtering of networks", e))?;
            firewall
                .adopt(wanted)
                .map_err(|e| of_firewall("set up the filtering of networks", e))?;
            let firewall = Arc::new(Mutex::new(firewall));
            watch(table, &firewall)?;
            Some(firewall)
        } else {
            None
        };
        Ok(Self {
            host,
            firewall,
            pool: OnceLock::new(),
            mark,
            mtu: AtomicU32::new(mtu),
            forwards: settings.ip_forward,
        })
    }

    fn owner_of_network(&self, record: &NetworkRecord) -> String {
        format!("{} network {}", self.mark, record.id)
    }

    fn owner_of_endpoint(&self, container: &ContainerId, endpoint: &Endpoint) -> String {
        format!("{} endpoint {container} {}", self.mark, endpoint.id)
    }

    fn owner_of_parent(&self, parent: &LinkName) -> String {
        // Networks share it: it goes with the last of them.
        format!("{} parent {parent}", self.mark)
    }

    /// Makes what the network needs on the host, and filters it. With nothing left where it fails.
    pub(super) fn ensure_network(
        &self,
        record: &NetworkRecord,
        options: &DriverOptions,
    ) -> Result<(), EngineError> {
        let attempt = || format!("create network {}", record.name);
        match options {
            DriverOptions::Bridge(options) => {
                let plan = self.bridge_plan(record, options)?;
                if !record.internal {
                    self.forward(record.ipv4, record.ipv6)?;
                }
                self.host
                    .ensure_bridge(&plan)
                    .map_err(|e| of_link(attempt(), e))?;
                let parts = Parts {
                    networks: vec![filtered(record, options)],
                    ..Parts::default()
                };
                if let Err(error) = self.change(attempt(), Parts::default(), parts) {
                    if let Err(second) = self.host.release_bridge(&plan.name, &plan.owner) {
                        tracing::warn!(
                            network = record.name,
                            error = chain(&second),
                            "the bridge of a network that was not made stays"
                        );
                    }
                    return Err(error);
                }
                Ok(())
            }
            DriverOptions::Parent(options) => {
                let plan = self.parent_plan(record, options)?;
                self.host.ensure_parent(&plan).map_err(|e| match e {
                    link::Error::ParentMissing(_) | link::Error::ParentName(_) => {
                        EngineError::Invalid(chain(&e))
                    }
                    e => of_link(attempt(), e),
                })?;
                Ok(())
            }
            DriverOptions::None => Ok(()),
        }
    }

    /// Takes away what the network has on the host. `last_of_parent` tells whether no other network uses the parent.
    pub(super) fn release_network(
        &self,
        record: &NetworkRecord,
        options: &DriverOptions,
        last_of_parent: bool,
    ) -> Result<(), EngineError> {
        let attempt = || format!("remove network {}", record.name);
        match options {
            DriverOptions::Bridge(options) => {
                let parts = Parts {
                    networks: vec![filtered(record, options)],
                    ..Parts::default()
                };
                self.change(attempt(), parts, Parts::default())?;
                let plan = self.bridge_plan(record, options)?;
                self.host
                    .release_bridge(&plan.name, &plan.owner)
                    .map_err(|e| of_link(attempt(), e))?;
                Ok(())
            }
            DriverOptions::Parent(options) => {
                if last_of_parent {
                    let plan = self.parent_plan(record, options)?;
                    let owner = match &plan {
                        ParentPlan::Interface { owner, .. } | ParentPlan::Dummy { owner, .. } => {
                            owner
                        }
                    };
                    self.host
                        .release_parent(plan.name(), owner)
                        .map_err(|e| of_link(attempt(), e))?;
                }
                Ok(())
            }
            DriverOptions::None => Ok(()),
        }
    }

    /// Switches forwarding on, for the families that are needed: a host that forwards IPv6 does not take routes
    /// from its neighbours any more.
    fn forward(&self, ipv4: bool, ipv6: bool) -> Result<(), EngineError> {
        if !self.forwards {
            return Ok(());
        }
        match &self.firewall {
            Some(firewall) => lock(firewall)
                .enable_forwarding(ipv4, ipv6)
                .map_err(|e| of_firewall("switch forwarding on", e)),
            None => self
                .host
                .ensure_forwarding(ipv4, ipv6)
                .map(drop)
                .map_err(|e| of_link("switch forwarding on", e)),
        }
    }

    fn bridge_plan(
        &self,
        record: &NetworkRecord,
        options: &BridgeOptions,
    ) -> Result<BridgePlan, EngineError> {
        let mut addresses = Vec::new();
        for subnet in &record.subnets {
            let ipv4 = subnet.subnet.is_ipv4();
            let mode = if ipv4 {
                options.mode_ipv4
            } else {
                options.mode_ipv6
            };
            if mode == GatewayMode::Isolated || (ipv4 && options.inhibit_ipv4) {
                continue;
            }
            if let Some(gateway) = subnet.gateway
                && let Some(address) = Prefix::new(gateway, subnet.subnet.length())
            {
                addresses.push(address);
            }
        }
        // From the network's id, so that it is the same after a restart of the host.
        let mut bytes = [0_u8; 6];
        for (i, byte) in bytes.iter_mut().enumerate() {
            let digits = record.id.as_str().get(i * 2..i * 2 + 2).unwrap_or("00");
            *byte = u8::from_str_radix(digits, 16).unwrap_or(0);
        }
        Ok(BridgePlan {
            name: named(&bridge_name(&record.id, &options.name))?,
            owner: self.owner_of_network(record),
            mtu: Some(self.mtu_of(options.mtu)),
            hardware_address: HardwareAddress::from_random(bytes),
            addresses,
            ipv6: record.ipv6,
            route_localnet: !record.internal,
        })
    }

    fn mtu_of(&self, asked: u32) -> u32 {
        if asked == 0 {
            self.mtu.load(Ordering::Relaxed)
        } else {
            asked
        }
    }

    /// The stock of prepared namespaces; begun now where it was not.
    pub(super) fn pool(&self) -> Result<&SandboxPool, EngineError> {
        if let Some(pool) = self.pool.get() {
            return Ok(pool);
        }
        let made = SandboxPool::new(Arc::clone(&self.host), self.mtu_of(0))
            .map_err(|e| of_link("prepare network namespaces", e))?;
        // Of two that are made at once, one goes.
        Ok(self.pool.get_or_init(|| made))
    }

    /// Looks at the default route's MTU again, and tells whether it is another one.
    fn look_at_mtu(&self) -> bool {
        // Without a default route, as for a moment while a host changes networks, nothing is known that is better.
        let has_route = |ipv4| matches!(self.host.default_route(ipv4), Ok(Some(_)));
        if !has_route(true) && !has_route(false) {
            return false;
        }
        let Ok(mtu) = self.host.default_mtu() else {
            return false;
        };
        let changed = self.mtu.swap(mtu, Ordering::Relaxed) != mtu;
        if changed && let Some(pool) = self.pool.get() {
            pool.set_mtu(mtu);
        }
        changed
    }

    /// Calls `changed` whenever the host's default route got another MTU. Ends when `ground` is gone.
    pub(super) fn follow_routes(
        ground: &Arc<Self>,
        changed: impl Fn() + Send + 'static,
    ) -> Result<(), EngineError> {
        let attempt = "watch the host's routes";
        let watch = ground.host.watch().map_err(|e| of_link(attempt, e))?;
        let ground = Arc::downgrade(ground);
        std::thread::Builder::new()
            .name("routes".to_owned())
            .spawn(move || {
                loop {
                    if wait_for_notice(&watch, None) == Notice::Over {
                        return;
                    }
                    // Changes come in numbers.
                    std::thread::sleep(ROUTES_PAUSE);
                    let news = match watch.drain() {
                        Ok(news) => news,
                        Err(error) => {
                            tracing::error!(%error, "the host's routes cannot be followed any more");
                            return;
                        }
                    };
                    let Some(ground) = ground.upgrade() else {
                        return;
                    };
                    if news && ground.look_at_mtu() {
                        changed();
                    }
                }
            })
            .map_err(|e| EngineError::io(attempt, e))?;
        Ok(())
    }

    fn parent_name(record: &NetworkRecord, options: &ParentOptions) -> String {
        if options.parent.is_empty() {
            let kind = if record.driver == Driver::Macvlan {
                "dm"
            } else {
                "di"
            };
            format!("{kind}-{}", record.id.short())
        } else {
            options.parent.clone()
        }
    }

    fn parent_plan(
        &self,
        record: &NetworkRecord,
        options: &ParentOptions,
    ) -> Result<ParentPlan, EngineError> {
        let name = named(&Self::parent_name(record, options))?;
        let owner = self.owner_of_parent(&name);
        Ok(if options.parent.is_empty() {
            ParentPlan::Dummy { name, owner }
        } else {
            ParentPlan::Interface { name, owner }
        })
    }

    /// A namespace for a container: with a prepared pair where its first place is on a bridge.
    pub(super) fn sandbox(&self, on_bridge: bool) -> Result<Sandbox, EngineError> {
        let made = if on_bridge {
            self.pool()?.take()
        } else {
            Sandbox::new()
        };
        made.map_err(|e| of_link("make a network namespace", e))
    }

    /// Makes an endpoint, and says which hardware address it has.
    pub(super) fn attach(
        &self,
        sandbox: &mut Sandbox,
        container: &ContainerId,
        reserved: &Reserved,
    ) -> Result<Option<HardwareAddress>, EngineError> {
        let endpoint = &reserved.endpoint;
        let kind = match &*reserved.options {
            DriverOptions::Bridge(options) => EndpointKind::Bridge {
                bridge: named(&bridge_name(&reserved.record.id, &options.name))?,
                host_end: named(&endpoint.host_interface)?,
                owner: self.owner_of_endpoint(container, endpoint),
                port: BridgePort::default(),
            },
            DriverOptions::Parent(options) => {
                let parent = named(&Self::parent_name(&reserved.record, options))?;
                if reserved.record.driver == Driver::Macvlan {
                    EndpointKind::Macvlan {
                        parent,
                        mode: match options.macvlan {
                            MacvlanMode::Bridge => link::MacvlanMode::Bridge,
                            MacvlanMode::Private => link::MacvlanMode::Private,
                            MacvlanMode::Vepa => link::MacvlanMode::Vepa,
                            MacvlanMode::Passthru => link::MacvlanMode::Passthru,
                        },
                    }
                } else {
                    use super::options::IpvlanFlag;
                    EndpointKind::Ipvlan {
                        parent,
                        mode: match options.ipvlan {
                            IpvlanMode::L2 => link::IpvlanMode::L2,
                            IpvlanMode::L3 => link::IpvlanMode::L3,
                            IpvlanMode::L3s => link::IpvlanMode::L3s,
                        },
                        flag: match options.flag {
                            IpvlanFlag::Bridge => link::IpvlanFlag::Bridge,
                            IpvlanFlag::Private => link::IpvlanFlag::Private,
                            IpvlanFlag::Vepa => link::IpvlanFlag::Vepa,
                        },
                    }
                }
            }
            DriverOptions::None => return Ok(None),
        };
        let mut plan = EndpointPlan::new(named(&endpoint.interface)?, kind);
        plan.hardware_address = endpoint.mac_address;
        plan.addresses = endpoint.ipv4.into_iter().chain(endpoint.ipv6).collect();
        plan.link_local = endpoint
            .link_local
            .iter()
            .filter_map(|a| Prefix::new(*a, if a.is_ipv4() { 16 } else { 64 }))
            .collect();
        plan.mtu = match &*reserved.options {
            DriverOptions::Bridge(options) => Some(self.mtu_of(options.mtu)),
            DriverOptions::Parent(options) => Some(options.mtu).filter(|m| *m != 0),
            DriverOptions::None => None,
        };
        plan.gateway_ipv4 = gateway(reserved, true);
        plan.gateway_ipv6 = gateway(reserved, false);
        plan.settings.clone_from(&reserved.settings);
        plan.announce = reserved.announce;
        let attached = sandbox.attach(&self.host, &plan).map_err(|e| {
            of_link(
                format!(
                    "join container {} to network {}",
                    container.short(),
                    reserved.record.name
                ),
                e,
            )
        })?;
        Ok(attached.hardware_address)
    }

    /// How the host's own input rules stand; `None` where nothing is filtered, so that monitors carry all ports.
    pub(super) fn input_policy(&self) -> Result<Option<firewall::InputPolicy>, EngineError> {
        self.firewall
            .as_ref()
            .map(|firewall| lock(firewall).input_policy())
            .transpose()
            .map_err(|e| of_firewall("read the host's input rules", e))
    }

    /// Changes what is filtered.
    pub(super) fn change(
        &self,
        attempt: String,
        removed: Parts,
        added: Parts,
    ) -> Result<(), EngineError> {
        let Some(firewall) = &self.firewall else {
            return Ok(());
        };
        if removed == Parts::default() && added == Parts::default() {
            return Ok(());
        }
        let warnings = lock(firewall)
            .apply(&Change { removed, added })
            .map_err(|e| of_firewall(attempt, e))?;
        tell(warnings, &mut Vec::new());
        Ok(())
    }

    /// Removes links that carry our mark and that nobody in `known` owns.
    pub(super) fn remove_strays(&self, known: &dyn Fn(&str) -> bool) {
        match self.host.strays(&self.mark) {
            Ok(strays) => {
                for stray in strays {
                    let owner = stray.owner[self.mark.len().min(stray.owner.len())..].trim();
                    if !known(owner)
                        && let Err(error) = self.host.remove_link(&stray.name)
                    {
                        tracing::warn!(link = %stray.name, %error, "a link of ours that nobody uses stays");
                    }
                }
            }
            Err(error) => tracing::warn!(%error, "links cannot be listed"),
        }
    }
}

/// The parent of a network's links.
pub(super) fn parent_of(record: &NetworkRecord, options: &DriverOptions) -> Option<String> {
    match options {
        DriverOptions::Parent(options) => Some(Ground::parent_name(record, options)),
        _ => None,
    }
}

/// The default route by this endpoint, where it leaves here.
pub(super) fn gateway(reserved: &Reserved, ipv4: bool) -> Option<Gateway> {
    let endpoint = &reserved.endpoint;
    let (leaves, address) = if ipv4 {
        (endpoint.default_ipv4, endpoint.ipv4_gateway.map(IpAddr::V4))
    } else {
        (endpoint.default_ipv6, endpoint.ipv6_gateway.map(IpAddr::V6))
    };
    leaves.then(|| address.map_or(Gateway::OnLink, Gateway::Address))
}

/// A bridge network as the firewall is told of it.
pub(super) fn filtered(record: &NetworkRecord, options: &BridgeOptions) -> firewall::Network {
    let mode = |m: GatewayMode| match m {
        GatewayMode::Nat => firewall::GatewayMode::Nat,
        GatewayMode::NatUnprotected => firewall::GatewayMode::NatUnprotected,
        GatewayMode::Routed => firewall::GatewayMode::Routed,
        GatewayMode::Isolated => firewall::GatewayMode::Isolated,
    };
    let mut network = firewall::Network::new(
        bridge_name(&record.id, &options.name),
        record.subnets.iter().map(|s| s.subnet).collect(),
    );
    network.mode4 = mode(options.mode_ipv4);
    network.mode6 = mode(options.mode_ipv6);
    network.internal = record.internal;
    network.icc = options.icc;
    network.masquerade = options.masquerade;
    network.host_ipv4 = options.host_ipv4;
    network.host_ipv6 = options.host_ipv6;
    network.trusted.clone_from(&options.trusted_interfaces);
    network
}
