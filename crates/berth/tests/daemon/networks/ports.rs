//! Published ports: who reaches them, under which address, and how they are chosen.

use super::*;

const HOST: &str = "198.51.100.1";

#[test]
fn clients_of_ipv6_reach_a_container_without_it() {
    let mut site = Site::new();
    site.run(&format!(
        "run -d --name web -h web -p 8080:80 -p 9090:90/udp busybox {PAGES}"
    ));
    let _echo = site.echo("web", 90);
    let all_reach_it = |site: &Site, when: &str| {
        for url in [
            "http://127.0.0.1:8080",
            "http://[::1]:8080",
            "http://198.51.100.1:8080",
            "http://[2001:db8::1]:8080",
        ] {
            until_page(&site.host, url, "web");
        }
        until_page(&site.outside, "http://[2001:db8::1]:8080", "web");
        until_page(&site.outside, "http://198.51.100.1:8080", "web");
        for (from, address) in [
            (&site.host, "127.0.0.1"),
            (&site.host, "::1"),
            (&site.host, "2001:db8::1"),
            (&site.outside, "2001:db8::1"),
            (&site.outside, HOST),
        ] {
            wait::until(&format!("{address} answers datagrams {when}"), || {
                datagram(from, address, 9090) == "ping"
            });
        }
    };
    all_reach_it(&site, "at first");
    site.daemon.kill();
    all_reach_it(&site, "without a daemon");
    site.daemon.launch();
    all_reach_it(&site, "after a restart");
    // Whoever holds the port says so, also after the restart.
    let taken = site.daemon.berth("run --rm -p 8080:80 busybox true");
    assert_eq!(taken.code(), 125);
    assert!(
        taken.stderr.contains("port is already allocated"),
        "{}",
        taken.stderr
    );
    site.run("rm -f web");
    site.run("run --rm -p 8080:80 busybox true");
}

#[test]
fn a_server_sees_who_asks() {
    let site = Site::new();
    site.run("network create --ipv6 dual");
    site.run(&format!(
        "run -d --name web -h web --network dual -p 8080:80 busybox {PAGES}"
    ));
    let who = |host: &str| format!("http://{host}:8080/cgi-bin/who");
    for (host, client) in [("[2001:db8::1]", "2001:db8::2"), (HOST, "198.51.100.2")] {
        wait::until(&format!("{client} is seen"), || {
            page(&site.outside, &who(host)).contains(client)
        });
    }
    until_page(&site.host, "http://[::1]:8080", "web");
}

#[test]
fn a_container_reaches_published_ports_of_its_own_and_of_others() {
    let site = Site::new();
    site.run("network create front");
    site.run("network create back");
    site.run(&format!(
        "run -d --name web -h web --network front -p 8080:80 busybox {PAGES}"
    ));
    site.run("run -d --name near --network front busybox sleep 1000");
    site.run("run -d --name far --network back busybox sleep 1000");
    for from in ["web", "near", "far"] {
        wait::until(&format!("{from} reaches the port"), || {
            site.daemon
                .berth(&format!(
                    "exec {from} timeout 5 wget -q -O - http://{HOST}:8080/"
                ))
                .text()
                .contains("web")
        });
    }
    // By the container's own address only members do.
    let address = site.address("web", "front");
    let direct = format!("timeout 3 wget -q -O - http://{address}/");
    assert_eq!(site.daemon.berth(&format!("exec near {direct}")).code(), 0);
    assert_ne!(site.daemon.berth(&format!("exec far {direct}")).code(), 0);
}

