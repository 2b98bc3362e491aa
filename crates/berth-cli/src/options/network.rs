//! `--network`: a name, or `name=…,alias=…,ip=…` with the endpoint's settings.

use std::collections::BTreeMap;
use std::net::IpAddr;

use berth_api::{EndpointIpamConfig, EndpointSettings};

use super::csv;

/// One network to join.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Attachment {
    /// Name or id.
    pub(crate) target: String,
    /// Further names of the container in it.
    pub(crate) aliases: Vec<String>,
    /// Options of its driver.
    pub(crate) driver_opts: BTreeMap<String, String>,
    /// Containers to link to.
    pub(crate) links: Vec<String>,
    /// IPv4 address.
    pub(crate) ipv4: String,
    /// IPv6 address.
    pub(crate) ipv6: String,
    /// Link-local addresses.
    pub(crate) link_local: Vec<String>,
    /// Hardware address.
    pub(crate) mac_address: String,
    /// The network with the highest one gives the default route.
    pub(crate) gateway_priority: i64,
}

/// Reads one `--network`.
pub(crate) fn parse(text: &str) -> Result<Attachment, String> {
    if !is_long(text) {
        return Ok(Attachment {
            target: text.to_owned(),
            ..Attachment::default()
        });
    }
    let mut attachment = Attachment::default();
    for field in csv::fields(text)? {
        let lower = field.to_lowercase();
        let (key, value) = lower
            .split_once('=')
            .filter(|(key, _)| !key.is_empty())
            .ok_or_else(|| format!("invalid field {field}"))?;
        let (key, value) = (key.trim(), value.trim().to_owned());
        match key {
            "name" => attachment.target = value,
            "alias" => attachment.aliases.push(value),
            "ip" => attachment.ipv4 = value,
            "ip6" => attachment.ipv6 = value,
            "mac-address" => attachment.mac_address = value,
            "link-local-ip" => attachment.link_local.push(value),
            "driver-opt" => {
                let (name, option) = value
                    .split_once('=')
                    .filter(|(name, _)| !name.is_empty())
                    .ok_or("invalid key value pair format in driver options")?;
                attachment
                    .driver_opts
                    .insert(name.trim().to_owned(), option.trim().to_owned());
            }
            "gw-priority" => {
                attachment.gateway_priority = value
                    .parse()
                    .map_err(|_| format!("invalid gw-priority ({value}): invalid syntax"))?;
            }
            _ => return Err(format!("invalid field key {key}")),
        }
    }
    if attachment.target.is_empty() {
        return Err("network name/id is not specified".to_owned());
    }
    Ok(attachment)
}

/// Whether the text holds a `word=word` somewhere.
fn is_long(text: &str) -> bool {
    let word = |character: char| character.is_ascii_alphanumeric() || character == '_';
    text.match_indices('=').any(|(at, _)| {
        text[..at].chars().next_back().is_some_and(word)
            && text[at + 1..].chars().next().is_some_and(word)
    })
}

/// Whether the text is a network.
pub(crate) fn check(text: &str) -> Result<(), String> {
    parse(text).map(|_| ())
}

/// Whether a network of this name is one that a user made.
pub(crate) fn is_user_defined(name: &str) -> bool {
    !matches!(name, "default" | "bridge" | "host" | "none" | "nat")
        && name != "container"
        && !name.starts_with("container:")
}

/// Whether the text is a hardware address of 6, 8 or 20 bytes.
pub(crate) fn is_mac_address(text: &str) -> bool {
    let text = text.trim();
    let groups = |separator: char, digits: usize, counts: &[usize]| {
        let parts: Vec<&str> = text.split(separator).collect();
        counts.contains(&parts.len())
            && parts.iter().all(|part| {
                part.len() == digits && part.bytes().all(|digit| digit.is_ascii_hexdigit())
            })
    };
    groups(':', 2, &[6, 8, 20]) || groups('-', 2, &[6, 8, 20]) || groups('.', 4, &[3, 4, 10])
}

/// The endpoint's settings as they travel.
pub(crate) fn endpoint(attachment: &Attachment) -> Result<EndpointSettings, String> {
    if attachment.target.trim().is_empty() {
        return Err("no name set for network".to_owned());
    }
    if !is_user_defined(&attachment.target) {
        if !attachment.aliases.is_empty() {
            return Err(
                "network-scoped aliases are only supported for user-defined networks".to_owned(),
            );
        }
        if !attachment.links.is_empty() {
            return Err("links are only supported for user-defined networks".to_owned());
        }
    }
    if !attachment.mac_address.is_empty() && !is_mac_address(&attachment.mac_address) {
        return Err(format!(
            "{} is not a valid mac address",
            attachment.mac_address
        ));
    }
    for address in [&attachment.ipv4, &attachment.ipv6]
        .into_iter()
        .chain(&attachment.link_local)
    {
        if !address.is_empty() && address.parse::<IpAddr>().is_err() {
            return Err(format!("invalid IP address: {address}"));
        }
    }
    let some = |list: &[String]| (!list.is_empty()).then(|| list.to_vec());
    let has_addresses = !attachment.ipv4.is_empty()
        || !attachment.ipv6.is_empty()
        || !attachment.link_local.is_empty();
    Ok(EndpointSettings {
        ipam_config: has_addresses.then(|| EndpointIpamConfig {
            ipv4_address: attachment.ipv4.clone(),
            ipv6_address: attachment.ipv6.clone(),
            link_local_ips: attachment.link_local.clone(),
        }),
        links: some(&attachment.links),
        aliases: some(&attachment.aliases),
        mac_address: attachment.mac_address.clone(),
        driver_opts: (!attachment.driver_opts.is_empty()).then(|| attachment.driver_opts.clone()),
        gw_priority: attachment.gateway_priority,
        ..EndpointSettings::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_read() {
        let long = parse("name=n,alias=a,alias=b,ip=10.0.0.2,driver-opt=k=v,gw-priority=-1,mac-address=02:42:ac:11:00:02")
            .expect("reads");
        assert_eq!(
            (long.target.as_str(), long.aliases.len(), long.ipv4.as_str()),
            ("n", 2, "10.0.0.2")
        );
        assert_eq!(
            (long.driver_opts["k"].as_str(), long.gateway_priority),
            ("v", -1)
        );
        assert_eq!(
            parse("container:abc").expect("reads").target,
            "container:abc"
        );
        assert_eq!(parse("name=").expect("is a name").target, "name=");
        for (text, wanted) in [
            ("name=a,foo=b", "invalid field key foo"),
            ("alias=b", "network name/id is not specified"),
            (
                "name=a,gw-priority=x",
                "invalid gw-priority (x): invalid syntax",
            ),
        ] {
            assert_eq!(parse(text).expect_err(text), wanted);
        }
    }

    #[test]
    fn endpoints_are_checked() {
        let attachment = |target: &str| Attachment {
            target: target.into(),
            ..Attachment::default()
        };
        assert_eq!(
            endpoint(&attachment("")).expect_err("no name"),
            "no name set for network"
        );
        assert!(
            endpoint(&Attachment {
                aliases: vec!["a".into()],
                ..attachment("bridge")
            })
            .is_err()
        );
        assert!(
            endpoint(&Attachment {
                mac_address: "x".into(),
                ..attachment("n")
            })
            .is_err()
        );
        assert!(
            endpoint(&Attachment {
                ipv4: "1.2.3".into(),
                ..attachment("n")
            })
            .is_err()
        );
        assert!(is_mac_address("02:42:ac:11:00:02") && is_mac_address("0242.ac11.0002"));
    }
}
