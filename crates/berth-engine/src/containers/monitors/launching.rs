//! A start: files and networks are prepared, a monitor is launched, clients are connected, the program is executed.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::Path;
use std::sync::Arc;

use berth_monitor::{LaunchDescriptors, LaunchRequest, MonitorError, NetworkLaunch};
use berth_types::ErrorKind;
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};

use super::facts::{exit_fact, translate};
use super::{Monitors, end, of_monitor, streams};
use crate::clock;
use crate::containers::clients::PendingClients;
use crate::containers::launcher::{LaunchError, Run, RunFact};
use crate::containers::lifecycle::Fact;
use crate::containers::networking;
use crate::containers::record::ContainerRecord;
use crate::containers::surroundings;
use crate::error::EngineError;
use crate::networks::{JoinRequest, Joined};
use crate::volumes::{MountAsk, MountSources, Purpose};

impl Monitors {
    pub(super) async fn launch(
        &self,
        record: &ContainerRecord,
        clients: &PendingClients,
    ) -> Result<Run, LaunchError> {
        // What it holds open is looked up by the monitor, which has done so when it answers. Before the start has its
        // turn: a server of volumes that does not answer keeps no other start waiting.
        let volumes = Arc::new(self.mount_volumes(record).await?);
        let _place = self.launches.acquire().await;
        let (mut request, joined) = self.prepare(record, &volumes).await?;
        // Those who wait are attached by the same message that makes the container and starts it.
        let mut replies = Vec::new();
        let mut attach = Vec::new();
        for client in clients.take(berth_monitor::ATTACHED_AT_LAUNCH) {
            let (ours, theirs) = stream_pair()?;
            attach.push((streams(client.streams), theirs));
            replies.push((client.reply, ours));
        }
        request.start = clients.is_empty();
        let network = joined.as_ref().map(|j| Arc::clone(&j.run));
        let mut descriptors =
            joined.map_or_else(LaunchDescriptors::default, |j| describe(&mut request, j));
        descriptors.root = self.open_root(&request, record).await?;
        request.mounted = descriptors.root.is_some();
        let launched = self.spares.launch(&request, descriptors, attach).await;
        self.spares.refill();
        drop(volumes);
        let (handle, created) = match launched {
            Ok(launched) => launched,
            Err(error) => {
                let over = self.over_already(&request.bundle, &error).await?;
                connect(replies);
                return Ok(over);
            }
        };
        connect(replies);
        let started: Result<(), MonitorError> = async {
            if !created.started {
                for client in clients.take(usize::MAX) {
                    let stream = handle.attach(streams(client.streams)).await?;
                    let _ = client.reply.send(stream);
                }
                handle.start().await?;
            }
            Ok(())
        }
        .await;
        if let Err(error) = started {
            end(&handle).await;
            return self.over_already(&request.bundle, &error).await;
        }
        let at = clock::now();
        self.handles().insert(record.id.clone(), handle.clone());
        // Those who came while it was starting.
        for client in clients.connect() {
            if let Ok(stream) = handle.attach(streams(client.streams)).await {
                let _ = client.reply.send(stream);
            }
        }
        Ok(Run {
            pid: u32::try_from(created.pid).unwrap_or(0),
            at,
            notes: created.notes,
            network,
            facts: translate(&handle),
        })
    }

    /// The root file system where somebody who looks at the container's files has it open.
    async fn open_root(
        &self,
        request: &LaunchRequest,
        record: &ContainerRecord,
    ) -> Result<Option<OwnedFd>, LaunchError> {
        let Some((root, overlay)) = self
            .core
            .roots
            .for_start(&record.id)
            .zip(request.overlay.clone())
        else {
            return Ok(None);
        };
        let attempt = format!("mount the root file system of container {}", record.id);
        self.block(move |_| {
            let mounted = root.copy(|| {
                overlay.mount_detached().map_err(|error| {
                    let kind = error.kind();
                    EngineError::failed(attempt, kind, error)
                })
            });
            mounted.map(Some).map_err(LaunchError::from)
        })
        .await
    }

    /// Mounts the container's volumes.
    async fn mount_volumes(&self, record: &ContainerRecord) -> Result<MountSources, LaunchError> {
        let mounts = record.spec.mounts.iter();
        let asks = mounts
            .filter_map(|point| {
                let volume = point.volume.as_ref()?;
                Some(MountAsk {
                    volume: volume.name.clone(),
                    target: point.target.clone(),
                    subpath: volume.subpath.clone(),
                    writable: point.writable,
                })
            })
            .collect();
        Ok(self
            .core
            .volumes
            .mount(&record.id, asks, Purpose::Run)
            .await?)
    }

