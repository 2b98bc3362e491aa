//! A container's networks: what it is configured for, and what a run asks of the networks for it.
//!
//! Pure but for the kept files of names and servers. Sentences are Docker's.

use std::net::IpAddr;
use std::sync::Arc;

use berth_net::dns::hosts;
use berth_types::NetworkId;
use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use super::Containers;
use super::index::{ContainerHandle, Index};
use super::lifecycle::Request;
use super::links::{self, Linked};
use super::record::ContainerRecord;
use super::spec::{ContainerConfig, HostSettings, NetworkMode};
use crate::config::Config;
use crate::error::EngineError;
use crate::limits;
use crate::networks::{Endpoint, EndpointRequest, JoinRequest, Networks, Protocol, ports};

/// A network a container is configured for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Attachment {
    /// The network, where it was there when the container was configured for it.
    pub network_id: Option<NetworkId>,
    /// How it is joined.
    pub request: EndpointRequest,
}

/// Networks by name, in the order they are joined.
pub type Attachments = IndexMap<String, Attachment>;

fn invalid<T>(text: impl Into<String>) -> Result<T, EngineError> {
    Err(EngineError::Invalid(text.into()))
}

/// The networks a new container is configured for. A network that is not there is a matter of the start.
///
/// # Errors
/// For what makes no sense.
pub fn configure(
    config: &ContainerConfig,
    host: &HostSettings,
    endpoints: &IndexMap<String, EndpointRequest>,
    networks: &Networks,
) -> Result<Attachments, EngineError> {
    let mut attachments = Attachments::new();
    if config.network_disabled || matches!(host.network_mode, NetworkMode::Container(_)) {
        return Ok(attachments);
    }
    if endpoints.len() > limits::CONTAINER_NETWORKS_MAX {
        return invalid(format!(
            "a container cannot be in more than {} networks",
            limits::CONTAINER_NETWORKS_MAX
        ));
    }
    let own = network_of(&host.network_mode);
    let own = networks.resolve(&own).map_or(own, |(name, _)| name);
    for (reference, request) in endpoints {
        networks.check(reference, request).map_err(|e| match e {
            EngineError::Invalid(text) => {
                EngineError::Invalid(format!("invalid config for network {reference}: {text}"))
            }
            other => other,
        })?;
        add(&mut attachments, networks, reference, request.clone());
    }
    // As Docker: endpoints that are told replace the mode's own network, unless that is a user's.
    let told = attachments.contains_key(&own);
    if !told && (attachments.is_empty() || matches!(host.network_mode, NetworkMode::Named(_))) {
        add(&mut attachments, networks, &own, EndpointRequest::default());
    }
    if let Some(index) = attachments.get_index_of(&own) {
        attachments.move_index(index, 0);
        if matches!(host.network_mode, NetworkMode::Named(_))
            && let Some(attachment) = attachments.get_mut(&own)
        {
            attachment.request.links.extend(host.links.iter().cloned());
        }
    }
    check_together(&attachments)?;
    Ok(attachments)
}

fn add(
    attachments: &mut Attachments,
    networks: &Networks,
    reference: &str,
    request: EndpointRequest,
) {
    let (name, id) = match networks.resolve(reference) {
        Some((name, id)) => (name, Some(id)),
        None => (reference.to_owned(), None),
    };
    attachments.insert(
        name,
        Attachment {
            network_id: id,
            request,
        },
    );
}

fn network_of(mode: &NetworkMode) -> String {
    match mode {
        NetworkMode::Default | NetworkMode::Bridge => "bridge".to_owned(),
        other => other.to_string(),
    }
}

/// Refuses `host` and `none` beside others.
///
/// # Errors
/// With Docker's sentence.
pub fn check_together(attachments: &Attachments) -> Result<(), EngineError> {
    if attachments.len() < 2 {
        return Ok(());
    }
    if attachments.contains_key("host") {
        return invalid(
            "container cannot be disconnected from host network or connected to host network",
        );
    }
    if attachments.contains_key("none") {
        return invalid(
            "container cannot be connected to multiple networks with one of the networks in private (none) mode",
        );
    }
    Ok(())
}

