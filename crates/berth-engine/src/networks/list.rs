//! Filters of lists and prunes, as Docker matches them.

use berth_types::Timestamp;

use crate::clock;
use crate::error::EngineError;
use crate::filters::Filters;

use super::view::NetworkView;

const LISTED: &[&str] = &["dangling", "driver", "id", "label", "name", "scope", "type"];
const PRUNED: &[&str] = &["label", "label!", "until"];

/// What decides whether a network is listed.
pub(super) fn wanted(
    filters: &Filters,
) -> Result<impl Fn(&NetworkView) -> bool + use<>, EngineError> {
    filters.validate(LISTED)?;
    let dangling = match filters.get("dangling").collect::<Vec<_>>().as_slice() {
        [] => None,
        ["1" | "true"] => Some(true),
        ["0" | "false"] => Some(false),
        [_] => {
            return Err(EngineError::Invalid(
                "invalid value for filter 'dangling', must be \"true\" (or \"1\"), or \"false\" (or \"0\")"
                    .to_owned(),
            ));
        }
        _ => {
            return Err(EngineError::Invalid(
                "got more than one value for filter key \"dangling\"".to_owned(),
            ));
        }
    };
    if let Some(other) = filters
        .get("type")
        .find(|t| !matches!(*t, "custom" | "builtin"))
    {
        return Err(EngineError::Invalid(format!(
            "invalid filter: 'type'='{}'",
            other.chars().take(64).collect::<String>()
        )));
    }
    let filters = filters.clone();
    Ok(move |view: &NetworkView| {
        let record = &view.record;
        let kind = if record.is_predefined() {
            "builtin"
        } else {
            "custom"
        };
        filters.exact("driver", record.driver.as_str())
            && filters.any("name", |v| record.name.contains(v))
            && filters.any("id", |v| record.id.as_str().contains(v))
            && filters.labels("label", &record.labels)
            && filters.exact("scope", "local")
            && filters.exact("type", kind)
            && dangling.is_none_or(|d| d == (!record.is_predefined() && view.members.is_empty()))
    })
}

/// What decides whether a network that nobody is in is pruned.
pub(super) fn prunable(
    filters: &Filters,
) -> Result<impl Fn(&NetworkView) -> bool + use<>, EngineError> {
    filters.validate(PRUNED)?;
    let until = filters
        .get("until")
        .map(|text| {
            Timestamp::parse_relative(text, clock::now())
                .map_err(|e| EngineError::Invalid(e.to_string()))
        })
        .collect::<Result<Vec<_>, _>>()?
        .into_iter()
        .min();
    let filters = filters.clone();
    Ok(move |view: &NetworkView| {
        let record = &view.record;
        let refused = filters.contains("label!") && filters.labels("label!", &record.labels);
        until.is_none_or(|u| record.created <= u)
            && filters.labels("label", &record.labels)
            && !refused
    })
}
