//! Requests about images.

use super::progress::{Lines, from_body};
use super::streams::json_line;
use crate::convert;
use crate::failure::Failure;
use crate::reply::Reply;
use crate::request::{Request, cut};
use berth_api::{
    AuthConfig, ImageDeleteResponseItem, ImageHistoryItem, ImageManifestSummary, ImagePruneReport,
    ImageSummary, JsonMessage,
};
use berth_engine::images::{
    Credentials, ImageFilters, ImportImage, ListRequest, ManifestKind, PullRequest, RemoveRequest,
};
use berth_engine::{Engine, EngineError};
use berth_types::{Digest, Platform, Reference};
use http::StatusCode;
use serde::Deserialize;
use std::sync::Arc;

type Answer = Result<Reply, Failure>;

/// The credentials of a request. As in Docker, such that cannot be read count as none: the registry decides.
pub(super) fn credentials(request: &Request) -> Option<Credentials> {
    let header = request
        .headers
        .get("x-registry-auth")
        .and_then(|value| value.to_str().ok());
    let auth = AuthConfig::from_header(header.unwrap_or_default()).unwrap_or_default();
    convert::images::credentials(auth)
}

pub(crate) async fn list(engine: Arc<Engine>, request: Request) -> Answer {
    Ok(Reply::json(
        StatusCode::OK,
        &summaries(&engine, &request).await?,
    ))
}

/// The list, also for the disk usage.
pub(super) async fn summaries(
    engine: &Engine,
    request: &Request,
) -> Result<Vec<ImageSummary>, Failure> {
    let mut filters = berth_api::Filters::from_json(request.text("filters"))
        .map_err(|error| Failure::bad_request(error.to_string()))?;
    let pattern = request.text("filter");
    if !request.version.at_least(41) && !pattern.is_empty() {
        filters.add("reference", pattern);
    }
    let filters = ImageFilters::parse(filters.iter().map(|(name, values)| (name, values.to_vec())))
        .map_err(EngineError::from)?;
    let list = ListRequest {
        all: request.flag("all"),
        filters,
        shared_size: request.version.at_least(42) && request.flag("shared-size"),
    };
    let holders = engine.images.holders();
    let images = engine.images.list(list).await?;
    let with_manifests = request.version.at_least(47) && request.flag("manifests");
    let mut summaries = Vec::with_capacity(images.len());
    for image in images {
        let containers = holders
            .get(&image.id)
            .map_or(0, |count| i64::try_from(*count).unwrap_or(i64::MAX));
        let id = image.id.to_string();
        let mut summary = convert::images::summary(image, containers, request.version);
        if with_manifests {
            let name = summary.repo_tags.first().or(summary.repo_digests.first());
            let name = name
                .filter(|name| !name.starts_with("<none>"))
                .unwrap_or(&id);
            // An image that goes in between is listed as it was.
            summary.manifests = manifests(engine, name).await.unwrap_or_default();
        }
        summaries.push(summary);
    }
    Ok(summaries)
}

/// A platform as JSON, the way OCI documents have it.
#[derive(Debug, Deserialize)]
struct PlatformText {
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    variant: String,
}

/// The `platform` parameter, once at most, of API versions that have it.
pub(super) fn platform(request: &Request, since: u32) -> Result<Option<Platform>, Failure> {
    let mut given = platforms(request, since)?;
    if given.len() > 1 {
        return Err(Failure::bad_request(
            "multiple platform parameters not supported",
        ));
    }
    Ok(given.pop())
}

/// The `platform` parameters of API versions that have them.
pub(super) fn platforms(request: &Request, since: u32) -> Result<Vec<Platform>, Failure> {
    if !request.version.at_least(since) {
        return Ok(Vec::new());
    }
    all_platforms(request, "platform")
}

fn all_platforms(request: &Request, parameter: &str) -> Result<Vec<Platform>, Failure> {
    let given = request.query.all(parameter);
    given.filter(|text| !text.is_empty()).map(parse).collect()
}

fn parse(text: &str) -> Result<Platform, Failure> {
    let platform: PlatformText = serde_json::from_str(text)
        .map_err(|error| Failure::bad_request(format!("failed to parse platform: {error}")))?;
    if platform.os.is_empty() || platform.architecture.is_empty() {
        return Err(Failure::bad_request(
            "both OS and Architecture must be provided",
        ));
    }
    Ok(Platform::normalised(
        &platform.os,
        &platform.architecture,
        &platform.variant,
    ))
}

