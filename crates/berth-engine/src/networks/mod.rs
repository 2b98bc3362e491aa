//! Networks: which there are, who is in them, with which addresses.
//!
//! Owns the records of networks, the book of members and addresses, what networks have in the kernel, and the files
//! that say what members are called. Does not know containers: these ask to join and to leave, and say which they
//! are.
//!
//! Invariants: a network's record is on disk before anything of it is made, and gone after everything of it is; an
//! address is in the book before an interface has it; what fails leaves nothing behind; a restart of the engine
//! changes nothing for who runs.

mod book;
mod change;
mod default_bridge;
mod endpoint;
mod ground;
mod join;
mod leaving;
mod list;
mod names;
mod notices;
pub mod options;
mod plan;
pub mod ports;
mod publish;
pub mod record;
pub mod request;
pub mod settings;
mod settle;
pub mod view;

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use berth_net::address::{Pools, Taken};
use berth_net::firewall::{Parts, PortBook};
use berth_types::{ContainerId, NetworkId};
use indexmap::IndexMap;
use tokio::sync::Semaphore;

use self::book::{Book, Stage};
use self::ground::Ground;
use self::leaving::Leaving;
use self::names::NamesFiles;
use self::options::DriverOptions;
use crate::clock;
use crate::error::EngineError;
use crate::events::{EventKind, Events};
use crate::filters::Filters;
use crate::host::Host;
use crate::limits;
use crate::random;
use crate::records::Records;

pub use berth_net::address::{Pool, Prefix};
pub use join::{Joined, Reservation};
pub use record::{Driver, NetworkRecord, SubnetRecord};
pub use request::{
    EndpointRequest, IpamRequest, JoinRequest, NetworkCreateRequest, NetworkCreated, SubnetRequest,
};
pub use settings::{NetworkSettings, PublishPolicy};
pub use view::{
    Endpoint, Exposure, Member, NetworkView, Protocol, PublishedPort, Reach, RunNetwork,
};

/// The service. Cheap to clone.
///
/// A network's reference is its id, its name, or a prefix of its id that no other has. Every operation that changes
/// something goes on when its caller hangs up.
#[derive(Debug, Clone)]
pub struct Networks {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// Itself, for what the kernel tells.
    own: Weak<Shared>,
    book: Mutex<Book>,
    ground: Mutex<Option<Arc<Ground>>>,
    /// Ports of the host that containers hold.
    ports: Arc<Mutex<PortBook>>,
    leaving: Leaving,
    names: NamesFiles,
    records: Records,
    events: Events,
    host: Arc<Host>,
    /// Whether what bridges need is made ahead.
    warm: AtomicBool,
    /// Calls of the kernel, which take turns there anyway.
    calls: Semaphore,
}

fn defect(error: tokio::task::JoinError) -> EngineError {
    EngineError::Internal(format!("a defect in the engine: {error}"))
}

impl Shared {
    fn book(&self) -> MutexGuard<'_, Book> {
        // Changes of the book are small and complete; a panic elsewhere leaves it whole.
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pools(&self, settings: &NetworkSettings) -> Pools {
        plan::pools(
            settings,
            berth_net::address::unique_local_pool(self.host.id.as_bytes()),
        )
    }

    /// What networks have in the kernel; opened now where it was not. Blocks.
    fn ground(&self) -> Result<Arc<Ground>, EngineError> {
        let mut ground = self.ground.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(ground) = &*ground {
            return Ok(Arc::clone(ground));
        }
        let name = self.host.network_name();
        let settings = self.host.config().network.clone();
        let opened = Ground::open(
            &name,
            format!("{name} {}", self.host.id),
            &settings,
            self.wanted_parts(),
        )?;
        let opened = Arc::new(opened);
        let own = Weak::clone(&self.own);
        Ground::follow_routes(&opened, move || {
            if let Some(shared) = own.upgrade() {
                shared.follow_mtu();
            }
        })?;
        *ground = Some(Arc::clone(&opened));
        Ok(opened)
    }