#[test]
fn ports_are_chosen_where_there_is_a_choice() {
    let site = Site::new();
    // Another program has the first of the range.
    let mut other = site
        .host
        .command("busybox httpd -f -p 0.0.0.0:9000")
        .into_inner()
        .spawn()
        .unwrap();
    wait::until("the other program listens", || {
        site.host
            .run("ss -ltnH sport = :9000")
            .text()
            .contains("9000")
    });
    site.run("run -d --name one -p 9000-9002:80 busybox sleep 1000");
    site.run("run -d --name two -p 9000-9002:80 busybox sleep 1000");
    let ports = |name: &str| site.run(&format!("port {name}"));
    assert!(ports("one").contains("0.0.0.0:9001"), "{}", ports("one"));
    assert!(ports("two").contains("0.0.0.0:9002"), "{}", ports("two"));
    let full = site.daemon.berth("run --rm -p 9001-9002:80 busybox true");
    assert!(
        full.stderr.contains("all ports are allocated"),
        "{}",
        full.stderr
    );
    let taken = site.daemon.berth("run --rm -p 9000:80 busybox true");
    assert!(
        taken.stderr.contains("address already in use"),
        "{}",
        taken.stderr
    );
    let _ = other.kill();
    let _ = other.wait();
    // A range to a range keeps its order; -P publishes what is exposed.
    site.run(
        "run -d --name three -p 7000-7002:80-82 --expose 90/udp --expose 91 -P busybox sleep 1000",
    );
    let three = ports("three");
    for line in [
        "80/tcp -> 0.0.0.0:7000",
        "82/tcp -> 0.0.0.0:7002",
        "82/tcp -> [::]:7002",
    ] {
        assert!(three.contains(line), "{three}");
    }
    for port in ["90/udp", "91/tcp"] {
        let bound = site.run(&format!("port three {port}"));
        let chosen = bound.lines().next().unwrap_or_default();
        let chosen: u16 = chosen
            .rsplit(':')
            .next()
            .unwrap_or_default()
            .parse()
            .unwrap();
        assert!(chosen >= 32_768, "{bound}");
    }
    // A container that failed to start holds nothing.
    site.run("rm -f one two three");
    site.run("run --rm -p 9001:80 -p 9002:80 -p 7000:80 busybox true");
}

#[test]
fn leaving_the_network_that_publishes_gives_ports_up() {
    let site = Site::new();
    site.run("network create front");
    site.run(&format!(
        "run -d --name web -h web --network front -p 8080:80 busybox {PAGES}"
    ));
    until_page(&site.outside, "http://198.51.100.1:8080", "web");
    site.run("network disconnect front web");
    assert_eq!(site.run("port web"), "");
    // Nobody holds it.
    site.run("run --rm -p 8080:80 busybox true");
    site.run("network connect front web");
    until_page(&site.outside, "http://198.51.100.1:8080", "web");
    until_page(&site.host, "http://[::1]:8080", "web");
    // Another network takes the way out over: the port leads there.
    site.run("network create back");
    site.run("network connect --gw-priority 10 back web");
    until_page(&site.outside, "http://198.51.100.1:8080", "web");
    until_page(&site.host, "http://[::1]:8080", "web");
    site.run("network disconnect front web");
    until_page(&site.outside, "http://198.51.100.1:8080", "web");
    until_page(&site.host, "http://[::1]:8080", "web");
}

#[test]
fn the_hosts_own_rules_decide_under_the_policy_firewall() {
    let site = Site::with(&["--publish-policy", "firewall"]);
    needs::program("nft", "nftables");
    site.run(&format!(
        "run -d --name web -h web -p 8080:80 -p 8081:80 busybox {PAGES}"
    ));
    until_page(&site.outside, "http://198.51.100.1:8080", "web");
    site.host
        .shell("nft 'table inet own { chain in { type filter hook input priority 0; tcp dport 8080 drop; }; }'")
        .ok();
    assert_eq!(page(&site.outside, "http://198.51.100.1:8080"), "");
    until_page(&site.outside, "http://198.51.100.1:8081", "web");
    until_page(&site.host, "http://127.0.0.1:8081", "web");
    // Who asks is seen, also by datagrams and after the daemon is gone; containers are clients like others.
    let who = "http://198.51.100.1:8081/cgi-bin/who";
    until_seen(&site.outside, who, "198.51.100.2");
    let inside = site.run("exec web timeout 5 wget -q -O - http://198.51.100.1:8081/");
    assert_eq!(inside.trim(), "web");
    let other = site.run("run --rm busybox timeout 5 wget -q -O - http://198.51.100.1:8081/");
    assert_eq!(other.trim(), "web");
    let mut site = site;
    site.daemon.kill();
    until_seen(&site.outside, who, "198.51.100.2");
    site.daemon.launch();
    until_seen(&site.outside, who, "198.51.100.2");
    let told = site.run("ports --format '{{.Published}} {{.Reach}}: {{.Reason}}'");
    let says = "0.0.0.0:8081 firewall: the input rules of the host's firewall decide; they let in what no rule forbids";
    assert!(told.contains(says), "{told}");
    // A network joined later publishes under the same policy.
    site.run("network create --ipv6 late");
    site.run(&format!(
        "run -d --name dual --network late -h dual -p 8090:80 busybox {PAGES}"
    ));
    let who = "http://[2001:db8::1]:8090/cgi-bin/who";
    until_seen(&site.outside, who, "2001:db8::2");
    site.run("network disconnect late dual");
    site.run("network connect late dual");
    until_seen(&site.outside, who, "2001:db8::2");
}

