//! `--filter`: `name=value`, as often as wanted.

use berth_api::Filters;

use crate::flags::Flag;

/// The flag of commands that list, prune or follow.
pub(crate) const fn flag(help: &'static str) -> Flag {
    Flag::many("filter", "filter", check, help)
}

/// Whether the text is a filter.
fn check(text: &str) -> Result<(), String> {
    if text.is_empty() || text.contains('=') {
        Ok(())
    } else {
        Err("bad format of filter (expected name=value)".to_owned())
    }
}

/// All filters of a command line.
pub(crate) fn all(texts: &[String]) -> Filters {
    let mut filters = Filters::new();
    for (name, value) in texts.iter().filter_map(|text| text.split_once('=')) {
        filters.add(name.trim().to_lowercase(), value.trim());
    }
    filters
}
