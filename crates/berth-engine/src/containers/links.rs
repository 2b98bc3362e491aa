//! Links of the default bridge (`--link`), where names are not answered: lines of `/etc/hosts`, variables that tell a
//! program where the other one is, and who may reach whom where members are kept apart. Pure.

use std::collections::BTreeSet;
use std::net::IpAddr;

use berth_net::dns::hosts;
use berth_types::ContainerId;

use super::index::Index;
use super::record::ContainerRecord;
use crate::error::EngineError;
use crate::networks::Protocol;

/// A container that another one is linked to, as it runs.
#[derive(Debug, Clone)]
pub struct Linked {
    /// The container.
    pub container: ContainerId,
    /// What `/etc/hosts` says of it.
    pub lines: Vec<hosts::Line>,
    /// Variables that tell of it.
    pub variables: Vec<String>,
}

/// Looks up what a link (`container:alias`) of the container `name` means.
///
/// # Errors
/// When the other one is not there, does not run, or is not on the default bridge.
pub fn linked(name: &str, link: &str, index: &Index) -> Result<Linked, EngineError> {
    let (target, alias) = parts(link);
    let view = index.find(target)?.view();
    let Some(run) = view.network.as_ref().filter(|_| view.is_running()) else {
        return Err(EngineError::Conflict(format!(
            "Cannot link to a non running container: /{} AS /{name}/{alias}",
            view.name
        )));
    };
    let Some(endpoint) = run.endpoint("bridge") else {
        return Err(EngineError::Invalid(format!(
            "Cannot link to {target}, as it does not belong to the default network"
        )));
    };
    let names = names(alias, &view.spec.config.hostname, &view.name);
    let addresses = endpoint.ipv4.into_iter().chain(endpoint.ipv6);
    let ports: BTreeSet<(Protocol, u16)> = run
        .exposed
        .iter()
        .map(|(port, protocol)| (*protocol, *port))
        .chain(run.ports.iter().map(|p| (p.protocol, p.container_port)))
        .collect();
    Ok(Linked {
        container: view.id.clone(),
        lines: addresses
            .clone()
            .map(|p| hosts::Line::new(p.address(), names.clone()))
            .collect(),
        variables: variables(
            name,
            alias,
            addresses.map(|p| p.address()).next(),
            &ports,
            &view.spec.config.env,
        ),
    })
}

/// The container that a link means, and what it is called.
fn parts(link: &str) -> (&str, &str) {
    let (target, alias) = link.split_once(':').unwrap_or((link, link));
    let alias = alias.rsplit('/').next().unwrap_or(alias);
    (target.trim_start_matches('/'), alias)
}

/// The names of a linked container in `/etc/hosts`.
fn names(alias: &str, hostname: &str, name: &str) -> String {
    [alias, hostname, name]
        .into_iter()
        .filter(|n| !n.is_empty())
        .fold(Vec::<&str>::new(), |mut names, name| {
            if !names.contains(&name) {
                names.push(name);
            }
            names
        })
        .join(" ")
}

/// What `target` is called in `/etc/hosts` of a container with these links, once for each link to it.
pub fn known_as(links: &[String], target: &ContainerRecord, index: &Index) -> Vec<String> {
    links
        .iter()
        .map(|link| parts(link))
        .filter(|(wanted, _)| {
            index
                .find(wanted)
                .is_ok_and(|handle| *handle.id() == target.id)
        })
        .map(|(_, alias)| names(alias, &target.spec.config.hostname, &target.name))
        .collect()
}

/// Variables in the form that Docker gave them.
fn variables(
    name: &str,
    alias: &str,
    address: Option<IpAddr>,
    ports: &BTreeSet<(Protocol, u16)>,
    environment: &[String],
) -> Vec<String> {
    let prefix = alias.replace('-', "_").to_uppercase();
    let mut variables = Vec::new();
    if let Some(address) = address {
        // The set has TCP first, and the lowest port of it.
        if let Some((protocol, port)) = ports.first() {
            variables.push(format!("{prefix}_PORT={protocol}://{address}:{port}"));
        }
        for (protocol, port) in ports {
            let one = format!(
                "{prefix}_PORT_{port}_{}",
                protocol.to_string().to_uppercase()
            );
            variables.push(format!("{one}={protocol}://{address}:{port}"));
            variables.push(format!("{one}_ADDR={address}"));
            variables.push(format!("{one}_PORT={port}"));
            variables.push(format!("{one}_PROTO={protocol}"));
        }
    }
    variables.push(format!("{prefix}_NAME=/{name}/{alias}"));
    for variable in environment {
        // What is about the other one's own place says nothing here.
        if !["HOME=", "PATH="]
            .iter()
            .any(|own| variable.starts_with(own))
            && variable.contains('=')
        {
            variables.push(format!("{prefix}_ENV_{variable}"));
        }
    }
    variables
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_tell_of_ports_and_settings() {
        let ports = BTreeSet::from([(Protocol::Udp, 53), (Protocol::Tcp, 5432)]);
        let environment = ["PATH=/bin".to_owned(), "MODE=fast".to_owned()];
        let address = "172.17.0.2".parse().ok();
        let told = variables("web", "my-db", address, &ports, &environment);
        for expected in [
            "MY_DB_PORT=tcp://172.17.0.2:5432",
            "MY_DB_PORT_5432_TCP_ADDR=172.17.0.2",
            "MY_DB_PORT_53_UDP=udp://172.17.0.2:53",
            "MY_DB_PORT_53_UDP_PROTO=udp",
            "MY_DB_NAME=/web/my-db",
            "MY_DB_ENV_MODE=fast",
        ] {
            assert!(told.iter().any(|v| v == expected), "{expected}: {told:?}");
        }
        assert!(!told.iter().any(|v| v.contains("PATH")), "{told:?}");
    }
}
