//! Joining and leaving networks while a container runs.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use berth_net::dns::hosts;

use super::{Monitors, gone, of_run};
use crate::containers::launcher::LaunchError;
use crate::containers::lifecycle::NetworkChange;
use crate::containers::record::ContainerRecord;
use crate::containers::surroundings::failed;
use crate::containers::{etc, links, networking};
use crate::networks::{Endpoint, JoinRequest, Joined, RunNetwork};

impl Monitors {
    /// Brings a running container's networks to what its record says.
    pub(super) async fn change(
        &self,
        record: &ContainerRecord,
        change: &NetworkChange,
    ) -> Result<Option<Arc<RunNetwork>>, LaunchError> {
        let networks = &self.core.networks;
        let config = self.core.host.config();
        let pid = record.phase.pid().unwrap_or(0);
        let of = record.id.clone();
        let namespace = self
            .block(move |_| {
                let path = std::path::PathBuf::from(format!("/proc/{pid}/ns/net"));
                berth_sys::namespace::open(&path).map_err(|e| match e.is_not_found() {
                    true => gone(&of),
                    false => failed("open the container's network", e.kind(), &e),
                })
            })
            .await?;
        let before = networks.run(&record.id);
        let mut asked =
            networking::join_request(record, &config, networks)?.unwrap_or_else(|| JoinRequest {
                name: record.name.clone(),
                hostname: record.spec.config.hostname.clone(),
                ..JoinRequest::default()
            });
        let mut priorities = networking::priorities(&record.networks);
        let joined = match change {
            NetworkChange::Join { network } => {
                asked.networks.retain(|(name, _)| name == network);
                networks
                    .connect(&record.id, asked, namespace, priorities)
                    .await?
            }
            NetworkChange::Leave {
                network,
                attachment,
            } => {
                let in_run = before
                    .as_ref()
                    .and_then(|run| run.endpoint(network))
                    .map(|e| e.network.clone());
                let Some(id) = in_run.or_else(|| attachment.network_id.clone()) else {
                    return Ok(before);
                };
                priorities.retain(|(other, _)| *other != id);
                networks
                    .disconnect(&record.id, &id, asked, namespace, priorities)
                    .await?
            }
        };
        let Joined {
            run,
            dns,
            ports,
            lead,
            release,
            ..
        } = joined;
        let (hold, sockets): (Vec<berth_monitor::HeldPort>, Vec<OwnedFd>) =
            ports.into_iter().unzip();
        let (settings, resolver) = match dns {
            Some((settings, sockets)) => (Some(settings), sockets),
            None => (None, None),
        };
        let new_resolver = resolver.is_some();
        let told = berth_monitor::NetworkChange {
            dns: settings,
            sockets: new_resolver,
            release,
            lead,
            hold,
        };
        self.handle(&record.id)?
            .change_network(told, resolver, sockets)
            .await
            .map_err(|e| of_run(&record.id, "tell the monitor of networks", &e))?;
        let (record, after) = (record.clone(), Arc::clone(&run));
        self.block(move |core| {
            core.keep_network(&record.id, &after)?;
            let paths = core
                .host
                .container_paths(&record.id, &record.spec.host.log, true);
            let lines = |run: Option<&Arc<RunNetwork>>| {
                run.map_or_else(Vec::new, |run| own_lines(&record, &run.endpoints))
            };
            let (old, new) = (lines(before.as_ref()), lines(Some(&after)));
            let gone: Vec<hosts::Line> = old.iter().filter(|l| !new.contains(l)).cloned().collect();
            let come: Vec<hosts::Line> = new.iter().filter(|l| !old.contains(l)).cloned().collect();
            hosts::change(&paths.hosts, &gone, &come)
                .map_err(|e| failed("change /etc/hosts of the container", e.kind(), &e))?;
            if new_resolver {
                let content = etc::resolver_file(&record, &config).content;
                berth_net::dns::resolv_conf::keep(&paths.resolv_conf, &content).map_err(|e| {
                    failed("change /etc/resolv.conf of the container", e.kind(), &e)
                })?;
            }
            Ok(())
        })
        .await?;
        Ok(Some(run))
    }
}

impl Monitors {
    /// Writes a container's addresses into `/etc/hosts` of running ones that are linked to it on the default bridge,
    /// since a new run may have others. Nobody's start depends on it: what cannot be written is told.
    pub(super) async fn tell_linkers(&self, record: &ContainerRecord, run: &Arc<RunNetwork>) {
        let linkers = self.core.networks.linkers(&record.id);
        let Some(endpoint) = run.endpoint("bridge").filter(|_| !linkers.is_empty()) else {
            return;
        };
        let addresses: Vec<std::net::IpAddr> = endpoint
            .ipv4
            .into_iter()
            .chain(endpoint.ipv6)
            .map(|p| p.address())
            .collect();
        let index = &self.core.index;
        let files: Vec<(std::path::PathBuf, Vec<String>)> = linkers
            .iter()
            .filter_map(|id| index.find(id.as_str()).ok())
            .map(|handle| {
                let view = handle.view();
                let paths = self
                    .core
                    .host
                    .container_paths(&view.id, &view.spec.host.log, true);
                let names = links::known_as(&view.spec.host.links, record, index);
                (paths.hosts, names)
            })
            .collect();
        let written = self
            .block(move |_| {
                for (path, names) in &files {
                    for names in names {
                        hosts::follow(path, names, &addresses).map_err(|e| {
                            failed("tell a linked container the new address", e.kind(), &e)
                        })?;
                    }
                }
                Ok(())
            })
            .await;
        if let Err(error) = written {
            tracing::warn!(container = record.name, error = ?error, "containers linked to this one do not know its address");
        }
    }
}

fn own_lines(record: &ContainerRecord, endpoints: &[Arc<Endpoint>]) -> Vec<hosts::Line> {
    let addresses: Vec<std::net::IpAddr> = endpoints
        .iter()
        .flat_map(|e| e.ipv4.into_iter().chain(e.ipv6))
        .map(|p| p.address())
        .collect();
    let config = &record.spec.config;
    hosts::own(&addresses, &config.hostname, &config.domainname)
}
