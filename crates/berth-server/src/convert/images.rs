//! Images and the progress of fetching them: engine to wire.

use super::{none_if_empty, registries, signed, sorted};
use berth_api::{
    ApiVersion, AuthConfig, DriverData, EmptyObject, HealthConfig, ImageConfig,
    ImageDeleteResponseItem, ImageHistoryItem, ImageInspect, ImageManifestAttestation,
    ImageManifestImage, ImageManifestSize, ImageManifestSummary, ImageManifestUnpacked,
    ImageMetadata, ImageSummary, JsonMessage, OciDescriptor, OciPlatform, ProgressDetail, RootFs,
    StrSlice,
};
use berth_engine::images::{
    self, Credentials, HistoryStep, ImageView, ManifestKind, ManifestView, Progress, Removal,
};
use berth_types::{ImageConfig as ImageSettings, Timestamp, size};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// A line of the list; `containers` use the image.
pub(crate) fn summary(
    image: images::ImageSummary,
    containers: i64,
    version: ApiVersion,
) -> ImageSummary {
    let (mut repo_tags, mut repo_digests) = (image.repo_tags, image.repo_digests);
    if !version.at_least(43) && repo_tags.is_empty() && repo_digests.is_empty() {
        repo_tags.push("<none>:<none>".to_owned());
        repo_digests.push("<none>@<none>".to_owned());
    }
    let size = signed(image.size);
    ImageSummary {
        // Counted since API 1.51.
        containers: if version.at_least(51) { containers } else { -1 },
        created: image.created.map_or(0, Timestamp::unix_seconds),
        id: image.id.to_string(),
        labels: (!image.labels.is_empty()).then(|| sorted(&image.labels)),
        parent_id: image
            .parent
            .map(|parent| parent.to_string())
            .unwrap_or_default(),
        descriptor: None,
        manifests: Vec::new(),
        repo_digests,
        repo_tags,
        shared_size: image.shared_size.map_or(-1, signed),
        size,
        virtual_size: if version.at_least(44) { 0 } else { size },
    }
}

/// An image in full.
pub(crate) fn inspect(image: ImageView, version: ApiVersion) -> ImageInspect {
    let size = signed(image.size);
    let created = image.document.created.clone().unwrap_or_default();
    let never = || Timestamp::ZERO.to_string();
    let text = |path: &PathBuf| path.to_string_lossy().into_owned();
    let mut layers = image.layer_directories.iter().map(text);
    let mut data = BTreeMap::new();
    if let Some(upper) = layers.next() {
        data.insert("UpperDir".to_owned(), upper);
    }
    let lower: Vec<String> = layers.collect();
    if !lower.is_empty() {
        data.insert("LowerDir".to_owned(), lower.join(":"));
    }
    ImageInspect {
        id: image.id.to_string(),
        repo_tags: image.repo_tags,
        repo_digests: image.repo_digests,
        parent: image
            .parent
            .map(|parent| parent.to_string())
            .unwrap_or_default(),
        comment: image.comment,
        created: if created.is_empty() && !version.at_least(44) {
            never()
        } else {
            created
        },
        docker_version: image.docker_version,
        author: image.document.author,
        architecture: image.document.architecture,
        variant: image.document.variant,
        os: image.document.os,
        os_version: image.os_version,
        size,
        virtual_size: if version.at_least(44) { 0 } else { size },
        graph_driver: DriverData {
            data: Some(data),
            name: "overlay2".to_owned(),
        },
        root_fs: RootFs {
            kind: "layers".to_owned(),
            layers: image
                .document
                .rootfs
                .diff_ids
                .iter()
                .map(ToString::to_string)
                .collect(),
        },
        metadata: ImageMetadata {
            last_tag_time: image
                .last_tagged
                .map_or_else(never, |moment| moment.to_string()),
        },
        descriptor: None,
        manifests: Vec::new(),
        config: Some(config(image.document.config, version)),
    }
}

