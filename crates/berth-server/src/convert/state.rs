//! Where a container is in its life, in Docker's flags and words.

use berth_api::ContainerState;
use berth_engine::containers::health::HealthStatus;
use berth_engine::containers::phase::Phase;
use berth_engine::containers::view::ContainerView;
use berth_types::{Timestamp, duration};

/// The state with its flags. Docker counts a container that waits for its restart as running.
pub(crate) fn state(view: &ContainerView) -> ContainerState {
    let restarting = matches!(view.phase, Phase::Backoff { .. });
    let running = view.is_running();
    ContainerState {
        status: view.phase.status().to_owned(),
        running: running || restarting,
        paused: view.phase.is_paused(),
        restarting,
        oom_killed: view.last.oom_killed,
        dead: matches!(view.phase, Phase::Dead { .. }),
        pid: i64::from(view.pid()),
        exit_code: if running {
            0
        } else {
            i64::from(view.exit_code())
        },
        error: view.last.error.clone(),
        started_at: view.last.started_at.to_string(),
        finished_at: view.last.finished_at.to_string(),
        health: view.health.as_ref().map(super::health::found),
    }
}

/// The sentence of `docker ps`.
pub(crate) fn status_text(view: &ContainerView, now: Timestamp) -> String {
    let since = |moment: Timestamp| duration::human(now.since(moment));
    let ended = |word: &str| {
        format!(
            "{word} ({}) {} ago",
            view.exit_code(),
            since(view.last.finished_at)
        )
    };
    match &view.phase {
        Phase::Removing { .. } => "Removal In Progress".to_owned(),
        Phase::Dead { .. } => "Dead".to_owned(),
        Phase::Backoff { .. } => ended("Restarting"),
        Phase::Paused { since: started, .. } => format!("Up {} (Paused)", since(*started)),
        Phase::Running { since: started, .. }
        | Phase::Stopping {
            pid: Some(_),
            since: started,
            ..
        } => {
            let health = match view.health.as_ref().map(|health| health.status) {
                None => "",
                Some(HealthStatus::Starting) => " (health: starting)",
                Some(HealthStatus::Healthy) => " (healthy)",
                Some(HealthStatus::Unhealthy) => " (unhealthy)",
            };
            format!("Up {}{health}", since(*started))
        }
        Phase::Created | Phase::Starting { .. } | Phase::Stopping { pid: None, .. } => {
            "Created".to_owned()
        }
        Phase::Exited if view.last.started_at.is_zero() && view.last.finished_at.is_zero() => {
            "Created".to_owned()
        }
        Phase::Exited => ended("Exited"),
    }
}
