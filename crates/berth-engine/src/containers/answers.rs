//! What news mean for those who asked or wait.

use berth_types::{ContainerId, ErrorKind, Signal};

use super::lifecycle::{News, Refusal, Request};
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

/// Whether a piece of news answers a request, and how.
pub(super) fn answer(
    id: &ContainerId,
    request: &Request,
    news: &News,
) -> Option<Result<(), EngineError>> {
    let failed = |message: &String| Some(Err(EngineError::Internal(message.clone())));
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
            (*signal != Signal::KILL).then_some(Ok(()))
        }
        (Request::Kill(_), News::Died { .. } | News::Stopped) => Some(Ok(())),
        (Request::Kill(_), News::StartFailed { .. }) => Some(Ok(())),
        (
            Request::Kill(_) | Request::Stop(_) | Request::Restart(_) | Request::Remove(_),
            News::KillFailed { message },
        ) => failed(message),
        (Request::Pause | Request::HoldStill, News::PauseFailed { message })
        | (Request::Unpause, News::UnpauseFailed { message })
        | (Request::Update(_), News::UpdateFailed { message }) => failed(message),
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
