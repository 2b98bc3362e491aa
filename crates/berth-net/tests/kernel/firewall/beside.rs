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
fn iptables_legacy_gets_the_same_accepts() {
    let (mut host, all) = reaches(|host| {
        for program in ["iptables-legacy", "ip6tables-legacy"] {
            for arguments in [
                "-P FORWARD DROP",
                "-N DOCKER-USER",
                "-A DOCKER-USER -j RETURN",
                "-A FORWARD -j DOCKER-USER",
                "-A FORWARD -m conntrack --ctstate INVALID -j DROP",
                "-A INPUT -p tcp --dport 22 -j ACCEPT",
            ] {
                host.namespace.command(&format!("{program} {arguments}"));
            }
        }
    });
    assert!(all);
    let listed = |host: &Host| host.namespace.command("iptables-legacy -S");
    let own = [
        "-A FORWARD -i br11 -m comment --comment \"berth-test: from br11\" -j ACCEPT",
        "-A FORWARD -o br11 -m comment --comment \"berth-test: to br11\" -j ACCEPT",
        "-A FORWARD -j DOCKER-USER",
        "-A FORWARD -m conntrack --ctstate INVALID -j DROP",
        "-A INPUT -p tcp -m tcp --dport 22 -j ACCEPT",
        "-A DOCKER-USER -j RETURN",
    ];
    let seen = listed(&host);
    let positions: Vec<_> = own.iter().map(|rule| seen.find(rule)).collect();
    assert!(positions.iter().all(Option::is_some), "{seen}");
    // They have been used, and go on counting while the table is changed.
    let packets = |host: &Host| -> u64 {
        let text = host.namespace.command("iptables-legacy -vxnL FORWARD");
        let line = text
            .lines()
            .find(|line| line.contains("from br11"))
            .unwrap();
        line.split_whitespace().next().unwrap().parse().unwrap()
    };
    let before = packets(&host);
    assert!(before > 0);
    host.network(12, |_| ());
    assert!(packets(&host) >= before);
    // Put back when the rules are loaded anew.
    host.namespace.command("iptables-legacy -F FORWARD");
    let firewall = &mut host.firewall;
    assert_eq!(host.namespace.run(|| firewall.heal_legacy()), []);
    assert!(listed(&host).contains(own[0]));
    // And they go with the networks; the rest stays.
    let networks = host.firewall.parts().networks;
    host.withdraw(berth_net::firewall::Parts {
        networks,
        ..Default::default()
    });
    let rest = listed(&host);
    assert!(!rest.contains("berth-test"), "{rest}");
    assert!(rest.contains("-A DOCKER-USER -j RETURN"), "{rest}");
}

#[test]
fn rejects_at_the_end_of_iptables_legacy() {
    let (host, all) = reaches(|host| {
        host.namespace
            .command("iptables-legacy -A FORWARD -j REJECT --reject-with icmp-host-prohibited");
        host.namespace
            .command("ip6tables-legacy -A FORWARD -j REJECT");
        host.namespace.command("iptables-legacy -P INPUT DROP");
        host.namespace
            .command("iptables-legacy -A INPUT -i lo -j ACCEPT");
        host.namespace
            .command("iptables-legacy -A INPUT -m conntrack --ctstate ESTABLISHED -j ACCEPT");
    });
    assert!(all);
    let firewall = &host.firewall;
    assert_eq!(
        host.namespace.run(|| firewall.input_policy().unwrap()),
        berth_net::firewall::InputPolicy::Drop
    );
}
