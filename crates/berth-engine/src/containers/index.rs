//! Which containers there are, and what they are called.
//!
//! Owns names and their reservations. Readers get snapshots without asking an owner. A container whose removal
//! nobody has to wait for is hidden: not found and not listed, its name free, until it is gone or the removal fails.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use berth_types::ContainerId;
use tokio::sync::{mpsc, oneshot, watch};

use super::clients::PendingClients;
use super::owner::{Ask, Message};
use super::view::ContainerView;
use crate::error::EngineError;

/// The only way to ask a container for something. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ContainerHandle {
    pub(crate) id: ContainerId,
    pub(crate) asks: mpsc::Sender<Ask>,
    pub(crate) messages: mpsc::Sender<Message>,
    pub(crate) view: watch::Receiver<Arc<ContainerView>>,
    pub(crate) clients: Arc<PendingClients>,
}

impl ContainerHandle {
    /// Its id.
    #[must_use]
    pub fn id(&self) -> &ContainerId {
        &self.id
    }

    /// Asks its owner, by what `ask` makes of the way to answer. `None` when the owner has ended, and the container with it.
    pub(crate) async fn ask<T>(&self, ask: impl FnOnce(oneshot::Sender<T>) -> Ask) -> Option<T> {
        answered(self.asks.reserve().await.ok()?, ask, &self.asks).await
    }

    /// The present snapshot.
    #[must_use]
    pub fn view(&self) -> Arc<ContainerView> {
        Arc::clone(&self.view.borrow())
    }
}

/// Sends what is asked and waits for the answer. What is sent in the moment in which the owner ends may stay in the queue,
/// unseen, for as long as there are senders (tokio empties it once, when the receiver goes): so its end is waited for too.
async fn answered<T>(
    place: mpsc::Permit<'_, Ask>,
    ask: impl FnOnce(oneshot::Sender<T>) -> Ask,
    asks: &mpsc::Sender<Ask>,
) -> Option<T> {
    let (reply, mut answer) = oneshot::channel();
    place.send(ask(reply));
    tokio::select! {
        biased;
        answer = &mut answer => answer.ok(),
        // What it could answer it had answered before.
        () = asks.closed() => answer.try_recv().ok(),
    }
}

#[derive(Debug, Default)]
struct Content {
    handles: HashMap<ContainerId, ContainerHandle>,
    names: HashMap<String, ContainerId>,
    /// Gone for everyone, and what is left of them is being cleared away.
    vanishing: HashMap<ContainerId, ContainerHandle>,
}

/// All containers. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Index {
    content: Arc<RwLock<Content>>,
}

/// A name that is taken, for as long as this lives or once it is kept.
#[derive(Debug)]
pub struct Reservation {
    index: Index,
    name: String,
    kept: bool,
}

impl Reservation {
    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Keeps the name until it is released.
    pub fn keep(mut self) -> String {
        self.kept = true;
        self.name.clone()
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if !self.kept {
            self.index.release_name(&self.name);
        }
    }
}

