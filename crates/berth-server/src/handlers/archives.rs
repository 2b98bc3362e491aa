//! Requests whose answer or body is an archive: saved images, exported containers, copied files.

use super::images::{platforms, reference};
use super::outgoing::archive;
use super::progress::from_body;
use crate::convert;
use crate::failure::Failure;
use crate::reply::Reply;
use crate::request::Request;
use berth_api::{FilesystemChange, IdResponse, PATH_STAT_HEADER};
use berth_engine::Engine;
use berth_engine::containers::files::{CommitRequest, PutOptions};
use berth_engine::images::ChangeKind;
use http::StatusCode;
use std::sync::Arc;

type Answer = Result<Reply, Failure>;

const TAR: &str = "application/x-tar";

pub(crate) async fn save(engine: Arc<Engine>, request: Request) -> Answer {
    let platforms = platforms(&request, 48)?;
    let names: Vec<String> = match request.name.is_empty() {
        false => vec![request.name.clone()],
        true => request.query.all("names").map(str::to_owned).collect(),
    };
    if names.is_empty() {
        return Err(Failure::bad_request("save needs the names of images"));
    }
    let save = engine.images.save(names, platforms).await?;
    Ok(archive(TAR, move |out| {
        save.write_to(out)
            .map(drop)
            .map_err(berth_engine::EngineError::from)
    }))
}

pub(crate) async fn export(engine: Arc<Engine>, request: Request) -> Answer {
    let export = engine.containers.export(&request.name).await?;
    Ok(archive("application/octet-stream", move |out| {
        export.write_to(out).map(drop)
    }))
}

pub(crate) async fn changes(engine: Arc<Engine>, request: Request) -> Answer {
    let changes = engine.containers.changes(&request.name).await?;
    let items: Vec<FilesystemChange> = changes
        .into_iter()
        .map(|change| FilesystemChange {
            path: String::from_utf8_lossy(&change.path).into_owned(),
            kind: match change.kind {
                ChangeKind::Modified => 0,
                ChangeKind::Added => 1,
                ChangeKind::Deleted => 2,
            },
        })
        .collect();
    // Docker's list is nothing rather than empty.
    Ok(Reply::json(
        StatusCode::OK,
        &(!items.is_empty()).then_some(items),
    ))
}

/// The path a request is about.
fn path(request: &Request) -> Result<String, Failure> {
    match request.text("path") {
        "" => Err(Failure::bad_request("bad parameter: path cannot be empty")),
        path if path.contains('\0') => Err(Failure::bad_request(
            "bad parameter: path contains a zero byte",
        )),
        path => Ok(path.to_owned()),
    }
}

pub(crate) async fn path_stat(engine: Arc<Engine>, request: Request) -> Answer {
    let path = path(&request)?;
    let stat = engine.containers.archive_stat(&request.name, &path).await?;
    let header = convert::archive::path_stat(stat).to_header();
    Ok(Reply::empty(StatusCode::OK).with_header(PATH_STAT_HEADER, &header))
}

pub(crate) async fn get(engine: Arc<Engine>, request: Request) -> Answer {
    let path = path(&request)?;
    let out = engine.containers.archive(&request.name, &path).await?;
    let header = convert::archive::path_stat(out.stat.clone()).to_header();
    let reply = archive(TAR, move |target| out.write_to(target).map(drop));
    Ok(reply.with_header(PATH_STAT_HEADER, &header))
}

pub(crate) async fn put(engine: Arc<Engine>, request: Request) -> Answer {
    let path = path(&request)?;
    let options = PutOptions {
        keep_kinds: request.flag("noOverwriteDirNonDir"),
        own: request.flag("copyUIDGID"),
    };
    let body = from_body(request.body);
    engine
        .containers
        .put_archive(&request.name, &path, options, body)
        .await?;
    Ok(Reply::empty(StatusCode::OK))
}

pub(crate) async fn commit(engine: Arc<Engine>, mut request: Request) -> Answer {
    let container = request.text("container").to_owned();
    if container.is_empty() {
        return Err(Failure::bad_request("commit needs a container"));
    }
    let name = match request.text("repo") {
        "" => None,
        repo => {
            let name = reference(repo, request.text("tag"))?;
            if name.digest().is_some() {
                return Err(Failure::bad_request(
                    "refusing to create a tag with a digest reference",
                ));
            }
            Some(name.with_default_tag())
        }
    };
    let config = request
        .json::<Option<berth_api::ContainerConfig>>()
        .await?
        .flatten()
        .map(convert::create::config)
        .transpose()
        .map_err(Failure::bad_request)?;
    let commit = CommitRequest {
        name,
        comment: request.text("comment").to_owned(),
        author: request.text("author").to_owned(),
        pause: request.flag_or("pause", true),
        changes: request.query.all("changes").map(str::to_owned).collect(),
        config,
    };
    let id = engine.containers.commit(&container, commit).await?;
    Ok(Reply::json(
        StatusCode::CREATED,
        &IdResponse { id: id.to_string() },
    ))
}
