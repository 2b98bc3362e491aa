//! Requests about volumes.

use super::outgoing::archive;
use super::progress::from_body;
use crate::convert;
use crate::failure::Failure;
use crate::reply::Reply;
use crate::request::Request;
use berth_api::{VolumeCopyRequest, VolumeCreateRequest, VolumeListResponse, VolumePruneReport};
use berth_engine::Engine;
use berth_engine::volumes;
use http::StatusCode;
use std::sync::Arc;

type Answer = Result<Reply, Failure>;

pub(crate) async fn list(engine: Arc<Engine>, request: Request) -> Answer {
    engine.containers.volumes_let_go().await;
    let views = engine.volumes.list(&request.filters()?)?;
    let body = VolumeListResponse {
        volumes: views.iter().map(convert::volumes::volume).collect(),
        warnings: None,
    };
    Ok(Reply::json(StatusCode::OK, &body))
}

pub(crate) async fn inspect(engine: Arc<Engine>, request: Request) -> Answer {
    engine.containers.volumes_let_go().await;
    let view = engine.volumes.inspect(&request.name)?;
    Ok(Reply::json(
        StatusCode::OK,
        &convert::volumes::volume(&view),
    ))
}

pub(crate) async fn create(engine: Arc<Engine>, mut request: Request) -> Answer {
    let body: VolumeCreateRequest = request.json().await?.unwrap_or_default();
    if body.cluster_volume_spec.is_some() {
        return Err(Failure::unavailable(
            "a volume of a cluster cannot be made: this engine is in no cluster",
        ));
    }
    let view = engine
        .volumes
        .create(convert::volumes::create(body))
        .await?;
    Ok(Reply::json(
        StatusCode::CREATED,
        &convert::volumes::volume(&view),
    ))
}

pub(crate) async fn remove(engine: Arc<Engine>, request: Request) -> Answer {
    engine.containers.volumes_let_go().await;
    engine
        .volumes
        .remove(&request.name, request.flag("force"))
        .await?;
    Ok(Reply::empty(StatusCode::NO_CONTENT))
}

/// Only volumes of a cluster can be changed, and there is none.
pub(crate) async fn update(_: Arc<Engine>, _: Request) -> Answer {
    Err(Failure::unavailable(
        "volume update only valid for cluster volumes, but swarm is unavailable",
    ))
}

pub(crate) async fn prune(engine: Arc<Engine>, request: Request) -> Answer {
    let mut filters = request.filters()?;
    if !request.version.at_least(42) && !filters.contains("all") {
        // Before 1.42 named volumes went, too.
        filters.add("all", "true");
    }
    engine.containers.volumes_let_go().await;
    let pruned = engine.volumes.prune(&filters).await?;
    let report = VolumePruneReport {
        volumes_deleted: Some(pruned.removed),
        space_reclaimed: pruned.reclaimed,
    };
    Ok(Reply::json(StatusCode::OK, &report))
}

/// Another volume with the same content: Berth's own, beside Docker's requests, as the two below.
pub(crate) async fn clone(engine: Arc<Engine>, request: Request) -> Answer {
    copy(engine, request, false).await
}

pub(crate) async fn snapshot(engine: Arc<Engine>, request: Request) -> Answer {
    copy(engine, request, true).await
}

async fn copy(engine: Arc<Engine>, mut request: Request, read_only: bool) -> Answer {
    let body: VolumeCopyRequest = request.json().await?.unwrap_or_default();
    let wanted = volumes::VolumeCopyRequest {
        from: request.name.clone(),
        to: body.name,
        labels: body.labels.map(|labels| labels.into_iter().collect()),
        read_only,
        live: body.live,
    };
    engine.containers.volumes_let_go().await;
    let view = engine.containers.copy_volume(wanted, body.pause).await?;
    Ok(Reply::json(
        StatusCode::CREATED,
        &convert::volumes::volume(&view),
    ))
}

pub(crate) async fn export(engine: Arc<Engine>, request: Request) -> Answer {
    engine.containers.volumes_let_go().await;
    let export = engine
        .containers
        .export_volume(&request.name, request.flag("live"))
        .await?;
    Ok(archive("application/x-tar", move |out| {
        export.write_to(out)
    }))
}

pub(crate) async fn import(engine: Arc<Engine>, request: Request) -> Answer {
    let name = request.text("name").to_owned();
    let labels = request
        .query
        .all("label")
        .map(|label| {
            let (key, value) = label.split_once('=').unwrap_or((label, ""));
            (key.to_owned(), value.to_owned())
        })
        .collect();
    let view = engine
        .volumes
        .import(&name, labels, from_body(request.body))
        .await?;
    Ok(Reply::json(
        StatusCode::CREATED,
        &convert::volumes::volume(&view),
    ))
}

pub(crate) async fn rename(engine: Arc<Engine>, request: Request) -> Answer {
    engine.containers.volumes_let_go().await;
    let view = engine
        .volumes
        .rename(&request.name, request.text("name"))
        .await?;
    Ok(Reply::json(
        StatusCode::OK,
        &convert::volumes::volume(&view),
    ))
}