    /// As [`ground`](Self::ground), where it is open.
    fn opened_ground(&self) -> Option<Arc<Ground>> {
        self.ground
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Everything that shall be filtered as of now.
    fn wanted_parts(&self) -> Parts {
        let policy = self.host.config().network.publish_policy;
        let book = self.book();
        let mut parts = Parts::default();
        for entry in book.entries().filter(|e| e.stage != Stage::Making) {
            let DriverOptions::Bridge(options) = &*entry.options else {
                continue;
            };
            if entry.record.config_only || (entry.lazy && entry.members().next().is_none()) {
                continue;
            }
            parts
                .networks
                .push(ground::filtered(&entry.record, options));
            for member in entry.members() {
                parts
                    .endpoints
                    .push(publish::place(&entry.record, options, &member.endpoint));
            }
        }
        for (container, run) in book.runs() {
            parts
                .ports
                .extend(publish::translations(&book, run, policy));
            parts
                .links
                .extend(publish::links(&book, container, run, false));
        }
        parts
    }

    /// A network with its members, without those whose runs are over.
    fn view(&self, entry: &book::Entry) -> NetworkView {
        let mut view = entry.view();
        if !view.members.is_empty() {
            let leaving = self.leaving.now();
            view.members.retain(|m| !leaving.contains(&m.container));
        }
        view
    }

    /// Runs work that blocks, a few at a time.
    async fn block<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self) -> Result<T, EngineError> + Send + 'static,
    ) -> Result<T, EngineError> {
        let _place = self.calls.acquire().await;
        let shared = Arc::clone(self);
        tokio::task::spawn_blocking(move || work(&shared))
            .await
            .map_err(defect)?
    }

    fn announce(&self, action: &str, record: &NetworkRecord, container: Option<&ContainerId>) {
        let mut attributes: IndexMap<String, String> = record.labels.clone();
        attributes.insert("name".to_owned(), record.name.clone());
        attributes.insert("type".to_owned(), record.driver.as_str().to_owned());
        if let Some(container) = container {
            attributes.insert("container".to_owned(), container.as_str().to_owned());
        }
        self.events
            .publish(EventKind::Network, action, record.id.as_str(), attributes);
    }
}

impl Networks {
    /// The networks of the records, with those that are always there.
    ///
    /// # Errors
    /// When the records cannot be read or written.
    pub(crate) async fn open(
        records: Records,
        events: Events,
        host: Arc<Host>,
    ) -> Result<Self, EngineError> {
        let (ephemeral, reserved) = berth_net::firewall::ephemeral_of_kernel();
        let names = NamesFiles::new(host.exec_root().join("networks"));
        let shared = Arc::new_cyclic(|own| Shared {
            own: Weak::clone(own),
            warm: AtomicBool::new(false),
            book: Mutex::default(),
            ground: Mutex::default(),
            ports: Arc::new(Mutex::new(PortBook::new(ephemeral, reserved))),
            leaving: Leaving::default(),
            names,
            records,
            events,
            host,
            calls: Semaphore::new(limits::NETWORK_CALLS_AT_ONCE),
        });
        let service = Self { shared };
        service.load().await?;
        Ok(service)
    }

    /// Makes a network. Durable when it answers.
    ///
    /// # Errors
    /// `Conflict` when the name is in use, `Forbidden` when a subnet or a bridge is, `Invalid` for what makes no
    /// sense; what the kernel refuses.
    pub async fn create(
        &self,
        request: NetworkCreateRequest,
    ) -> Result<NetworkCreated, EngineError> {
        let shared = Arc::clone(&self.shared);
        // In a task of its own: a caller that hangs up does not leave half a network.
        tokio::spawn(async move { create(&shared, request).await })
            .await
            .map_err(defect)?
    }

    /// A network with its members.
    ///
    /// # Errors
    /// `NotFound` when there is no such network, `Invalid` when several are meant.
    pub fn inspect(&self, reference: &str) -> Result<NetworkView, EngineError> {
        Ok(self.shared.view(self.shared.book().find(reference)?))
    }

    /// Networks that pass the filters `dangling`, `driver`, `id`, `label`, `name`, `scope`, `type`.
    ///
    /// # Errors
    /// When a filter makes no sense.
    pub fn list(&self, filters: &Filters) -> Result<Vec<NetworkView>, EngineError> {
        let wanted = list::wanted(filters)?;
        Ok(self
            .shared
            .book()
            .entries()
            .filter(|e| e.stage != Stage::Making)
            .map(|entry| self.shared.view(entry))
            .filter(|view| wanted(view))
            .collect())
    }

