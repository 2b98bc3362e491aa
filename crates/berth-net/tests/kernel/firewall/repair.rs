//! Flushed by others, taken over by the next daemon, removed.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use berth_net::firewall::{Firewall, Parts, Watch};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::topology::{Host, Server, ask, published, v4, v6};

#[test]
fn a_flush_is_noticed_and_healed() {
    let (mut host, outside) = Host::new();
    host.network(11, |_| ());
    let web = host.container(11, 2);
    let _server = Server::start(&web, 80);
    host.publish(published(11, "0.0.0.0", 8080, v4(11, 2)));
    let mut watch = host.namespace.run(|| Watch::open("berth-test").unwrap());
    for line in [
        "nft flush ruleset",
        "nft flush table inet berth-test",
        "nft delete element inet berth-test public-any4 { tcp . 8080 }",
        "nft add rule inet berth-test forward counter drop",
        "nft add element inet berth-test bridges { other0 }",
    ] {
        host.namespace.command(line);
        let begun = Instant::now();
        wait_readable(&watch);
        let seen = watch.read(host.firewall.port()).unwrap();
        assert!(seen.ours, "{line}");
        let firewall = &mut host.firewall;
        let healed = host.namespace.run(|| firewall.heal().unwrap());
        eprintln!("healed after `{line}` in {:?}: {healed:?}", begun.elapsed());
        assert!(
            healed.rebuilt || healed.added + healed.removed > 0,
            "{line}"
        );
        assert!(ask(&outside, "192.0.2.1:8080").is_some(), "{line}");
        assert_eq!(
            watch.read(host.firewall.port()).unwrap(),
            berth_net::firewall::Seen::default(),
            "our own changes are no news"
        );
        let again = host.namespace.run(|| host.firewall.heal().unwrap());
        assert_eq!(again, berth_net::firewall::Healed::default(), "{line}");
    }
}

fn wait_readable(watch: &Watch) {
    let mut descriptors = [PollFd::new(watch, PollFlags::IN)];
    let timeout = Timespec {
        tv_sec: 10,
        tv_nsec: 0,
    };
    assert_eq!(poll(&mut descriptors, Some(&timeout)).unwrap(), 1);
}

#[test]
fn the_next_daemon_takes_over_without_a_lost_connection() {
    let (mut host, outside) = Host::new();
    let mut parts = Parts {
        networks: vec![
            host.network(11, |_| ()),
            host.network(12, |network| network.icc = false),
        ],
        ..Parts::default()
    };
    let web = host.container(11, 2);
    parts.ports = vec![
        published(11, "0.0.0.0", 8080, v4(11, 2)),
        published(11, "::", 8080, v6(11, 2)),
    ];
    host.apply(parts.clone());
    parts = host.firewall.parts();
    // A connection that goes on all the while, and new ones all the while.
    let listener = web.run(|| TcpListener::bind("0.0.0.0:80").unwrap());
    let echo = std::thread::spawn(move || {
        let mut served = 0_u32;
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            served += 1;
            std::thread::spawn(move || {
                let mut buffer = [0; 16];
                while let Ok(length @ 1..) = stream.read(&mut buffer) {
                    stream.write_all(&buffer[..length]).unwrap();
                }
            });
            if served == 201 {
                return;
            }
        }
    });
    let client = std::thread::spawn(move || {
        outside.run(|| {
            let address = "192.0.2.1:8080".parse().unwrap();
            let connect = || {
                let stream = TcpStream::connect_timeout(&address, Duration::from_secs(2)).unwrap();
                stream
                    .set_read_timeout(Some(Duration::from_secs(2)))
                    .unwrap();
                stream
            };
            let mut steady = connect();
            for _ in 0..200 {
                let mut fresh = connect();
                for stream in [&mut steady, &mut fresh] {
                    stream.write_all(b"x").unwrap();
                    stream.read_exact(&mut [0]).unwrap();
                }
            }
        });
    });
    let mut times = Vec::new();
    while !client.is_finished() {
        let begun = Instant::now();
        let healed = host.namespace.run(|| {
            let mut next = Firewall::open("berth-test").unwrap();
            next.adopt(parts.clone()).unwrap()
        });
        times.push(begun.elapsed());
        assert_eq!(healed, berth_net::firewall::Healed::default());
    }
    client.join().unwrap();
    echo.join().unwrap();
    times.sort();
    eprintln!(
        "{} take-overs, the median in {:?}",
        times.len(),
        times[times.len() / 2]
    );
    // Less is wanted: only the difference goes.
    parts.ports.pop();
    let healed = host.namespace.run(|| {
        let mut next = Firewall::open("berth-test").unwrap();
        next.adopt(parts).unwrap()
    });
    assert_eq!(
        (healed.rebuilt, healed.added, healed.removed),
        (false, 0, 1)
    );
}

#[test]
fn nothing_is_left_after_removal() {
    let (mut host, _outside) = Host::new();
    host.namespace.command("nft add table inet mine");
    host.namespace.command(
        "nft add chain inet mine forward { type filter hook forward priority 0 ; policy drop ; }",
    );
    let before = host.namespace.command("nft list ruleset");
    host.network(11, |network| network.icc = false);
    host.container(11, 2);
    assert_ne!(host.namespace.command("nft list ruleset"), before);
    let firewall = &mut host.firewall;
    host.namespace.run(|| firewall.remove().unwrap());
    assert_eq!(host.namespace.command("nft list ruleset"), before);
}

#[test]
fn a_refused_change_leaves_everything_as_it_was() {
    let (mut host, _outside) = Host::new();
    host.network(11, |_| ());
    host.publish(published(11, "0.0.0.0", 8080, v4(11, 2)));
    let before = host.namespace.command("nft list ruleset");
    let parts = host.firewall.parts();
    let firewall = &mut host.firewall;
    // The same port for another container is a contradiction that the kernel refuses.
    let refused = host.namespace.run(|| {
        firewall.apply(&berth_net::firewall::Change {
            added: Parts {
                ports: vec![
                    published(11, "0.0.0.0", 8081, v4(11, 3)),
                    published(11, "0.0.0.0", 8080, v4(11, 3)),
                ],
                ..Parts::default()
            },
            ..Default::default()
        })
    });
    assert!(refused.is_err());
    assert_eq!(host.firewall.parts(), parts);
    assert_eq!(host.namespace.command("nft list ruleset"), before);
}
