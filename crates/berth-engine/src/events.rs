//! What happened: a bus with a short memory.
//!
//! Owns the ring of recent events and the listeners. A listener that is too slow loses events and is
//! told how many; nobody waits for it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use berth_types::Timestamp;
use indexmap::IndexMap;
use tokio::sync::broadcast;

use crate::clock;
use crate::error::EngineError;
use crate::filters::Filters;
use crate::limits;

/// What kind of object an event is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum EventKind {
    Container,
    Image,
    Volume,
    Network,
    Daemon,
    Builder,
}

impl EventKind {
    /// Docker's word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Container => "container",
            Self::Image => "image",
            Self::Volume => "volume",
            Self::Network => "network",
            Self::Daemon => "daemon",
            Self::Builder => "builder",
        }
    }
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Kind of the object.
    pub kind: EventKind,
    /// What happened, in Docker's words: `create`, `exec_start: sh`, `health_status: healthy`, …
    pub action: String,
    /// Id (or reference) of the object.
    pub actor: String,
    /// Name, image, labels, exit code, …
    pub attributes: IndexMap<String, String>,
    /// When.
    pub at: Timestamp,
}

/// Which events a listener wants.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventQuery {
    /// Also remembered ones from then on.
    pub since: Option<Timestamp>,
    /// Until then; the stream ends.
    pub until: Option<Timestamp>,
    /// Filters.
    pub filters: Filters,
}

const ACCEPTED: &[&str] = &[
    "config",
    "container",
    "daemon",
    "event",
    "image",
    "label",
    "network",
    "node",
    "plugin",
    "scope",
    "secret",
    "service",
    "type",
    "volume",
];

#[derive(Debug)]
struct Ring {
    recent: Mutex<VecDeque<Arc<Event>>>,
    sender: broadcast::Sender<Arc<Event>>,
}

/// The bus. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Events {
    ring: Arc<Ring>,
}

impl Default for Events {
    fn default() -> Self {
        Self::new()
    }
}

impl Events {
    /// An empty bus.
    #[must_use]
    pub fn new() -> Self {
        let (sender, _) = broadcast::channel(limits::EVENTS_QUEUE);
        Self {
            ring: Arc::new(Ring {
                recent: Mutex::new(VecDeque::with_capacity(limits::EVENTS_KEPT)),
                sender,
            }),
        }
    }

    fn recent(&self) -> MutexGuard<'_, VecDeque<Arc<Event>>> {
        self.ring
            .recent
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells everyone. The time is set here, so that events are in order of time.
    pub fn publish(
        &self,
        kind: EventKind,
        action: impl Into<String>,
        actor: impl Into<String>,
        attributes: IndexMap<String, String>,
    ) {
        let mut recent = self.recent();
        let event = Arc::new(Event {
            kind,
            action: action.into(),
            actor: actor.into(),
            attributes,
            at: clock::now(),
        });
        if recent.len() >= limits::EVENTS_KEPT {
            recent.pop_front();
        }
        recent.push_back(Arc::clone(&event));
        // Sent under the ring's lock so that a new listener sees each event exactly once.
        let _ = self.ring.sender.send(event);
    }

    /// Listens. Remembered events that match come first.
    ///
    /// # Errors
    /// When a filter's name is unknown.
    pub fn subscribe(&self, query: EventQuery) -> Result<EventStream, EngineError> {
        query.filters.validate(ACCEPTED)?;
        let (past, receiver) = {
            let recent = self.recent();
            let past = match query.since {
                None if query.until.is_none() => VecDeque::new(),
                since => recent
                    .iter()
                    .filter(|e| since.is_none_or(|s| e.at >= s))
                    .cloned()
                    .collect(),
            };
            (past, self.ring.sender.subscribe())
        };
        Ok(EventStream {
            past,
            receiver,
            query,
        })
    }

    /// How many listen.
    #[must_use]
    pub fn listeners(&self) -> usize {
        self.ring.sender.receiver_count()
    }
}

/// A listener's end of the bus.
#[derive(Debug)]
pub struct EventStream {
    past: VecDeque<Arc<Event>>,
    receiver: broadcast::Receiver<Arc<Event>>,
    query: EventQuery,
}

impl EventStream {
    /// The next event that matches; `None` when the time asked for is over or the bus is gone.
    pub async fn next(&mut self) -> Option<Arc<Event>> {
        loop {
            if let Some(event) = self.past.pop_front() {
                if self.query.until.is_some_and(|until| event.at > until) {
                    continue;
                }
                if matches(&event, &self.query.filters) {
                    return Some(event);
                }
                continue;
            }
            let received = match self.query.until {
                None => self.receiver.recv().await,
                Some(until) => {
                    let left = until.since(clock::now());
                    if left.is_zero() {
                        return None;
                    }
                    match tokio::time::timeout(left, self.receiver.recv()).await {
                        Ok(received) => received,
                        Err(_) => return None,
                    }
                }
            };
            match received {
                Ok(event) if matches(&event, &self.query.filters) => return Some(event),
                Ok(_) => {}
                Err(broadcast::error::RecvError::Lagged(missed)) => {
                    tracing::debug!(missed, "a listener for events was too slow");
                }
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }
}

/// Whether an event passes the filters, as Docker decides it.
#[must_use]
pub fn matches(event: &Event, filters: &Filters) -> bool {
    let name = event.attributes.get("name").map_or("", String::as_str);
    let actor = |filter: &str, kind: EventKind| {
        !filters.contains(filter)
            || (event.kind == kind
                && filters.any(filter, |v| {
                    event.actor.starts_with(v) || name == v.trim_start_matches('/')
                }))
    };
    let image = || {
        filters.any("image", |wanted| {
            let own = match event.kind {
                EventKind::Image => [event.actor.as_str(), name],
                _ => [event.attributes.get("image").map_or("", String::as_str), ""],
            };
            own.iter()
                .any(|o| !o.is_empty() && (*o == wanted || without_tag(o) == wanted))
        })
    };
    filters.any("event", |v| {
        event.action == v
            || event
                .action
                .split_once(':')
                .is_some_and(|(verb, _)| verb == v)
    }) && filters.exact("type", event.kind.as_str())
        && filters.exact("scope", "local")
        && actor("container", EventKind::Container)
        && actor("volume", EventKind::Volume)
        && actor("network", EventKind::Network)
        && actor("daemon", EventKind::Daemon)
        && ["plugin", "service", "node", "secret", "config"]
            .iter()
            .all(|f| !filters.contains(f))
        && image()
        && filters.labels("label", &event.attributes)
}

/// A reference without its tag: the last colon after the last slash.
fn without_tag(reference: &str) -> &str {
    let name_start = reference.rfind('/').map_or(0, |i| i + 1);
    match reference[name_start..].find(':') {
        Some(colon) => &reference[..name_start + colon],
        None => reference,
    }
}