    /// Removes a network that nobody is in.
    ///
    /// # Errors
    /// `Forbidden` when somebody is in it, or it is one of those that are always there.
    pub async fn remove(&self, reference: &str) -> Result<(), EngineError> {
        let mark = || {
            let mut book = self.shared.book();
            let id = book.find_ready(reference)?.record.id.clone();
            mark_removing(&mut book, &id)?;
            Ok::<_, EngineError>(id)
        };
        let leaving = self.shared.leaving.now();
        let mut marked = mark();
        if marked.is_err() && self.shared.leaving.left(&leaving).await {
            marked = mark();
        }
        let id = marked?;
        let shared = Arc::clone(&self.shared);
        tokio::spawn(async move { remove(&shared, &id).await })
            .await
            .map_err(defect)?
    }

    /// Removes every network that users made and nobody is in; answers with their names. Filters: `until`, `label`,
    /// `label!`.
    ///
    /// # Errors
    /// When a filter makes no sense.
    pub async fn prune(&self, filters: &Filters) -> Result<Vec<String>, EngineError> {
        let wanted = list::prunable(filters)?;
        let views: Vec<NetworkView> = self
            .shared
            .book()
            .entries()
            .map(|entry| self.shared.view(entry))
            .filter(|v| !v.record.is_predefined() && v.members.is_empty() && wanted(v))
            .collect();
        let mut removed = Vec::new();
        for view in views {
            // Joined since, or removed since: no failure of the prune.
            if self.remove(view.record.id.as_str()).await.is_ok() {
                removed.push(view.record.name.clone());
            }
        }
        self.shared.events.publish(
            EventKind::Network,
            "prune",
            "",
            [("reclaimed".to_owned(), "0".to_owned())]
                .into_iter()
                .collect(),
        );
        Ok(removed)
    }

    /// The settings of networks.
    #[must_use]
    pub fn settings(&self) -> NetworkSettings {
        self.shared.host.config().network.clone()
    }

    /// Who reaches the published ports of each of these runs, as the host's input rules are now.
    ///
    /// # Errors
    /// When the host's rules cannot be listed.
    pub async fn exposures(
        &self,
        runs: Vec<Arc<RunNetwork>>,
    ) -> Result<Vec<Vec<Exposure>>, EngineError> {
        self.shared
            .block(move |shared| {
                let input = match shared.opened_ground() {
                    Some(ground) => ground.input_policy()?,
                    None => None,
                };
                let (policy, book) = (shared.policy(), shared.book());
                let of_run = |run: &Arc<RunNetwork>| {
                    let ports = run.ports.iter();
                    ports
                        .filter_map(|port| publish::exposure(&book, run, port, policy, input))
                        .collect()
                };
                Ok(runs.iter().map(of_run).collect())
            })
            .await
    }

    /// The name and the id of a network, where there is one.
    #[must_use]
    pub fn resolve(&self, reference: &str) -> Option<(String, NetworkId)> {
        let book = self.shared.book();
        let entry = book.find(reference).ok()?;
        Some((entry.record.name.clone(), entry.record.id.clone()))
    }

    /// Checks how a container wants to join a network, which need not exist yet.
    ///
    /// # Errors
    /// With everything that makes no sense.
    pub fn check(&self, reference: &str, request: &EndpointRequest) -> Result<(), EngineError> {
        let record = {
            let book = self.shared.book();
            book.find(reference).ok().map(|e| Arc::clone(&e.record))
        };
        endpoint::check(reference, record.as_deref(), request).map(drop)
    }
}

async fn create(
    shared: &Arc<Shared>,
    request: NetworkCreateRequest,
) -> Result<NetworkCreated, EngineError> {
    let id = NetworkId::from_random(random::bytes()?);
    let taken = if request.config_only {
        Vec::new()
    } else {
        shared.block(host_ranges).await?
    };
    let settings = shared.host.config().network.clone();
    let record = {
        let mut book = shared.book();
        if book.len() >= limits::NETWORKS_MAX {
            return Err(EngineError::Forbidden(format!(
                "there are {} networks already, which is the most",
                limits::NETWORKS_MAX
            )));
        }
        let pools = shared.pools(&settings);
        let record = {
            let records: Vec<&NetworkRecord> = book.entries().map(|e| &*e.record).collect();
            plan::network(
                &request,
                id.clone(),
                clock::now(),
                &plan::Situation {
                    networks: records,
                    host: &taken,
                    pools: &pools,
                    settings: &settings,
                },
            )?
        };
        let options = DriverOptions::parse(record.driver, record.internal, &record.options)?;
        let record = Arc::new(record);
        book.insert(Arc::clone(&record), Arc::new(options), Stage::Making);
        record
    };
    let made = async {
        let ticket = shared.records.insert_network(&record).await?;
        ticket.durable().await?;
        let of_kernel = Arc::clone(&record);
        shared
            .block(move |shared| {
                if of_kernel.config_only {
                    return Ok(());
                }
                let options =
                    DriverOptions::parse(of_kernel.driver, of_kernel.internal, &of_kernel.options)?;
                shared.ground()?.ensure_network(&of_kernel, &options)
            })
            .await
    }
    .await;
    if let Err(error) = made {
        if let Ok(ticket) = shared.records.remove_network(&record.id).await {
            let _ = ticket.durable().await;
        }
        shared.book().remove(&record.id);
        return Err(error);
    }
    if let Some(entry) = shared.book().get_mut(&record.id) {
        entry.stage = Stage::Ready;
    }
    shared.announce("create", &record, None);
    Ok(NetworkCreated {
        id,
        warning: String::new(),
    })
}

