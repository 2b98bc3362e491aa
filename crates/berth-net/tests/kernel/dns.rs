//! The resolver of a container: a host and a container, each a namespace, and an outside server that the tests make.

mod server;
mod stage;

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use berth_net::dns::names::{Link, Member, NetworkNames};

use self::server::{Behaviour, Server};
use self::stage::Stage;

const OUTSIDE: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(127, 0, 0, 53)),
    IpAddr::V4(Ipv4Addr::new(127, 0, 0, 54)),
];

fn member(container: &str, names: &[&str], last: u8) -> Member {
    Member {
        container: container.into(),
        names: names.iter().map(|name| (*name).to_owned()).collect(),
        ipv4: Some(Ipv4Addr::new(10, 1, 0, last)),
        ipv6: None,
        links: Vec::new(),
    }
}

fn front() -> NetworkNames {
    let mut names = NetworkNames::new("front");
    names.subnets.push("10.1.0.0/16".into());
    names.members = vec![
        member("me", &["me"], 1),
        member("one", &["web1", "web", "0123456789ab"], 2),
        member("two", &["web2", "web"], 3),
    ];
    names.members[1].ipv6 = Some("fd00::2".parse().unwrap());
    names.members[0].links.push(Link {
        name: "db".into(),
        target: "web2".into(),
    });
    names
}

#[test]
fn members_are_found_by_name_and_by_address() {
    let stage = Stage::new(&[front()]);
    let _resolver = stage.serve(stage.settings());
    assert_eq!(stage.dig("+short web1"), "10.1.0.2\n");
    assert_eq!(stage.dig("+short WEB1.Front"), "10.1.0.2\n");
    assert_eq!(stage.dig("+short 0123456789ab +tcp"), "10.1.0.2\n");
    assert_eq!(stage.dig("+short db +noedns"), "10.1.0.3\n");
    assert_eq!(stage.dig("+short web1 AAAA"), "fd00::2\n");
    assert_eq!(stage.dig("+short -x 10.1.0.2"), "web1.front.\n");
    assert_eq!(stage.dig("+short -x fd00::2"), "web1.front.\n");
    // Known, but nothing of that type: no error, and nobody outside is asked.
    for kind in ["AAAA", "MX", "TXT", "TYPE65"] {
        let answer = stage.dig(&format!("web2 {kind}"));
        assert!(answer.contains("status: NOERROR"), "{answer}");
        assert!(answer.contains("ANSWER: 0"), "{answer}");
    }
    assert!(stage.dig("-x 10.1.0.77").contains("status: NXDOMAIN"));
    let mut firsts: Vec<String> = (0..4)
        .map(|_| stage.dig("+short web").lines().next().unwrap().to_owned())
        .collect();
    assert_ne!(firsts[0], firsts[1]);
    assert_eq!(firsts[0], firsts[2]);
    firsts.sort();
    firsts.dedup();
    assert_eq!(firsts, ["10.1.0.2", "10.1.0.3"]);
    // A program like any other, with nothing but the file.
    let found = stage.getent("web1");
    assert!(found.contains("10.1.0.2"), "{found}");
    // The file is replaced: the next answer is another.
    let mut names = front();
    names.members.remove(1);
    stage.write(0, &names);
    assert_eq!(stage.dig("+short web"), "10.1.0.3\n");
}

#[test]
fn more_members_than_a_packet_holds() {
    let mut names = NetworkNames::new("many");
    for last in 1..=250 {
        names.members.push(member("c", &["all"], last));
    }
    let stage = Stage::new(&[names]);
    let _resolver = stage.serve(stage.settings());
    let cut = stage.dig("all +noedns +ignore");
    assert!(cut.contains(" tc ") && cut.contains("ANSWER: 30"), "{cut}");
    let cut = stage.dig("all +bufsize=1232 +ignore");
    assert!(cut.contains(" tc ") && cut.contains("udp: 4096"), "{cut}");
    assert_eq!(stage.dig("+short all +noedns").lines().count(), 250);
    assert_eq!(
        stage.dig("+short all +bufsize=4096 +notcp").lines().count(),
        250
    );
    assert!(
        stage
            .dig("web +edns=1 +noednsneg")
            .contains("status: BADVERS")
    );
}