    /// Makes directories, files and networks, the one beside the other.
    async fn prepare(
        &self,
        record: &ContainerRecord,
        volumes: &Arc<MountSources>,
    ) -> Result<(LaunchRequest, Option<Joined>), LaunchError> {
        let networks = &self.core.networks;
        let config = self.core.host.config();
        let mut asked = networking::join_request(record, &config, networks)?;
        let on_bridge = |asked: &JoinRequest| asked.networks.iter().any(|(n, _)| n == "bridge");
        if asked.as_ref().is_some_and(on_bridge) {
            networks.renew_default_bridge().await?;
        }
        let linked = networking::linked(record, &self.core.index)?;
        if let Some(asked) = &mut asked {
            asked.linked = linked.iter().map(|l| l.container.clone()).collect();
        }
        let reservation = match asked {
            Some(asked) => Some(networks.reserve(&record.id, asked).await?),
            None => None,
        };
        let endpoints = reservation
            .iter()
            .flat_map(|r| r.endpoints().cloned())
            .collect();
        let places = networking::places(record, endpoints, networks, linked);
        let wants_bridge = record
            .spec
            .host
            .extra_hosts
            .iter()
            .any(|h| h.ends_with("host-gateway"));
        if wants_bridge && config.network.host_gateway_ips.is_empty() {
            networks.ensure_default_bridge().await?;
        }
        let (for_work, volumes) = (record.clone(), Arc::clone(volumes));
        let prepared = self.block(move |core| core.prepare(&for_work, &places, &volumes));
        let attached = async {
            match reservation {
                Some(reservation) => networks.attach(reservation).await.map(Some),
                None => Ok(None),
            }
        };
        let (prepared, attached) = tokio::join!(prepared, attached);
        let request = prepared?;
        let joined = attached?;
        if let Some(joined) = &joined {
            let (run, id) = (Arc::clone(&joined.run), record.id.clone());
            self.block(move |core| core.keep_network(&id, &run)).await?;
            self.tell_linkers(record, &joined.run).await;
        }
        Ok((request, joined))
    }

    /// A monitor that is gone before it answered may have run a very short program: then its exit record says
    /// so, and the run is one that has ended.
    async fn over_already(
        &self,
        directory: &Path,
        error: &MonitorError,
    ) -> Result<Run, LaunchError> {
        if !matches!(error, MonitorError::Gone { .. }) {
            return Err(of_monitor("", error));
        }
        let directory = directory.to_path_buf();
        let found = self
            .block(move |_| {
                berth_monitor::read_exit_record(&directory)
                    .map_err(|e| of_monitor("read the exit record", &e))
            })
            .await?;
        let ran = found.and_then(|record| Some((record.started_at?, record)));
        let Some((at, record)) = ran else {
            return Err(of_monitor("", error));
        };
        let (sender, facts) = mpsc::channel(1);
        let _ = sender.try_send(RunFact::Life(Fact::Exited(exit_fact(&record))));
        Ok(Run {
            pid: u32::try_from(record.pid).unwrap_or(0),
            at,
            notes: Vec::new(),
            network: None,
            facts,
        })
    }
}

/// Tells the monitor of a container's networks, and gathers what it keeps of them.
fn describe(request: &mut LaunchRequest, joined: Joined) -> LaunchDescriptors {
    let (keys, ports) = joined.ports.into_iter().unzip();
    let (dns, sockets) = match joined.dns {
        Some((settings, Some(sockets))) => (Some(settings), Some(sockets)),
        _ => (None, None),
    };
    request.network = joined.namespace.is_some().then_some(NetworkLaunch {
        namespace: true,
        dns,
        ports: keys,
    });
    LaunchDescriptors {
        root: None,
        namespace: joined.namespace,
        dns: sockets,
        ports,
    }
}

/// A stream for a client, and the monitor's end of it.
fn stream_pair() -> Result<(UnixStream, OwnedFd), LaunchError> {
    let fail = |e: &(dyn std::error::Error + 'static)| {
        surroundings::failed("make a stream for a client", ErrorKind::Internal, e)
    };
    let (ours, theirs) = StdUnixStream::pair().map_err(|e| fail(&e))?;
    ours.set_nonblocking(true).map_err(|e| fail(&e))?;
    let ours = UnixStream::from_std(ours).map_err(|e| fail(&e))?;
    Ok((ours, theirs.into()))
}

/// Hands streams to those who wait for them.
fn connect(replies: Vec<(oneshot::Sender<UnixStream>, UnixStream)>) {
    for (reply, stream) in replies {
        let _ = reply.send(stream);
    }
}
