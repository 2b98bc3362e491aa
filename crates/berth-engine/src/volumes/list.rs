//! Filters of lists and prunes, as Docker matches them.

use crate::error::EngineError;
use crate::filters::{Filters, name_matches};

use super::view::VolumeView;

const LISTED: &[&str] = &["dangling", "driver", "label", "name"];
const PRUNED: &[&str] = &["all", "label", "label!"];

/// What decides whether a volume is listed.
pub(super) fn wanted(
    filters: &Filters,
) -> Result<impl Fn(&VolumeView) -> bool + use<>, EngineError> {
    filters.validate(LISTED)?;
    let dangling = filters.truth("dangling")?;
    let filters = filters.clone();
    Ok(move |view: &VolumeView| {
        let record = &view.record;
        filters.exact("driver", &record.driver)
            && filters.any("name", |v| name_matches(&record.name, v))
            && filters.labels("label", &record.labels)
            && dangling.is_none_or(|d| d == view.users.is_empty())
    })
}

/// What decides whether a volume that nobody uses is pruned: without `all` only those nobody gave a name.
pub(super) fn prunable(
    filters: &Filters,
) -> Result<impl Fn(&VolumeView) -> bool + use<>, EngineError> {
    filters.validate(PRUNED)?;
    let all = filters.truth("all")?.unwrap_or(false);
    let filters = filters.clone();
    Ok(move |view: &VolumeView| {
        let record = &view.record;
        let refused = filters.contains("label!") && filters.labels("label!", &record.labels);
        (all || record.is_anonymous())
            && view.users.is_empty()
            && filters.labels("label", &record.labels)
            && !refused
    })
}
