//! Beside the rules of other programs.

use super::topology::{Host, Server, ask, published, v4, v6};

fn reaches(prepare: impl FnOnce(&Host)) -> (Host, bool) {
    let (mut host, outside) = Host::new();
    prepare(&host);
    host.network(11, |_| ());
    let web = host.container(11, 2);
    let _server = Server::start(&web, 80);
    let _outside = Server::start(&outside, 80);
    host.publish(published(11, "0.0.0.0", 8080, v4(11, 2)));
    host.publish(published(11, "::", 8080, v6(11, 2)));
    let ways = [
        ask(&outside, "192.0.2.1:8080"),
        ask(&outside, "[2001:db8::1]:8080"),
        ask(&web, "192.0.2.2:80"),
        ask(&web, "[2001:db8::2]:80"),
        ask(&host.namespace, "127.0.0.1:8080"),
    ];
    // What is ours to forbid stays forbidden.
    outside.command("ip route add 10.11.0.0/24 via 192.0.2.1");
    assert!(ask(&outside, "10.11.0.2:80").is_none());
    eprintln!("{ways:?}");
    (host, ways.iter().all(Option::is_some))
}

#[test]
fn dockers_and_ufws_drop_policy() {
    let (mut host, all) = reaches(|host| {
        for program in ["iptables-nft", "ip6tables-nft"] {
            host.namespace
                .command(&format!("{program} -P FORWARD DROP"));
            host.namespace.command(&format!("{program} -N DOCKER-USER"));
            host.namespace
                .command(&format!("{program} -A FORWARD -j DOCKER-USER"));
        }
    });
    assert!(all);
    // The program can still read its own table, and our accepts go with the network.
    let listed = host.namespace.command("iptables-nft -S FORWARD");
    assert!(
        listed.contains("-i br11") && listed.contains("-o br11"),
        "{listed}"
    );
    let network = host.firewall.parts().networks;
    host.withdraw(berth_net::firewall::Parts {
        networks: network,
        ..Default::default()
    });
    let listed = host.namespace.command("iptables-nft -S FORWARD");
    assert!(!listed.contains("br11"), "{listed}");
}

#[test]
fn firewallds_reject_at_the_end() {
    let (_host, all) = reaches(|host| {
        for line in [
            "nft add table inet firewalld",
            "nft add chain inet firewalld filter_FORWARD { type filter hook forward priority 10 ; policy accept ; }",
            "nft add rule inet firewalld filter_FORWARD ct state established,related accept",
            "nft add rule inet firewalld filter_FORWARD reject with icmpx admin-prohibited",
        ] {
            host.namespace.command(line);
        }
    });
    assert!(all);
}

#[test]
fn a_chain_of_ones_own_that_drops() {
    let (_host, all) = reaches(|host| {
        host.namespace.command("nft add table inet filter");
        host.namespace.command(
            "nft add chain inet filter forward { type filter hook forward priority 0 ; policy drop ; }",
        );
    });
    assert!(all);
}

#[test]
fn rules_that_are_loaded_anew_get_their_accept_again() {
    let (mut host, all) = reaches(|host| {
        host.namespace.command("iptables-nft -P FORWARD DROP");
    });
    assert!(all);
    host.namespace.command("iptables-nft -F FORWARD");
    let firewall = &mut host.firewall;
    let healed = host.namespace.run(|| firewall.heal().unwrap());
    assert_eq!(healed.accepts, 2);
    assert!(!healed.rebuilt);
}

#[test]
fn iptables_legacy_is_named_with_what_to_do() {
    let (mut host, outside) = Host::new();
    host.namespace.command("iptables-legacy -P FORWARD DROP");
    host.network(11, |_| ());
    let firewall = &mut host.firewall;
    let healed = host.namespace.run(|| firewall.heal().unwrap());
    assert_eq!(healed.warnings.len(), 1);
    let web = host.container(11, 2);
    let _server = Server::start(&outside, 80);
    assert!(ask(&web, "192.0.2.2:80").is_none());
    for command in healed.warnings[0].command.split(" && ") {
        host.namespace.command(command);
    }
    assert!(ask(&web, "192.0.2.2:80").is_some());
}
