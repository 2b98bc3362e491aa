//! The networks that are always there: `bridge`, `host` and `none`, and those of the records.

use std::net::IpAddr;
use std::sync::Arc;

use berth_net::address::{Prefix, Taken};
use berth_types::NetworkId;
use indexmap::IndexMap;

use super::book::{Entry, Stage};
use super::options::{DriverOptions, OPTION_BRIDGE_NAME, OPTION_MTU};
use super::record::{Driver, NetworkRecord, SubnetRecord};
use super::settings::NetworkSettings;
use super::{Networks, Shared};
use crate::clock;
use crate::error::EngineError;
use crate::random;

/// Docker's subnet of the default bridge.
fn usual_subnet() -> Option<Prefix> {
    Prefix::new(IpAddr::from([172, 17, 0, 0]), 16)
}

impl Networks {
    /// Fills the book from the records. A record that cannot be read is named and left out.
    pub(super) async fn load(&self) -> Result<(), EngineError> {
        let shared = &self.shared;
        let (found, damaged) = shared.records.networks()?;
        for (key, error) in damaged {
            // Kept in the file: a newer version may read it. Until then it is not a network of ours.
            tracing::error!(network = key, %error, "a network's record cannot be read and is left out");
        }
        let settings = shared.host.config().network.clone();
        let mut predefined: IndexMap<String, NetworkRecord> = IndexMap::new();
        let mut others = Vec::new();
        for record in found {
            if record.is_predefined() {
                predefined.insert(record.name.clone(), record);
            } else {
                others.push(record);
            }
        }
        let bridge = predefined.shift_remove("bridge");
        let bridge = if settings.has_default_bridge() {
            Some(shared.default_bridge(bridge, &others, &settings).await?)
        } else {
            None
        };
        let mut fixed = Vec::new();
        for (name, driver) in [("host", Driver::Host), ("none", Driver::Null)] {
            let record = match predefined.shift_remove(name) {
                Some(record) => record,
                None => {
                    let record = plain(name, driver)?;
                    shared.save(&record).await?;
                    record
                }
            };
            fixed.push(record);
        }
        let mut book = shared.book();
        for record in bridge.into_iter().chain(fixed).chain(others) {
            match DriverOptions::parse(record.driver, record.internal, &record.options) {
                Ok(options) => {
                    let lazy = record.name == "bridge";
                    let id = record.id.clone();
                    book.insert(Arc::new(record), Arc::new(options), Stage::Ready);
                    if let Some(entry) = book.get_mut(&id) {
                        entry.lazy = lazy;
                    }
                }
                Err(error) => {
                    tracing::error!(network = record.name, %error, "a network's options cannot be read; it is left out");
                }
            }
        }
        Ok(())
    }
}

impl Networks {
    /// Chooses the subnets of the default bridge again where somebody took them since the engine began: the bridge is made
    /// when it is first needed, and until then nobody knows of it.
    ///
    /// # Errors
    /// When no subnet is left, or the record cannot be written.
    pub(crate) async fn renew_default_bridge(&self) -> Result<(), EngineError> {
        let shared = &self.shared;
        let (stored, others) = {
            let book = shared.book();
            let unused = |e: &&Entry| e.lazy && e.members().next().is_none();
            let Some(stored) = book.entries().find(unused).map(|e| Arc::clone(&e.record)) else {
                return Ok(());
            };
            let others: Vec<NetworkRecord> = book
                .entries()
                .filter(|e| e.record.id != stored.id)
                .map(|e| (*e.record).clone())
                .collect();
            (stored, others)
        };
        let settings = shared.host.config().network.clone();
        let record = shared
            .default_bridge(Some((*stored).clone()), &others, &settings)
            .await?;
        if record == *stored {
            return Ok(());
        }
        let options = DriverOptions::parse(record.driver, record.internal, &record.options)?;
        let mut book = shared.book();
        let still = book
            .get(&record.id)
            .is_some_and(|e| e.lazy && e.members().next().is_none());
        if still {
            let id = record.id.clone();
            book.insert(Arc::new(record), Arc::new(options), Stage::Ready);
            if let Some(entry) = book.get_mut(&id) {
                entry.lazy = true;
            }
        }
        Ok(())
    }
}

fn plain(name: &str, driver: Driver) -> Result<NetworkRecord, EngineError> {
    Ok(NetworkRecord {
        id: NetworkId::from_random(random::bytes()?),
        name: name.to_owned(),
        created: clock::now(),
        driver,
        ipv4: true,
        ipv6: false,
        internal: false,
        attachable: false,
        config_only: false,
        config_from: String::new(),
        ipam_driver: "default".to_owned(),
        ipam_options: IndexMap::new(),
        subnets: Vec::new(),
        options: IndexMap::new(),
        labels: IndexMap::new(),
    })
}

impl Shared {
    async fn save(&self, record: &NetworkRecord) -> Result<(), EngineError> {
        self.records.insert_network(record).await?.durable().await
    }

