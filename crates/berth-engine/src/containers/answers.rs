//! What news mean for those who asked or wait.

use berth_types::{ContainerId, ErrorKind, Signal};

use super::lifecycle::{News, Refusal, Request};
use super::phase::Phase;
use super::record::ContainerRecord;
use super::requests::WaitOutcome;
use crate::error::EngineError;

pub(super) fn outcome_of(record: &ContainerRecord) -> WaitOutcome {
    WaitOutcome {
        code: i64::from(record.last.exit_code),
        error: Some(record.last.error.clone()).filter(|e| !e.is_empty()),
    }
}

pub(super) fn gone(id: &ContainerId) -> EngineError {
    EngineError::NotFound(format!("No such container: {id}"))
}

pub(super) fn refused(refusal: Refusal) -> EngineError {
    match refusal {
        Refusal::Conflict(text) => EngineError::Conflict(text),
        Refusal::Forbidden(text) => EngineError::Forbidden(text),
        Refusal::Unchanged(text) => EngineError::Unchanged(text),
        Refusal::Invalid(text) => EngineError::Invalid(text),
        Refusal::Busy | Refusal::Stale => {
            EngineError::Internal("a request was refused without a reason".to_owned())
        }
    }
}

/// The error of a kind, where the kind has one of its own.
fn of_kind(kind: ErrorKind, message: String) -> EngineError {
    match kind {
        ErrorKind::NotFound => EngineError::NotFound(message),
        ErrorKind::InvalidArgument => EngineError::Invalid(message),
        ErrorKind::Conflict => EngineError::Conflict(message),
        ErrorKind::Forbidden => EngineError::Forbidden(message),
        _ => EngineError::Internal(message),
    }
}

/// Whether a piece of news answers a request, and how. `after` is the record that came with it; with `releasing`, what a
/// run had is about to be put away.
pub(super) fn answer(
    after: &ContainerRecord,
    releasing: bool,
    request: &Request,
    news: &News,
) -> Option<Result<(), EngineError>> {
    let id = &after.id;
    let failed = |message: &String, kind: ErrorKind| Some(Err(of_kind(kind, message.clone())));
    let not_running = || {
        Some(Err(EngineError::Conflict(format!(
            "container {id} is not running"
        ))))
    };
    match (request, news) {
        (
            Request::Start | Request::Restart(_),
            News::StartFailed {
                exit_code,
                message,
                kind,
            },
        ) => Some(Err(EngineError::Start {
            message: message.clone(),
            exit_code: *exit_code,
            kind: *kind,
        })),
        (
            Request::Connect { network, .. } | Request::Disconnect { network },
            News::NetworksChanged { network: changed },
        ) => (network == changed).then_some(Ok(())),
        (
            Request::Connect { network, .. } | Request::Disconnect { network },
            News::NetworksFailed {
                network: failed,
                message,
                kind,
            },
        ) => (network == failed).then(|| Err(of_kind(*kind, message.clone()))),
        (Request::Connect { .. } | Request::Disconnect { .. }, News::Died { .. }) => not_running(),
        // Somebody else's wish came after this one.
        (Request::Restart(_), News::Died { .. })
            if !matches!(after.phase, Phase::Starting { .. }) =>
        {
            Some(Err(EngineError::Conflict(format!(
                "container {id} was stopped before it was started again"
            ))))
        }
        // Its ports and addresses are free when a stop is told to be done.
        (
            Request::Stop(_) | Request::Kill(_),
            News::Died { .. } | News::Stopped | News::Destroyed,
        ) if releasing => None,
        (Request::Start, News::Started)
        | (Request::Restart(_), News::Restarted)
        | (Request::Stop(_), News::Died { .. } | News::Stopped | News::StartFailed { .. })
        | (Request::Pause | Request::HoldStill, News::Paused)
        | (Request::Unpause, News::Unpaused)
        | (Request::Rename(_), News::Renamed { .. })
        | (Request::Update(_), News::Updated)
        | (Request::Remove(_), News::Destroyed) => Some(Ok(())),
        (Request::Kill(signal), News::Killed { signal: sent }) if signal == sent => {
            // SIGKILL is done when the container is; any other signal when it is sent.
            (*signal != Signal::KILL || !after.phase.is_running()).then_some(Ok(()))
        }
        (Request::Kill(_), News::Died { .. } | News::Stopped) => Some(Ok(())),
        (Request::Kill(_), News::StartFailed { .. }) => Some(Ok(())),
        (
            Request::Kill(_) | Request::Stop(_) | Request::Restart(_) | Request::Remove(_),
            News::KillFailed { message, kind },
        )
        | (Request::Pause | Request::HoldStill, News::PauseFailed { message, kind })
        | (Request::Unpause, News::UnpauseFailed { message, kind })
        | (Request::Update(_), News::UpdateFailed { message, kind }) => failed(message, *kind),
        (Request::Remove(_), News::RemovalFailed { reason }) => {
            Some(Err(EngineError::Internal(reason.clone())))
        }
        (Request::Pause | Request::HoldStill | Request::Unpause, News::Died { .. }) => {
            not_running()
        }
        (Request::Update(_), News::Died { .. }) => Some(Ok(())),
        (Request::Stop(_) | Request::Kill(_), News::Destroyed) => Some(Ok(())),
        _ => None,
    }
}

/// Whether a request that these news do not answer is done once what the run had is put away.
pub(super) fn is_done_by_release(request: &Request, news: &News) -> bool {
    matches!(
        (request, news),
        (Request::Stop(_) | Request::Kill(_), News::Died { .. })
    )
}
