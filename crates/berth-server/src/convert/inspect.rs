//! A container in full: engine to wire.

use super::{health, host_config, mounts, networks, none_if_empty, sorted, state};
use berth_api::{ApiVersion, ContainerConfig, ContainerInspect, DriverData, EmptyObject, StrSlice};
use berth_engine::containers::spec::{EndpointRequest, NetworkMode};
use berth_engine::containers::view::ContainerView;
use std::path::Path;

/// Everything but the sizes.
pub(crate) fn container(view: &ContainerView, version: ApiVersion) -> ContainerInspect {
    let text = |path: &Path| path.to_string_lossy().into_owned();
    ContainerInspect {
        id: view.id.to_string(),
        created: view.created.to_string(),
        path: view.spec.path.clone(),
        args: view.spec.args.clone(),
        state: state::state(view),
        image: view.spec.image_id.to_string(),
        resolv_conf_path: text(&view.paths.resolv_conf),
        hostname_path: text(&view.paths.hostname),
        hosts_path: text(&view.paths.hosts),
        log_path: text(&view.paths.log),
        name: format!("/{}", view.name),
        restart_count: i64::from(view.restart_count),
        driver: "overlay2".to_owned(),
        platform: view.spec.platform.os.clone(),
        exec_ids: (!view.execs.is_empty())
            .then(|| view.execs.iter().map(ToString::to_string).collect()),
        host_config: host_config::from_engine(view),
        graph_driver: DriverData {
            data: None,
            name: "overlay2".to_owned(),
        },
        mounts: mounts::points(view),
        config: config(view),
        network_settings: networks::settings(view, version),
        ..ContainerInspect::default()
    }
}

fn config(view: &ContainerView) -> ContainerConfig {
    let config = &view.spec.config;
    let words = |list: &Option<Vec<String>>| list.clone().map(StrSlice);
    let set = |names: &mut dyn Iterator<Item = &String>| {
        names.map(|name| (name.clone(), EmptyObject)).collect()
    };
    ContainerConfig {
        hostname: config.hostname.clone(),
        domainname: config.domainname.clone(),
        user: config.user.clone(),
        attach_stdin: config.attach_stdin,
        attach_stdout: config.attach_stdout,
        attach_stderr: config.attach_stderr,
        exposed_ports: set(&mut config.exposed_ports.iter()),
        tty: config.tty,
        open_stdin: config.open_stdin,
        stdin_once: config.stdin_once,
        env: Some(config.env.clone()),
        cmd: words(&config.cmd),
        healthcheck: config.healthcheck.as_ref().map(health::from_engine),
        args_escaped: config.args_escaped,
        image: config.image.clone(),
        volumes: (!config.volumes.is_empty()).then(|| set(&mut config.volumes.iter())),
        working_dir: config.working_dir.clone(),
        entrypoint: words(&config.entrypoint),
        network_disabled: config.network_disabled,
        mac_address: main_endpoint(view)
            .map_or_else(String::new, |request| request.mac_address.clone()),
        on_build: none_if_empty(&config.on_build),
        labels: Some(sorted(&config.labels)),
        stop_signal: config.stop_signal.clone(),
        stop_timeout: config.stop_timeout,
        shell: StrSlice(config.shell.clone().unwrap_or_default()),
    }
}

/// What was asked of the place in the network that gives the container its mode.
fn main_endpoint(view: &ContainerView) -> Option<&EndpointRequest> {
    let mode = match &view.spec.host.network_mode {
        NetworkMode::Default => NetworkMode::Bridge,
        mode => mode.clone(),
    };
    let attachment = view.networks.get(&mode.to_string())?;
    Some(&attachment.request)
}
