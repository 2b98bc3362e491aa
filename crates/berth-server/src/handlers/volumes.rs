//! Requests about volumes: there are none, and saying so is enough for clients that look among volumes too.

use crate::failure::Failure;
use crate::reply::Reply;
use crate::request::{Request, cut};
use berth_api::VolumeListResponse;
use berth_engine::Engine;
use http::StatusCode;
use std::sync::Arc;

const ACCEPTED: &[&str] = &["dangling", "driver", "label", "name"];

pub(crate) async fn list(_: Arc<Engine>, request: Request) -> Result<Reply, Failure> {
    request.filters()?.validate(ACCEPTED)?;
    Ok(Reply::json(StatusCode::OK, &VolumeListResponse::default()))
}

pub(crate) async fn inspect(_: Arc<Engine>, request: Request) -> Result<Reply, Failure> {
    let name = cut(&request.name);
    Err(Failure::not_found(format!("get {name}: no such volume")))
}