    /// The default bridge as the settings say, with the id and, where they still fit, the subnets it had.
    async fn default_bridge(
        &self,
        stored: Option<NetworkRecord>,
        others: &[NetworkRecord],
        settings: &NetworkSettings,
    ) -> Result<NetworkRecord, EngineError> {
        let mut record = match &stored {
            Some(stored) => stored.clone(),
            None => plain("bridge", Driver::Bridge)?,
        };
        record.ipv6 = settings.ipv6;
        record.options = options(settings, &self.host.network_name());
        record.subnets = self.default_subnets(&record, others, settings)?;
        if stored.as_ref() != Some(&record) {
            self.save(&record).await?;
        }
        Ok(record)
    }

    fn default_subnets(
        &self,
        record: &NetworkRecord,
        others: &[NetworkRecord],
        settings: &NetworkSettings,
    ) -> Result<Vec<SubnetRecord>, EngineError> {
        let taken = self.around_default_bridge(others, settings);
        let free = |p: &Prefix| !taken.iter().any(|t| t.prefix.overlaps(p));
        let pools = self.pools(settings);
        let mut subnets = Vec::new();
        for ipv4 in [true, false] {
            if !ipv4 && !record.ipv6 {
                continue;
            }
            let asked = if ipv4 {
                settings.bip
            } else {
                settings.bip6.or(settings.fixed_cidr_v6)
            };
            let before = record.subnets_of(ipv4).next().cloned();
            let subnet = match (asked, before) {
                (Some(asked), _) => asked.network(),
                // What containers were told already stays, unless somebody else took it meanwhile.
                (None, Some(before)) if free(&before.subnet) => before.subnet,
                (None, _) => match usual_subnet().filter(|u| ipv4 && free(u)) {
                    Some(usual) if settings.default_address_pools.is_empty() => usual,
                    _ => pools
                        .choose(ipv4, None, &taken)
                        .map_err(|e| EngineError::Invalid(e.to_string()))?,
                },
            };
            let bridge = if ipv4 { settings.bip } else { settings.bip6 };
            let given = if ipv4 {
                settings.default_gateway.map(IpAddr::V4)
            } else {
                settings.default_gateway_v6.map(IpAddr::V6)
            };
            let mut auxiliary = IndexMap::new();
            let own = bridge
                .filter(|b| !b.is_network())
                .map(|b| b.address())
                .or_else(|| {
                    berth_net::address::SubnetAddresses::new(subnet, None)
                        .take_next()
                        .ok()
                });
            if let (Some(given), Some(own)) = (given, own)
                && given != own
            {
                auxiliary.insert("DefaultGatewayIPv4".to_owned(), given);
            }
            let range = if ipv4 {
                settings.fixed_cidr
            } else {
                settings.fixed_cidr_v6
            };
            subnets.push(SubnetRecord {
                subnet,
                ip_range: range.map(|r| r.network()).filter(|r| *r != subnet),
                gateway: own,
                auxiliary,
                asked: false,
            });
        }
        Ok(subnets)
    }

    /// What the default bridge must not clash with. Where the kernel does not say, only what is known.
    fn around_default_bridge(
        &self,
        others: &[NetworkRecord],
        settings: &NetworkSettings,
    ) -> Vec<Taken> {
        let mut taken: Vec<Taken> = others
            .iter()
            .filter(|n| !n.config_only)
            .flat_map(|n| {
                n.subnets.iter().map(|s| Taken {
                    prefix: s.subnet,
                    holder: format!("network {}", n.name),
                })
            })
            .collect();
        let own = interface(settings, &self.host.network_name());
        let bridges: Vec<berth_net::link::LinkName> = others
            .iter()
            .filter_map(super::plan::bridge_of)
            .chain([own])
            .filter_map(|n| n.parse().ok())
            .collect();
        let routes = berth_net::link::Host::open().and_then(|host| host.routes(&bridges));
        taken.extend(routes.unwrap_or_default().into_iter().map(|prefix| Taken {
            prefix,
            holder: "a route of the host".to_owned(),
        }));
        taken
    }
}

/// The interface of the default bridge.
fn interface(settings: &NetworkSettings, name: &str) -> String {
    if !settings.bridge.is_empty() {
        settings.bridge.clone()
    } else if name == "berth" {
        "berth0".to_owned()
    } else {
        name.to_owned()
    }
}

fn options(settings: &NetworkSettings, name: &str) -> IndexMap<String, String> {
    let mut options: IndexMap<String, String> = [
        (
            "com.docker.network.bridge.default_bridge",
            "true".to_owned(),
        ),
        (
            "com.docker.network.bridge.enable_icc",
            settings.icc.to_string(),
        ),
        (
            "com.docker.network.bridge.enable_ip_masquerade",
            settings.ip_masq.to_string(),
        ),
        (
            "com.docker.network.bridge.host_binding_ipv4",
            settings
                .ip
                .map_or_else(|| "0.0.0.0".to_owned(), |a| a.to_string()),
        ),
        (OPTION_BRIDGE_NAME, interface(settings, name)),
    ]
    .into_iter()
    .map(|(option, value)| (option.to_owned(), value))
    .collect();
    if settings.mtu != 0 {
        options.insert(OPTION_MTU.to_owned(), settings.mtu.to_string());
    }
    options
}