impl Index {
    fn read(&self) -> std::sync::RwLockReadGuard<'_, Content> {
        self.content.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, Content> {
        self.content.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a name.
    ///
    /// # Errors
    /// When it is in use, with Docker's sentence.
    pub fn reserve(&self, name: &str, id: &ContainerId) -> Result<Reservation, EngineError> {
        let mut content = self.write();
        if let Some(holder) = content.names.get(name) {
            return Err(EngineError::Conflict(format!(
                "Conflict. The container name \"/{name}\" is already in use by container \"{holder}\". You have to remove (or rename) that container to be able to reuse that name."
            )));
        }
        content.names.insert(name.to_owned(), id.clone());
        drop(content);
        Ok(Reservation {
            index: self.clone(),
            name: name.to_owned(),
            kept: false,
        })
    }

    /// Gives a name back.
    pub fn release_name(&self, name: &str) {
        self.write().names.remove(name);
    }

    /// Adds a container whose name is reserved.
    pub fn insert(&self, handle: ContainerHandle) {
        self.write().handles.insert(handle.id.clone(), handle);
    }

    /// Adds a container whose removal was under way when the daemon began: nobody finds it, and its name is free.
    pub fn insert_vanishing(&self, handle: ContainerHandle) {
        self.write().vanishing.insert(handle.id.clone(), handle);
    }

    /// Takes a container and its name out of sight, until [`Index::remove`] or [`Index::show`].
    pub fn hide(&self, id: &ContainerId, name: &str) {
        let mut content = self.write();
        if let Some(handle) = content.handles.remove(id) {
            content.vanishing.insert(id.clone(), handle);
        }
        if content.names.get(name) == Some(id) {
            content.names.remove(name);
        }
    }

    /// Brings a hidden container back, under its name where nobody has taken that meanwhile.
    pub fn show(&self, id: &ContainerId, name: &str) {
        let mut content = self.write();
        let Some(handle) = content.vanishing.remove(id) else {
            return;
        };
        content.handles.insert(id.clone(), handle);
        content
            .names
            .entry(name.to_owned())
            .or_insert_with(|| id.clone());
    }

    /// Takes a container and its name out.
    pub fn remove(&self, id: &ContainerId, name: &str) {
        let mut content = self.write();
        content.vanishing.remove(id);
        content.handles.remove(id);
        if content.names.get(name) == Some(id) {
            content.names.remove(name);
        }
    }

    /// The container meant: by id, by name, or by a prefix of its id that no other has.
    ///
    /// # Errors
    /// When there is none, or more than one.
    pub fn find(&self, reference: &str) -> Result<ContainerHandle, EngineError> {
        let missing = || {
            EngineError::NotFound(format!(
                "No such container: {}",
                reference.chars().take(256).collect::<String>()
            ))
        };
        if reference.is_empty() {
            return Err(missing());
        }
        let content = self.read();
        if let Ok(id) = ContainerId::parse(reference)
            && let Some(handle) = content.handles.get(&id)
        {
            return Ok(handle.clone());
        }
        let name = reference.strip_prefix('/').unwrap_or(reference);
        if let Some(handle) = content
            .names
            .get(name)
            .and_then(|id| content.handles.get(id))
        {
            return Ok(handle.clone());
        }
        if !berth_types::id::is_id_prefix(reference) {
            return Err(missing());
        }
        let mut matching = content
            .handles
            .iter()
            .filter(|(id, _)| id.as_str().starts_with(reference));
        match (matching.next(), matching.next()) {
            (Some((_, handle)), None) => Ok(handle.clone()),
            (None, _) => Err(missing()),
            (Some(_), Some(_)) => Err(EngineError::Invalid(format!(
                "multiple IDs found with provided prefix: {reference}"
            ))),
        }
    }

    /// Every container, in no order.
    #[must_use]
    pub fn all(&self) -> Vec<ContainerHandle> {
        self.read().handles.values().cloned().collect()
    }

    /// Containers that are gone for everyone, and of which something may be left.
    pub(crate) fn vanishing(&self) -> Vec<ContainerHandle> {
        self.read().vanishing.values().cloned().collect()
    }

    /// The ids of all containers of which something may be left, the hidden ones as well.
    #[must_use]
    pub fn ids(&self) -> Vec<ContainerId> {
        let content = self.read();
        content
            .handles
            .keys()
            .chain(content.vanishing.keys())
            .cloned()
            .collect()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.read().handles.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_asks_as_the_owner_ends_is_told() {
        let (asks, owner) = mpsc::channel(1);
        let place = asks.reserve().await.unwrap();
        drop(owner);
        let limit = std::time::Duration::from_secs(10);
        let answer = tokio::time::timeout(limit, answered::<()>(place, Ask::Recover, &asks));
        assert_eq!(answer.await, Ok(None));
    }

    #[tokio::test]
    async fn an_answer_given_at_the_end_counts() {
        let (asks, mut owner) = mpsc::channel(1);
        let place = asks.reserve().await.unwrap();
        let asking = answered(place, Ask::Recover, &asks);
        let ending = async {
            let Some(Ask::Recover(reply)) = owner.recv().await else {
                panic!("nothing was asked");
            };
            reply.send(()).unwrap();
            drop(owner);
        };
        assert_eq!(tokio::join!(asking, ending).0, Some(()));
    }
}