/// Ranges that routes and addresses of the host use; those of our own bridges are known from records. Blocks.
fn host_ranges(shared: &Shared) -> Result<Vec<Taken>, EngineError> {
    let ground = shared.ground()?;
    let own: Vec<berth_net::link::LinkName> = shared
        .book()
        .entries()
        .filter_map(|e| plan::bridge_of(&e.record)?.parse().ok())
        .collect();
    let routes = ground.host.routes(&own).map_err(|e| {
        let kind = e.kind();
        EngineError::failed("list the host's routes", kind, e)
    })?;
    Ok(routes
        .into_iter()
        .map(|prefix| Taken {
            prefix,
            holder: "a route of the host".to_owned(),
        })
        .collect())
}

fn mark_removing(book: &mut Book, id: &NetworkId) -> Result<(), EngineError> {
    let missing = || EngineError::NotFound(format!("network {id} not found"));
    let entry = book.get(id).ok_or_else(missing)?;
    let name = entry.record.name.clone();
    if entry.record.is_predefined() {
        return Err(EngineError::Forbidden(format!(
            "{name} is a pre-defined network and cannot be removed"
        )));
    }
    if entry.record.config_only && book.entries().any(|e| e.record.config_from == name) {
        return Err(EngineError::Forbidden(format!(
            "error while removing network: configuration network \"{name}\" is in use"
        )));
    }
    let members: Vec<String> = entry
        .members()
        .map(|m| format!("name:\"{}\" id:\"{}\"", m.name, m.endpoint.id.short()))
        .collect();
    if !members.is_empty() {
        return Err(EngineError::Forbidden(format!(
            "error while removing network: network {name} has active endpoints ({})",
            members.join(", ")
        )));
    }
    if let Some(entry) = book.get_mut(id) {
        entry.stage = Stage::Removing;
    }
    Ok(())
}

async fn remove(shared: &Arc<Shared>, id: &NetworkId) -> Result<(), EngineError> {
    let found = {
        let book = shared.book();
        book.get(id)
            .map(|e| (Arc::clone(&e.record), Arc::clone(&e.options)))
    };
    let Some((record, options)) = found else {
        return Ok(());
    };
    let of_kernel = Arc::clone(&record);
    let released = shared
        .block(move |shared| {
            if of_kernel.config_only {
                return Ok(());
            }
            let last = shared.is_last_of_parent(&of_kernel, &options);
            shared
                .ground()?
                .release_network(&of_kernel, &options, last)?;
            shared.names.remove(&of_kernel.id);
            Ok(())
        })
        .await;
    let gone = match released {
        Ok(()) => match shared.records.remove_network(id).await {
            Ok(ticket) => ticket.durable().await,
            Err(error) => Err(error),
        },
        Err(error) => Err(error),
    };
    if let Err(error) = gone {
        if let Some(entry) = shared.book().get_mut(id) {
            entry.stage = Stage::Ready;
        }
        return Err(error);
    }
    shared.book().remove(id);
    shared.announce("destroy", &record, None);
    Ok(())
}

impl Shared {
    fn is_last_of_parent(&self, record: &NetworkRecord, options: &DriverOptions) -> bool {
        let DriverOptions::Parent(own) = options else {
            return false;
        };
        !self.book().entries().any(|e| {
            e.record.id != record.id
                && matches!(&*e.options, DriverOptions::Parent(o) if o.parent == own.parent && !o.parent.is_empty())
        })
    }
}
