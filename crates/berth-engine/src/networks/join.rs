//! Joining networks for a run, and leaving them.
//!
//! A start reserves first, which takes microseconds and no call of the kernel: addresses are known then, and the
//! container's files can be written while its interfaces are made. What is reserved and not kept is given back.

use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use berth_monitor::HeldPort;
use berth_net::dns::DnsSettings;
use berth_net::dns::DnsSockets;
use berth_net::firewall::Parts;
use berth_net::sandbox::Sandbox;
use berth_types::{ContainerId, NetworkId};

use super::endpoint::{self, Joining, Reserved};
use super::ground::Ground;
use super::options::DriverOptions;
use super::publish::{self, Families, Held, Manner};
use super::record::Driver;
use super::request::JoinRequest;
use super::settings::PublishPolicy;
use super::view::{Endpoint, RunNetwork};
use super::{Networks, Shared, names};
use crate::error::EngineError;
use crate::random;

/// Places in networks that a container has, and is giving back unless they are kept.
#[derive(Debug)]
pub struct Reservation {
    shared: Arc<Shared>,
    container: ContainerId,
    request: JoinRequest,
    reserved: Vec<Reserved>,
    kept: bool,
}

/// A container's networks, made.
#[derive(Debug)]
pub struct Joined {
    /// What it has.
    pub run: Arc<RunNetwork>,
    /// Its network namespace; `None` where it has none of its own making (`host`, `none`).
    pub namespace: Option<OwnedFd>,
    /// Its resolver, where names are answered; without sockets where it has them already.
    pub dns: Option<(DnsSettings, Option<DnsSockets>)>,
    /// Published ports that are to be held, with their sockets.
    pub ports: Vec<(HeldPort, OwnedFd)>,
    /// Ports that are held already and lead somewhere else now.
    pub lead: Vec<HeldPort>,
    /// Names of ports that are given up.
    pub release: Vec<String>,
}

impl Reservation {
    /// Whether all its places are still in the book: an attempt to make them that failed late has given them back.
    fn is_whole(&self) -> bool {
        let book = self.shared.book();
        self.reserved.iter().all(|reserved| {
            book.get(&reserved.record.id)
                .is_some_and(|entry| entry.member(&self.container).is_some())
        })
    }

    /// The places, in the order of interfaces.
    pub fn endpoints(&self) -> impl Iterator<Item = &Arc<Endpoint>> {
        self.reserved.iter().map(|r| &r.endpoint)
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if !self.kept {
            let mut book = self.shared.book();
            for reserved in &self.reserved {
                if let Some(entry) = book.get_mut(&reserved.record.id) {
                    entry.leave(&self.container);
                }
            }
        }
    }
}

/// What a resolver is told.
pub(super) fn dns_settings(
    shared: &Shared,
    container: &ContainerId,
    reserved: &[Reserved],
    request: &JoinRequest,
) -> Option<DnsSettings> {
    let mut in_order: Vec<&Reserved> = reserved
        .iter()
        .filter(|r| !r.record.is_predefined())
        .collect();
    if in_order.is_empty() {
        return None;
    }
    in_order.sort_by_key(|r| !(r.endpoint.default_ipv4 || r.endpoint.default_ipv6));
    let mut settings = DnsSettings::new(container.as_str());
    settings.networks = in_order
        .iter()
        .map(|r| shared.names.path(&r.record.id))
        .collect();
    settings.servers.clone_from(&request.dns_servers);
    settings.external = reserved.iter().any(|r| !r.record.internal);
    settings.ndots_set = request.ndots_set;
    Some(settings)
}

pub(super) fn resolver(sandbox: &Sandbox) -> Result<DnsSockets, EngineError> {
    DnsSockets::prepare_in(sandbox.namespace()).map_err(|e| {
        let kind = e.kind();
        EngineError::failed("prepare the container's resolver", kind, e)
    })
}

fn sandbox_id() -> Result<String, EngineError> {
    Ok(ContainerId::from_random(random::bytes()?)
        .as_str()
        .to_owned())
}

impl Networks {
    /// Takes a container's places in all networks it wants: addresses, names, interfaces.
    ///
    /// # Errors
    /// `NotFound` when a network is gone, `Forbidden` when an address is in use, `Invalid` for what makes no sense.
    pub async fn reserve(
        &self,
        container: &ContainerId,
        request: JoinRequest,
    ) -> Result<Reservation, EngineError> {
        let leaving = self.shared.leaving.now();
        if leaving.is_empty() {
            return self.reserve_now(container, request);
        }
        match self.reserve_now(container, request.clone()) {
            Err(_) if self.shared.leaving.left(&leaving).await => {
                self.reserve_now(container, request)
            }
            reserved => reserved,
        }
    }

