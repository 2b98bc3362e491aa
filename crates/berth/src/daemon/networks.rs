//! The daemon's settings of networks: dockerd's flags and keys, and the policy of published ports.

use super::file::File;
use super::options::truth;
use super::settings::{Values, many, one};
use anyhow::{Context, Result, anyhow, bail};
use berth_engine::networks::{NetworkSettings, Pool, Prefix};
use std::str::FromStr;

/// Merges the settings of networks.
///
/// # Errors
/// When a value cannot be used, naming the option.
pub(super) fn merge(values: &Values, file: &File) -> Result<NetworkSettings> {
    let text = |name: &str, file: &Option<String>| -> Option<String> {
        let given = one(values, name)
            .map(str::to_owned)
            .or_else(|| file.clone());
        given.filter(|text| !text.is_empty())
    };
    let switch = |name: &str, file: Option<bool>, default: bool| match one(values, name) {
        Some(text) => {
            truth(text).ok_or_else(|| anyhow!("{name}: {text:?} is neither true nor false"))
        }
        None => Ok(file.unwrap_or(default)),
    };
    if switch("userland-proxy", file.userland_proxy, false)? {
        bail!(
            "userland-proxy: published ports need no proxy process here; leave it out or say false"
        );
    }
    let backend = text("firewall-backend", &file.firewall_backend);
    if let Some(backend) = backend.filter(|backend| backend != "nftables") {
        bail!("firewall-backend: {backend:?} is not nftables, which is the only one");
    }
    let filtering = switch("iptables", file.iptables, true)?;
    if switch("ip6tables", file.ip6tables, filtering)? != filtering {
        bail!("ip6tables: one table filters IPv4 and IPv6; say the same as for iptables");
    }
    let policy = text("publish-policy", &file.publish_policy).unwrap_or_default();
    let policy = policy
        .parse()
        .map_err(|error| anyhow!("publish-policy: {error}"))?;
    let mtu = match one(values, "mtu") {
        Some(text) => parsed("mtu", text)?,
        None => file.mtu.unwrap_or_default(),
    };
    if mtu != 0 && !(68..=65_535).contains(&mtu) {
        bail!("mtu: {mtu} is not between 68 and 65535");
    }
    let mut settings = NetworkSettings {
        bridge: text("bridge", &file.bridge).unwrap_or_default(),
        bip: maybe("bip", text("bip", &file.bip))?,
        bip6: maybe("bip6", text("bip6", &file.bip6))?,
        fixed_cidr: maybe("fixed-cidr", text("fixed-cidr", &file.fixed_cidr))?,
        fixed_cidr_v6: maybe("fixed-cidr-v6", text("fixed-cidr-v6", &file.fixed_cidr_v6))?,
        default_gateway: maybe(
            "default-gateway",
            text("default-gateway", &file.default_gateway),
        )?,
        default_gateway_v6: maybe(
            "default-gateway-v6",
            text("default-gateway-v6", &file.default_gateway_v6),
        )?,
        default_address_pools: pools(values, file)?,
        icc: switch("icc", file.icc, true)?,
        ip: maybe("ip", text("ip", &file.ip))?,
        ipv6: switch("ipv6", file.ipv6, false)?,
        ip_forward: switch("ip-forward", file.ip_forward, true)?,
        ip_masq: switch("ip-masq", file.ip_masq, true)?,
        filtering,
        mtu,
        host_gateway_ips: many(values, "host-gateway-ip", file.host_gateway_ips.clone())
            .iter()
            .map(|text| parsed("host-gateway-ip", text))
            .collect::<Result<_>>()?,
        publish_policy: policy,
        ..NetworkSettings::default()
    };
    for (driver, options) in &file.default_network_opts {
        let of_driver = settings
            .default_network_options
            .entry(driver.clone())
            .or_default();
        of_driver.extend(options.clone());
    }
    for text in many(values, "default-network-opt", Vec::new()) {
        let parts: Vec<&str> = text.splitn(3, '=').collect();
        let &[driver, name, value] = parts.as_slice() else {
            bail!("default-network-opt: {text:?} is not driver=option=value");
        };
        settings
            .default_network_options
            .entry(driver.to_owned())
            .or_default()
            .insert(name.to_owned(), value.to_owned());
    }
    if !settings.bridge.is_empty() && (settings.bip.is_some() || settings.bip6.is_some()) {
        bail!(
            "bip: the addresses of a bridge named by --bridge are the host's own matter; give one of the two"
        );
    }
    Ok(settings)
}

