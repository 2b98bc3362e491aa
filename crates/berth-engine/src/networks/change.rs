//! Joining and leaving networks while a container runs.
//!
//! The namespace is entered by a descriptor that the caller opened. What a change needs beside the place itself —
//! default routes, ports, names, the resolver — is brought in line by one function, for both directions.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use berth_net::firewall::Parts;
use berth_net::link::LinkName;
use berth_net::sandbox::{DefaultGateway, Sandbox};
use berth_types::{ContainerId, ErrorKind, NetworkId};

use super::endpoint::{self, Joining, Reserved};
use super::ground::{self, Ground};
use super::join::{Joined, dns_settings, resolver};
use super::options::DriverOptions;
use super::publish::{self, Held};
use super::record::NetworkRecord;
use super::request::{EndpointRequest, JoinRequest};
use super::view::RunNetwork;
use super::{Networks, Shared};
use crate::error::EngineError;

impl Networks {
    /// Joins a running container to one more network.
    ///
    /// # Errors
    /// As `reserve` and `attach`.
    pub async fn connect(
        &self,
        container: &ContainerId,
        request: JoinRequest,
        namespace: OwnedFd,
        priorities: Vec<(NetworkId, i64)>,
    ) -> Result<Joined, EngineError> {
        let reference = request
            .networks
            .first()
            .map(|(r, _)| r.clone())
            .unwrap_or_default();
        let wanted = request
            .networks
            .first()
            .map(|(_, w)| w.clone())
            .unwrap_or_default();
        let connect = |namespace: OwnedFd| {
            let (id, reference, wanted) = (container.clone(), reference.clone(), wanted.clone());
            let (request, priorities) = (request.clone(), priorities.clone());
            self.shared.block(move |shared| {
                shared.connect(&id, &reference, &wanted, &request, namespace, &priorities)
            })
        };
        let leaving = self.shared.leaving.now();
        let again = namespace
            .try_clone()
            .map_err(|e| EngineError::io("copy a descriptor of the container's network", e))?;
        let mut connected = connect(namespace).await;
        if connected.is_err() && self.shared.leaving.left(&leaving).await {
            connected = connect(again).await;
        }
        let (joined, record) = connected?;
        self.shared.announce("connect", &record, Some(container));
        Ok(joined)
    }

    /// Takes a running container out of one network.
    ///
    /// # Errors
    /// `NotFound` when it is not in it; what the kernel refuses.
    pub async fn disconnect(
        &self,
        container: &ContainerId,
        network: &NetworkId,
        request: JoinRequest,
        namespace: OwnedFd,
        priorities: Vec<(NetworkId, i64)>,
    ) -> Result<Joined, EngineError> {
        let (id, network) = (container.clone(), network.clone());
        let (joined, record) = self
            .shared
            .block(move |shared| shared.disconnect(&id, &network, &request, namespace, &priorities))
            .await?;
        self.shared.announce("disconnect", &record, Some(container));
        Ok(joined)
    }
}

impl Shared {
    /// What a running container has, as reservations.
    fn present(&self, container: &ContainerId, priorities: &[(NetworkId, i64)]) -> Vec<Reserved> {
        let book = self.book();
        let Some(run) = book.run(container) else {
            return Vec::new();
        };
        run.endpoints
            .iter()
            .filter_map(|endpoint| {
                let entry = book.get(&endpoint.network)?;
                let priority = priorities
                    .iter()
                    .find(|(id, _)| *id == endpoint.network)
                    .map_or(0, |(_, p)| *p);
                Some(Reserved::of_running(
                    Arc::clone(endpoint),
                    Arc::clone(&entry.record),
                    Arc::clone(&entry.options),
                    priority,
                ))
            })
            .collect()
    }