/// Refuses an image that is not for the platform asked for.
fn check_platform(
    name: &str,
    document: &berth_types::ImageDocument,
    wanted: Option<&Platform>,
) -> Result<(), Failure> {
    let own = Platform::normalised(&document.os, &document.architecture, &document.variant);
    match wanted {
        Some(wanted) if own.suitability(wanted).is_none() => Err(Failure::not_found(format!(
            "image with reference {} was found but does not provide the specified platform ({wanted})",
            cut(name)
        ))),
        _ => Ok(()),
    }
}

pub(crate) async fn inspect(engine: Arc<Engine>, request: Request) -> Answer {
    let platform = platform(&request, 49)?;
    if platform.is_some() && request.flag("manifests") {
        return Err(Failure::bad_request(
            "conflicting options: manifests and platform options cannot both be set",
        ));
    }
    let image = engine.images.inspect(&request.name).await?;
    check_platform(&request.name, &image.document, platform.as_ref())?;
    let mut inspected = convert::images::inspect(image, request.version);
    if request.version.at_least(48) && request.flag("manifests") {
        inspected.manifests = manifests(&engine, &request.name).await?;
    }
    Ok(Reply::json(StatusCode::OK, &inspected))
}

/// The manifests behind a name, with who uses the images among them.
async fn manifests(engine: &Engine, name: &str) -> Result<Vec<ImageManifestSummary>, Failure> {
    let found = engine.images.manifests(name).await?;
    let summaries = found.into_iter().map(|manifest| {
        let containers = match &manifest.kind {
            ManifestKind::Image {
                unpacked: Some((id, _)),
                ..
            } => engine.images.containers_of(id),
            _ => Vec::new(),
        };
        convert::images::manifest(manifest, containers)
    });
    Ok(summaries.collect())
}

pub(crate) async fn history(engine: Arc<Engine>, request: Request) -> Answer {
    if let Some(platform) = platform(&request, 48)? {
        let image = engine.images.inspect(&request.name).await?;
        check_platform(&request.name, &image.document, Some(&platform))?;
    }
    let steps = engine.images.history(&request.name).await?;
    let items: Vec<ImageHistoryItem> = steps.into_iter().map(convert::images::history).collect();
    Ok(Reply::json(StatusCode::OK, &items))
}

/// `GET /berth/images/{name}/why`.
pub(crate) async fn why(engine: Arc<Engine>, request: Request) -> Answer {
    let why = engine.images.why(&request.name).await?;
    Ok(Reply::json(StatusCode::OK, &convert::why::why(why)))
}

/// A repository and a tag or digest, each from a parameter of its own.
pub(super) fn reference(repository: &str, tag: &str) -> Result<Reference, Failure> {
    let bad = |message: String| Failure::bad_request(message);
    let reference = Reference::parse(repository).map_err(|error| bad(error.to_string()))?;
    if tag.is_empty() {
        return Ok(reference);
    }
    match Digest::parse(tag) {
        Ok(digest) => Ok(reference.with_digest(digest)),
        Err(_) => reference
            .with_tag(tag)
            .map_err(|error| bad(error.to_string())),
    }
}

pub(crate) async fn tag(engine: Arc<Engine>, request: Request) -> Answer {
    let repository = request.text("repo");
    if repository.is_empty() {
        return Err(Failure::bad_request(
            "the new name of the image is missing: repo is empty",
        ));
    }
    let name = reference(repository, request.text("tag"))?;
    if name.digest().is_some() {
        return Err(Failure::bad_request(
            "refusing to create a tag with a digest reference",
        ));
    }
    let name = name.with_default_tag();
    if name.familiar_name() == "sha256" {
        return Err(Failure::bad_request(
            "refusing to create an ambiguous tag using digest algorithm as name",
        ));
    }
    engine.images.tag(&request.name, &name.to_string()).await?;
    Ok(Reply::empty(StatusCode::CREATED))
}

pub(crate) async fn remove(engine: Arc<Engine>, request: Request) -> Answer {
    if request.name.trim().is_empty() {
        return Err(Failure::bad_request("image name cannot be blank"));
    }
    let options = RemoveRequest {
        force: request.flag("force"),
        no_prune: request.flag("noprune"),
    };
    let platforms = match request.version.at_least(50) {
        true => all_platforms(&request, "platforms")?,
        false => Vec::new(),
    };
    if !platforms.is_empty() && !options.force {
        // Docker's words.
        return Err(Failure::bad_request(
            "Content will be removed from all images referencing this variant. Use --force to force delete.",
        ));
    }
    let images = &engine.images;
    let removed = match platforms.is_empty() {
        true => images.remove(&request.name, options).await?,
        false => images.remove_platforms(&request.name, platforms).await?,
    };
    let items: Vec<ImageDeleteResponseItem> =
        removed.into_iter().map(convert::images::removal).collect();
    Ok(Reply::json(StatusCode::OK, &items))
}

