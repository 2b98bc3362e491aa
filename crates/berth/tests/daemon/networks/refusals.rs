//! What is refused, with which words, and that nothing of it stays.

use super::*;

impl Site {
    /// Everything of networks that the host has: links, addresses, routes, rules, and namespaces that the daemon holds.
    fn everything(&self) -> Vec<String> {
        needs::program("nft", "nftables");
        let mut all = self.things();
        let prepared = |line: &str| line.contains("vethp") || line.contains("up0");
        for line in [
            "ip -o address",
            "ip route show table all",
            "ip -6 route show table all",
        ] {
            let output = self.host.run(line).ok();
            let lines = output.text().lines().filter(|l| !prepared(l));
            // States come and go by themselves, as does what the link outside has.
            all.extend(lines.map(|l| l.replace(" linkdown", "")));
        }
        all.extend(
            self.host
                .run("nft list ruleset")
                .ok()
                .text()
                .lines()
                .map(str::to_owned),
        );
        all.push(format!("{} namespaces too many", self.held_namespaces()));
        all
    }

    /// Network namespaces the daemon holds beyond those that are prepared.
    fn held_namespaces(&self) -> isize {
        let own = self.host.run("readlink /proc/self/ns/net").ok();
        let own = own.text().trim().to_owned();
        let descriptors =
            std::fs::read_dir(format!("/proc/{}/fd", self.daemon.pid())).expect("the daemon runs");
        let held: std::collections::BTreeSet<_> = descriptors
            .flatten()
            .filter_map(|entry| std::fs::read_link(entry.path()).ok())
            .map(|target| target.to_string_lossy().into_owned())
            .filter(|target| target.starts_with("net:[") && *target != own)
            .collect();
        let prepared = self
            .host
            .links()
            .iter()
            .filter(|l| l.starts_with("vethp"))
            .count();
        held.len().cast_signed() - prepared.cast_signed()
    }

    /// Runs a line that is refused with these words and leaves nothing.
    #[track_caller]
    fn refuses(&self, line: &str, says: &str) {
        let before = self.everything();
        let output = self.daemon.berth(line);
        assert_ne!(output.code(), 0, "{line} went well");
        assert!(output.stderr.contains(says), "{line}: {}", output.stderr);
        let mut now = Vec::new();
        let same = wait::within(wait::scaled(Duration::from_secs(20)), || {
            now = self.everything();
            (now == before).then_some(())
        });
        let more = now.iter().filter(|l| !before.contains(l)).take(8);
        let more: Vec<_> = more.collect();
        assert!(same.is_some(), "{line} left {more:?}");
    }
}

#[test]
fn what_is_refused_leaves_nothing() {
    let site = Site::new();
    site.run("network create --subnet 10.5.0.0/24 taken");
    site.run("network create --internal shut");
    site.run("run -d --name box --network taken --ip 10.5.0.9 -p 8080:80 busybox sleep 1000");
    // The prepared ones are there when nobody asks for more.
    wait::until("the daemon is at rest", || site.held_namespaces() == 0);
    for (line, says) in [
        ("network create --subnet 10.5.0.0/25 other", "Pool overlaps"),
        (
            "network create --subnet 10.6.0.0/24 --ip-range 10.7.0.0/25 other",
            "no matching subnet",
        ),
        (
            "network create -o com.docker.network.bridge.name=up0 other",
            "up0",
        ),
        (
            "network create -d macvlan -o parent=nosuch0 other",
            "nosuch0",
        ),
        (
            "network create -d ipvlan -o parent=nosuch0.7 other",
            "nosuch0",
        ),
        ("network create -d nosuch other", "nosuch"),
        (
            "network create -o com.docker.network.driver.mtu=x other",
            "x",
        ),
        ("network rm taken", "has active endpoints"),
        ("network connect taken box", "already"),
        ("network connect --ip 10.5.0.9 nosuch box", "not found"),
        (
            "run --rm --network taken --ip 10.5.0.9 busybox true",
            "Address already in use",
        ),
        (
            "run --rm --network taken --ip 10.5.1.9 busybox true",
            "no configured subnet",
        ),
        (
            "run --rm --network taken -p 8080:80 busybox true",
            "port is already allocated",
        ),
        (
            "run --rm --network taken -p 192.0.2.77:81:80 busybox true",
            "cannot assign requested address",
        ),
        (
            "run --rm --network taken --network shut -p 82:80 busybox /nosuch",
            "no such file",
        ),
        ("run --rm --network nosuch busybox true", "not found"),
    ] {
        site.refuses(line, says);
    }
    // The port of the one that had no program is free.
    site.run("run --rm -p 82:80 busybox true");
}

#[test]
fn without_a_default_bridge_all_else_works() {
    // As on a host whose kernel has no bridges: the interface is there, and is none.
    let site = Site::with(&["--bridge", "up0"]);
    // The first attempt makes the table of rules, which stays.
    assert_eq!(site.daemon.berth("run --rm busybox true").code(), 125);
    site.refuses("run --rm busybox true", "up0");
    site.run("run --rm --network none busybox ip link show lo");
    site.run("run --rm --network host busybox ip link show up0");
    // Only the client's first command does without, and says so; nothing is left of its first attempt.
    let hello = site.daemon.berth("run --name hello berth/hello").ok();
    assert!(!hello.stdout.is_empty());
    assert!(
        hello.stderr.contains("up0") && hello.stderr.contains("tried again without"),
        "{hello}"
    );
    site.run("rm hello");
    for asked in ["--network bridge", "--network default", "-p 80:80"] {
        site.refuses(&format!("run --rm {asked} berth/hello"), "up0");
    }
    assert_eq!(site.run("ps -aq"), "");
}

#[test]
fn a_failure_half_way_takes_back_what_was_made() {
    let site = Site::new();
    site.run("network create one");
    site.run("network create two");
    // The second interface cannot have the name of the first.
    wait::until("the daemon is at rest", || site.held_namespaces() == 0);
    let same = "driver-opt=com.docker.network.endpoint.ifname=lan0";
    site.refuses(
        &format!(
            "run --rm --network name=one,{same} --network name=two,{same} -p 8081:80 busybox true"
        ),
        "lan0",
    );
    site.run("run --rm -p 8081:80 busybox true");
}

#[test]
fn who_holds_the_pools_is_named() {
    let site = Site::with(&["--default-address-pool", "base=10.70.0.0/22,size=24"]);
    site.run("network create a");
    site.run("network create b");
    site.run("network create --subnet 10.70.3.0/24 asked");
    let output = site.daemon.berth("network create c");
    assert_eq!(output.code(), 1);
    for name in ["bridge", "a", "b", "asked"] {
        assert!(
            output.stderr.contains(&format!("network {name}")),
            "{}",
            output.stderr
        );
    }
    site.run("network rm a");
    site.run("network create c");
}

#[test]
fn settings_of_one_network_serve_another() {
    let site = Site::new();
    site.run("network create --config-only --subnet 10.71.0.0/24 -o com.docker.network.driver.mtu=1400 plan");
    site.run("network create --config-from plan real");
    site.run("run -d --name box --network real busybox sleep 1000");
    assert!(site.address("box", "real").starts_with("10.71.0."));
    let mtu = site.run("exec box cat /sys/class/net/eth0/mtu");
    assert_eq!(mtu.trim(), "1400");
    site.refuses("run --rm --network plan busybox true", "configuration-only");
    site.refuses("network rm plan", "in use");
    site.run("rm -f box");
    let pruned = site.run("network prune -f");
    assert!(pruned.contains("real"), "{pruned}");
    wait::until("nothing is left", || site.things().is_empty());
}