    fn reserve_now(
        &self,
        container: &ContainerId,
        request: JoinRequest,
    ) -> Result<Reservation, EngineError> {
        let mut reservation = Reservation {
            shared: Arc::clone(&self.shared),
            container: container.clone(),
            request,
            reserved: Vec::new(),
            kept: false,
        };
        {
            let mut book = self.shared.book();
            let mut interfaces = Vec::new();
            let joining = Joining {
                container,
                name: &reservation.request.name,
                hostname: &reservation.request.hostname,
            };
            let mut reserved = Vec::new();
            let mut failure = None;
            for (reference, wanted) in &reservation.request.networks {
                match endpoint::reserve(&mut book, &joining, reference, wanted, &interfaces) {
                    Ok(place) => {
                        interfaces.push(place.endpoint.interface.clone());
                        reserved.push(place);
                    }
                    Err(error) => {
                        failure = Some(error);
                        break;
                    }
                }
            }
            endpoint::choose_gateways(&mut reserved);
            drop(book);
            reservation.reserved = reserved;
            if let Some(error) = failure {
                return Err(error);
            }
        }
        Ok(reservation)
    }

    /// Makes what was reserved. With nothing left where it fails.
    ///
    /// # Errors
    /// What the kernel refuses; a port of the host that is taken.
    pub async fn attach(&self, reservation: Reservation) -> Result<Joined, EngineError> {
        let leaving = self.shared.leaving.now();
        let (mut reservation, mut made) = self.attach_now(reservation).await?;
        if made.is_err() && reservation.is_whole() && self.shared.leaving.left(&leaving).await {
            (reservation, made) = self.attach_now(reservation).await?;
        }
        let joined = made?;
        for reserved in &reservation.reserved {
            self.shared
                .announce("connect", &reserved.record, Some(&reservation.container));
        }
        Ok(joined)
    }

    async fn attach_now(
        &self,
        mut reservation: Reservation,
    ) -> Result<(Reservation, Result<Joined, EngineError>), EngineError> {
        self.shared
            .block(move |shared| {
                let made = shared.make(&mut reservation);
                // Kept here: who waits for this may be gone when it is done.
                reservation.kept = made.is_ok();
                Ok((reservation, made))
            })
            .await
    }

    /// Takes whoever has this name or id out of a network, without asking the container. Tells whether there was one.
    ///
    /// # Errors
    /// When the network is not there, or its names cannot be written.
    pub async fn forget(&self, network: &str, container: &str) -> Result<bool, EngineError> {
        let found = {
            let book = self.shared.book();
            let entry = book.find(network)?;
            let member = entry
                .members()
                .find(|m| m.name == container || m.container.as_str() == container);
            member.map(|m| (entry.record.id.clone(), m.container.clone()))
        };
        let Some((network, container)) = found else {
            return Ok(false);
        };
        self.leave(&container).await?;
        self.shared
            .block(move |shared| {
                let left = {
                    let mut book = shared.book();
                    book.get_mut(&network)
                        .and_then(|entry| entry.leave(&container))
                };
                match left {
                    Some(_) => shared.write_names(&network),
                    None => Ok(()),
                }
            })
            .await?;
        Ok(true)
    }

    /// What a container has in networks, while it runs.
    #[must_use]
    pub fn run(&self, container: &ContainerId) -> Option<Arc<RunNetwork>> {
        self.shared.book().run(container).cloned()
    }

    /// Running containers that are linked to this one on the default bridge.
    #[must_use]
    pub fn linkers(&self, container: &ContainerId) -> Vec<ContainerId> {
        let book = self.shared.book();
        book.runs()
            .filter(|(_, run)| run.linked.contains(container))
            .map(|(id, _)| id.clone())
            .collect()
    }

    /// Takes up what a running container has already.
    pub fn adopt(&self, container: &ContainerId, name: &str, run: RunNetwork) {
        publish::restore(&self.shared.ports, &run.ports);
        self.shared.book().adopt(container, name, run);
    }

    /// Calls a running container by another name from now on.
    ///
    /// # Errors
    /// When the names cannot be written.
    pub async fn rename(&self, container: &ContainerId, name: &str) -> Result<(), EngineError> {
        let networks = self.shared.book().rename(container, name);
        self.shared
            .block(move |shared| {
                networks
                    .iter()
                    .filter(|id| {
                        shared
                            .book()
                            .get(id)
                            .is_some_and(|e| !e.record.is_predefined())
                    })
                    .try_for_each(|id| shared.write_names(id))
            })
            .await
    }

