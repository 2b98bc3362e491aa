//! Every conversion between the wire types and the engine's own, and nothing else.
//!
//! Pure: what a field means is the engine's business, what it looks like is `berth-api`'s; here is only
//! which belongs to which, and what Docker writes where the engine has nothing to say.

pub(crate) mod archive;
pub(crate) mod create;
pub(crate) mod events;
pub(crate) mod health;
pub(crate) mod host_config;
pub(crate) mod images;
pub(crate) mod inspect;
pub(crate) mod mounts;
pub(crate) mod networks;
pub(crate) mod registries;
pub(crate) mod resources;
pub(crate) mod state;
pub(crate) mod stats;
pub(crate) mod summary;
pub(crate) mod system;
pub(crate) mod volumes;
pub(crate) mod why;

use base64::Engine as _;
use berth_api::{ExecInspect, ExecProcessConfig};
use berth_engine::Filters;
use berth_engine::containers::requests::TerminalSize;
use berth_engine::execs::ExecView;
use berth_types::Timestamp;
use indexmap::IndexMap;
use std::collections::BTreeMap;

/// Filters as the engine knows them.
pub(crate) fn filters(filters: &berth_api::Filters) -> Filters {
    filters
        .iter()
        .flat_map(|(name, values)| values.iter().map(move |value| (name, value.as_str())))
        .collect()
}

/// A size as the wire has it.
pub(crate) fn signed(size: u64) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}

/// Height and width; None when either is zero.
pub(crate) fn terminal_size([height, width]: [u32; 2]) -> Option<TerminalSize> {
    let length = |length: u32| u16::try_from(length).unwrap_or(u16::MAX);
    (height > 0 && width > 0).then(|| TerminalSize {
        height: length(height),
        width: length(width),
    })
}

/// RFC 3339 with all nine digits of the fraction, so that lines align.
pub(crate) fn fixed_nanoseconds(moment: Timestamp) -> String {
    let text = moment.to_string();
    let text = text.trim_end_matches('Z');
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    format!("{seconds}.{fraction:0<9}Z")
}

/// A map in the wire's order.
pub(crate) fn sorted<V: Clone>(map: &IndexMap<String, V>) -> BTreeMap<String, V> {
    map.iter()
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

/// `null` for an empty list.
pub(crate) fn none_if_empty<T: Clone>(list: &[T]) -> Option<Vec<T>> {
    (!list.is_empty()).then(|| list.to_vec())
}

/// An exec session.
pub(crate) fn exec(view: &ExecView) -> ExecInspect {
    let request = &view.request;
    let (entrypoint, arguments) = match request.command.split_first() {
        Some((program, arguments)) => (program.clone(), arguments.to_vec()),
        None => (String::new(), Vec::new()),
    };
    let keys = crate::detach_keys::DetachKeys::parse(&request.detach_keys)
        .map(|keys| keys.bytes().to_vec())
        .unwrap_or_default();
    ExecInspect {
        id: view.id.to_string(),
        running: view.running,
        exit_code: view.exit_code.map(i64::from),
        process_config: ExecProcessConfig {
            tty: request.terminal,
            entrypoint,
            arguments,
            privileged: Some(request.privileged),
            user: request.user.clone(),
        },
        open_stdin: request.attach_stdin,
        open_stderr: request.attach_stderr,
        open_stdout: request.attach_stdout,
        can_remove: view.can_remove,
        container_id: view.container.to_string(),
        detach_keys: base64::engine::general_purpose::STANDARD.encode(keys),
        pid: i64::from(view.pid),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fractions_have_nine_digits() {
        for (nanoseconds, text) in [
            (0, "1970-01-01T00:00:00.000000000Z"),
            (1_500_000_000, "1970-01-01T00:00:01.500000000Z"),
            (1, "1970-01-01T00:00:00.000000001Z"),
        ] {
            let moment = Timestamp::from_unix_nanoseconds(nanoseconds);
            assert_eq!(fixed_nanoseconds(moment), text);
        }
    }
}
