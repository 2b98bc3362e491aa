//! Volumes, as asked for and as found.

use super::sorted;
use berth_api::{Volume, VolumeCreateRequest, VolumeUsageData};
use berth_engine::volumes::{self, VolumeUsage, VolumeView};

/// Wire to engine.
pub(crate) fn create(body: VolumeCreateRequest) -> volumes::VolumeCreateRequest {
    volumes::VolumeCreateRequest {
        name: body.name,
        driver: body.driver,
        options: body.driver_opts.unwrap_or_default().into_iter().collect(),
        labels: body.labels.unwrap_or_default().into_iter().collect(),
    }
}

/// Engine to wire.
pub(crate) fn volume(view: &VolumeView) -> Volume {
    let record = &view.record;
    let mut status = std::collections::BTreeMap::new();
    if record.read_only {
        status.insert("ReadOnly".to_owned(), true.into());
    }
    if let Some(origin) = &record.origin {
        status.insert("Origin".to_owned(), origin.volume.clone().into());
        status.insert("CopiedAt".to_owned(), origin.at.to_string().into());
    }
    Volume {
        created_at: record.created.to_string(),
        driver: record.driver.clone(),
        labels: (!record.labels.is_empty()).then(|| sorted(&record.labels)),
        mountpoint: view.mountpoint.to_string_lossy().into_owned(),
        name: record.name.clone(),
        options: (!record.options.is_empty()).then(|| sorted(&record.options)),
        scope: "local".to_owned(),
        status: (!status.is_empty()).then_some(status),
        usage_data: None,
    }
}

/// Engine to wire, with what it occupies.
pub(crate) fn usage(usage: &VolumeUsage) -> Volume {
    Volume {
        usage_data: Some(VolumeUsageData {
            ref_count: super::signed(usage.view.users.len() as u64),
            size: usage.size.map_or(-1, super::signed),
        }),
        ..volume(&usage.view)
    }
}
