//! Beside the firewalls of others, as Debian packages them, in one network namespace.

use super::*;
use berth_testkit::room::Room;

/// Daemons with each policy on one host, and a server published by each.
struct Neighbours {
    site: Site,
    strict: Daemon,
    shy: Daemon,
}

impl Neighbours {
    #[track_caller]
    fn new() -> Self {
        let site = Site::new();
        let with = |policy: &str| {
            Daemon::with(
                Engine::Berth,
                Settings {
                    namespace: Some(site.host.name().to_owned()),
                    arguments: ["--publish-policy", policy].map(str::to_owned).into(),
                    ..Settings::default()
                },
            )
        };
        // Each chooses its addresses before the others have made a bridge, and has to choose again.
        let (strict, shy) = (with("firewall"), with("loopback"));
        for (daemon, port) in [(&site.daemon, 8080), (&strict, 8081), (&shy, 8082)] {
            let line = format!("run -d --name web -h web -p {port}:80 busybox {PAGES}");
            daemon.berth(&line).ok();
        }
        Self { site, strict, shy }
    }

    /// Everybody reaches what the policies promise; `open` tells whether the host's rules let port 8081 in.
    #[track_caller]
    fn check(&self, open: bool) {
        let (host, outside) = (&self.site.host, &self.site.outside);
        let who = |port: u16| format!("http://198.51.100.1:{port}/cgi-bin/who");
        until_seen(outside, &who(8080), "198.51.100.2");
        if open {
            until_seen(outside, &who(8081), "198.51.100.2");
        } else {
            assert_eq!(
                page(outside, &who(8081)),
                "",
                "the host's rules are not asked"
            );
        }
        assert_eq!(page(outside, &who(8082)), "", "the policy is loopback");
        for port in [8080, 8081, 8082] {
            until_page(host, &format!("http://127.0.0.1:{port}"), "web");
        }
        for daemon in [&self.site.daemon, &self.strict, &self.shy] {
            wait::until("containers reach the outside", || {
                daemon.berth("exec web ping -c 1 -W 2 198.51.100.2").code() == 0
            });
        }
    }

    /// Beside a firewall that denies what comes in and what is forwarded.
    #[track_caller]
    fn live_with(&self, room: &Room, allow: &str, reload: &str) {
        self.check(false);
        room.run(allow).ok();
        self.check(true);
        room.run(reload).ok();
        self.check(true);
        for daemon in [&self.site.daemon, &self.strict, &self.shy] {
            daemon.berth("rm -f web").ok();
        }
    }
}

