//! Taking over from a monitor that died without a word (killed, or by a defect of ours).

use std::path::Path;

use super::backend::Backend;
use super::setup::now;
use crate::error::{Failure, MonitorError};
use crate::handle::is_locked;
use crate::launch::{LaunchRequest, SOCKET_FILE};
use crate::record::{ExitRecord, read_exit_record};

/// Ends what is left of a container whose monitor is gone, and returns its exit record: the one the monitor left, or
/// a new one that says how it was; `None` when there never was a monitor. Kills the container's processes and removes
/// the runtime's state and the control groups.
///
/// Blocks. For a daemon that finds a container recorded as running and no monitor
/// ([`crate::connect`] gave `None`).
///
/// # Errors
/// [`MonitorError::State`] when the monitor lives; what cannot be read or removed.
pub fn salvage(directory: &Path) -> Result<Option<ExitRecord>, MonitorError> {
    if is_locked(directory) {
        return Err(MonitorError::State(format!(
            "the monitor of {} lives",
            directory.display()
        )));
    }
    let written = read_exit_record(directory)?;
    let Some(request) = LaunchRequest::load_whole(directory)? else {
        return Ok(written);
    };
    let left = Backend::clear(&request);
    let _ = berth_sys::fs::remove_file(&directory.join(SOCKET_FILE));
    if written.is_some() {
        return Ok(written);
    }
    let mut message = "the container's monitor was killed, and the container with it".to_owned();
    if let Some(left) = left {
        message.push_str("; ");
        message.push_str(&left);
    }
    let record = ExitRecord {
        version: ExitRecord::VERSION,
        exit_code: 137,
        signal: Some(9),
        oom_killed: false,
        pid: 0,
        started_at: None,
        finished_at: now(),
        error: Some(Failure {
            kind: berth_types::ErrorKind::Internal,
            start_failure: None,
            message,
            is_over: false,
        }),
        execs: std::collections::BTreeMap::new(),
    };
    record.write(directory)?;
    Ok(Some(record))
}
