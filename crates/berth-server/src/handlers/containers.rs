//! Requests about containers that are answered at once.

use crate::convert;
use crate::failure::Failure;
use crate::reply::Reply;
use crate::request::{Request, cut};
use berth_api::{
    ContainerPruneReport, ContainerTopResponse, ContainerUpdateBody, ContainerUpdateResponse,
};
use berth_engine::containers::requests::{ListOptions, RemoveOptions, StopOptions, TerminalSize};
use berth_engine::{Engine, EngineError, clock};
use berth_types::Signal;
use http::StatusCode;
use hyper::body::Body as _;
use std::sync::Arc;

type Answer = Result<Reply, Failure>;

pub(crate) async fn list(engine: Arc<Engine>, request: Request) -> Answer {
    let limit = request.integer("limit")?.unwrap_or(0);
    let mut filters = request.filters()?;
    for name in ["since", "before"] {
        let value = request.text(name);
        if !value.is_empty() {
            filters.add(name, value);
        }
    }
    let options = ListOptions {
        all: request.flag("all"),
        // Docker takes a negative limit for none.
        limit: usize::try_from(limit).unwrap_or(0),
        filters,
    };
    let views = engine.containers.list(&options)?;
    let now = clock::now();
    let mut summaries: Vec<_> = views
        .iter()
        .map(|view| {
            let mut summary = convert::summary::container(view, now, request.version);
            // A name that was given to another image since says nothing about this container any more.
            if engine.images.current_id(&summary.image) != Some(view.spec.image_id) {
                summary.image.clone_from(&summary.image_id);
            }
            summary
        })
        .collect();
    if request.flag("size") {
        for summary in &mut summaries {
            // A container that is removed meanwhile has no size; the list stays as it was.
            if let Ok(size) = engine.containers.size(&summary.id).await {
                summary.size_rw = convert::signed(size.writable);
                summary.size_root_fs = convert::signed(size.root);
            }
        }
    }
    Ok(Reply::json(StatusCode::OK, &summaries))
}

pub(crate) async fn inspect(engine: Arc<Engine>, request: Request) -> Answer {
    let view = engine.containers.inspect(&request.name)?;
    let mut body = convert::inspect::container(&view, request.version);
    if request.flag("size") {
        let size = engine.containers.size(&request.name).await?;
        body.size_rw = Some(convert::signed(size.writable));
        body.size_root_fs = Some(convert::signed(size.root));
    }
    Ok(Reply::json(StatusCode::OK, &body))
}

pub(crate) async fn start(engine: Arc<Engine>, request: Request) -> Answer {
    // `null` and `{}` are sent by old clients; anything longer was once a host configuration.
    let length = request.body.size_hint().exact();
    if length.is_none_or(|length| length > 7) {
        return Err(Failure::bad_request(
            "starting container with non-empty request body was deprecated since API v1.22 and removed in v1.24",
        ));
    }
    if !request.text("checkpoint").is_empty() {
        return Err(Failure::not_implemented(
            "not offered by this version of Berth: starting from a checkpoint",
        ));
    }
    engine.containers.start(&request.name).await?;
    Ok(Reply::empty(StatusCode::NO_CONTENT))
}

pub(crate) async fn stop(engine: Arc<Engine>, request: Request) -> Answer {
    let options = stop_options(&request)?;
    engine.containers.stop(&request.name, options).await?;
    Ok(Reply::empty(StatusCode::NO_CONTENT))
}

pub(crate) async fn restart(engine: Arc<Engine>, request: Request) -> Answer {
    let options = stop_options(&request)?;
    engine.containers.restart(&request.name, options).await?;
    Ok(Reply::empty(StatusCode::NO_CONTENT))
}

fn stop_options(request: &Request) -> Result<StopOptions, Failure> {
    // The parameter was added in API 1.42; older servers did not see it.
    let signal = if request.version.at_least(42) {
        signal(request.text("signal"))?
    } else {
        None
    };
    Ok(StopOptions {
        signal,
        timeout: request.integer("t")?,
    })
}

