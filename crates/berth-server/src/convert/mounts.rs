//! Mounts, as asked for and as found.

use super::sorted;
use berth_api::{
    BindOptions, ImageOptions, Mount, MountDriver, MountPoint, TmpfsOptions, VolumeOptions,
};
use berth_engine::containers::spec::{self, MountKind, MountRequest, Propagation};
use berth_engine::containers::view::ContainerView;

/// Wire to engine.
///
/// # Errors
/// With a sentence for the client.
pub(crate) fn to_engine(mount: Mount) -> Result<MountRequest, String> {
    let kind = match mount.kind.as_str() {
        "bind" => MountKind::Bind,
        "volume" => MountKind::Volume,
        "tmpfs" => MountKind::Tmpfs,
        "image" => MountKind::Image,
        _ => MountKind::Other,
    };
    let bind = mount.bind_options.unwrap_or_default();
    let volume = mount.volume_options.unwrap_or_default();
    let driver = volume.driver_config.unwrap_or_default();
    let propagation = match bind.propagation.as_str() {
        "" => None,
        text => Some(Propagation::parse(text).ok_or_else(|| {
            let shown: String = text.chars().take(64).collect();
            format!("invalid mount config for type \"bind\": invalid propagation mode {shown:?}")
        })?),
    };
    let owner = match bind.owner.as_str() {
        "" => None,
        text => Some(
            text.parse()
                .map_err(|why| format!("invalid mount config for type \"bind\": {why}"))?,
        ),
    };
    let image_subpath = mount.image_options.map(|options| options.subpath);
    Ok(MountRequest {
        kind,
        kind_text: mount.kind,
        source: mount.source,
        target: mount.target,
        read_only: mount.read_only,
        consistency: mount.consistency,
        propagation,
        non_recursive: bind.non_recursive,
        create_mountpoint: bind.create_mountpoint,
        read_only_non_recursive: bind.read_only_non_recursive,
        read_only_force_recursive: bind.read_only_force_recursive,
        owner,
        tmpfs: mount.tmpfs_options.map(|options| spec::TmpfsOptions {
            size: options.size_bytes,
            mode: options.mode,
            options: options.options,
        }),
        no_copy: volume.no_copy,
        subpath: image_subpath.unwrap_or(volume.subpath),
        labels: volume.labels.into_iter().collect(),
        driver: driver.name,
        driver_options: driver.options.into_iter().collect(),
    })
}

/// `Some` unless everything in it is as if it had not been sent.
fn unless_default<T: Default + PartialEq>(value: T) -> Option<T> {
    (value != T::default()).then_some(value)
}

/// Engine to wire.
pub(crate) fn from_engine(mount: &MountRequest) -> Mount {
    let bind = BindOptions {
        propagation: mount
            .propagation
            .map(|propagation| propagation.as_str().to_owned())
            .unwrap_or_default(),
        non_recursive: mount.non_recursive,
        create_mountpoint: mount.create_mountpoint,
        read_only_non_recursive: mount.read_only_non_recursive,
        read_only_force_recursive: mount.read_only_force_recursive,
        owner: mount.owner.map(|o| o.to_string()).unwrap_or_default(),
    };
    let is_volume = mount.kind == MountKind::Volume;
    let volume = VolumeOptions {
        no_copy: mount.no_copy,
        labels: sorted(&mount.labels),
        subpath: if is_volume {
            mount.subpath.clone()
        } else {
            String::new()
        },
        driver_config: unless_default(MountDriver {
            name: mount.driver.clone(),
            options: sorted(&mount.driver_options),
        }),
    };
    Mount {
        kind: mount.kind_text.clone(),
        source: mount.source.clone(),
        target: mount.target.clone(),
        read_only: mount.read_only,
        consistency: mount.consistency.clone(),
        bind_options: unless_default(bind),
        volume_options: unless_default(volume),
        image_options: (mount.kind == MountKind::Image && !mount.subpath.is_empty()).then(|| {
            ImageOptions {
                subpath: mount.subpath.clone(),
            }
        }),
        tmpfs_options: mount.tmpfs.as_ref().map(|options| TmpfsOptions {
            size_bytes: options.size,
            mode: options.mode,
            options: options.options.clone(),
        }),
    }
}

/// A container's mounts. Those of `--tmpfs` are shown with the host's settings alone, as Docker does.
pub(crate) fn points(view: &ContainerView) -> Vec<MountPoint> {
    let mut points: Vec<MountPoint> = view
        .spec
        .mounts
        .iter()
        .filter(|mount| {
            !view
                .spec
                .host
                .tmpfs
                .keys()
                .any(|path| spec_path(path) == mount.target)
        })
        .map(|mount| {
            let kind = match mount.kind {
                MountKind::Bind => "bind",
                MountKind::Volume => "volume",
                MountKind::Tmpfs => "tmpfs",
                MountKind::Image => "image",
                MountKind::Other => "",
            };
            let propagation = match (mount.kind, mount.propagation) {
                (_, Some(propagation)) => propagation.as_str(),
                (MountKind::Bind, None) => Propagation::RPrivate.as_str(),
                _ => "",
            };
            let volume = mount.volume.clone().unwrap_or_default();
            MountPoint {
                kind: kind.to_owned(),
                name: volume.name,
                driver: volume.driver,
                source: mount.source.clone(),
                destination: mount.target.clone(),
                mode: mount.mode.clone(),
                rw: mount.writable,
                propagation: propagation.to_owned(),
            }
        })
        .collect();
    points.sort_by(|one, other| one.destination.cmp(&other.destination));
    points
}

fn spec_path(path: &str) -> String {
    path.trim_end_matches('/').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_round_trip() {
        for text in [
            r#"{"Type":"bind","Source":"/a","Target":"/b","ReadOnly":true,"BindOptions":{"Propagation":"rslave","NonRecursive":true}}"#,
            r#"{"Type":"bind","Source":"/a","Target":"/b","BindOptions":{"CreateMountpoint":true,"Owner":"7:8"}}"#,
            r#"{"Type":"tmpfs","Target":"/t","TmpfsOptions":{"SizeBytes":4096,"Mode":448}}"#,
            r#"{"Type":"volume","Source":"v","Target":"/v","VolumeOptions":{"NoCopy":true,"Subpath":"s","DriverConfig":{"Name":"d"}}}"#,
            r#"{"Type":"image","Source":"i","Target":"/i","ImageOptions":{"Subpath":"s"}}"#,
            r#"{"Type":"npipe","Source":"p","Target":"/p"}"#,
        ] {
            let wire: Mount = serde_json::from_str(text).unwrap();
            let back = from_engine(&to_engine(wire).unwrap());
            assert_eq!(serde_json::to_string(&back).unwrap(), text);
        }
    }
}