    fn connect(
        &self,
        container: &ContainerId,
        reference: &str,
        wanted: &EndpointRequest,
        request: &JoinRequest,
        namespace: OwnedFd,
        priorities: &[(NetworkId, i64)],
    ) -> Result<(Joined, Arc<NetworkRecord>), EngineError> {
        let ground = self.ground()?;
        let mut all = self.present(container, priorities);
        let interfaces: Vec<String> = all.iter().map(|r| r.endpoint.interface.clone()).collect();
        let joining = Joining {
            container,
            name: &request.name,
            hostname: &request.hostname,
        };
        let new = {
            let mut book = self.book();
            endpoint::reserve(&mut book, &joining, reference, wanted, &interfaces)?
        };
        let record = Arc::clone(&new.record);
        let give_back = || {
            if let Some(entry) = self.book().get_mut(&record.id) {
                entry.leave(container);
            }
        };
        let had_resolver = all.iter().any(|r| !r.record.is_predefined());
        let interface = new.endpoint.interface.clone();
        all.push(new);
        let result = (|| {
            endpoint::choose_gateways(&mut all);
            let mut sandbox = Sandbox::open(namespace).map_err(|e| {
                let kind = e.kind();
                EngineError::failed("enter the container's network", kind, e)
            })?;
            self.ensure_lazy(&ground, &record.id)?;
            let last = all.len() - 1;
            let mac = ground.attach(&mut sandbox, container, &all[last])?;
            if mac.is_some() {
                Arc::make_mut(&mut all[last].endpoint).mac_address = mac;
            }
            let rest = self.rearrange(
                &ground,
                &mut sandbox,
                container,
                &all,
                request,
                had_resolver,
            );
            if rest.is_err()
                && let Ok(name) = interface.parse::<LinkName>()
                && let Err(second) = sandbox.detach(&name)
            {
                tracing::warn!(container = %container.short(), %name, error = crate::error::chain(&second), "an interface of a network that was not joined stays");
            }
            rest
        })();
        match result {
            Ok(joined) => Ok((joined, record)),
            Err(error) => {
                give_back();
                Err(error)
            }
        }
    }

    fn disconnect(
        &self,
        container: &ContainerId,
        network: &NetworkId,
        request: &JoinRequest,
        namespace: OwnedFd,
        priorities: &[(NetworkId, i64)],
    ) -> Result<(Joined, Arc<NetworkRecord>), EngineError> {
        let ground = self.ground()?;
        let mut all = self.present(container, priorities);
        let Some(at) = all.iter().position(|r| r.record.id == *network) else {
            return Err(EngineError::Forbidden(format!(
                "container {container} is not connected to network {network}"
            )));
        };
        let had_resolver = all.iter().any(|r| !r.record.is_predefined());
        let gone = all.remove(at);
        endpoint::choose_gateways(&mut all);
        let mut sandbox = Sandbox::open(namespace).map_err(|e| {
            let kind = e.kind();
            EngineError::failed("enter the container's network", kind, e)
        })?;
        if let Ok(name) = gone.endpoint.interface.parse::<LinkName>() {
            sandbox.detach(&name).map_err(|e| {
                let kind = e.kind();
                EngineError::failed(format!("leave network {}", gone.record.name), kind, e)
            })?;
        }
        let joined = self.rearrange(
            &ground,
            &mut sandbox,
            container,
            &all,
            request,
            had_resolver,
        );
        {
            let mut book = self.book();
            if let Some(entry) = book.get_mut(network) {
                entry.leave(container);
            }
        }
        if let DriverOptions::Bridge(options) = &*gone.options {
            let parts = Parts {
                endpoints: vec![publish::place(&gone.record, options, &gone.endpoint)],
                ..Parts::default()
            };
            ground.change(
                format!("leave network {}", gone.record.name),
                parts,
                Parts::default(),
            )?;
        }
        if !gone.record.is_predefined() {
            self.write_names(network)?;
        }
        Ok((joined?, gone.record))
    }