/// A manifest behind a name; `containers` use the image that it is.
pub(crate) fn manifest(view: ManifestView, containers: Vec<String>) -> ImageManifestSummary {
    let descriptor = view.descriptor;
    let platform = |os: String, architecture: String, variant: String| OciPlatform {
        architecture,
        os,
        variant,
        ..OciPlatform::default()
    };
    let unpacked = match &view.kind {
        ManifestKind::Image { unpacked, .. } => unpacked.map_or(0, |(_, size)| size),
        _ => 0,
    };
    let (kind, image_data, attestation_data) = match view.kind {
        ManifestKind::Image { platform: own, .. } => {
            let data = ImageManifestImage {
                platform: platform(own.os, own.architecture, own.variant),
                containers,
                size: ImageManifestUnpacked {
                    unpacked: signed(unpacked),
                },
            };
            ("image", Some(data), None)
        }
        ManifestKind::Attestation { of } => {
            ("attestation", None, Some(ImageManifestAttestation { of }))
        }
        ManifestKind::Unknown => ("unknown", None, None),
    };
    ImageManifestSummary {
        id: descriptor.digest.to_string(),
        descriptor: OciDescriptor {
            media_type: descriptor.media_type,
            digest: descriptor.digest.to_string(),
            size: signed(descriptor.size),
            urls: descriptor.urls.unwrap_or_default(),
            annotations: descriptor
                .annotations
                .unwrap_or_default()
                .into_iter()
                .collect(),
            platform: descriptor
                .platform
                .map(|stated| platform(stated.os, stated.architecture, stated.variant)),
            ..OciDescriptor::default()
        },
        available: view.available,
        size: ImageManifestSize {
            total: signed(view.content + unpacked),
            content: signed(view.content),
        },
        kind: kind.to_owned(),
        image_data,
        attestation_data,
    }
}

fn config(settings: ImageSettings, version: ApiVersion) -> ImageConfig {
    // Fields of a container that an image never had; they were dropped in API 1.50.
    let flag = (!version.at_least(50)).then_some(false);
    let text = (!version.at_least(50)).then(String::new);
    let set =
        |map: indexmap::IndexMap<String, serde_json::Value>| -> BTreeMap<String, EmptyObject> {
            map.into_keys().map(|name| (name, EmptyObject)).collect()
        };
    ImageConfig {
        args_escaped: settings.args_escaped,
        attach_stderr: flag,
        attach_stdin: flag,
        attach_stdout: flag,
        cmd: settings.cmd.map(StrSlice),
        domainname: text.clone(),
        entrypoint: settings.entrypoint.map(StrSlice),
        env: none_if_empty(&settings.env),
        exposed_ports: set(settings.exposed_ports),
        healthcheck: settings.healthcheck.map(|check| HealthConfig {
            test: check.test,
            interval: check.interval,
            timeout: check.timeout,
            start_period: check.start_period,
            start_interval: check.start_interval,
            retries: check.retries,
        }),
        hostname: text.clone(),
        image: text,
        labels: (!settings.labels.is_empty()).then(|| sorted(&settings.labels)),
        on_build: none_if_empty(&settings.on_build),
        open_stdin: flag,
        shell: StrSlice(settings.shell.unwrap_or_default()),
        stdin_once: flag,
        stop_signal: settings.stop_signal,
        tty: flag,
        user: settings.user,
        volumes: Some(set(settings.volumes)).filter(|volumes| !volumes.is_empty()),
        working_dir: settings.working_dir,
    }
}

/// A step of an image's making.
pub(crate) fn history(step: HistoryStep) -> ImageHistoryItem {
    ImageHistoryItem {
        comment: step.comment,
        created: step.created.map_or(0, Timestamp::unix_seconds),
        created_by: step.created_by,
        id: step
            .id
            .map_or_else(|| "<missing>".to_owned(), |id| id.to_string()),
        size: signed(step.size),
        tags: (!step.tags.is_empty()).then_some(step.tags),
    }
}

/// One thing a removal did.
pub(crate) fn removal(removal: Removal) -> ImageDeleteResponseItem {
    match removal {
        Removal::Untagged { name, .. } => ImageDeleteResponseItem {
            untagged: name,
            ..ImageDeleteResponseItem::default()
        },
        Removal::Image(digest)
        | Removal::Manifest { digest, .. }
        | Removal::Layer { chain: digest, .. } => ImageDeleteResponseItem {
            deleted: digest.to_string(),
            ..ImageDeleteResponseItem::default()
        },
    }
}

/// Credentials; None when there are none.
pub(crate) fn credentials(auth: AuthConfig) -> Option<Credentials> {
    let given = auth != AuthConfig::default();
    given.then_some(Credentials {
        username: auth.username,
        password: auth.password,
        identity_token: auth.identity_token,
        registry_token: auth.registry_token,
    })
}

