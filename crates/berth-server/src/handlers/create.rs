//! `POST /containers/create`: what older API versions meant by the same body, then the engine.

use super::endpoint_versions;
use crate::convert;
use crate::failure::Failure;
use crate::reply::Reply;
use crate::request::Request;
use berth_api::{ApiVersion, ContainerCreateBody, ContainerCreateResponse, HostConfig};
use berth_engine::Engine;
use berth_types::Platform;
use http::StatusCode;
use std::sync::Arc;

pub(crate) async fn create(engine: Arc<Engine>, mut request: Request) -> Result<Reply, Failure> {
    let body: Option<Option<ContainerCreateBody>> = request.json().await?;
    let Some(mut body) = body.flatten() else {
        return Err(Failure::bad_request(
            "config cannot be empty in order to create a container",
        ));
    };
    if body.config == Default::default() {
        return Err(Failure::bad_request(
            "config cannot be empty in order to create a container",
        ));
    }
    let mut warnings = adapt(&mut body, request.version)?;
    let mut create = convert::create::request(body).map_err(Failure::bad_request)?;
    let name = request.text("name");
    create.name = (!name.is_empty()).then(|| name.to_owned());
    let platform = request.text("platform");
    if request.version.at_least(41) && !platform.is_empty() {
        let platform =
            Platform::parse(platform).map_err(|error| Failure::bad_request(error.to_string()))?;
        create.platform = Some(platform);
    }
    let created = engine.containers.create(create).await?;
    let mut all = created.warnings;
    all.append(&mut warnings);
    let body = ContainerCreateResponse {
        id: created.id.to_string(),
        warnings: all,
    };
    Ok(Reply::json(StatusCode::CREATED, &body))
}

/// Undoes what the client's version of the API did not know, and refuses what it must not ask.
/// Answers with warnings.
fn adapt(body: &mut ContainerCreateBody, version: ApiVersion) -> Result<Vec<String>, Failure> {
    let mut warnings = Vec::new();
    let host = body.host_config.get_or_insert_with(HostConfig::default);
    if !version.at_least(25) {
        host.auto_remove = false;
    }
    if !version.at_least(40) {
        for options in host
            .mounts
            .iter_mut()
            .filter_map(|mount| mount.bind_options.as_mut())
        {
            options.non_recursive = false;
        }
        host.resources.kernel_memory_tcp = 0;
        if host.ipc_mode.is_empty() {
            host.ipc_mode = "shareable".to_owned();
        }
    }
    if version.at_least(42) {
        host.resources.kernel_memory = 0;
        for mount in &host.mounts {
            let refused = [
                ("VolumeOptions", mount.volume_options.is_some(), "volume"),
                ("BindOptions", mount.bind_options.is_some(), "bind"),
                ("TmpfsOptions", mount.tmpfs_options.is_some(), "tmpfs"),
            ]
            .into_iter()
            .find(|(_, given, kind)| *given && mount.kind != *kind);
            if let Some((options, _, _)) = refused {
                return Err(Failure::bad_request(format!(
                    "{options} must not be specified on mount type {:?}",
                    mount.kind
                )));
            }
        }
    } else {
        for mount in &mut host.mounts {
            if let Some(options) = &mut mount.bind_options {
                options.create_mountpoint = false;
            }
            if mount.kind != "volume" {
                mount.volume_options = None;
            }
            if mount.kind != "tmpfs" {
                mount.tmpfs_options = None;
            }
        }
        host.console_size = [0, 0];
    }
    if host.resources.kernel_memory > 0 || host.resources.kernel_memory_tcp > 0 {
        // The kernel has no such limits any more (Linux 5.16 for memory, cgroup v2 for TCP buffers).
        warnings
            .push("Limits of kernel memory are not applied: kernels have dropped them.".to_owned());
    }
    if !version.at_least(43) {
        host.annotations.clear();
    }
    if !version.at_least(44) {
        if let Some(health) = &mut body.config.healthcheck {
            health.start_interval = 0;
        }
        for mount in host.mounts.iter_mut().filter(|mount| mount.kind == "bind") {
            let options = mount.bind_options.get_or_insert_default();
            if options.read_only_force_recursive {
                return Err(Failure::bad_request(
                    "BindOptions.ReadOnlyForceRecursive needs API v1.44 or newer",
                ));
            }
            // Before 1.44 a read-only mount never reached into the mounts beneath it.
            options.read_only_non_recursive = true;
        }
    }
    for mount in &host.mounts {
        let subpath = mount
            .volume_options
            .as_ref()
            .is_some_and(|options| !options.subpath.is_empty());
        if !version.at_least(45) && subpath {
            return Err(Failure::bad_request(
                "VolumeOptions.Subpath needs API v1.45 or newer",
            ));
        }
        if !version.at_least(48) && mount.kind == "image" {
            return Err(Failure::bad_request(
                "Mount type \"Image\" needs API v1.48 or newer",
            ));
        }
    }
    if host.resources.pids_limit.is_some_and(|limit| limit <= 0) {
        host.resources.pids_limit = None;
    }
    let mac = std::mem::take(&mut body.config.mac_address);
    let networking = &mut body.networking_config;
    warnings.extend(endpoint_versions::adapt(host, networking, mac, version)?);
    Ok(warnings)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(text: &str) -> ContainerCreateBody {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn old_versions_keep_their_meaning() {
        let text = r#"{"Image":"x","HostConfig":{"AutoRemove":true,"ConsoleSize":[1,2],"Annotations":{"a":"b"},
            "Mounts":[{"Type":"bind","ReadOnly":true,"BindOptions":{"CreateMountpoint":true}}]}}"#;
        let mut old = body(text);
        adapt(&mut old, ApiVersion::MIN).unwrap();
        let host = old.host_config.unwrap();
        assert!(!host.auto_remove && host.annotations.is_empty() && host.console_size == [0, 0]);
        assert_eq!(host.ipc_mode, "shareable");
        let options = host.mounts[0].bind_options.clone().unwrap();
        assert!(options.read_only_non_recursive && !options.create_mountpoint);
        let mut new = body(text);
        adapt(&mut new, ApiVersion::MAX).unwrap();
        let host = new.host_config.unwrap();
        assert!(
            host.auto_remove
                && host.mounts[0]
                    .bind_options
                    .as_ref()
                    .unwrap()
                    .create_mountpoint
        );
    }

    #[test]
    fn options_of_another_kind_of_mount_are_refused() {
        let mut bad =
            body(r#"{"Image":"x","HostConfig":{"Mounts":[{"Type":"tmpfs","BindOptions":{}}]}}"#);
        let failure = adapt(&mut bad, ApiVersion::MAX).unwrap_err();
        assert_eq!(
            failure.message,
            "BindOptions must not be specified on mount type \"tmpfs\""
        );
    }
}