fn signal(text: &str) -> Result<Option<Signal>, Failure> {
    if text.is_empty() {
        return Ok(None);
    }
    match Signal::parse(text) {
        Ok(signal) => Ok(Some(signal)),
        Err(_) => Err(Failure::bad_request(format!(
            "invalid signal: {}",
            cut(text)
        ))),
    }
}

pub(crate) async fn kill(engine: Arc<Engine>, request: Request) -> Answer {
    let name = &request.name;
    let prefix = |failure: Failure| Failure {
        message: format!("cannot kill container: {}: {}", cut(name), failure.message),
        ..failure
    };
    let signal = signal(request.text("signal")).map_err(prefix)?;
    let killed = engine.containers.kill(name, signal).await;
    killed.map_err(|error| prefix(error.into()))?;
    Ok(Reply::empty(StatusCode::NO_CONTENT))
}

pub(crate) async fn pause(engine: Arc<Engine>, request: Request) -> Answer {
    engine.containers.pause(&request.name).await?;
    Ok(Reply::empty(StatusCode::NO_CONTENT))
}

pub(crate) async fn unpause(engine: Arc<Engine>, request: Request) -> Answer {
    engine.containers.unpause(&request.name).await?;
    Ok(Reply::empty(StatusCode::NO_CONTENT))
}

pub(crate) async fn rename(engine: Arc<Engine>, request: Request) -> Answer {
    engine
        .containers
        .rename(&request.name, request.text("name"))
        .await?;
    Ok(Reply::empty(StatusCode::NO_CONTENT))
}

pub(crate) async fn remove(engine: Arc<Engine>, request: Request) -> Answer {
    if request.flag("link") {
        return Err(Failure::not_implemented(
            "not offered by this version of Berth: removing links",
        ));
    }
    let options = RemoveOptions {
        force: request.flag("force"),
        volumes: request.flag("v"),
    };
    engine.containers.remove(&request.name, options).await?;
    Ok(Reply::empty(StatusCode::NO_CONTENT))
}

pub(crate) async fn prune(engine: Arc<Engine>, request: Request) -> Answer {
    let pruned = engine.containers.prune(&request.filters()?).await?;
    let report = ContainerPruneReport {
        containers_deleted: (!pruned.removed.is_empty()).then_some(pruned.removed),
        space_reclaimed: pruned.reclaimed,
    };
    Ok(Reply::json(StatusCode::OK, &report))
}

pub(crate) async fn top(engine: Arc<Engine>, request: Request) -> Answer {
    let table = engine
        .containers
        .top(&request.name, request.text("ps_args"))
        .await?;
    let body = ContainerTopResponse {
        processes: table.processes,
        titles: table.titles,
    };
    Ok(Reply::json(StatusCode::OK, &body))
}

pub(crate) async fn resize(engine: Arc<Engine>, request: Request) -> Answer {
    let size = terminal_size(&request)?;
    engine.containers.resize(&request.name, size).await?;
    Ok(Reply::empty(StatusCode::OK))
}

/// The size of a terminal in the query of a resize.
pub(super) fn terminal_size(request: &Request) -> Result<TerminalSize, Failure> {
    let length = |parameter: &str, name: &str| {
        let text = request.text(parameter);
        let number: Result<u32, _> = text.parse();
        match number {
            Ok(number) if !text.starts_with('+') => Ok(u16::try_from(number).unwrap_or(u16::MAX)),
            _ => Err(Failure::bad_request(format!(
                "invalid resize {name} {:?}: invalid syntax",
                cut(text)
            ))),
        }
    };
    Ok(TerminalSize {
        height: length("h", "height")?,
        width: length("w", "width")?,
    })
}

pub(crate) async fn update(engine: Arc<Engine>, mut request: Request) -> Answer {
    let mut body: ContainerUpdateBody = request.json().await?.unwrap_or_default();
    if !request.version.at_least(40) {
        body.resources.pids_limit = None;
    }
    let update = convert::resources::update(body)
        .map_err(|message| Failure::from(EngineError::Invalid(message)))?;
    let warnings = engine.containers.update(&request.name, update).await?;
    let body = ContainerUpdateResponse {
        warnings: (!warnings.is_empty()).then_some(warnings),
    };
    Ok(Reply::json(StatusCode::OK, &body))
}