/// Whether names are answered inside: it is in a network that a user made.
fn has_resolver(record: &ContainerRecord) -> bool {
    record
        .networks
        .keys()
        .any(|name| !matches!(name.as_str(), "bridge" | "host" | "none"))
}

/// Ports to publish, and those that are exposed only.
pub type Ports = (Vec<ports::PortRequest>, Vec<(u16, Protocol)>);

/// Ports asked for, those of `-P` included.
///
/// # Errors
/// For what is no port.
pub fn ports_of(config: &ContainerConfig, host: &HostSettings) -> Result<Ports, EngineError> {
    let mut wanted = Vec::new();
    let mut exposed = Vec::new();
    for text in &config.exposed_ports {
        for port in ports::exposed(text)? {
            if !exposed.contains(&port) {
                exposed.push(port);
            }
        }
        ports::check_count(exposed.len())?;
    }
    for (text, bindings) in &host.port_bindings {
        let port = ports::container_port(text)?;
        if bindings.is_empty() {
            wanted.push(ports::binding(port, "", "")?);
        }
        for binding in bindings {
            wanted.push(ports::binding(port, &binding.host_ip, &binding.host_port)?);
        }
        ports::check_count(wanted.len())?;
    }
    if host.publish_all_ports {
        for port in &exposed {
            if !wanted
                .iter()
                .any(|w| (w.container_port, w.protocol) == *port)
            {
                wanted.push(ports::binding(*port, "", "")?);
            }
        }
    }
    ports::check_count(wanted.len())?;
    exposed.retain(|port| {
        !wanted
            .iter()
            .any(|w| (w.container_port, w.protocol) == *port)
    });
    Ok((wanted, exposed))
}

/// What a run asks of the networks; `None` where it has none of its own.
///
/// # Errors
/// For ports or servers that make no sense.
pub fn join_request(
    record: &ContainerRecord,
    config: &Config,
    networks: &Networks,
) -> Result<Option<JoinRequest>, EngineError> {
    let bridgeless = |name: &str| name == "bridge" && !config.network.has_default_bridge();
    let wanted: Vec<(String, EndpointRequest)> = record
        .networks
        .iter()
        .filter(|(name, _)| !bridgeless(name))
        .map(|(name, attachment)| {
            let mut request = attachment.request.clone();
            // A network that was removed and made again under its name is another one, and found by the name.
            if let Some(id) = &attachment.network_id
                && request.network.is_empty()
                && networks.resolve(id.as_str()).is_some()
            {
                id.as_str().clone_into(&mut request.network);
            }
            (name.clone(), request)
        })
        .collect();
    if wanted.is_empty() {
        return Ok(None);
    }
    let spec = &record.spec;
    let (ports, exposed) = ports_of(&spec.config, &spec.host)?;
    let servers = if spec.host.dns.is_empty() {
        &config.dns
    } else {
        &spec.host.dns
    };
    let dns_servers = servers
        .iter()
        .map(|text| {
            text.parse::<IpAddr>().map_err(|_| {
                EngineError::Invalid(format!(
                    "{} is not an ip address",
                    text.chars().take(64).collect::<String>()
                ))
            })
        })
        .collect::<Result<_, _>>()?;
    Ok(Some(JoinRequest {
        name: record.name.clone(),
        hostname: spec.config.hostname.clone(),
        networks: wanted,
        ports,
        exposed,
        linked: Vec::new(),
        dns_servers,
        ndots_set: has_resolver(record) && super::etc::resolver_file(record, config).ndots_set,
    }))
}

/// Priorities of gateways, by network.
#[must_use]
pub fn priorities(attachments: &Attachments) -> Vec<(NetworkId, i64)> {
    attachments
        .values()
        .filter_map(|a| Some((a.network_id.clone()?, a.request.gateway_priority)))
        .collect()
}

/// What a container's files say of its networks.
#[derive(Debug, Clone, Default)]
pub struct Places {
    /// Its places.
    pub endpoints: Vec<Arc<Endpoint>>,
    /// Containers it is linked to on the default bridge.
    pub linked: Vec<Linked>,
    /// What `host-gateway` stands for.
    pub gateways: Vec<IpAddr>,
    /// Whether names are answered inside.
    pub resolver: bool,
}

