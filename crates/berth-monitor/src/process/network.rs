//! What a monitor keeps of its container's network: the namespace, held ports, and the resolver.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Instant;

use berth_net::dns::{DnsSettings, DnsSockets, Responder};
use berth_net::firewall::{Forwarder, Route};
use berth_sys::fs::Durability;
use oci_spec::runtime::{LinuxNamespaceType, Spec};

use super::monitor::Monitor;
use super::poll::{Poll, Token};
use crate::error::MonitorError;
use crate::launch::{CONFIG_FILE, LaunchRequest, RuntimeChoice};
use crate::limits;
use crate::network::{HeldPort, LaunchDescriptors, NetworkChange, NetworkLaunch, sockets};

#[derive(Debug, Default)]
pub(super) struct Network {
    namespace: Option<OwnedFd>,
    responder: Option<Responder>,
    /// Carries what comes to held ports; none while none is held.
    forwarder: Option<Forwarder>,
    /// Names of held ports, with their numbers there.
    ports: BTreeMap<String, u32>,
}

impl Network {
    /// Takes the descriptors that the daemon sends right after its order.
    pub(super) fn receive(
        link: impl AsFd,
        launch: &NetworkLaunch,
        poll: &Poll,
    ) -> Result<Self, MonitorError> {
        let mut list = Vec::new();
        while list.len() < launch.descriptors() {
            let message =
                berth_sys::socket::receive(&link, 1, berth_sys::socket::DESCRIPTOR_LIMIT)?;
            if message.descriptors.is_empty() {
                break;
            }
            list.extend(message.descriptors);
        }
        let given = LaunchDescriptors::sort(launch, list)?;
        let mut network = Self {
            namespace: given.namespace,
            ..Self::default()
        };
        for (port, socket) in launch.ports.iter().zip(given.ports) {
            network.hold(port, socket, poll)?;
        }
        if let (Some(settings), Some(sockets)) = (launch.dns.clone(), given.dns) {
            network.answer_names(settings, sockets, poll)?;
        }
        Ok(network)
    }

    fn answer_names(
        &mut self,
        settings: DnsSettings,
        sockets: DnsSockets,
        poll: &Poll,
    ) -> Result<(), MonitorError> {
        let namespace = self.namespace.as_ref().ok_or_else(|| {
            MonitorError::State("names cannot be answered without the network namespace".into())
        })?;
        let responder = Responder::new(settings, sockets, namespace)?;
        poll.add_level(responder.descriptor(), Token::Names)?;
        self.responder = Some(responder);
        Ok(())
    }

    fn hold(&mut self, port: &HeldPort, socket: OwnedFd, poll: &Poll) -> Result<(), MonitorError> {
        let forwarder = match &mut self.forwarder {
            Some(forwarder) => forwarder,
            none => {
                let namespace = self.namespace.as_ref().map(OwnedFd::try_clone);
                let namespace = namespace.transpose().map_err(|cause| {
                    berth_sys::Error::new("keep the container's network namespace", cause)
                })?;
                let forwarder = Forwarder::new(namespace)?;
                poll.add_level(&forwarder, Token::Ports)?;
                none.insert(forwarder)
            }
        };
        let number = forwarder.add(Route {
            socket,
            protocol: port.protocol,
            target: port.target,
            policy: port.policy,
        })?;
        if let Some(former) = self.ports.insert(port.name.clone(), number) {
            forwarder.withdraw(former);
        }
        Ok(())
    }

    fn release(&mut self, name: &str) {
        if let (Some(number), Some(forwarder)) = (self.ports.remove(name), &mut self.forwarder) {
            forwarder.withdraw(number);
        }
        if self.ports.is_empty() && self.forwarder.as_ref().is_some_and(|f| f.sessions() == 0) {
            self.forwarder = None;
        }
    }

    fn lead(&mut self, port: &HeldPort) {
        if let (Some(number), Some(forwarder)) = (self.ports.get(&port.name), &mut self.forwarder) {
            forwarder.lead(*number, port.target);
        }
    }

    fn forward(&mut self, now: Instant) {
        let Some(forwarder) = &mut self.forwarder else {
            return;
        };
        if forwarder.turn(now).is_err() {
            // Level-triggered and without an answer: it would be asked for ever. The ports stay translated by the
            // kernel; what it does not translate is refused from here on.
            self.forwarder = None;
            self.ports.clear();
        }
    }

    /// Where a runtime finds the namespace.
    fn path(&self) -> Option<PathBuf> {
        let namespace = self.namespace.as_ref()?;
        Some(PathBuf::from(format!(
            "/proc/{}/fd/{}",
            std::process::id(),
            namespace.as_raw_fd()
        )))
    }