fn parsed<T: FromStr>(name: &str, text: &str) -> Result<T>
where
    T::Err: std::fmt::Display,
{
    text.trim()
        .parse()
        .map_err(|error| anyhow!("{name}: {text:?}: {error}"))
}

fn maybe<T: FromStr>(name: &str, text: Option<String>) -> Result<Option<T>>
where
    T::Err: std::fmt::Display,
{
    text.map(|text| parsed(name, &text)).transpose()
}

/// `base=10.10.0.0/16,size=24`, as often as wanted, or those of the file.
fn pools(values: &Values, file: &File) -> Result<Vec<Pool>> {
    const NAME: &str = "default-address-pool";
    let pool = |base: &str, size: u8| -> Result<Pool> {
        let base: Prefix = parsed(NAME, base)?;
        Pool::new(base, size).map_err(|error| anyhow!("{NAME}: {error}"))
    };
    let given = many(values, NAME, Vec::new());
    if given.is_empty() {
        let listed = file.default_address_pools.iter();
        return listed.map(|entry| pool(&entry.base, entry.size)).collect();
    }
    let read = |text: &String| {
        let (mut base, mut size) = (None, None);
        for field in text.split(',') {
            match field.split_once('=') {
                Some(("base", value)) => base = Some(value),
                Some(("size", value)) => size = Some(parsed(NAME, value)?),
                _ => bail!("{NAME}: {field:?} is neither base=… nor size=…"),
            }
        }
        let missing = || format!("{NAME}: {text:?} needs a base and a size");
        pool(base.with_context(missing)?, size.with_context(missing)?)
    };
    given.iter().map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(pairs: &[(&'static str, &str)]) -> Values {
        let mut values = Values::new();
        for (name, value) in pairs {
            values.entry(name).or_default().push((*value).to_owned());
        }
        values
    }

    #[test]
    fn flags_come_before_the_file() {
        let file: File = serde_json::from_str(
            r#"{"bip":"10.9.0.1/24","icc":false,"mtu":1400,"default-address-pools":[{"base":"10.10.0.0/16","size":24}],
            "default-network-opts":{"bridge":{"a":"1","b":"2"}},"host-gateway-ips":["10.0.0.9"],"userland-proxy":false}"#,
        )
        .unwrap();
        let given = values(&[
            ("bip", "10.8.0.1/24"),
            ("ipv6", "true"),
            ("default-network-opt", "bridge=b=3"),
            ("publish-policy", "loopback"),
        ]);
        let settings = merge(&given, &file).unwrap();
        assert_eq!(settings.bip.unwrap().to_string(), "10.8.0.1/24");
        assert!(settings.ipv6 && !settings.icc && settings.filtering && settings.ip_masq);
        assert_eq!(
            (settings.mtu, settings.default_address_pools.len()),
            (1400, 1)
        );
        let options = &settings.default_network_options["bridge"];
        assert_eq!((options["a"].as_str(), options["b"].as_str()), ("1", "3"));
        assert_eq!(settings.publish_policy.as_str(), "loopback");
        let pools = values(&[("default-address-pool", "base=10.1.0.0/16,size=26")]);
        assert_eq!(merge(&pools, &file).unwrap().default_address_pools.len(), 1);
        assert_eq!(
            merge(&Values::new(), &File::default()).unwrap(),
            NetworkSettings::default()
        );
    }

    #[test]
    fn bad_values_name_their_option() {
        for (name, value) in [
            ("bip", "10.0.0.1"),
            ("default-gateway", "::1"),
            ("default-address-pool", "base=10.0.0.0/16"),
            ("default-address-pool", "base=10.0.0.0/16,size=8"),
            ("default-network-opt", "bridge=a"),
            ("firewall-backend", "iptables"),
            ("userland-proxy", "true"),
            ("ip6tables", "false"),
            ("publish-policy", "open"),
            ("mtu", "9"),
            ("host-gateway-ip", "x"),
            ("icc", "maybe"),
        ] {
            let error = merge(&values(&[(name, value)]), &File::default()).unwrap_err();
            assert!(format!("{error:#}").starts_with(name), "{name}: {error:#}");
        }
    }
}
