//! Clients that attached before the container was started.
//!
//! They wait here, and are connected between the making of the container and the running of its program, so
//! that none misses a byte. Invariant: a client is either waiting here or asks the monitor itself; the change
//! happens under one lock.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::net::UnixStream;
use tokio::sync::oneshot;

use super::launcher::Streams;
use crate::limits;

/// A client that waits.
#[derive(Debug)]
pub struct Client {
    /// What it wants.
    pub streams: Streams,
    /// Where its stream goes.
    pub reply: oneshot::Sender<UnixStream>,
}

#[derive(Debug, Default)]
struct State {
    waiting: Vec<Client>,
    connected: bool,
}

/// The clients of one container.
#[derive(Debug, Default)]
pub struct PendingClients {
    state: Mutex<State>,
}

/// What becomes of a client.
#[derive(Debug)]
pub enum Place {
    /// It waits; this ends when it is connected, or never is.
    Waiting(oneshot::Receiver<UnixStream>),
    /// The container runs: ask the monitor.
    Direct,
    /// Too many wait already.
    Full,
}

impl PendingClients {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a client in.
    pub fn join(&self, streams: Streams) -> Place {
        let mut state = self.state();
        if state.connected {
            return Place::Direct;
        }
        state.waiting.retain(|client| !client.reply.is_closed());
        if state.waiting.len() >= limits::ATTACHES_PENDING {
            return Place::Full;
        }
        let (reply, stream) = oneshot::channel();
        state.waiting.push(Client { streams, reply });
        Place::Waiting(stream)
    }

    /// Whether any client waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.state().waiting.is_empty()
    }

    /// Gives up to `limit` of those who wait, while others may still join them.
    #[must_use]
    pub fn take(&self, limit: usize) -> Vec<Client> {
        let mut state = self.state();
        state.waiting.retain(|client| !client.reply.is_closed());
        let count = limit.min(state.waiting.len());
        state.waiting.drain(..count).collect()
    }

    /// The monitor is there: gives those who waited; later ones ask it themselves.
    #[must_use]
    pub fn connect(&self) -> Vec<Client> {
        let mut state = self.state();
        state.connected = true;
        std::mem::take(&mut state.waiting)
    }

    /// The run is over, or never was: who waits is told so by the end of its channel, later ones wait for the next.
    pub fn disconnect(&self) {
        let mut state = self.state();
        state.connected = false;
        state.waiting.clear();
    }
}
