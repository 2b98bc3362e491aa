//! Who reaches a published port. Pure.
//!
//! Owns the answer of `berth ports`: it derives from the policy, the address and the network what the tables do, in
//! words an operator can check. Does not read the host's rules itself; [`InputPolicy`] says how they stand.

use std::net::IpAddr;

use super::parts::{GatewayMode, Network, Policy, Published};

/// What the host's own input chains do with what no rule of theirs names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InputPolicy {
    /// They let it in, or there are none.
    Accept,
    /// They drop or reject it; some rule has to let the port in.
    Drop,
    /// They could not be read.
    Unknown,
}

/// Who reaches a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reach {
    /// Nobody by this publication: the network is internal.
    Nobody,
    /// Programs of the host itself.
    Host,
    /// Everyone who reaches this address of the host, or all of them; the host's input rules are not asked.
    Everyone {
        /// The address, if it is one.
        address: Option<IpAddr>,
    },
    /// Whom the host's input rules let in to this address or all of them, and programs of the host.
    InputRules {
        /// The address, if it is one.
        address: Option<IpAddr>,
        /// How the rules stand.
        policy: InputPolicy,
    },
    /// Everyone who has a route to the container's own address; nothing of the host is taken.
    Routed,
}

/// Who reaches a port that is published like this on this network.
#[must_use]
pub fn reach(port: &Published, network: &Network, input: InputPolicy) -> Reach {
    let mode = if port.container.is_ipv4() {
        network.mode4
    } else {
        network.mode6
    };
    if network.internal {
        return Reach::Nobody;
    }
    if matches!(mode, GatewayMode::Routed | GatewayMode::Isolated) {
        return Reach::Routed;
    }
    let address = (!port.host.is_unspecified()).then_some(port.host);
    // Where the families differ, the monitor takes the connection, and the input rules are asked under any policy.
    let carried = port.host.is_ipv4() != port.container.is_ipv4();
    match port.policy {
        _ if port.host.is_loopback() => Reach::Host,
        Policy::Loopback => Reach::Host,
        Policy::Compat if !carried => Reach::Everyone { address },
        Policy::Compat | Policy::Firewall => Reach::InputRules {
            address,
            policy: input,
        },
    }
}

impl std::fmt::Display for Reach {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let on = |address: &Option<IpAddr>| match address {
            Some(address) => format!("at {address}"),
            None => "at any address of the host".to_owned(),
        };
        match self {
            Self::Nobody => f.write_str("nobody (internal network)"),
            Self::Host => f.write_str("this host"),
            Self::Everyone { address } => write!(f, "everyone, {}", on(address)),
            Self::InputRules { address, policy } => {
                let rules = match policy {
                    InputPolicy::Accept => "no input rule of the host forbids by default",
                    InputPolicy::Drop => "only whom an input rule of the host lets in",
                    InputPolicy::Unknown => "whom the host's input rules let in",
                };
                write!(f, "{rules}, {}", on(address))
            }
            Self::Routed => f.write_str("everyone with a route to the container's address"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::firewall::Protocol;

    #[test]
    fn the_answer_follows_what_the_tables_do() {
        let mut network = Network::new("br-a", Vec::new());
        let mut port = Published {
            bridge: "br-a".into(),
            protocol: Protocol::Tcp,
            host: "0.0.0.0".parse().unwrap(),
            first: 80,
            count: 1,
            container: "172.18.0.2".parse().unwrap(),
            container_port: 80,
            policy: Policy::Compat,
        };
        let input = InputPolicy::Drop;
        let said = |port: &Published, network: &Network| reach(port, network, input).to_string();
        assert_eq!(
            said(&port, &network),
            "everyone, at any address of the host"
        );
        port.host = "192.0.2.1".parse().unwrap();
        assert_eq!(said(&port, &network), "everyone, at 192.0.2.1");
        port.policy = Policy::Firewall;
        assert_eq!(
            said(&port, &network),
            "only whom an input rule of the host lets in, at 192.0.2.1"
        );
        port.policy = Policy::Loopback;
        assert_eq!(reach(&port, &network, input), Reach::Host);
        port.policy = Policy::Compat;
        port.host = "127.0.0.1".parse().unwrap();
        assert_eq!(reach(&port, &network, input), Reach::Host);
        port.host = "::".parse().unwrap();
        assert!(matches!(
            reach(&port, &network, input),
            Reach::InputRules { .. }
        ));
        network.mode4 = GatewayMode::Routed;
        assert_eq!(reach(&port, &network, input), Reach::Routed);
        network.internal = true;
        assert_eq!(reach(&port, &network, input), Reach::Nobody);
    }
}
