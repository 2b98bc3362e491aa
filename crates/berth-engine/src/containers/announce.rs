//! News of the lifecycle as events, with the attributes Docker gives them.

use indexmap::IndexMap;

use super::lifecycle::News;
use super::record::ContainerRecord;
use super::view::ContainerView;
use crate::events::{EventKind, Events};

fn base(labels: &IndexMap<String, String>, image: &str, name: &str) -> IndexMap<String, String> {
    let mut attributes = labels.clone();
    if !image.is_empty() {
        attributes.insert("image".to_owned(), image.to_owned());
    }
    attributes.insert("name".to_owned(), name.to_owned());
    attributes
}

/// Tells of a container what no step tells: attach, resize, exec, …
pub fn of_view(
    events: &Events,
    view: &ContainerView,
    action: impl Into<String>,
    extra: &[(&str, String)],
) {
    let config = &view.spec.config;
    let mut attributes = base(&config.labels, &config.image, &view.name);
    for (name, value) in extra {
        attributes.insert((*name).to_owned(), value.clone());
    }
    events.publish(EventKind::Container, action, view.id.as_str(), attributes);
}

/// Tells of a container as its record is.
pub fn of_record(
    events: &Events,
    record: &ContainerRecord,
    action: impl Into<String>,
    extra: &[(&str, String)],
) {
    let config = &record.spec.config;
    let mut attributes = base(&config.labels, &config.image, &record.name);
    for (name, value) in extra {
        attributes.insert((*name).to_owned(), value.clone());
    }
    events.publish(EventKind::Container, action, record.id.as_str(), attributes);
}

/// Tells listeners of a piece of news, where Docker would.
pub(super) fn publish(events: &Events, record: &ContainerRecord, news: &News) {
    let tell = |action: &str, extra: &[(&str, String)]| of_record(events, record, action, extra);
    match news {
        News::Started => tell("start", &[]),
        News::Killed { signal } => tell("kill", &[("signal", signal.number().to_string())]),
        News::Died { code, seconds } => tell(
            "die",
            &[
                ("exitCode", code.to_string()),
                ("execDuration", seconds.to_string()),
            ],
        ),
        News::Stopped => tell("stop", &[]),
        News::Restarted => tell("restart", &[]),
        News::Paused => tell("pause", &[]),
        News::Unpaused => tell("unpause", &[]),
        News::Renamed { old } => tell("rename", &[("oldName", format!("/{old}"))]),
        News::Updated => tell("update", &[]),
        News::OutOfMemory => tell("oom", &[]),
        News::Health(status) => tell(&format!("health_status: {}", status.as_str()), &[]),
        News::Destroyed => tell("destroy", &[]),
        News::StartFailed { .. }
        | News::KillFailed { .. }
        | News::PauseFailed { .. }
        | News::UnpauseFailed { .. }
        | News::UpdateFailed { .. }
        | News::NetworksChanged { .. }
        | News::NetworksFailed { .. }
        | News::RemovalFailed { .. } => {}
    }
}