    /// After a place came or went: default routes, ports, names, the resolver.
    fn rearrange(
        &self,
        ground: &Ground,
        sandbox: &mut Sandbox,
        container: &ContainerId,
        all: &[Reserved],
        request: &JoinRequest,
        had_resolver: bool,
    ) -> Result<Joined, EngineError> {
        for ipv4 in [true, false] {
            let leaves = all
                .iter()
                .find_map(|r| Some((ground::gateway(r, ipv4)?, r)));
            let gateway = match leaves {
                Some((gateway, r)) => Some(DefaultGateway {
                    interface: r.endpoint.interface.parse().map_err(|_| {
                        EngineError::Internal("an interface has no name".to_owned())
                    })?,
                    gateway,
                }),
                None => None,
            };
            sandbox
                .set_default_gateway(ipv4, gateway.as_ref())
                .map_err(|e| {
                    let kind = e.kind();
                    EngineError::failed("set the container's default route", kind, e)
                })?;
        }
        let before = self.run_of(container)?;
        let old = publish::translations(&self.book(), &before, self.policy());
        let mut held = if before.ports.is_empty() {
            self.hold(all, request)?
        } else {
            Held::default()
        };
        self.keep_clients(sandbox, &held)?;
        let policy = self.policy();
        let mut run = RunNetwork {
            sandbox: before.sandbox.clone(),
            endpoints: all.iter().map(|r| Arc::clone(&r.endpoint)).collect(),
            ports: held.ports.clone(),
            exposed: before.exposed.clone(),
            linked: before.linked.clone(),
        };
        // Ports that lead nowhere any more are given up; others may lead to another place.
        let (mut lead, mut given_up) = (Vec::new(), Vec::new());
        for port in &before.ports {
            match publish::held_port(&run, port, policy) {
                Some(now) => {
                    if publish::held_port(&before, port, policy).as_ref() != Some(&now) {
                        lead.push(now);
                    }
                    run.ports.push(*port);
                }
                None => given_up.push(*port),
            }
        }
        let run = Arc::new(run);
        let settings = dns_settings(self, container, all, request);
        let dns = match settings {
            Some(settings) if had_resolver => Some((settings, None)),
            Some(settings) => Some((settings, Some(resolver(sandbox)?))),
            None => None,
        };
        self.book().set_run(container, Arc::clone(&run));
        let added = publish::translations(&self.book(), &run, policy);
        let mut parts = Parts {
            ports: added.clone(),
            ..Parts::default()
        };
        for reserved in all {
            if let DriverOptions::Bridge(options) = &*reserved.options
                && !options.icc
                && before.endpoint(&reserved.record.name).is_none()
            {
                parts.endpoints.push(publish::place(
                    &reserved.record,
                    options,
                    &reserved.endpoint,
                ));
            }
        }
        let removed = Parts {
            ports: old.iter().filter(|p| !added.contains(p)).cloned().collect(),
            ..Parts::default()
        };
        parts.ports.retain(|p| !old.contains(p));
        let told = ground
            .change(
                format!("publish the ports of container {}", container.short()),
                removed,
                parts,
            )
            .and_then(|()| {
                all.iter()
                    .filter(|r| !r.record.is_predefined())
                    .try_for_each(|r| self.write_names(&r.record.id))
            });
        if let Err(error) = told {
            self.book().set_run(container, before);
            return Err(error);
        }
        held.keep();
        publish::give_back(&self.ports, &given_up);
        Ok(Joined {
            namespace: None,
            dns,
            ports: held.for_monitor(&run, policy),
            lead,
            release: given_up.iter().map(publish::key).collect(),
            run,
        })
    }

    fn run_of(&self, container: &ContainerId) -> Result<Arc<RunNetwork>, EngineError> {
        self.book().run(container).cloned().ok_or_else(|| {
            EngineError::failed(
                format!("change the networks of container {}", container.short()),
                ErrorKind::Conflict,
                std::io::Error::other("it does not run"),
            )
        })
    }
}
