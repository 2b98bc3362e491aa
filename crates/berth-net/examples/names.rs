//! Measures a resolver: how long one answer takes, and how many there are in a second. Needs root.
//!
//! `cargo run --release -p berth-net --example names`

#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::net::{Ipv4Addr, UdpSocket};
use std::path::Path;
use std::time::{Duration, Instant};

use berth_net::dns::names::{Member, NetworkNames};
use berth_net::dns::{DnsSettings, DnsSockets, Responder};
use berth_sys::namespace::{self, Kind};

/// A query for the address of `web1`.
const QUERY: &[u8] =
    b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x04web1\x00\x00\x01\x00\x01";
const ROUNDS: u32 = 50_000;
const WINDOW: u32 = 64;

fn main() {
    namespace::unshare(Kind::Network.flag()).unwrap();
    berth_sys::network::bring_up_loopback().unwrap();
    let own = namespace::open(Path::new("/proc/thread-self/ns/net")).unwrap();
    let file = std::env::temp_dir().join(format!("berth-names-{}", std::process::id()));
    let mut names = NetworkNames::new("front");
    for number in 0..100_u8 {
        names.members.push(Member {
            container: format!("c{number}"),
            names: vec![format!("web{number}")],
            ipv4: Some(Ipv4Addr::new(10, 0, 0, number)),
            ..Member::default()
        });
    }
    names.write(&file).unwrap();
    let begin = Instant::now();
    let sockets = DnsSockets::prepare().unwrap();
    println!("sockets and rules: {:?}", begin.elapsed());
    let mut settings = DnsSettings::new("c0");
    settings.networks.push(file.clone());
    let mut responder = Responder::new(settings, sockets, own).unwrap();
    std::thread::spawn(move || {
        loop {
            {
                let descriptor = responder.descriptor();
                let flags = rustix::event::PollFlags::IN;
                let mut polled = [rustix::event::PollFd::new(&descriptor, flags)];
                rustix::event::poll(&mut polled, None).unwrap();
            }
            responder.turn();
        }
    });
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.connect("127.0.0.11:53").unwrap();
    client
        .set_read_timeout(Some(Duration::from_secs(5)))
        .unwrap();
    let mut answer = [0; 512];
    let mut times: Vec<Duration> = (0..ROUNDS)
        .map(|_| {
            let begin = Instant::now();
            client.send(QUERY).unwrap();
            client.recv(&mut answer).unwrap();
            begin.elapsed()
        })
        .collect();
    times.sort();
    println!(
        "one after another: median {:?}, 99 % {:?}",
        times[times.len() / 2],
        times[times.len() * 99 / 100]
    );
    let begin = Instant::now();
    for _ in 0..WINDOW {
        client.send(QUERY).unwrap();
    }
    for _ in 0..ROUNDS {
        client.recv(&mut answer).unwrap();
        client.send(QUERY).unwrap();
    }
    let rate = f64::from(ROUNDS) / begin.elapsed().as_secs_f64();
    println!("{WINDOW} on their way: {rate:.0} answers a second");
    std::fs::remove_file(file).unwrap();
}