#[test]
fn the_rest_is_asked_outside() {
    let stage = Stage::new(&[front()]);
    let first = Server::start(&stage.host, OUTSIDE[0], Behaviour::Answers(1));
    stage.host_servers(&OUTSIDE[..1]);
    let resolver = stage.serve(stage.settings());
    assert_eq!(stage.dig("+short a.test"), "192.0.2.1\n");
    assert_eq!(stage.dig("+short a.test +tcp"), "192.0.2.1\n");
    // 4,000 bytes: whole in a large packet, by TCP after a cut, and never more than the client takes.
    assert!(stage.dig("+short big.test TXT +bufsize=4096").len() > 3900);
    assert!(stage.dig("+short big.test TXT +noedns").len() > 3900);
    let rude = stage.dig("rude.test TXT +noedns +ignore");
    assert!(rude.contains(" tc "), "{rude}");
    assert!(stage.dig("missing.test").contains("status: NXDOMAIN"));
    assert!(stage.dig("broken.test").contains("status: SERVFAIL"));
    // Forged answers before the right one.
    assert_eq!(stage.dig("+short forged.test"), "192.0.2.1\n");
    // Names of one label go out, unless the user has set ndots.
    assert_eq!(stage.dig("+short single"), "192.0.2.1\n");
    let before = first.asked();
    let mut settings = stage.settings();
    settings.ndots_set = true;
    resolver.set(settings);
    let answer = stage.dig("single");
    assert!(answer.contains("status: NOERROR") && answer.contains("ANSWER: 0"));
    assert_eq!(first.asked(), before);
    // The host gets another server: it is asked from now on.
    let second = Server::start(&stage.host, OUTSIDE[1], Behaviour::Answers(2));
    stage.host_servers(&OUTSIDE[1..]);
    assert_eq!(stage.dig("+short a.test"), "192.0.2.2\n");
    assert_eq!(first.asked(), before);
    assert!(second.asked() > 0);
}

#[test]
fn a_server_that_does_not_answer_is_passed_over() {
    let stage = Stage::new(&[front()]);
    // Nobody listens: the kernel says so at once.
    stage.host_servers(&["127.0.0.60".parse().unwrap(), OUTSIDE[1]]);
    let _resolver = stage.serve(stage.settings());
    let second = Server::start(&stage.host, OUTSIDE[1], Behaviour::Answers(2));
    assert_eq!(
        stage.dig("+short a.test +timeout=4 +tries=1"),
        "192.0.2.2\n"
    );
    assert_eq!(
        stage.dig("+short a.test +tcp +timeout=4 +tries=1"),
        "192.0.2.2\n"
    );
    // Somebody listens, and is silent.
    let silent = Server::start(&stage.host, OUTSIDE[0], Behaviour::Silent);
    stage.host_servers(&OUTSIDE);
    assert_eq!(
        stage.dig("+short a.test +timeout=4 +tries=1"),
        "192.0.2.2\n"
    );
    let asked = silent.asked();
    assert!(asked > 0);
    // Known to be silent: the other one is asked first.
    assert_eq!(
        stage.dig("+short a.test +timeout=1 +tries=1"),
        "192.0.2.2\n"
    );
    assert_eq!(silent.asked(), asked);
    assert!(second.asked() > 1);
    drop(second);
    drop(silent);
    assert!(
        stage
            .dig("a.test +timeout=9 +tries=1")
            .contains("status: SERVFAIL")
    );
    assert_eq!(stage.dig("+short web1"), "10.1.0.2\n");
}

#[test]
fn an_internal_network_leaks_no_query() {
    let stage = Stage::new(&[front()]);
    let canary = Server::start(&stage.host, OUTSIDE[0], Behaviour::Answers(1));
    stage.host_servers(&OUTSIDE[..1]);
    let mut settings = stage.settings();
    settings.external = false;
    let resolver = stage.serve(settings);
    for question in [
        "a.test",
        "a.test +tcp",
        "single",
        "-x 192.0.2.1",
        "a.test TXT",
        "version.bind CH TXT",
    ] {
        let answer = stage.dig(question);
        assert!(answer.contains("status: SERVFAIL"), "{question}: {answer}");
    }
    assert_eq!(stage.dig("+short web1"), "10.1.0.2\n");
    assert_eq!(canary.asked(), 0);
    // Joining a network that leads outside changes that.
    resolver.set(stage.settings());
    assert_eq!(stage.dig("+short a.test"), "192.0.2.1\n");
    assert_eq!(canary.asked(), 1);
}

