//! The route table, and the way of a request through it: route → version gate → handler.

use crate::failure::Failure;
use crate::handlers::{
    archives, containers, create, exec, images, networks, registries, streams, system, volumes,
};
use crate::reply::{Reply, add_common_headers, failure_response};
use crate::request::{Request, cut};
use berth_api::{ApiVersion, Query};
use berth_engine::Engine;
use http::{Method, StatusCode};
use hyper::body::Incoming;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

type Handling = Pin<Box<dyn Future<Output = Result<Reply, Failure>> + Send>>;
type Handler = fn(Arc<Engine>, Request) -> Handling;

/// One line of the table. `{}` in a pattern stands for one segment of the path, `{..}` for one or more.
struct Route {
    method: Method,
    pattern: &'static str,
    handler: Handler,
}

macro_rules! routes {
    ($($method:ident $pattern:literal $handler:path;)*) => {
        &[$(Route {
            method: Method::$method,
            pattern: $pattern,
            handler: |engine, request| Box::pin($handler(engine, request)),
        }),*]
    };
}

static ROUTES: &[Route] = routes! {
    GET "/_ping" system::ping;
    HEAD "/_ping" system::ping;
    GET "/version" system::version;
    GET "/info" system::info;
    GET "/events" system::events;
    GET "/system/df" system::disk_usage;
    POST "/build/prune" system::prune_build_cache;

    GET "/containers/json" containers::list;
    POST "/containers/create" create::create;
    POST "/containers/prune" containers::prune;
    GET "/containers/{}/json" containers::inspect;
    GET "/containers/{}/top" containers::top;
    GET "/containers/{}/logs" streams::logs;
    GET "/containers/{}/stats" streams::stats;
    POST "/containers/{}/attach" streams::attach;
    POST "/containers/{}/wait" streams::wait;
    POST "/containers/{}/start" containers::start;
    POST "/containers/{}/stop" containers::stop;
    POST "/containers/{}/restart" containers::restart;
    POST "/containers/{}/kill" containers::kill;
    POST "/containers/{}/pause" containers::pause;
    POST "/containers/{}/unpause" containers::unpause;
    POST "/containers/{}/rename" containers::rename;
    POST "/containers/{}/resize" containers::resize;
    POST "/containers/{}/update" containers::update;
    POST "/containers/{}/exec" exec::create;
    GET "/containers/{}/changes" archives::changes;
    GET "/containers/{}/export" archives::export;
    HEAD "/containers/{}/archive" archives::path_stat;
    GET "/containers/{}/archive" archives::get;
    PUT "/containers/{}/archive" archives::put;
    DELETE "/containers/{}" containers::remove;
    POST "/commit" archives::commit;

    POST "/exec/{}/start" exec::start;
    POST "/exec/{}/resize" exec::resize;
    GET "/exec/{}/json" exec::inspect;

    GET "/images/json" images::list;
    POST "/images/create" images::pull;
    POST "/images/load" images::load;
    POST "/images/prune" images::prune;
    GET "/images/get" archives::save;
    GET "/images/{..}/get" archives::save;
    GET "/images/search" registries::search;
    GET "/images/{..}/json" images::inspect;
    GET "/images/{..}/history" images::history;
    POST "/images/{..}/tag" images::tag;
    POST "/images/{..}/push" registries::push;
    DELETE "/images/{..}" images::remove;

    POST "/auth" registries::log_in;
    GET "/distribution/{..}/json" registries::distribution;
    GET "/berth/manifests/{..}/referrers" registries::referrers;
    GET "/berth/manifests/{..}" registries::manifest;
    PUT "/berth/manifests/{..}" registries::push_list;

    GET "/networks" networks::list;
    GET "/networks/" networks::list;
    POST "/networks/create" networks::create;
    POST "/networks/prune" networks::prune;
    GET "/networks/{}" networks::inspect;
    DELETE "/networks/{}" networks::remove;
    POST "/networks/{}/connect" networks::connect;
    POST "/networks/{}/disconnect" networks::disconnect;

    GET "/berth/ports" networks::exposures;
    POST "/berth/system/check" system::check;
    POST "/berth/volumes/import" volumes::import;
    POST "/berth/volumes/{}/clone" volumes::clone;
    GET "/berth/volumes/{}/export" volumes::export;
    POST "/berth/volumes/{}/snapshot" volumes::snapshot;
    POST "/berth/volumes/{}/rename" volumes::rename;
    GET "/berth/images/{..}/why" images::why;

    GET "/volumes" volumes::list;
    POST "/volumes/create" volumes::create;
    POST "/volumes/prune" volumes::prune;
    GET "/volumes/{}" volumes::inspect;
    PUT "/volumes/{}" volumes::update;
    DELETE "/volumes/{}" volumes::remove;
};

