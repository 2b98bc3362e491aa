//! Networks by the real executable, in a network namespace that plays the host.

mod beside;
mod drivers;
mod endpoints;
mod names;
mod ports;
mod refusals;
mod survival;

use std::time::Duration;

use berth_testkit::daemon::{Engine, Settings};
use berth_testkit::netns::{Echo, Namespace};
use berth_testkit::{Daemon, needs, wait};

/// A host of its own: a namespace with an uplink to another one that plays the outside.
struct Site {
    daemon: Daemon,
    host: Namespace,
    outside: Namespace,
}

impl Site {
    #[track_caller]
    fn new() -> Self {
        Self::with(&[])
    }

    #[track_caller]
    fn with(arguments: &[&str]) -> Self {
        let (host, outside) = (Namespace::new(), Namespace::new());
        host.link(
            &outside,
            "up0",
            &["198.51.100.1/24", "2001:db8::1/64"],
            &["198.51.100.2/24", "2001:db8::2/64"],
        );
        host.run("ip route add default via 198.51.100.2").ok();
        let daemon = Daemon::with(
            Engine::Berth,
            Settings {
                namespace: Some(host.name().to_owned()),
                arguments: arguments.iter().map(|a| (*a).to_owned()).collect(),
                ..Settings::default()
            },
        );
        Self {
            daemon,
            host,
            outside,
        }
    }

    #[track_caller]
    fn run(&self, line: &str) -> String {
        self.daemon.berth(line).ok().text().to_owned()
    }