#[test]
fn servers_of_the_user_are_asked_from_the_container() {
    let stage = Stage::new(&[front()]);
    let canary = Server::start(&stage.host, OUTSIDE[0], Behaviour::Answers(1));
    stage.host_servers(&OUTSIDE[..1]);
    // The container's own server, on port 53 of all addresses, as most servers listen: without SO_REUSEADDR.
    let inside = Server::start(
        &stage.container,
        Ipv4Addr::UNSPECIFIED.into(),
        Behaviour::Answers(3),
    );
    let mut settings = stage.settings();
    settings.servers = vec!["127.0.0.11".parse().unwrap(), Ipv4Addr::LOCALHOST.into()];
    settings.external = false;
    let _resolver = stage.serve(settings);
    assert_eq!(stage.dig("+short a.test"), "192.0.2.3\n");
    assert_eq!(stage.dig("+short a.test +tcp"), "192.0.2.3\n");
    assert_eq!(stage.dig("+short web1"), "10.1.0.2\n");
    assert!(inside.asked() >= 2);
    assert_eq!(canary.asked(), 0);
}

#[test]
fn a_container_may_listen_on_port_53_before_and_after() {
    let stage = Stage::new(&[front()]);
    stage.container.run(|| {
        let _udp = UdpSocket::bind("0.0.0.0:53").unwrap();
        let _tcp = TcpListener::bind("0.0.0.0:53").unwrap();
        let _both = TcpListener::bind("[::]:5353").unwrap();
    });
    let _resolver = stage.serve(stage.settings());
    stage.container.run(|| {
        let udp = UdpSocket::bind("0.0.0.0:53").unwrap();
        udp.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.send_to(b"mine", "127.0.0.1:53").unwrap();
        assert_eq!(udp.recv(&mut [0; 16]).unwrap(), 4);
    });
    assert_eq!(stage.dig("+short web1"), "10.1.0.2\n");
    let tracked = stage
        .container
        .run(|| std::fs::read_to_string("/proc/thread-self/net/stat/nf_conntrack"));
    if let Ok(tracked) = tracked {
        let entries = tracked.lines().nth(1).unwrap().split_whitespace().next();
        assert_eq!(entries, Some("00000000"), "{tracked}");
    }
}

#[test]
fn random_packets_change_nothing() {
    let stage = Stage::new(&[front()]);
    let _resolver = stage.serve(stage.settings());
    stage.container.run(|| {
        let mut random = Random(0x1234_5678_9abc_def1);
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.connect("127.0.0.11:53").unwrap();
        client.set_nonblocking(true).unwrap();
        // A question that is right, to be spoiled.
        let good = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x04web1\x00\x00\x01\x00\x01";
        let mut answer = [0; 4096];
        for round in 0..10_000 {
            let packet = if round % 2 == 0 {
                (0..random.below(600)).map(|_| random.byte()).collect()
            } else {
                let mut packet = good.to_vec();
                for _ in 0..=random.below(4) {
                    let place = random.below(packet.len());
                    packet[place] = random.byte();
                }
                // Pointers to themselves and backwards.
                if random.below(4) == 0 {
                    packet.truncate(12);
                    packet.extend([0xc0, u8::try_from(random.below(20)).unwrap()]);
                    packet.extend([0, 1, 0, 1]);
                }
                packet
            };
            // A full queue on the way is no matter.
            let _ = client.send(&packet);
            while client.recv(&mut answer).is_ok() {}
        }
        for _ in 0..50 {
            let mut stream = TcpStream::connect("127.0.0.11:53").unwrap();
            let rubbish: Vec<u8> = (0..random.below(3000)).map(|_| random.byte()).collect();
            // It may be closed already.
            let _ = stream.write_all(&rubbish);
        }
        // Two questions on one connection, cut into pieces; both are answered.
        let mut stream = TcpStream::connect("127.0.0.11:53").unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(5)))
            .unwrap();
        let mut frame = vec![0, u8::try_from(good.len()).unwrap()];
        frame.extend_from_slice(good);
        for byte in frame.iter().chain(&frame) {
            stream.write_all(&[*byte]).unwrap();
        }
        let mut lengths = [0; 2];
        for _ in 0..2 {
            stream.read_exact(&mut lengths).unwrap();
            let mut message = vec![0; usize::from(u16::from_be_bytes(lengths))];
            stream.read_exact(&mut message).unwrap();
            assert_eq!(message[..2], good[..2]);
            assert_eq!(message[message.len() - 4..], [10, 1, 0, 2]);
        }
    });
    assert_eq!(stage.dig("+short web1 +timeout=5"), "10.1.0.2\n");
}

/// A generator of Marsaglia's (xorshift64).
struct Random(u64);

impl Random {
    fn byte(&mut self) -> u8 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.to_le_bytes()[3]
    }

    fn below(&mut self, limit: usize) -> usize {
        (usize::from(self.byte()) << 8 | usize::from(self.byte())) % limit
    }
}