/// Routes of Docker's that are not offered: a client is told so by name, instead of being told that
/// the page does not exist.
static NOT_OFFERED: &[(Method, &str, &str)] = &[
    (Method::POST, "/swarm/init", "clusters"),
    (Method::POST, "/swarm/join", "clusters"),
    (
        Method::GET,
        "/containers/{}/attach/ws",
        "attaching over a web socket",
    ),
    (Method::GET, "/containers/{}/checkpoints", "checkpoints"),
    (Method::POST, "/containers/{}/checkpoints", "checkpoints"),
    (
        Method::DELETE,
        "/containers/{}/checkpoints/{}",
        "checkpoints",
    ),
    (Method::POST, "/build", "building images"),
    (Method::POST, "/build/cancel", "building images"),
    (Method::POST, "/session", "building images"),
    (Method::POST, "/grpc", "building images"),
];

/// Finds the handler of each request.
#[derive(Debug)]
pub(crate) struct Router {
    engine: Arc<Engine>,
}

impl Router {
    pub(crate) fn new(engine: Arc<Engine>) -> Router {
        Router { engine }
    }

    /// Answers a request, whatever it is.
    pub(crate) async fn answer(&self, request: http::Request<Incoming>) -> Reply {
        let (version_text, path) = split_version(request.uri().path());
        let plain = version_text.is_some_and(
            |text| matches!(read_version(text), Some(version) if version < ApiVersion::MIN),
        );
        let (method, path) = (request.method().clone(), path.to_owned());
        let version_text = version_text.map(str::to_owned);
        let reply = self
            .route(&method, &path, version_text.as_deref(), request)
            .await;
        match reply {
            Ok(Reply::Http(mut response)) => {
                add_common_headers(response.headers_mut());
                Reply::Http(response)
            }
            Ok(hijack) => hijack,
            Err(failure) => {
                if failure.status.is_server_error() && failure.status != StatusCode::NOT_IMPLEMENTED
                {
                    tracing::error!(%method, path, status = failure.status.as_u16(), "{}", failure.message);
                } else {
                    tracing::debug!(%method, path, status = failure.status.as_u16(), "{}", failure.message);
                }
                let mut response = failure_response(&failure, plain);
                add_common_headers(response.headers_mut());
                Reply::Http(response)
            }
        }
    }

    async fn route(
        &self,
        method: &Method,
        path: &str,
        version: Option<&str>,
        request: http::Request<Incoming>,
    ) -> Result<Reply, Failure> {
        if method == Method::OPTIONS {
            return Ok(Reply::empty(StatusCode::OK));
        }
        let found = ROUTES
            .iter()
            .filter(|route| route.method == *method)
            .find_map(|route| matched(route.pattern, path).map(|name| (route, name)));
        let Some((route, name)) = found else {
            if is_of_a_cluster(path) {
                return Err(Failure::new(StatusCode::SERVICE_UNAVAILABLE, NOT_A_MANAGER));
            }
            let not_offered = NOT_OFFERED
                .iter()
                .find(|(of, pattern, _)| of == method && matched(pattern, path).is_some());
            return Err(match not_offered {
                Some((_, _, what)) => Failure::not_implemented(format!(
                    "not offered by this version of Berth: {what}"
                )),
                None => Failure::not_found("page not found"),
            });
        };
        let version = gate(version)?;
        let name = berth_api::decode_query_text(name, false)
            .map_err(|error| Failure::bad_request(error.to_string()))?;
        if name.contains('\0') {
            return Err(Failure::bad_request(
                "invalid path: it contains a zero byte",
            ));
        }
        let query = Query::parse(request.uri().query().unwrap_or_default())
            .map_err(|error| Failure::bad_request(error.to_string()))?;
        let (parts, body) = request.into_parts();
        let request = Request {
            version,
            name,
            query,
            headers: parts.headers,
            body,
        };
        (route.handler)(Arc::clone(&self.engine), request).await
    }
}

/// Docker's answer of an engine that manages no cluster.
const NOT_A_MANAGER: &str = "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this node to swarm and try again.";

/// Whether a path is about a cluster, which this engine is never part of. Making and joining one is told
/// apart: there the advice above would lead in a circle.
fn is_of_a_cluster(path: &str) -> bool {
    let first = path.split('/').nth(1).unwrap_or_default();
    matches!(
        first,
        "nodes" | "services" | "tasks" | "secrets" | "configs"
    ) || matches!(
        path,
        "/swarm" | "/swarm/leave" | "/swarm/update" | "/swarm/unlock" | "/swarm/unlockkey"
    )
}