    /// Puts the namespace into the configuration; for a runtime of others also into its file.
    pub(super) fn enter_into(
        &self,
        spec: &mut Spec,
        request: &LaunchRequest,
    ) -> Result<(), MonitorError> {
        let Some(path) = self.path() else {
            return Ok(());
        };
        let mut found = false;
        if let Some(linux) = spec.linux_mut()
            && let Some(list) = linux.namespaces_mut()
        {
            for namespace in list
                .iter_mut()
                .filter(|namespace| namespace.typ() == LinuxNamespaceType::Network)
            {
                namespace.set_path(Some(path.clone()));
                found = true;
            }
        }
        if !found {
            return Err(MonitorError::State(
                "a network namespace was given to a container without one of its own".into(),
            ));
        }
        match request.runtime {
            RuntimeChoice::Builtin => Ok(()),
            RuntimeChoice::Program { .. } => write_path(&request.bundle.join(CONFIG_FILE), &path),
        }
    }

    fn turn(&mut self) {
        if let Some(responder) = &mut self.responder {
            responder.turn();
        }
    }
}

/// Changes only the path of the network namespace: what our types do not know stays.
fn write_path(config: &Path, path: &Path) -> Result<(), MonitorError> {
    let error = |source| MonitorError::Document {
        path: config.display().to_string(),
        source,
    };
    let content = berth_sys::fs::read_bounded(config, limits::MAX_DOCUMENT)?;
    let mut document: serde_json::Value = serde_json::from_slice(&content).map_err(error)?;
    let namespaces = document
        .pointer_mut("/linux/namespaces")
        .and_then(serde_json::Value::as_array_mut);
    for namespace in namespaces.into_iter().flatten() {
        if namespace.get("type").and_then(serde_json::Value::as_str) == Some("network")
            && let Some(members) = namespace.as_object_mut()
        {
            members.insert("path".to_owned(), path.display().to_string().into());
        }
    }
    let content = serde_json::to_vec(&document).map_err(error)?;
    berth_sys::fs::replace(config, &content, 0o600, Durability::Unsynced)?;
    Ok(())
}

impl Monitor {
    /// A query, or an answer to one, has arrived.
    pub(super) fn answer_names(&mut self) {
        self.network.turn();
        self.tidy_later();
    }

    /// When the resolver wants its next turn.
    fn names_deadline(&self) -> Option<Instant> {
        self.network.responder.as_ref()?.deadline()
    }

    fn ports_deadline(&self) -> Option<Instant> {
        self.network.forwarder.as_ref()?.deadline()
    }

    /// When the network wants its next turn though nothing has arrived.
    pub(super) fn network_deadline(&self) -> Option<Instant> {
        [self.names_deadline(), self.ports_deadline()]
            .into_iter()
            .flatten()
            .min()
    }

    pub(super) fn keep_network_deadline(&mut self, now: Instant) {
        if self.names_deadline().is_some_and(|until| until <= now) {
            self.network.turn();
        }
        if self.ports_deadline().is_some_and(|until| until <= now) {
            self.network.forward(now);
        }
    }

    /// Somebody has come to a held port, or one who came has sent something.
    pub(super) fn forward_ports(&mut self) {
        self.network.forward(Instant::now());
    }

    /// Gives back what an idle resolver does not need.
    pub(super) fn shrink_names(&mut self) {
        if let Some(responder) = &mut self.network.responder {
            responder.shrink();
        }
    }

    /// Carries out [`crate::protocol::Request::Network`].
    pub(super) fn change_network(
        &mut self,
        change: NetworkChange,
        descriptors: Vec<OwnedFd>,
    ) -> Result<(), MonitorError> {
        let needed = if change.sockets { 2 } else { 0 } + change.hold.len();
        if descriptors.len() != needed {
            return Err(MonitorError::Protocol(format!(
                "{} descriptors came with a change of networks that needs {needed}",
                descriptors.len()
            )));
        }
        let mut descriptors = descriptors.into_iter();
        let new = change.sockets.then(|| sockets(&mut descriptors)).flatten();
        match (change.dns, new, &mut self.network.responder) {
            (None, ..) => {}
            // It has its sockets; others are not needed.
            (Some(settings), _, Some(responder)) => responder.set(settings),
            (Some(settings), Some(sockets), None) => {
                self.network.answer_names(settings, sockets, &self.poll)?;
            }
            (Some(_), None, None) => {
                return Err(MonitorError::State(
                    "names cannot be answered without sockets".into(),
                ));
            }
        }
        for name in &change.release {
            self.network.release(name);
        }
        for port in &change.lead {
            self.network.lead(port);
        }
        for (port, socket) in change.hold.iter().zip(descriptors) {
            self.network.hold(port, socket, &self.poll)?;
        }
        Ok(())
    }

    /// Gives everything free; before anybody is told that the container is over, so that its ports can be taken again.
    pub(super) fn leave_network(&mut self) {
        self.network = Network::default();
    }
}