/// Sets ufw up as its package does, with the iptables of this kind.
#[track_caller]
fn ufw(kind: &str) {
    let neighbours = Neighbours::new();
    let room = Room::new(neighbours.site.host.name(), &["ufw"]);
    room.run(&format!(
        "for f in iptables ip6tables iptables-restore ip6tables-restore; do ln -sf xtables-{kind}-multi /usr/sbin/$f; done
         cp -n /usr/share/ufw/*.rules /usr/share/ufw/*.init /usr/share/ufw/ufw.conf /usr/share/ufw/iptables/*.rules /etc/ufw/
         ufw --force enable"
    ))
    .ok();
    let rules = room.run("iptables -S FORWARD");
    rules.clone().ok().prints("-P FORWARD DROP");
    neighbours.live_with(&room, "ufw allow 8081/tcp", "ufw reload");
    let rules = room.run("ufw status && iptables -S").ok();
    assert!(rules.text().contains("8081/tcp"), "{rules}");
}

#[test]
fn ufw_on_nftables() {
    ufw("nft");
}

#[test]
fn ufw_on_legacy_iptables() {
    ufw("legacy");
}

/// A bus without the services of the machine.
const BUS: &str = r#"<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN" "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>system</type><listen>unix:path=/run/dbus/system_bus_socket</listen><auth>EXTERNAL</auth>
<policy context="default"><allow user="*"/><allow own="*"/><allow send_destination="*"/><allow receive_sender="*"/></policy>
</busconfig>"#;

#[test]
fn firewalld() {
    needs::program("dbus-daemon", "dbus-daemon");
    let neighbours = Neighbours::new();
    let room = Room::new(neighbours.site.host.name(), &["firewalld"]);
    room.run(&format!(
        "mkdir -p /run/dbus && cat >/run/bus.conf <<'E'\n{BUS}\nE\ndbus-daemon --config-file=/run/bus.conf --fork --nopidfile \
         && (firewalld --nofork --nopid >/run/firewalld.log 2>&1 &)"
    ))
    .ok();
    wait::until("firewalld runs", || {
        room.run("firewall-cmd --state").code() == 0
    });
    neighbours.live_with(
        &room,
        "firewall-cmd --permanent --add-port=8081/tcp && firewall-cmd --add-port=8081/tcp",
        "firewall-cmd --reload",
    );
}

/// Docker with its own rules on the same host, in either order of starts and ends.
#[track_caller]
fn docker(first: Engine, programs: Option<&str>) {
    let mut site = Site::new();
    let run = |site: &Site| {
        site.run(&format!(
            "run -d --name web -h web -p 8080:80 busybox {PAGES}"
        ))
    };
    if first == Engine::Berth {
        run(&site);
    }
    let mut docker = Daemon::with(
        Engine::Docker,
        Settings {
            namespace: Some(site.host.name().to_owned()),
            programs: programs.map(|kind| iptables_of(&site, kind)),
            ..Settings::default()
        },
    );
    docker
        .docker(&format!(
            "run -d --name web -h whale -p 9090:80 busybox {PAGES}"
        ))
        .ok();
    if first == Engine::Docker {
        run(&site);
    }
    let reached = |site: &Site, ours: bool, theirs: bool| {
        for (from, address) in [
            (&site.outside, "198.51.100.1"),
            (&site.host, "127.0.0.1"),
            (&site.host, "198.51.100.1"),
        ] {
            if ours {
                until_page(from, &format!("http://{address}:8080"), "web");
            }
            if theirs {
                until_page(from, &format!("http://{address}:9090"), "whale");
            }
        }
    };
    let outward = |site: &Site, docker: &Daemon| {
        for daemon in [&site.daemon, docker] {
            daemon.docker("exec web ping -c 1 -W 5 198.51.100.2").ok();
        }
    };
    reached(&site, true, true);
    outward(&site, &docker);
    // Networks do not clash, whoever makes them.
    site.run("network create ours");
    docker.docker("network create theirs").ok();
    site.run("run --rm --network ours busybox ping -c 1 -W 5 198.51.100.2");
    docker
        .docker("run --rm --network theirs busybox ping -c 1 -W 5 198.51.100.2")
        .ok();
    docker.terminate();
    reached(&site, true, false);
    docker.launch();
    docker.docker("start web").ok();
    reached(&site, true, true);
    site.daemon.terminate();
    reached(&site, true, true);
    site.daemon.launch();
    reached(&site, true, true);
    outward(&site, &docker);
    site.run("rm -f web");
    site.run("network rm ours");
    reached(&site, false, true);
    docker.docker("rm -f web").ok();
}

/// A directory where `iptables` is the one of this kind.
#[track_caller]
fn iptables_of(site: &Site, kind: &str) -> std::path::PathBuf {
    let place = site.daemon.scratch().path().join("programs");
    std::fs::create_dir_all(&place).expect("a directory of the test");
    for family in ["iptables", "ip6tables"] {
        let program = needs::program(&format!("xtables-{kind}-multi"), "iptables");
        std::os::unix::fs::symlink(program, place.join(family)).expect("a link of the test");
    }
    place
}

#[test]
fn docker_on_nftables() {
    docker(Engine::Docker, None);
}

#[test]
fn docker_on_legacy_iptables() {
    docker(Engine::Berth, Some("legacy"));
}