    /// The addresses that `host-gateway` stands for.
    #[must_use]
    pub fn host_gateways(&self) -> Vec<IpAddr> {
        let set = self.shared.host.config().network.host_gateway_ips.clone();
        if !set.is_empty() {
            return set;
        }
        let book = self.shared.book();
        book.find("bridge")
            .map(|e| e.record.subnets.iter().filter_map(|s| s.gateway).collect())
            .unwrap_or_default()
    }

    /// Makes the default bridge, for containers that want its address without being in it.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub async fn ensure_default_bridge(&self) -> Result<(), EngineError> {
        let id = {
            let book = self.shared.book();
            match book.find("bridge") {
                Ok(entry) if entry.lazy => entry.record.id.clone(),
                _ => return Ok(()),
            }
        };
        self.shared
            .block(move |shared| shared.ensure_lazy(&*shared.ground()?, &id))
            .await
    }
}

impl Shared {
    /// Makes the default bridge where it is not yet. Blocks.
    pub(super) fn ensure_lazy(&self, ground: &Ground, id: &NetworkId) -> Result<(), EngineError> {
        let found = {
            let book = self.book();
            book.get(id)
                .filter(|e| e.lazy)
                .map(|e| (Arc::clone(&e.record), Arc::clone(&e.options)))
        };
        let Some((record, options)) = found else {
            return Ok(());
        };
        ground.ensure_network(&record, &options)?;
        if let Some(entry) = self.book().get_mut(id) {
            entry.lazy = false;
        }
        Ok(())
    }

    pub(super) fn write_names(&self, id: &NetworkId) -> Result<(), EngineError> {
        let version = self.book().get(id).map(|e| e.version);
        self.names.write(id, version, || {
            self.book().get(id).map(|e| (e.version, names::content(e)))
        })
    }

    fn make(&self, reservation: &mut Reservation) -> Result<Joined, EngineError> {
        let container = reservation.container.clone();
        let real = |r: &Reserved| !matches!(r.record.driver, Driver::Host | Driver::Null);
        let request = reservation.request.clone();
        if !reservation.reserved.iter().any(real) {
            let run = Arc::new(RunNetwork {
                sandbox: sandbox_id()?,
                endpoints: reservation.endpoints().cloned().collect(),
                ports: Vec::new(),
                exposed: request.exposed.clone(),
                linked: Vec::new(),
            });
            self.book().set_run(&container, Arc::clone(&run));
            return Ok(Joined {
                run,
                namespace: None,
                dns: None,
                ports: Vec::new(),
                lead: Vec::new(),
                release: Vec::new(),
            });
        }
        let ground = self.ground()?;
        let on_bridge = reservation
            .reserved
            .first()
            .is_some_and(|r| r.record.driver == Driver::Bridge);
        // Ports first: a taken one is the failure that is met most.
        let mut held = self.hold(&reservation.reserved, &request)?;
        let mut sandbox = ground.sandbox(on_bridge)?;
        self.keep_clients(&sandbox, &held)?;
        for reserved in &mut reservation.reserved {
            self.ensure_lazy(&ground, &reserved.record.id)?;
            let mac = ground.attach(&mut sandbox, &container, reserved)?;
            if mac.is_some() && reserved.endpoint.mac_address != mac {
                Arc::make_mut(&mut reserved.endpoint).mac_address = mac;
            }
        }
        if !on_bridge || sandbox.has_pair() {
            sandbox.release_pair().map_err(|e| {
                let kind = e.kind();
                EngineError::failed("put a prepared pair away", kind, e)
            })?;
        }
        let settings = dns_settings(self, &container, &reservation.reserved, &request);
        let dns = match settings {
            Some(settings) => Some((settings, Some(resolver(&sandbox)?))),
            None => None,
        };
        let run = Arc::new(RunNetwork {
            sandbox: sandbox_id()?,
            endpoints: reservation.endpoints().cloned().collect(),
            ports: held.ports.clone(),
            exposed: request.exposed.clone(),
            linked: request.linked.clone(),
        });
        // From here on a failure takes it back by leaving.
        held.keep();
        self.book().set_run(&container, Arc::clone(&run));
        let published = self
            .filter(&ground, &container, &reservation.reserved, &run)
            .and_then(|()| {
                for reserved in &reservation.reserved {
                    if !reserved.record.is_predefined() {
                        self.write_names(&reserved.record.id)?;
                    }
                }
                Ok(())
            });
        if let Err(error) = published {
            // The first failure is the answer; what stays is taken away by the release of the run, or at the next start
            // of the engine.
            if let (_, Err(second)) = self.leave_all(&container) {
                tracing::warn!(container = %container.short(), error = %second.full_text(), "a place in networks that was not taken is not cleared away");
            }
            reservation.reserved.clear();
            return Err(error);
        }
        Ok(Joined {
            namespace: Some(sandbox.into_namespace()),
            dns,
            ports: held.for_monitor(&run, self.policy()),
            lead: Vec::new(),
            release: Vec::new(),
            run,
        })
    }

