//! Requests about the engine itself.

use super::progress::Lines;
use super::streams::{json_line, moment};
use crate::convert;
use crate::failure::Failure;
use crate::reply::Reply;
use crate::request::{Request, cut};
use berth_api::{AuthConfigs, BuildCachePruneReport, DataRootUsage, DiskUsage, JsonMessage};
use berth_engine::events::EventQuery;
use berth_engine::system::CheckRequest;
use berth_engine::{Engine, clock};
use futures_util::stream;
use http::StatusCode;
use std::sync::Arc;

type Answer = Result<Reply, Failure>;

pub(crate) async fn ping(_: Arc<Engine>, _: Request) -> Answer {
    let reply = Reply::text(StatusCode::OK, "OK").with_headers([
        ("cache-control", "no-cache, no-store, must-revalidate"),
        ("pragma", "no-cache"),
        ("swarm", "inactive"),
    ]);
    Ok(reply)
}

pub(crate) async fn version(engine: Arc<Engine>, _: Request) -> Answer {
    let version = convert::system::version(&engine.system.version());
    Ok(Reply::json(StatusCode::OK, &version))
}

pub(crate) async fn info(engine: Arc<Engine>, request: Request) -> Answer {
    let facts = engine.system.info().await?;
    Ok(Reply::json(
        StatusCode::OK,
        &convert::system::info(facts, request.version),
    ))
}

pub(crate) async fn events(engine: Arc<Engine>, request: Request) -> Answer {
    let since = moment(&request, "since")?;
    let until = moment(&request, "until")?;
    if let (Some(from), Some(to)) = (since, until)
        && to < from
    {
        return Err(Failure::bad_request(format!(
            "`since` time ({}) cannot be after `until` time ({})",
            cut(request.text("since")),
            cut(request.text("until"))
        )));
    }
    let filters = request.filters()?;
    let stream = engine.events.subscribe(EventQuery {
        since,
        until,
        filters,
    })?;
    // Events of new images were added in API 1.46.
    let image_creates = request.version.at_least(46);
    let chunks = stream::unfold(stream, move |mut stream| async move {
        loop {
            let event = stream.next().await?;
            let message = convert::events::message(&event);
            if image_creates
                || (message.kind.as_str(), message.action.as_str()) != ("image", "create")
            {
                return Some((json_line(&message), stream));
            }
        }
    });
    Ok(Reply::stream("application/json", chunks))
}

pub(crate) async fn disk_usage(engine: Arc<Engine>, request: Request) -> Answer {
    let mut wanted = [false; 4];
    let mut any = false;
    if request.version.at_least(42) {
        for kind in request.query.all("type") {
            let place = match kind {
                "container" => 0,
                "image" => 1,
                "volume" => 2,
                "build-cache" => 3,
                other => {
                    return Err(Failure::bad_request(format!(
                        "unknown object type: {}",
                        cut(other)
                    )));
                }
            };
            wanted[place] = true;
            any = true;
        }
    }
    if !any {
        wanted = [true; 4];
    }
    let usage = engine.system.disk_usage().await?;
    let now = clock::now();
    let mut body = DiskUsage::default();
    if wanted[0] {
        let containers = usage.containers.iter().map(|(view, occupied)| {
            let mut summary = convert::summary::container(view, now, request.version);
            let image = usage.image_sizes.get(&view.spec.image_id);
            summary.size_rw = convert::signed(*occupied);
            summary.size_root_fs = convert::signed(occupied + image.map_or(0, |image| image.size));
            summary
        });
        body.containers = Some(containers.collect());
    }
    if wanted[1] {
        body.layers_size = convert::signed(usage.images);
        let mut images = super::images::summaries(&engine, &request).await?;
        let holders = engine.images.holders();
        for image in &mut images {
            let Ok(id) = berth_types::Digest::parse(&image.id) else {
                continue;
            };
            // Here counted in every version of the API, unlike in the list.
            image.containers = holders
                .get(&id)
                .map_or(0, |count| convert::signed(*count as u64));
            if let Some(measured) = usage.image_sizes.get(&id) {
                image.size = convert::signed(measured.size);
                image.shared_size = convert::signed(measured.shared);
            }
        }
        body.images = Some(images);
    }
    if wanted[2] {
        let volumes = usage.volumes.iter().map(convert::volumes::usage);
        body.volumes = Some(
            volumes
                .filter_map(|volume| serde_json::to_value(volume).ok())
                .collect(),
        );
    }
    // There is no build cache in this version; the list is empty, not absent.
    body.build_cache = wanted[3].then(Vec::new);
    body.berth = Some(DataRootUsage {
        root: usage.root.display().to_string(),
        total: convert::signed(usage.total),
        engine: convert::signed(usage.engine),
    });
    Ok(Reply::json(StatusCode::OK, &body))
}

/// Nothing is built here yet, so nothing is cached: there is nothing to remove, as `system df` says. The stock client asks
/// for it with every `system prune`.
pub(crate) async fn prune_build_cache(_: Arc<Engine>, request: Request) -> Answer {
    request.filters()?;
    Ok(Reply::json(
        StatusCode::OK,
        &BuildCachePruneReport::default(),
    ))
}

pub(crate) async fn check(engine: Arc<Engine>, request: Request) -> Answer {
    let asked = CheckRequest {
        deep: request.flag("deep"),
        repair: request.flag("repair"),
        remove: request.flag("remove"),
    };
    if asked.remove && !asked.repair {
        return Err(Failure::bad_request(
            "remove goes with repair: what can be repaired is not removed",
        ));
    }
    let header = request
        .headers
        .get("x-registry-config")
        .and_then(|value| value.to_str().ok());
    let auths = AuthConfigs::from_header(header.unwrap_or_default())
        .map_err(|_| Failure::bad_request("invalid X-Registry-Config header"))?;
    let credentials = auths
        .0
        .into_iter()
        .filter_map(|(registry, auth)| Some((registry, convert::images::credentials(auth)?)))
        .collect();
    let lines = Lines::new();
    let sink = lines.sink();
    let work = async move {
        let report = engine.system.check(asked, credentials, sink).await?;
        let report = serde_json::to_value(convert::system::check(report)).unwrap_or_default();
        Ok(vec![json_line(&JsonMessage {
            aux: Some(report),
            ..JsonMessage::default()
        })])
    };
    lines.reply(work).await
}
