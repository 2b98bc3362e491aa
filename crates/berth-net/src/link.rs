//! Bridges, veth pairs, macvlan and ipvlan links, addresses and routes.
