//! A line of the list of containers: engine to wire.

use super::{mounts, networks, sorted, state};
use berth_api::{ApiVersion, ContainerSummary, ContainerSummaryHostConfig, NetworkSettingsSummary};
use berth_engine::containers::view::ContainerView;
use berth_types::Timestamp;

/// Everything but the sizes.
pub(crate) fn container(
    view: &ContainerView,
    now: Timestamp,
    version: ApiVersion,
) -> ContainerSummary {
    // Annotations were added in API 1.46.
    let annotations = if version.at_least(46) {
        sorted(&view.spec.host.annotations)
    } else {
        Default::default()
    };
    ContainerSummary {
        id: view.id.to_string(),
        names: vec![format!("/{}", view.name)],
        image: view.spec.config.image.clone(),
        image_id: view.spec.image_id.to_string(),
        image_manifest_descriptor: None,
        command: command(&view.spec.path, &view.spec.args),
        created: view.created.unix_seconds(),
        ports: networks::port_list(view),
        size_rw: 0,
        size_root_fs: 0,
        labels: sorted(&view.spec.config.labels),
        state: view.phase.status().to_owned(),
        status: state::status_text(view, now),
        host_config: ContainerSummaryHostConfig {
            network_mode: view.spec.host.network_mode.to_string(),
            annotations,
        },
        network_settings: NetworkSettingsSummary {
            networks: networks::endpoints(view, version),
        },
        mounts: mounts::points(view),
    }
}

/// Program and arguments in one line; arguments with spaces are quoted, as Docker does.
fn command(path: &str, args: &[String]) -> String {
    let mut line = path.to_owned();
    for argument in args {
        line.push(' ');
        if argument.contains(' ') {
            line.extend(["'", argument, "'"]);
        } else {
            line.push_str(argument);
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::command;

    #[test]
    fn arguments_with_spaces_are_quoted() {
        let args = ["-c", "echo hi"].map(str::to_owned);
        assert_eq!(command("sh", &args), "sh -c 'echo hi'");
        assert_eq!(command("sh", &[]), "sh");
    }
}
