//! `--platform` of commands on images that are here: `os[/architecture[/variant]]`.

use berth_types::platform::Platform;

use crate::flags::Parsed;
use crate::quote::go_quote;

/// The platform asked for, if one was.
///
/// # Errors
/// The sentence on a text that is no platform.
pub(crate) fn one(parsed: &Parsed) -> Result<Option<Platform>, String> {
    match parsed.text("platform") {
        "" => Ok(None),
        text => parse(text).map(Some),
    }
}

/// All platforms asked for; several may stand in one text, separated by commas.
///
/// # Errors
/// The sentence on the first text that is no platform.
pub(crate) fn all(parsed: &Parsed) -> Result<Vec<Platform>, String> {
    let texts = parsed.list("platform");
    texts
        .iter()
        .flat_map(|text| text.split(','))
        .map(parse)
        .collect()
}

fn parse(text: &str) -> Result<Platform, String> {
    Platform::parse(text).map_err(|_| {
        format!(
            "{}: cannot parse platform specifier: invalid argument",
            go_quote(text)
        )
    })
}