    /// An address of a container in a network.
    #[track_caller]
    fn address(&self, container: &str, network: &str) -> String {
        self.daemon.inspect(container)["NetworkSettings"]["Networks"][network]["IPAddress"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }

    /// Sends datagrams that come to a container's port back.
    #[track_caller]
    fn echo(&self, container: &str, port: u16) -> Echo {
        let pid = self.daemon.container_pid(container);
        Echo::new(format!("/proc/{pid}/ns/net").as_ref(), port)
    }

    /// What of networks there is on the host, apart from the default bridge and what is prepared ahead.
    fn things(&self) -> Vec<String> {
        let mut things = self.host.links();
        // Prepared pairs have a letter in their names that no id has.
        let own =
            |l: &str| l == "lo" || l == "up0" || l.starts_with("berth") || l.starts_with("vethp");
        things.retain(|l| !own(l));
        things.sort();
        things
    }
}

/// A server of greetings.
const SERVER: &str = "sh -c 'while true; do echo hello | nc -l -p 80 >/dev/null 2>&1; done'";

/// A server of pages: `/` is its host's name, `/cgi-bin/who` says who asks.
const PAGES: &str = "sh -c 'mkdir -p /www/cgi-bin && hostname >/www/index.html \
    && printf \"#!/bin/sh\\necho\\necho \\$REMOTE_ADDR\\n\" >/www/cgi-bin/who && chmod +x /www/cgi-bin/who \
    && exec httpd -f -p 80 -h /www'";

/// What a page of a server says, or nothing.
#[track_caller]
fn page(from: &Namespace, url: &str) -> String {
    needs::program("curl", "curl");
    let output = from.run(&format!("curl -gsS --noproxy * --max-time 5 {url}"));
    output.text().trim().to_owned()
}

/// Waits for a page to say something that fits.
#[track_caller]
fn until_page(from: &Namespace, url: &str, fits: &str) {
    let mut last = String::new();
    let found = wait::within(wait::scaled(Duration::from_secs(20)), || {
        last = page(from, url);
        (last == fits).then_some(())
    });
    assert!(found.is_some(), "{url} said {last:?}, not {fits:?}");
}

/// Waits for a server to see this client.
#[track_caller]
fn until_seen(from: &Namespace, url: &str, client: &str) {
    // The server of the tests writes IPv4 addresses as IPv6 has them.
    let seen = if client.contains(':') {
        format!("[{client}]")
    } else {
        format!("[::ffff:{client}]")
    };
    until_page(from, url, &seen);
}

/// What a server answers to a datagram, or nothing.
#[track_caller]
fn datagram(from: &Namespace, address: &str, port: u16) -> String {
    let line = format!("exec 3<>/dev/udp/{address}/{port}; echo ping >&3; timeout 2 head -n 1 <&3");
    let output = from.command("bash -c").arg(line).run();
    output.text().trim().to_owned()
}

#[test]
fn the_default_bridge_gives_an_address_and_leads_outside() {
    let site = Site::new();
    site.run(&format!("run -d --name web busybox {SERVER}"));
    assert_eq!(site.address("web", "bridge"), "172.17.0.2");
    let route = site.run("exec web ip route");
    assert!(route.contains("default via 172.17.0.1 dev eth0"), "{route}");
    site.run("exec web ping -c 1 -W 5 198.51.100.2");
    // The second one reaches the first by its address, and so does the host.
    site.run("run --rm busybox ping -c 1 -W 5 172.17.0.2");
    site.host.run("busybox ping -c 1 -W 5 172.17.0.2").ok();
    let hosts = site.run("exec web cat /etc/hosts");
    assert!(hosts.contains("172.17.0.2\t"), "{hosts}");
    site.run("rm -f web");
    wait::until("the veth pair is gone", || site.things().is_empty());
}

#[test]
fn members_of_a_users_network_find_each_other_by_name() {
    let site = Site::new();
    site.run("network create front");
    site.run(&format!(
        "run -d --name web --network front --network-alias www busybox {SERVER}"
    ));
    for name in ["web", "www"] {
        site.run(&format!(
            "run --rm --network front busybox ping -c 1 -W 5 {name}"
        ));
    }
    let asked = site.run("run --rm --network front busybox nslookup web 127.0.0.11");
    assert!(asked.contains(&site.address("web", "front")), "{asked}");
    // Another network neither knows the name nor reaches the address.
    site.run("network create back");
    let address = site.address("web", "front");
    for line in [
        "ping -c 1 -W 2 web".to_owned(),
        format!("ping -c 1 -W 2 {address}"),
    ] {
        let output = site
            .daemon
            .berth(&format!("run --rm --network back busybox {line}"));
        assert_ne!(output.code(), 0, "{line} went well");
    }
}

#[test]
fn published_ports_are_reached_from_everywhere() {
    let site = Site::new();
    site.run(&format!(
        "run -d --name web -p 8080:80 -p 127.0.0.1:8081:80 busybox {SERVER}"
    ));
    let get = |address: &str, port: u16| format!("nc -w 5 {address} {port} </dev/null");
    for (namespace, address) in [
        (&site.outside, "198.51.100.1"),
        (&site.host, "127.0.0.1"),
        (&site.host, "198.51.100.1"),
    ] {
        wait::until(&format!("{address}:8080 answers"), || {
            namespace
                .shell(&format!("busybox {}", get(address, 8080)))
                .text()
                .contains("hello")
        });
    }
    // From the container itself, by the host's address.
    wait::until("the container reaches itself", || {
        site.daemon
            .berth("exec web sh -c 'nc -w 5 198.51.100.1 8080 </dev/null'")
            .text()
            .contains("hello")
    });
    let outside = site
        .outside
        .shell(&format!("busybox {}", get("198.51.100.1", 8081)));
    assert!(!outside.text().contains("hello"), "loopback only");
    let taken = site.daemon.berth("run --rm -p 8080:80 busybox true");
    assert_eq!(taken.code(), 125);
    assert!(
        taken.stderr.contains("port is already allocated"),
        "{}",
        taken.stderr
    );
    assert_eq!(site.run("port web 80/tcp").lines().count(), 3);
}

#[test]
fn a_container_joins_and_leaves_while_it_runs() {
    let site = Site::new();
    site.run("network create one");
    site.run("network create two");
    site.run("run -d --name box --network one busybox sleep 1000");
    site.run("run -d --name peer --network two busybox sleep 1000");
    site.run("network connect --alias also two box");
    site.run("exec box ping -c 1 -W 5 peer");
    site.run("exec peer ping -c 1 -W 5 also");
    assert_eq!(
        site.daemon.berth("network rm two").code(),
        1,
        "it has members"
    );
    site.run("network disconnect two box");
    let gone = site.daemon.berth("exec box ping -c 1 -W 2 peer");
    assert_ne!(gone.code(), 0);
    let links = site.run("exec box ip -o link");
    assert!(!links.contains("eth1"), "{links}");
    site.run("rm -f peer");
    site.run("network rm two");
}

#[test]
fn a_restart_of_the_daemon_is_not_noticed() {
    let mut site = Site::new();
    site.run("network create front");
    site.run(&format!(
        "run -d --name web --network front -p 8080:80 busybox {SERVER}"
    ));
    site.run("run -d --name box --network front busybox sleep 1000");
    let address = site.address("web", "front");
    site.daemon.kill();
    // While nobody is there.
    wait::until("the port answers", || {
        site.outside
            .shell("busybox nc -w 5 198.51.100.1 8080 </dev/null")
            .text()
            .contains("hello")
    });
    site.daemon.launch();
    assert_eq!(site.address("web", "front"), address);
    site.run("exec box ping -c 1 -W 5 web");
    site.run("run -d --name late --network front busybox sleep 1000");
    assert_ne!(site.address("late", "front"), address);
    site.run("exec web ping -c 1 -W 5 late");
    site.run("rm -f web box late");
    site.run("network rm front");
    wait::until("nothing is left", || site.things().is_empty());
}

#[test]
fn bad_input_leaves_nothing() {
    let site = Site::new();
    site.run("network create --subnet 10.5.0.0/24 taken");
    let before = site.things();
    let ids = site.run("network ls -q").lines().count();
    for (line, says) in [
        (
            "network create --subnet 10.5.0.0/25 other",
            "Pool overlaps with other one on this address space",
        ),
        (
            "network create --subnet 10.6.0.0/24 --gateway 10.7.0.1 other",
            "no matching subnet for gateway",
        ),
        ("network create taken", "already exists"),
        ("network create bridge", "predefined"),
        (
            "network create -d macvlan -o parent=nosuch0 other",
            "nosuch0",
        ),
        ("network rm bridge", "pre-defined"),
        ("network rm nosuch", "not found"),
    ] {
        let output = site.daemon.berth(line);
        assert_ne!(output.code(), 0, "{line} went well");
        assert!(output.stderr.contains(says), "{line}: {}", output.stderr);
    }
    for (line, says) in [
        ("--network taken --ip 10.9.0.1", "no configured subnet"),
        ("--network nosuch", "not found"),
        ("--ip 172.17.0.9", "user-defined networks only"),
        ("-p 99999:80", "invalid"),
    ] {
        let output = site.daemon.berth(&format!("run --rm {line} busybox true"));
        assert_eq!(output.code(), 125, "{line} went well");
        assert!(output.stderr.contains(says), "{line}: {}", output.stderr);
    }
    wait::until("nothing is left", || site.things() == before);
    assert_eq!(site.run("network ls -q").lines().count(), ids);
}
