//! What a change costs, and that it does not grow.

use std::time::{Duration, Instant};

use berth_net::firewall::{Change, Parts};

use super::topology::{Host, published, v4};

#[test]
fn the_thousandth_port_costs_what_the_first_did() {
    let (mut host, _outside) = Host::new();
    host.network(11, |_| ());
    let firewall = &mut host.firewall;
    let times: Vec<Duration> = host.namespace.run(|| {
        (0..1000_u16)
            .map(|number| {
                let change = Change {
                    added: Parts {
                        ports: vec![published(11, "0.0.0.0", 10_000 + number, v4(11, 2))],
                        ..Parts::default()
                    },
                    ..Change::default()
                };
                let begun = Instant::now();
                firewall.apply(&change).unwrap();
                begun.elapsed()
            })
            .collect()
    });
    // They are all there.
    let healed = host.namespace.run(|| firewall.heal().unwrap());
    assert_eq!(healed, berth_net::firewall::Healed::default());
    let listed = host
        .namespace
        .command("nft list map inet berth-test public-any4");
    assert_eq!(listed.matches("10.11.0.2 . 80").count(), 1000);
    let median = |times: &[Duration]| {
        let mut times = times.to_vec();
        times.sort();
        times[times.len() / 2]
    };
    let (first, last) = (median(&times[..100]), median(&times[900..]));
    eprintln!("one more port: {first:?} at first, {last:?} after 900");
    assert!(last < first * 2 + Duration::from_micros(200));
}
