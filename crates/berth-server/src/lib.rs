//! The Engine API's server: routes, version gates, connection upgrades.
//!
//! The only crate that knows both the wire types and the engine. A request goes route table → version
//! gate → wire type → engine; every conversion between the two vocabularies is in `convert`. Owns no
//! state of its own and takes no decision about containers.

mod client_io;
mod connection;
mod convert;
mod detach_keys;
mod failure;
mod handlers;
mod hijack;
pub mod limits;
mod reply;
mod request;
mod routes;

use berth_engine::Engine;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

pub use connection::Listener;

/// Serves the API on every listener until `shutdown` is ready; then open requests get a grace period.
/// Containers are not touched.
pub async fn serve(
    engine: Arc<Engine>,
    listeners: Vec<Listener>,
    shutdown: impl Future<Output = ()>,
) {
    let router = Arc::new(routes::Router::new(engine));
    let answerer = Arc::new(
        move |request| -> Pin<Box<dyn Future<Output = reply::Reply> + Send>> {
            let router = Arc::clone(&router);
            Box::pin(async move { router.answer(request).await })
        },
    );
    connection::run(answerer, listeners, shutdown).await;
}