impl Places {
    /// Lines of `/etc/hosts` for linked containers.
    pub fn linked_lines(&self) -> impl Iterator<Item = hosts::Line> + '_ {
        self.linked.iter().flat_map(|linked| linked.lines.clone())
    }
}

/// Containers that this one is linked to on the default bridge.
///
/// # Errors
/// When one is not there or does not run.
pub fn linked(record: &ContainerRecord, index: &Index) -> Result<Vec<Linked>, EngineError> {
    let legacy = matches!(
        record.spec.host.network_mode,
        NetworkMode::Default | NetworkMode::Bridge
    );
    if !legacy {
        return Ok(Vec::new());
    }
    let links = record.spec.host.links.iter();
    links
        .map(|link| links::linked(&record.name, link, index))
        .collect()
}

/// Gathers what the files say.
#[must_use]
pub fn places(
    record: &ContainerRecord,
    endpoints: Vec<Arc<Endpoint>>,
    networks: &Networks,
    linked: Vec<Linked>,
) -> Places {
    Places {
        endpoints,
        linked,
        gateways: networks.host_gateways(),
        resolver: has_resolver(record),
    }
}

impl Containers {
    /// Joins a container to a network; while it runs, at once.
    ///
    /// # Errors
    /// `NotFound` when either is not there, `Forbidden` when it is in it already or may not be, `Invalid` for what
    /// makes no sense.
    pub async fn connect(
        &self,
        network: &str,
        container: &str,
        request: EndpointRequest,
    ) -> Result<(), EngineError> {
        let handle = self.find(container)?;
        let view = handle.view();
        if matches!(view.spec.host.network_mode, NetworkMode::Container(_)) {
            return invalid(
                "container sharing network namespace with another container or host cannot be connected to any other network",
            );
        }
        let networks = &self.environment.networks;
        let found = networks.resolve(network);
        if found.is_none() && view.is_running() {
            return Err(networks
                .inspect(network)
                .err()
                .unwrap_or_else(|| EngineError::NotFound(format!("network {network} not found"))));
        }
        networks.check(network, &request)?;
        let (name, id) = match found {
            Some((name, id)) => (name, Some(id)),
            None => (network.to_owned(), None),
        };
        if name == "host" && view.is_running() {
            return Err(EngineError::Forbidden(
                "container cannot be disconnected from host network or connected to host network"
                    .to_owned(),
            ));
        }
        let attachment = Box::new(Attachment {
            network_id: id,
            request,
        });
        let request = Request::Connect {
            network: name,
            attachment,
        };
        self.go_on(handle, request).await
    }

    /// Takes a container out of a network; while it runs, at once. With `force`, also what a container that is gone
    /// has left there, and a network that is gone.
    ///
    /// # Errors
    /// `NotFound` when either is not there, `Forbidden` when it is not in it or may not leave it.
    pub async fn disconnect(
        &self,
        network: &str,
        container: &str,
        force: bool,
    ) -> Result<(), EngineError> {
        let networks = &self.environment.networks;
        let name = match networks.inspect(network) {
            Ok(view) => view.record.name.clone(),
            // A network that was removed may still be configured.
            Err(_) if force => network.to_owned(),
            Err(error) => return Err(error),
        };
        let handle = match self.find(container) {
            // What it left in the network goes all the same.
            Err(error) if force => {
                return if networks.forget(&name, container).await? {
                    Ok(())
                } else {
                    Err(error)
                };
            }
            found => found?,
        };
        if name == "host" {
            return Err(EngineError::Forbidden(
                "container cannot be disconnected from host network or connected to host network"
                    .to_owned(),
            ));
        }
        self.go_on(handle, Request::Disconnect { network: name })
            .await
    }

    /// Asks, in a task of its own: a caller that hangs up undoes nothing.
    async fn go_on(&self, handle: ContainerHandle, request: Request) -> Result<(), EngineError> {
        let service = self.clone();
        tokio::spawn(async move { service.ask(&handle, request).await })
            .await
            .map_err(super::defect)?
    }
}