pub(crate) async fn prune(engine: Arc<Engine>, request: Request) -> Answer {
    let (removed, pruned) = engine.images.prune(&request.filters()?).await?;
    let items: Vec<ImageDeleteResponseItem> =
        removed.into_iter().map(convert::images::removal).collect();
    let report = ImagePruneReport {
        images_deleted: (!items.is_empty()).then_some(items),
        space_reclaimed: pruned.reclaimed,
    };
    Ok(Reply::json(StatusCode::OK, &report))
}

pub(crate) async fn pull(engine: Arc<Engine>, request: Request) -> Answer {
    // "pull -a" of old clients sends a name with a colon at its end.
    let image = request.text("fromImage").trim_end_matches(':').to_owned();
    if image.is_empty() {
        return import(engine, request).await;
    }
    let reference = reference(&image, request.text("tag"))?;
    let all_tags = reference.tag().is_none() && reference.digest().is_none();
    let platform = match request.text("platform") {
        "" => None,
        text if request.version.at_least(32) => {
            Some(Platform::parse(text).map_err(|error| Failure::bad_request(error.to_string()))?)
        }
        _ => None,
    };
    let pull = PullRequest {
        reference,
        platform,
        credentials: credentials(&request),
        // Ours alone: Docker's clients have no word for it.
        all_platforms: request.flag("allPlatforms"),
    };
    let lines = Lines::new();
    let sink = lines.sink();
    let work = async move {
        if all_tags {
            engine.images.pull_tags(pull, sink).await?;
        } else {
            engine.images.pull(pull, sink).await?;
        }
        Ok(Vec::new())
    };
    lines.reply(work).await
}

/// `POST /images/create` without `fromImage`: an image of an archive.
async fn import(engine: Arc<Engine>, request: Request) -> Answer {
    let source = request.text("fromSrc");
    if source.is_empty() {
        return Err(Failure::bad_request(
            "name an image to pull (fromImage) or a source to import (fromSrc)",
        ));
    }
    // As in Docker, what has no scheme is fetched by HTTP.
    let address = match source {
        "-" => None,
        address if address.contains("://") => Some(address.to_owned()),
        address => Some(format!("http://{address}")),
    };
    let name = match request.text("repo") {
        "" => None,
        repo => {
            let name = reference(repo, request.text("tag"))?;
            if name.digest().is_some() {
                return Err(Failure::bad_request("cannot import digest reference"));
            }
            Some(name.with_default_tag())
        }
    };
    let platform = match request.text("platform") {
        "" => None,
        text => {
            Some(Platform::parse(text).map_err(|error| Failure::bad_request(error.to_string()))?)
        }
    };
    let import = ImportImage {
        changes: request.query.all("changes").map(str::to_owned).collect(),
        message: request.text("message").to_owned(),
        platform,
        name,
    };
    let lines = Lines::new();
    let sink = match address {
        Some(_) => lines.sink(),
        None => lines.silent_sink(),
    };
    let body = request.body;
    let work = async move {
        let id = match address {
            Some(address) => engine.images.import_from(&address, import, sink).await?,
            None => engine.images.import(from_body(body), import, sink).await?,
        };
        Ok(vec![json_line(&JsonMessage {
            status: id.to_string(),
            ..JsonMessage::default()
        })])
    };
    lines.reply(work).await
}

pub(crate) async fn load(engine: Arc<Engine>, request: Request) -> Answer {
    let platforms = platforms(&request, 48)?;
    let quiet = request.flag_or("quiet", true);
    let lines = Lines::new();
    let sink = if quiet {
        lines.silent_sink()
    } else {
        lines.sink()
    };
    let archive = from_body(request.body);
    let work = async move {
        let loaded = engine.images.load(archive, platforms, sink).await?;
        let mut last = Vec::new();
        for image in loaded {
            let mut told = |stream: String| {
                last.push(json_line(&JsonMessage {
                    stream,
                    ..JsonMessage::default()
                }));
            };
            if image.names.is_empty() {
                told(format!("Loaded image ID: {}\n", image.id));
            }
            for name in &image.names {
                told(format!("Loaded image: {}\n", name.familiar()));
            }
        }
        Ok(last)
    };
    lines.reply(work).await
}
