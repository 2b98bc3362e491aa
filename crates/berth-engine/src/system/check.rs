//! `system check`: the store's own check, and whether every container and volume still has its files.

use std::sync::Arc;

use berth_image::{
    CheckReport, CheckRequest, Finding, ImageStore, KnownCredentials, Outcome, Part, ProgressSink,
};
use berth_sys::fs;

use super::System;
use crate::containers::phase::Phase;
use crate::containers::view::ContainerView;
use crate::error::EngineError;
use crate::events::EventKind;
use crate::host::Host;

impl System {
    /// Checks everything that is stored, and mends what is asked to be mended. Dropping the future ends it.
    ///
    /// # Errors
    /// When the check itself cannot go on. What is wrong with single objects is in the report.
    pub async fn check(
        &self,
        request: CheckRequest,
        credentials: KnownCredentials,
        progress: ProgressSink,
    ) -> Result<CheckReport, EngineError> {
        let index = self.index.clone();
        let uses = move || crate::images::uses(&index);
        let (mut report, removals) = self
            .images
            .check(request, credentials, uses, progress)
            .await?;
        crate::images::announce_removals(&self.events, &removals);
        let (host, images, index) = (
            Arc::clone(&self.host),
            self.images.clone(),
            self.index.clone(),
        );
        let volumes = self.volumes.clone();
        let found = tokio::task::spawn_blocking(move || {
            let mut found = Vec::new();
            let handles = index.all();
            for handle in &handles {
                let view = handle.view();
                let problem = container(&host, &images, &view);
                // Removed while it was looked at: nothing is wrong with that.
                if let Some(problem) = problem
                    && index.find(view.id.as_str()).is_ok()
                {
                    found.push((view, problem));
                }
            }
            (handles.len(), found, volumes.without_content())
        })
        .await
        .map_err(|e| EngineError::Internal(format!("a defect in the engine: {e}")))?;
        report.containers = found.0 as u64;
        for (view, problem) in found.1 {
            report.findings.push(Finding {
                part: Part::Container,
                object: view.id.as_str().to_owned(),
                problem,
                images: vec![view.spec.config.image.clone()],
                outcome: if request.repair {
                    Outcome::Unrepaired(
                        "what a container changed exists nowhere else; remove the container".into(),
                    )
                } else {
                    Outcome::Found
                },
            });
        }
        let (volumes, missing) = found.2;
        report.volumes = volumes as u64;
        for volume in missing {
            report.findings.push(Finding {
                part: Part::Volume,
                object: volume.record.name.clone(),
                problem: format!("its directory {} is missing", volume.mountpoint.display()),
                images: Vec::new(),
                outcome: if request.repair {
                    Outcome::Unrepaired(
                        "what was in it exists nowhere else; remove the volume".into(),
                    )
                } else {
                    Outcome::Found
                },
            });
        }
        let unsound = report.findings.len().to_string();
        let mut attributes = indexmap::IndexMap::from([("findings".to_owned(), unsound)]);
        attributes.insert("name".to_owned(), super::hostname());
        self.events
            .publish(EventKind::Daemon, "check", self.host.id.clone(), attributes);
        Ok(report)
    }
}

/// What is wrong with a container's files.
fn container(host: &Host, images: &ImageStore, view: &ContainerView) -> Option<String> {
    if matches!(view.phase, Phase::Removing { .. } | Phase::Dead { .. }) {
        return None;
    }
    match images.image_size(&view.spec.image_id) {
        Ok(_) => {}
        Err(error) => return Some(format!("what it is made of is not here: {error}")),
    }
    let started = !matches!(view.phase, Phase::Created | Phase::Starting { .. });
    if !started {
        return None;
    }
    let data = host.container_data(&view.id);
    if !fs::exists(&data) {
        return Some(format!("its directory {} is missing", data.display()));
    }
    match images.has_rootfs(&view.id) {
        true => None,
        false => Some("the files that it changed are missing".to_owned()),
    }
}