/// Takes the `/v1.51` off a path.
fn split_version(path: &str) -> (Option<&str>, &str) {
    let Some(rest) = path.strip_prefix("/v") else {
        return (None, path);
    };
    let end = rest.find('/').unwrap_or(rest.len());
    let version = &rest[..end];
    let is_version = !version.is_empty()
        && version
            .bytes()
            .all(|byte| byte.is_ascii_digit() || byte == b'.');
    if is_version && end < rest.len() {
        (Some(version), &rest[end..])
    } else {
        (None, path)
    }
}

/// Reads a version leniently: a missing minor number is 0, further parts do not count.
fn read_version(text: &str) -> Option<ApiVersion> {
    let mut parts = text.split('.');
    let (major, minor) = (parts.next().unwrap_or("0"), parts.next().unwrap_or("0"));
    format!("{major}.{minor}").parse().ok()
}

/// The version gate, with Docker's words.
fn gate(text: Option<&str>) -> Result<ApiVersion, Failure> {
    let Some(text) = text else {
        return Ok(ApiVersion::MAX);
    };
    let shown = cut(text);
    match read_version(text) {
        None => Err(Failure::bad_request(format!(
            "invalid API version {shown:?}"
        ))),
        Some(version) if version < ApiVersion::MIN => Err(Failure::bad_request(format!(
            "client version {shown} is too old. Minimum supported API version is {}, please upgrade your client to a newer version",
            ApiVersion::MIN
        ))),
        Some(version) if version > ApiVersion::MAX => Err(Failure::bad_request(format!(
            "client version {shown} is too new. Maximum supported API version is {}",
            ApiVersion::MAX
        ))),
        Some(version) => Ok(version),
    }
}

/// What stands in the pattern's first placeholder (empty when there is none), if the path fits.
fn matched<'a>(pattern: &str, path: &'a str) -> Option<&'a str> {
    let Some((before, after)) = pattern.split_once('{') else {
        return (pattern == path).then_some("");
    };
    let (placeholder, after) = after.split_once('}')?;
    let rest = path.strip_prefix(before)?;
    if placeholder == ".." {
        let name = rest.strip_suffix(after)?;
        return (!name.is_empty()).then_some(name);
    }
    let end = rest.find('/').unwrap_or(rest.len());
    let (name, rest) = rest.split_at(end);
    (!name.is_empty() && matched(after, rest).is_some()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_one_or_several_segments() {
        assert_eq!(
            matched("/containers/{}/json", "/containers/abc/json"),
            Some("abc")
        );
        assert_eq!(matched("/containers/{}/json", "/containers/a/b/json"), None);
        assert_eq!(matched("/containers/{}", "/containers/"), None);
        assert_eq!(matched("/containers/{}", "/containers/a/json"), None);
        assert_eq!(
            matched("/images/{..}/json", "/images/r:5000/a/b@sha256:x/json"),
            Some("r:5000/a/b@sha256:x")
        );
        assert_eq!(matched("/images/{..}/json", "/images/json"), None);
        assert_eq!(
            matched(
                "/containers/{}/checkpoints/{}",
                "/containers/a/checkpoints/b"
            ),
            Some("a")
        );
        assert_eq!(matched("/_ping", "/_ping"), Some(""));
    }

    #[test]
    fn versions_are_split_and_gated_with_dockers_words() {
        assert_eq!(split_version("/v1.44/info"), (Some("1.44"), "/info"));
        assert_eq!(split_version("/volumes"), (None, "/volumes"));
        assert_eq!(split_version("/v1.44"), (None, "/v1.44"));
        assert_eq!(gate(None), Ok(ApiVersion::MAX));
        assert_eq!(gate(Some("1.24")), Ok(ApiVersion::MIN));
        assert_eq!(
            gate(Some("1.23")).unwrap_err().message,
            "client version 1.23 is too old. Minimum supported API version is 1.24, please upgrade your client to a newer version"
        );
        assert_eq!(
            gate(Some("1.52")).unwrap_err().message,
            "client version 1.52 is too new. Maximum supported API version is 1.51"
        );
        assert!(gate(Some("2")).is_err() && gate(Some("1")).is_err() && gate(Some("...")).is_err());
    }

    #[test]
    fn no_route_hides_another_and_none_is_both_offered_and_not() {
        for (index, route) in ROUTES.iter().enumerate() {
            let sample = route.pattern.replace("{..}", "a/b").replace("{}", "a");
            let first = ROUTES.iter().position(|other| {
                other.method == route.method && matched(other.pattern, &sample).is_some()
            });
            assert_eq!(first, Some(index), "{sample}");
        }
        for (method, pattern, _) in NOT_OFFERED {
            let sample = pattern.replace("{..}", "a/b").replace("{}", "a");
            let offered = ROUTES
                .iter()
                .find(|route| route.method == *method && matched(route.pattern, &sample).is_some())
                .map(|route| route.pattern);
            assert_eq!(offered, None, "{sample}");
        }
    }
}