    pub(super) fn policy(&self) -> PublishPolicy {
        self.host.config().network.publish_policy
    }

    /// Lets a container see who asks for ports that its monitor carries.
    pub(super) fn keep_clients(&self, sandbox: &Sandbox, held: &Held) -> Result<(), EngineError> {
        if held.ports.is_empty() || self.policy() != PublishPolicy::Firewall {
            return Ok(());
        }
        berth_net::firewall::keep_clients(sandbox.namespace()).map_err(|e| {
            let kind = e.kind();
            EngineError::failed("publish ports under the policy firewall", kind, e)
        })
    }

    pub(super) fn hold(
        &self,
        reserved: &[Reserved],
        request: &JoinRequest,
    ) -> Result<Held, EngineError> {
        let leaves = |ipv4: bool| {
            reserved.iter().any(|r| {
                let default = if ipv4 {
                    r.endpoint.default_ipv4
                } else {
                    r.endpoint.default_ipv6
                };
                r.record.driver == Driver::Bridge && default
            })
        };
        let (ipv4, ipv6) = (leaves(true), leaves(false));
        if request.ports.is_empty() || !(ipv4 || ipv6) {
            return Ok(Held::default());
        }
        let config = self.host.config();
        let of_network = reserved.iter().find_map(|r| match &*r.options {
            DriverOptions::Bridge(o) if r.endpoint.default_ipv4 => o.host_binding,
            _ => None,
        });
        let host_has_ipv6 = berth_sys::fs::exists(std::path::Path::new("/proc/net/if_inet6"));
        let manner = Manner {
            default: of_network
                .filter(|a| !a.is_unspecified())
                .or(config.network.ip),
            policy: config.network.publish_policy,
            families: Families {
                ipv4,
                // The monitor carries from IPv6 to IPv4.
                ipv6: host_has_ipv6,
            },
        };
        publish::hold(&request.ports, manner, &self.ports)
    }

    /// Tells the firewall of a run's places and ports.
    fn filter(
        &self,
        ground: &Ground,
        container: &ContainerId,
        reserved: &[Reserved],
        run: &RunNetwork,
    ) -> Result<(), EngineError> {
        let mut parts = Parts::default();
        for reserved in reserved {
            if let DriverOptions::Bridge(options) = &*reserved.options
                && !options.icc
            {
                parts.endpoints.push(publish::place(
                    &reserved.record,
                    options,
                    &reserved.endpoint,
                ));
            }
        }
        parts.ports = {
            let policy = self.host.config().network.publish_policy;
            publish::translations(&self.book(), run, policy)
        };
        parts.links = publish::links(&self.book(), container, run, true);
        ground.change(
            format!("publish the ports of container {}", container.short()),
            Parts::default(),
            parts,
        )
    }

    /// Takes a container out of everything. The places are given back whatever fails.
    pub(super) fn leave_all(
        &self,
        container: &ContainerId,
    ) -> (
        Vec<Arc<super::record::NetworkRecord>>,
        Result<(), EngineError>,
    ) {
        let (records, removed, ports) = {
            let mut book = self.book();
            let Some(run) = book.take_run(container) else {
                return (Vec::new(), Ok(()));
            };
            let policy = self.host.config().network.publish_policy;
            let mut parts = Parts {
                ports: publish::translations(&book, &run, policy),
                links: publish::links(&book, container, &run, true),
                ..Parts::default()
            };
            let mut records = Vec::new();
            for endpoint in &run.endpoints {
                let Some(entry) = book.get_mut(&endpoint.network) else {
                    continue;
                };
                if let DriverOptions::Bridge(options) = &*Arc::clone(&entry.options) {
                    parts
                        .endpoints
                        .push(publish::place(&entry.record, options, endpoint));
                }
                if entry.leave(container).is_some() {
                    records.push(Arc::clone(&entry.record));
                }
            }
            (records, parts, run.ports.clone())
        };
        let mut outcome = Ok(());
        if let Some(ground) = self.opened_ground() {
            outcome = ground.change(
                format!("withdraw the ports of container {}", container.short()),
                removed,
                Parts::default(),
            );
        }
        publish::give_back(&self.ports, &ports);
        for record in &records {
            if !record.is_predefined() {
                let written = self.write_names(&record.id);
                outcome = outcome.and(written);
            }
        }
        (records, outcome)
    }
}
