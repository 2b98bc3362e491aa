//! What an image's bytes are: engine to wire.

use berth_api::{ImageWhy, WhyFile, WhyHidden, WhyPackage, WhyPrivileged, WhyStep};
use berth_engine::images::{Cost, Why};

fn path(bytes: &[u8]) -> String {
    format!("/{}", String::from_utf8_lossy(bytes))
}

fn file(cost: &Cost) -> WhyFile {
    WhyFile {
        path: path(&cost.path),
        size: cost.size,
        step: cost.step as u64,
    }
}

/// Everything that is known.
pub(crate) fn why(why: Why) -> ImageWhy {
    ImageWhy {
        id: why.id.to_string(),
        size: why.size,
        wasted: why.wasted,
        user: why.user,
        runs_as_root: why.runs_as_root,
        steps: why
            .steps
            .iter()
            .map(|step| WhyStep {
                created_by: step.created_by.clone(),
                layer: step
                    .layer
                    .map(|layer| layer.to_string())
                    .unwrap_or_default(),
                size: step.size,
                files: step.files,
                hides: step.hides,
                hidden: step.hidden,
                largest: step.largest.iter().map(file).collect(),
            })
            .collect(),
        largest: why.largest.iter().map(file).collect(),
        hidden: why
            .hidden
            .iter()
            .map(|hidden| WhyHidden {
                path: path(&hidden.path),
                size: hidden.size,
                copies: hidden.copies,
                deleted: hidden.deleted,
            })
            .collect(),
        privileged: why
            .privileged
            .into_iter()
            .map(|found| WhyPrivileged {
                path: path(&found.path),
                mode: format!("{:04o}", found.mode),
                uid: found.uid,
                gid: found.gid,
                capabilities: found.capabilities,
            })
            .collect(),
        packages: why
            .packages
            .into_iter()
            .map(|package| WhyPackage {
                manager: package.manager.to_owned(),
                name: package.name,
                version: package.version,
                architecture: package.architecture,
                size: package.size,
            })
            .collect(),
        unread: why.unread,
    }
}
