//! A create request: wire to engine.

use super::{health, host_config, networks};
use berth_api::{ContainerConfig, ContainerCreateBody};
use berth_engine::containers::spec;

/// The request; name and platform are not part of the body.
///
/// # Errors
/// With a sentence for the client.
pub(crate) fn request(body: ContainerCreateBody) -> Result<spec::CreateRequest, String> {
    let endpoints = body
        .networking_config
        .and_then(|config| config.endpoints_config);
    Ok(spec::CreateRequest {
        name: None,
        platform: None,
        config: config(body.config)?,
        host: host_config::to_engine(body.host_config.unwrap_or_default())?,
        endpoints: endpoints
            .unwrap_or_default()
            .into_iter()
            .map(|(name, settings)| {
                (
                    name,
                    networks::endpoint_request(settings.unwrap_or_default()),
                )
            })
            .collect(),
    })
}

/// The part that an image can say as well.
///
/// # Errors
/// With a sentence for the client.
pub(crate) fn config(config: ContainerConfig) -> Result<spec::ContainerConfig, String> {
    Ok(spec::ContainerConfig {
        hostname: config.hostname,
        domainname: config.domainname,
        user: config.user,
        attach_stdin: config.attach_stdin,
        attach_stdout: config.attach_stdout,
        attach_stderr: config.attach_stderr,
        exposed_ports: config.exposed_ports.into_keys().collect(),
        tty: config.tty,
        open_stdin: config.open_stdin,
        stdin_once: config.stdin_once,
        env: config.env.unwrap_or_default(),
        cmd: config.cmd.map(|words| words.0),
        entrypoint: config.entrypoint.map(|words| words.0),
        healthcheck: config.healthcheck.map(health::to_engine).transpose()?,
        args_escaped: config.args_escaped,
        image: config.image,
        volumes: config.volumes.unwrap_or_default().into_keys().collect(),
        working_dir: config.working_dir,
        network_disabled: config.network_disabled,
        labels: config.labels.unwrap_or_default().into_iter().collect(),
        stop_signal: config.stop_signal,
        stop_timeout: config.stop_timeout,
        shell: (!config.shell.0.is_empty()).then_some(config.shell.0),
        on_build: config.on_build.unwrap_or_default(),
    })
}
