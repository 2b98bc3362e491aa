//! `images --tree`: images with the manifests behind their names.

use berth_api::{ImageManifestSummary, ImageSummary};
use berth_types::size;

use crate::output::text;

/// All images, each with what is behind its name below it.
pub(super) fn render(images: &[ImageSummary]) -> String {
    let mut rows = vec![["IMAGE", "ID", "DISK USAGE", "CONTENT SIZE", "EXTRA"].map(str::to_owned)];
    for image in images {
        let name = image.repo_tags.first().or(image.repo_digests.first());
        let name = name.filter(|name| !name.starts_with("<none>"));
        let content = image.manifests.iter().map(|one| one.size.content).sum();
        rows.push([
            name.map_or("<none>", String::as_str).to_owned(),
            text::short_id(&image.id).to_owned(),
            bytes(image.size + content),
            bytes(content),
            if image.containers > 0 { "U" } else { "" }.to_owned(),
        ]);
        for (at, manifest) in image.manifests.iter().enumerate() {
            let branch = if at + 1 == image.manifests.len() {
                "└─"
            } else {
                "├─"
            };
            rows.push([
                format!("{branch} {}", label(manifest)),
                text::short_id(&manifest.id).to_owned(),
                bytes(manifest.size.total),
                bytes(manifest.size.content),
                extra(manifest).to_owned(),
            ]);
        }
    }
    let lines: String = rows.iter().map(|row| row.join("\t") + "\n").collect();
    text::align(&lines)
}

/// What a manifest is: its platform, or what it says about which other one.
fn label(manifest: &ImageManifestSummary) -> String {
    if let Some(image) = &manifest.image_data {
        let platform = &image.platform;
        let mut label = format!("{}/{}", platform.os, platform.architecture);
        if !platform.variant.is_empty() {
            label.push('/');
            label.push_str(&platform.variant);
        }
        return label;
    }
    match &manifest.attestation_data {
        Some(attestation) => format!("attestation of {}", text::short_id(&attestation.of)),
        None => "unknown".to_owned(),
    }
}

fn extra(manifest: &ImageManifestSummary) -> &'static str {
    let used = manifest
        .image_data
        .as_ref()
        .is_some_and(|image| !image.containers.is_empty());
    match (used, manifest.available) {
        (true, _) => "U",
        (false, true) => "",
        (false, false) => "not here",
    }
}

fn bytes(count: i64) -> String {
    u64::try_from(count).map_or_else(|_| "N/A".to_owned(), size::format_decimal_short)
}

#[cfg(test)]
mod tests {
    use super::*;
    use berth_api::{ImageManifestAttestation, ImageManifestImage, ImageManifestSize, OciPlatform};

    #[test]
    fn every_manifest_is_shown_as_what_it_is() {
        let id = |letter: &str| format!("sha256:{}", letter.repeat(64));
        let manifest = |letter: &str, available: bool| ImageManifestSummary {
            id: id(letter),
            available,
            size: ImageManifestSize {
                total: 1500,
                content: 500,
            },
            ..ImageManifestSummary::default()
        };
        let image = |architecture: &str, variant: &str| {
            Some(ImageManifestImage {
                platform: OciPlatform {
                    os: "linux".into(),
                    architecture: architecture.into(),
                    variant: variant.into(),
                    ..OciPlatform::default()
                },
                ..ImageManifestImage::default()
            })
        };
        let images = [ImageSummary {
            id: id("a"),
            repo_tags: vec!["alpine:latest".into()],
            size: 1000,
            containers: 1,
            manifests: vec![
                ImageManifestSummary {
                    image_data: image("amd64", ""),
                    ..manifest("b", true)
                },
                ImageManifestSummary {
                    image_data: image("arm", "v7"),
                    ..manifest("c", false)
                },
                ImageManifestSummary {
                    attestation_data: Some(ImageManifestAttestation { of: id("b") }),
                    ..manifest("d", true)
                },
            ],
            ..ImageSummary::default()
        }];
        assert_eq!(
            render(&images),
            "IMAGE                            ID             DISK USAGE   CONTENT SIZE   EXTRA\n\
             alpine:latest                    aaaaaaaaaaaa   2.5kB        1.5kB          U\n\
             ├─ linux/amd64                   bbbbbbbbbbbb   1.5kB        500B           \n\
             ├─ linux/arm/v7                  cccccccccccc   1.5kB        500B           not here\n\
             └─ attestation of bbbbbbbbbbbb   dddddddddddd   1.5kB        500B           \n"
        );
    }
}
