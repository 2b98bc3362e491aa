//! The registry: a request goes route → who asks → handler → answer.
//!
//! Owns: the order of these steps, and which answers are reported as failures of the registry. Handlers are in the
//! modules below; what is kept is the store's.

mod blobs;
mod lists;
mod manifests;
mod uploading;

use std::net::SocketAddr;
use std::sync::Arc;

use http::header::{HeaderName, SERVER};
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use tokio::sync::Semaphore;

use crate::access::Line;
use crate::auth::Auth;
use crate::error::{RegistryError, Result};
use crate::limits;
use crate::mirror::Mirror;
use crate::refusal::{Code, Refusal};
use crate::reply::{self, Answer, Body};
use crate::route::{Query, Route};
use crate::settings::Settings;
use crate::store::Store;

/// A registry at work.
#[derive(Debug)]
pub(crate) struct Registry {
    pub(crate) store: Arc<Store>,
    auth: Option<Auth>,
    mirror: Option<Mirror>,
    read_only: bool,
    manifests: Semaphore,
}

/// The header by which clients know a registry.
const VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");

/// Runs what blocks on a thread that may.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or(Err(RegistryError::Cancelled("work on the store")))
}

impl Registry {
    /// Opens the root and reads the files that the settings name. Blocks.
    pub(crate) fn open(settings: &Settings) -> Result<Self> {
        let auth = settings.auth_file.as_deref().map(Auth::new).transpose()?;
        let store = Arc::new(Store::open(&settings.root)?);
        let mirror = settings
            .upstream
            .as_ref()
            .map(|upstream| Mirror::new(upstream, Arc::clone(&store)))
            .transpose()?;
        Ok(Self {
            store,
            auth,
            mirror,
            read_only: settings.read_only,
            manifests: Semaphore::new(limits::MANIFESTS_AT_ONCE),
        })
    }

    /// Answers a request, whatever it is.
    pub(crate) async fn answer(
        &self,
        request: Request<Incoming>,
        peer: SocketAddr,
    ) -> Response<Body> {
        let mut line = Line::new(peer, request.method(), request.uri(), request.headers());
        let answered = match self.admit(&request, &mut line).await {
            Ok((route, query)) => self.handle(request, route, query).await,
            Err(refusal) => Err(refusal),
        };
        let mut response = match answered {
            Ok(response) => response,
            Err(mut refusal) => {
                if let Some(cause) = refusal.cause.take() {
                    tracing::error!("{}", cause.full_text());
                }
                reply::refused(&refusal)
            }
        };
        response = reply::with(response, VERSION, "registry/2.0");
        response = reply::with(
            response,
            SERVER,
            concat!("Berth/", env!("CARGO_PKG_VERSION")),
        );
        line.follow(response)
    }

    /// Whether the request may be looked at, and what it is about.
    async fn admit(
        &self,
        request: &Request<Incoming>,
        line: &mut Line,
    ) -> std::result::Result<(Route, Query), Refusal> {
        // Before anything is told about what is here.
        if let Some(auth) = &self.auth {
            line.user = Some(auth.user(request.headers()).await?);
        }
        let reads = matches!(*request.method(), Method::GET | Method::HEAD);
        let route = Route::parse(request.uri().path())
            .map_err(|refusal| if reads { refusal.of_reading() } else { refusal })?;
        let query = Query::parse(request.uri().query().unwrap_or_default())?;
        // What is cached may be thrown away, and nothing else be put in its place.
        if self.mirror.is_some() && !reads && *request.method() != Method::DELETE {
            return Err(Refusal::new(
                Code::Unsupported,
                "this registry is a cache of another one: push there",
            ));
        }
        if self.read_only && !reads {
            return Err(Refusal::new(
                Code::Unsupported,
                "this registry is read-only",
            ));
        }
        Ok((route, query))
    }

    async fn handle(&self, request: Request<Incoming>, route: Route, query: Query) -> Answer {
        let method = request.method().clone();
        match (route, method) {
            (Route::Base, Method::GET | Method::HEAD) => Ok(reply::full(
                StatusCode::OK,
                "application/json",
                b"{}".to_vec(),
            )),
            (Route::Base, _) => Err(Refusal::method("GET, HEAD")),
            (Route::Catalog, Method::GET) => self.catalog(&query).await,
            (Route::Catalog, _) => Err(Refusal::method("GET")),
            (Route::Tags(name), Method::GET) => self.tags(name, &query).await,
            (Route::Tags(_), _) => Err(Refusal::method("GET")),
            (Route::Referrers(name, subject), Method::GET) => {
                self.referrers(name, subject, &query).await
            }
            (Route::Referrers(..), _) => Err(Refusal::method("GET")),
            (Route::Manifest(name, reference), Method::GET | Method::HEAD) => {
                self.get_manifest(&request, name, reference).await
            }
            (Route::Manifest(name, reference), Method::PUT) => {
                self.put_manifest(request, name, reference, &query).await
            }
            (Route::Manifest(name, reference), Method::DELETE) => {
                self.delete_manifest(name, reference).await
            }
            (Route::Manifest(..), _) => Err(Refusal::method("GET, HEAD, PUT, DELETE")),
            (Route::Blob(name, digest), Method::GET | Method::HEAD) => {
                self.get_blob(&request, name, digest).await
            }
            (Route::Blob(name, digest), Method::DELETE) => self.delete_blob(name, digest).await,
            (Route::Blob(..), _) => Err(Refusal::method("GET, HEAD, DELETE")),
            (Route::Uploads(name), Method::POST) => self.begin_upload(request, name, &query).await,
            (Route::Uploads(_), _) => Err(Refusal::method("POST")),
            (Route::Upload(name, id), Method::GET | Method::HEAD) => self.upload_status(&name, &id),
            (Route::Upload(name, id), Method::PATCH) => self.upload_chunk(request, name, &id).await,
            (Route::Upload(name, id), Method::PUT) => {
                self.end_upload(request, name, &id, &query).await
            }
            (Route::Upload(name, id), Method::DELETE) => self.cancel_upload(name, &id).await,
            (Route::Upload(..), _) => Err(Refusal::method("GET, HEAD, PATCH, PUT, DELETE")),
        }
    }
}

/// A header as text.
fn header<'a>(request: &'a Request<Incoming>, name: &HeaderName) -> Option<&'a str> {
    request.headers().get(name)?.to_str().ok()
}

/// Whether the client has this content already (`If-None-Match`).
fn has_already(request: &Request<Incoming>, etag: &str) -> bool {
    header(request, &http::header::IF_NONE_MATCH).is_some_and(|given| {
        given
            .split(',')
            .map(|one| one.trim().trim_start_matches("W/"))
            .any(|one| one == "*" || one == etag)
    })
}
