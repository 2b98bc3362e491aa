//! Which containers a list shows: Docker's filters.

use std::sync::Arc;

use super::index::Index;
use super::phase::Phase;
use super::requests::ListOptions;
use super::view::ContainerView;
use crate::clock;
use crate::error::EngineError;
use crate::filters::{Filters, name_matches};
use berth_types::Timestamp;

const ACCEPTED: &[&str] = &[
    "ancestor",
    "before",
    "expose",
    "exited",
    "health",
    "id",
    "isolation",
    "is-task",
    "label",
    "name",
    "network",
    "publish",
    "since",
    "status",
    "volume",
];

const STATUSES: &[&str] = &[
    "paused",
    "restarting",
    "removing",
    "running",
    "dead",
    "created",
    "exited",
];

/// Snapshots that pass, newest first. `ancestor` tells whether a container's image is, or is made from, the
/// image that a value names.
///
/// # Errors
/// When a filter is unknown or a value makes no sense.
pub fn list(
    index: &Index,
    options: &ListOptions,
    ancestor: impl Fn(&ContainerView, &str) -> bool,
) -> Result<Vec<Arc<ContainerView>>, EngineError> {
    let filters = &options.filters;
    filters.validate(ACCEPTED)?;
    for status in filters.get("status") {
        if !STATUSES.contains(&status) {
            return Err(EngineError::Invalid(format!(
                "invalid filter 'status={status}'"
            )));
        }
    }
    for health in filters.get("health") {
        if !["none", "starting", "healthy", "unhealthy"].contains(&health) {
            return Err(EngineError::Invalid(format!(
                "invalid filter 'health={health}'"
            )));
        }
    }
    let exited: Vec<i32> = filters
        .get("exited")
        .map(|code| {
            code.parse()
                .map_err(|_| EngineError::Invalid(format!("invalid filter 'exited={code}'")))
        })
        .collect::<Result<_, _>>()?;
    let border = |name: &str| -> Result<Option<Timestamp>, EngineError> {
        filters
            .get(name)
            .last()
            .map(|reference| index.find(reference).map(|h| h.view().created))
            .transpose()
    };
    let (before, since) = (border("before")?, border("since")?);
    let mut views: Vec<Arc<ContainerView>> = index.all().iter().map(|h| h.view()).collect();
    views.sort_by(|a, b| b.created.cmp(&a.created).then_with(|| b.id.cmp(&a.id)));
    // A wish for what does not run is a wish for all.
    let all = options.all
        || options.limit > 0
        || filters.contains("status")
        || filters.contains("exited")
        || before.is_some()
        || since.is_some();
    let limit = if options.limit == 0 {
        usize::MAX
    } else {
        options.limit
    };
    Ok(views
        .into_iter()
        .filter(|view| all || view.is_running() || matches!(view.phase, Phase::Backoff { .. }))
        .filter(|view| before.is_none_or(|b| view.created < b))
        .filter(|view| since.is_none_or(|s| view.created > s))
        .filter(|view| {
            exited.is_empty()
                || (view.phase == Phase::Exited && exited.contains(&view.last.exit_code))
        })
        .filter(|view| passes(view, filters))
        .filter(|view| filters.any("ancestor", |value| ancestor(view, value)))
        .take(limit)
        .collect())
}

fn passes(view: &ContainerView, filters: &Filters) -> bool {
    let config = &view.spec.config;
    let health = view.health.as_ref().map_or("none", |h| h.status.as_str());
    filters.any("id", |v| view.id.as_str().starts_with(v))
        && filters.any("name", |v| name_matches(&view.name, v))
        && filters.labels("label", &config.labels)
        && filters.exact("status", view.phase.status())
        && filters.exact("health", health)
        && filters.any("is-task", |v| matches!(v, "false" | "0"))
        && filters.any("isolation", |v| v == "default")
        && filters.any("network", |v| {
            view.networks.iter().any(|(name, attachment)| {
                name == v
                    || attachment
                        .network_id
                        .as_ref()
                        .is_some_and(|id| id.as_str().starts_with(v))
            })
        })
        && filters.any("volume", |v| {
            view.spec.mounts.iter().any(|m| match &m.volume {
                // Where its directory is, is no name of a volume.
                Some(volume) => m.target == v || volume.name == v,
                None => m.target == v || m.source == v,
            })
        })
        && filters.any("expose", |v| port_matches(config.exposed_ports.iter(), v))
        && filters.any("publish", |v| {
            port_matches(view.spec.host.port_bindings.keys(), v)
        })
}

/// `port`, `port/protocol` or `first-last[/protocol]`.
fn port_matches<'a>(mut ports: impl Iterator<Item = &'a String>, wanted: &str) -> bool {
    let split = |text: &str| -> Option<(u16, u16, String)> {
        let (range, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        Some((first.parse().ok()?, last.parse().ok()?, protocol.to_owned()))
    };
    let Some((first, last, protocol)) = split(wanted) else {
        return false;
    };
    ports.any(|port| split(port).is_some_and(|(a, b, p)| p == protocol && a <= last && b >= first))
}

/// Whether a prune may take a container: `until`, `label`, `label!`.
///
/// # Errors
/// When a filter is unknown or a value makes no sense.
pub fn prunable(filters: &Filters) -> Result<impl Fn(&ContainerView) -> bool, EngineError> {
    filters.validate(&["label", "label!", "until"])?;
    let until: Option<Timestamp> = filters
        .get("until")
        .map(|text| {
            Timestamp::parse_relative(text, clock::now())
                .map_err(|e| EngineError::Invalid(e.to_string()))
        })
        .collect::<Result<Vec<_>, _>>()?
        .into_iter()
        .min();
    let filters = filters.clone();
    Ok(move |view: &ContainerView| {
        let labels = &view.spec.config.labels;
        matches!(view.phase, Phase::Created | Phase::Exited)
            && until.is_none_or(|u| view.created < u)
            && filters.labels("label", labels)
            && !(filters.contains("label!") && filters.labels("label!", labels))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_match_in_part_or_whole() {
        for (pattern, found) in [
            ("web", true),
            ("/web", true),
            ("^web", true),
            ("^/web-1$", true),
            ("eb-1$", true),
            ("^eb", false),
            ("web$", false),
            ("db", false),
        ] {
            assert_eq!(name_matches("web-1", pattern), found, "{pattern}");
        }
    }

    #[test]
    fn ports_match_by_range_and_protocol() {
        let ports = ["80/tcp".to_owned(), "53/udp".to_owned()];
        for (wanted, found) in [
            ("80", true),
            ("80/udp", false),
            ("70-90", true),
            ("53/udp", true),
            ("53", false),
            ("x", false),
        ] {
            assert_eq!(port_matches(ports.iter(), wanted), found, "{wanted}");
        }
    }
}
