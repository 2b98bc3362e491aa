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
    Host {
        /// Because of the address it is published on; else because of the policy.
        by_address: bool,
    },
    /// Everyone who reaches the address of the host; the host's input rules are not asked.
    Everyone {
        /// It is published on all addresses of its family.
        all: bool,
    },
    /// Whom the host's input rules let in, and programs of the host.
    InputRules {
        /// How the rules stand.
        policy: InputPolicy,
    },
    /// Everyone who has a route to the container's own address; nothing of the host is taken.
    Routed {
        /// The container's address.
        container: IpAddr,
    },
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
        return Reach::Routed {
            container: port.container,
        };
    }
    // Where the families differ, the monitor takes the connection, and the input rules are asked under any policy.
    let carried = port.host.is_ipv4() != port.container.is_ipv4();
    match port.policy {
        _ if port.host.is_loopback() => Reach::Host { by_address: true },
        Policy::Loopback => Reach::Host { by_address: false },
        Policy::Compat if !carried => Reach::Everyone {
            all: port.host.is_unspecified(),
        },
        Policy::Compat | Policy::Firewall => Reach::InputRules { policy: input },
    }
}

impl Reach {
    /// In one word: `nobody`, `host`, `network`, `firewall` or `routed`.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Nobody => "nobody",
            Self::Host { .. } => "host",
            Self::Everyone { .. } => "network",
            Self::InputRules { .. } => "firewall",
            Self::Routed { .. } => "routed",
        }
    }

    /// Why, in a sentence.
    #[must_use]
    pub fn reason(&self) -> String {
        match self {
            Self::Nobody => "the network is internal".to_owned(),
            Self::Host { by_address: true } => "published on a loopback address".to_owned(),
            Self::Host { by_address: false } => {
                "the policy loopback lets in nobody else".to_owned()
            }
            Self::Everyone { all: true } => {
                "published on every address of the host; its firewall is not asked".to_owned()
            }
            Self::Everyone { all: false } => {
                "published on an address of the host; its firewall is not asked".to_owned()
            }
            Self::InputRules { policy } => {
                let rest = match policy {
                    InputPolicy::Accept => "; they let in what no rule forbids",
                    InputPolicy::Drop => "; they drop what no rule lets in",
                    InputPolicy::Unknown => "",
                };
                format!("the input rules of the host's firewall decide{rest}")
            }
            Self::Routed { container } => {
                format!("everyone with a route to {container}; nothing of the host is taken")
            }
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
        let said = |port: &Published, network: &Network| reach(port, network, input);
        assert_eq!(said(&port, &network), Reach::Everyone { all: true });
        port.host = "192.0.2.1".parse().unwrap();
        assert_eq!(said(&port, &network), Reach::Everyone { all: false });
        port.policy = Policy::Firewall;
        let by_rules = Reach::InputRules { policy: input };
        assert_eq!(said(&port, &network), by_rules);
        port.policy = Policy::Loopback;
        assert_eq!(said(&port, &network), Reach::Host { by_address: false });
        port.policy = Policy::Compat;
        port.host = "127.0.0.1".parse().unwrap();
        assert_eq!(said(&port, &network), Reach::Host { by_address: true });
        // An IPv6 client of a container without it is carried.
        port.host = "::".parse().unwrap();
        assert_eq!(said(&port, &network), by_rules);
        network.mode4 = GatewayMode::Routed;
        assert_eq!(said(&port, &network).word(), "routed");
        network.internal = true;
        assert_eq!(said(&port, &network), Reach::Nobody);
    }
}