/// One line of progress, in Docker's words.
pub(crate) fn progress(progress: Progress) -> JsonMessage {
    let told = |status: &str, id: String| JsonMessage {
        status: status.to_owned(),
        progress_detail: Some(ProgressDetail::default()),
        id,
        ..JsonMessage::default()
    };
    let counted = |status: &str, id: String, current: u64, total: u64| JsonMessage {
        progress: bar(current, total),
        progress_detail: Some(ProgressDetail {
            current: signed(current),
            total: signed(total),
            units: String::new(),
        }),
        ..told(status, id)
    };
    let plain = |status: String| JsonMessage {
        status,
        ..JsonMessage::default()
    };
    match progress {
        Progress::Pulling { tag, repository } => JsonMessage {
            id: tag,
            ..plain(format!("Pulling from {repository}"))
        },
        Progress::PullingLayer { id } => told("Pulling fs layer", id),
        Progress::Waiting { id } => told("Waiting", id),
        Progress::AlreadyExists { id } => told("Already exists", id),
        Progress::Downloading { id, current, total } => counted("Downloading", id, current, total),
        Progress::Retrying { id, seconds } => {
            let plural = if seconds == 1 { "" } else { "s" };
            told(&format!("Retrying in {seconds} second{plural}"), id)
        }
        Progress::VerifyingChecksum { id } => told("Verifying Checksum", id),
        Progress::DownloadComplete { id } => told("Download complete", id),
        Progress::Extracting { id, current, total } => counted("Extracting", id, current, total),
        Progress::PullComplete { id } => told("Pull complete", id),
        Progress::LoadingLayer { id, current, total } => {
            counted("Loading layer", id, current, total)
        }
        Progress::Importing { current, total } => {
            counted("Importing", String::new(), current, total)
        }
        Progress::Checking { current, total } => {
            counted("Checking", "content".to_owned(), current, total)
        }
        Progress::PushingTo { repository } => {
            plain(format!("The push refers to repository [{repository}]"))
        }
        Progress::Preparing { id } => told("Preparing", id),
        Progress::Compressing { id, current, total } => counted("Compressing", id, current, total),
        Progress::Pushing { id, current, total } => counted("Pushing", id, current, total),
        Progress::LayerPushed { id } => told("Pushed", id),
        Progress::LayerExists { id } => told("Layer already exists", id),
        Progress::Mounted { id, from } => told(&format!("Mounted from {from}"), id),
        Progress::SkippedForeign { id } => told("Skipped foreign layer", id),
        Progress::Pushed(pushed) => registries::auxiliary(&registries::push_result(pushed)),
        Progress::PushedInstead(instead) => {
            registries::auxiliary(&registries::pushed_instead(*instead))
        }
        Progress::Digest(digest) => plain(format!("Digest: {digest}")),
        Progress::Status(status) => plain(status),
    }
}

/// The bar for clients that do not draw one themselves.
fn bar(current: u64, total: u64) -> String {
    if total == 0 {
        return format!("{:>8}", size::format_decimal(current));
    }
    let filled =
        usize::try_from(current.saturating_mul(50) / total).map_or(50, |filled| filled.min(50));
    let numbers = if current > total {
        format!("{:>8}", size::format_decimal(current))
    } else {
        format!(
            "{:>8}/{}",
            size::format_decimal(current),
            size::format_decimal(total)
        )
    };
    format!(
        "[{}>{}] {numbers}",
        "=".repeat(filled),
        " ".repeat(50 - filled)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_told_in_dockers_words() {
        let text = |step| serde_json::to_string(&progress(step)).unwrap();
        assert_eq!(
            text(Progress::Pulling {
                tag: "latest".into(),
                repository: "library/busybox".into()
            }),
            r#"{"status":"Pulling from library/busybox","id":"latest"}"#
        );
        assert_eq!(
            text(Progress::PullComplete { id: "abc".into() }),
            r#"{"status":"Pull complete","progressDetail":{},"id":"abc"}"#
        );
        let line = text(Progress::Downloading {
            id: "abc".into(),
            current: 512,
            total: 1024,
        });
        assert!(line.starts_with(r#"{"status":"Downloading","progressDetail":{"current":512,"total":1024},"progress":"[===="#), "{line}");
    }

    #[test]
    fn a_bar_is_never_longer_than_whole() {
        assert!(bar(20, 10).starts_with(&format!("[{}>]", "=".repeat(50))));
        assert!(bar(u64::MAX, 3).starts_with('['));
        assert_eq!(bar(1000, 0).trim(), "1kB");
    }
}
