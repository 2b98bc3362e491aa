//! Events: engine to wire.

use super::sorted;
use berth_api::{EventActor, EventMessage};
use berth_engine::events::{Event, EventKind};

/// One event, with the fields clients before API 1.22 know for containers and images.
pub(crate) fn message(event: &Event) -> EventMessage {
    let nanoseconds = event.at.unix_nanoseconds();
    let mut message = EventMessage {
        kind: event.kind.as_str().to_owned(),
        action: event.action.clone(),
        actor: EventActor {
            id: event.actor.clone(),
            attributes: Some(sorted(&event.attributes)),
        },
        scope: "local".to_owned(),
        time: event.at.unix_seconds(),
        time_nano: i64::try_from(nanoseconds).unwrap_or(i64::MAX),
        ..EventMessage::default()
    };
    if matches!(event.kind, EventKind::Container | EventKind::Image) {
        message.status.clone_from(&event.action);
        message.id.clone_from(&event.actor);
    }
    if event.kind == EventKind::Container {
        message.from = event.attributes.get("image").cloned().unwrap_or_default();
    }
    message
}