#[test]
fn who_reaches_a_port_is_told_as_it_is() {
    let site = Site::new();
    needs::program("nft", "nftables");
    site.run("network create --internal shut");
    let routed = "com.docker.network.bridge.gateway_mode_ipv4=routed";
    site.run(&format!("network create -o {routed} open"));
    site.run("run -d --name web -p 8080:80 -p 127.0.0.1:8081:80 busybox sleep 1000");
    site.run("run -d --name far --network open -p 8082:80 busybox sleep 1000");
    let told = || {
        let lines = site.run("ports --format '{{.Name}} {{.Published}} {{.Reach}}: {{.Reason}}'");
        lines.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let lines = told();
    for line in [
        "web 0.0.0.0:8080 network: published on every address of the host; its firewall is not asked",
        "web 127.0.0.1:8081 host: published on a loopback address",
        // The container has no IPv6: its monitor takes these, so the host's rules are asked.
        "web [::]:8080 firewall: the input rules of the host's firewall decide; they let in what no rule forbids",
    ] {
        assert!(lines.iter().any(|told| told == line), "{line}: {lines:#?}");
    }
    assert!(
        lines
            .iter()
            .any(|told| told.starts_with("far ")
                && told.contains(" routed: everyone with a route to ")),
        "{lines:#?}"
    );
    site.host
        .shell("nft 'table inet own { chain in { type filter hook input priority 0; policy drop; }; }'")
        .ok();
    let line = "web [::]:8080 firewall: the input rules of the host's firewall decide; they drop what no rule lets in";
    assert!(told().iter().any(|told| told == line), "{:#?}", told());
}

#[test]
fn the_policy_loopback_serves_the_host_alone() {
    let site = Site::with(&["--publish-policy", "loopback"]);
    site.run(&format!(
        "run -d --name web -h web -p 8080:80 busybox {PAGES}"
    ));
    until_page(&site.host, "http://127.0.0.1:8080", "web");
    until_page(&site.host, "http://[::1]:8080", "web");
    for url in ["http://198.51.100.1:8080", "http://[2001:db8::1]:8080"] {
        assert_eq!(page(&site.outside, url), "", "{url} answers");
    }
}

#[test]
fn a_flushed_firewall_is_healed() {
    let site = Site::new();
    needs::program("nft", "nftables");
    site.run("network create shut --internal");
    site.run(&format!(
        "run -d --name web -h web -p 8080:80 busybox {PAGES}"
    ));
    until_page(&site.outside, "http://198.51.100.1:8080", "web");
    for _ in 0..3 {
        site.host.run("nft flush ruleset").ok();
        // No request fails: what the table does not translate, the holder of the port carries.
        assert_eq!(page(&site.outside, "http://198.51.100.1:8080"), "web");
        wait::until("the table is back", || {
            let rules = site.host.run("nft list ruleset");
            rules.text().contains("8080") && rules.text().contains("chain")
        });
        wait::until("who asks is seen", || {
            page(&site.outside, "http://198.51.100.1:8080/cgi-bin/who").contains("198.51.100.2")
        });
    }
}
