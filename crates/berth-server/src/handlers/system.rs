//! Requests about the engine itself.

use super::streams::{json_line, moment};
use crate::convert;
use crate::failure::Failure;
use crate::reply::Reply;
use crate::request::{Request, cut};
use berth_api::DiskUsage;
use berth_engine::events::EventQuery;
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
        let containers = usage.containers.iter().map(|(view, size)| {
            let mut summary = convert::summary::container(view, now, request.version);
            summary.size_rw = convert::signed(size.writable);
            summary.size_root_fs = convert::signed(size.root);
            summary
        });
        body.containers = Some(containers.collect());
    }
    if wanted[1] {
        body.layers_size = convert::signed(usage.layers);
        body.images = Some(super::images::summaries(&engine, &request).await?);
    }
    if wanted[2] {
        let usage = engine.volumes.usage().await?;
        let volumes = usage.iter().map(convert::volumes::usage);
        body.volumes = Some(
            volumes
                .filter_map(|volume| serde_json::to_value(volume).ok())
                .collect(),
        );
    }
    // There is no build cache in this version; the list is empty, not absent.
    body.build_cache = wanted[3].then(Vec::new);
    Ok(Reply::json(StatusCode::OK, &body))
}
