//! Prints what making, taking and attaching sandboxes costs. Needs root; makes a namespace of its own.

#![allow(clippy::print_stdout)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use berth_net::address::{HardwareAddress, Prefix};
use berth_net::link::{BridgePlan, BridgePort, Host};
use berth_net::sandbox::{EndpointKind, EndpointPlan, Gateway, Sandbox, SandboxPool};
use berth_sys::namespace;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // The host is a fresh namespace, entered by this thread alone and left to the kernel at the end.
    namespace::unshare(namespace::Kind::Network.flag())?;
    let host = Arc::new(Host::open()?);
    host.ensure_bridge(&BridgePlan {
        name: "br0".parse()?,
        owner: "figures".to_owned(),
        mtu: None,
        hardware_address: HardwareAddress([2, 1, 2, 3, 4, 5]),
        addresses: vec!["172.20.0.1/16".parse()?, "fd00:20::1/64".parse()?],
        ipv6: true,
        route_localnet: false,
    })?;
    let tell = |what: &str, mut times: Vec<Duration>| {
        times.sort_unstable();
        let place = |part: usize| times[(times.len() - 1) * part / 100];
        println!(
            "{what}: p50 {:?}, p90 {:?}, most {:?} ({})",
            place(50),
            place(90),
            place(100),
            times.len()
        );
    };
    let plan = |number: u32, ipv6: bool| {
        let mut plan = EndpointPlan::new(
            "eth0".parse().expect("a name"),
            EndpointKind::Bridge {
                bridge: "br0".parse().expect("a name"),
                host_end: format!("veth{number:x}").parse().expect("a name"),
                owner: format!("figures {number:x}"),
                port: BridgePort::default(),
            },
        );
        plan.gateway_ipv4 = Some(Gateway::Address([172, 20, 0, 1].into()));
        let address = std::net::Ipv4Addr::from_bits(0xac14_0100 + number);
        plan.hardware_address = Some(HardwareAddress::from_ipv4(address));
        plan.addresses = vec![format!("{address}/16").parse::<Prefix>().expect("a prefix")];
        if ipv6 {
            plan.addresses.push(
                format!("fd00:20::{:x}/64", number + 16)
                    .parse::<Prefix>()
                    .expect("a prefix"),
            );
            plan.gateway_ipv6 = Some(Gateway::Address("fd00:20::1".parse().expect("an address")));
        }
        plan
    };
    let (mut bare, mut paired, mut attach, mut dual, mut named) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for number in 0..60_u32 {
        let start = Instant::now();
        drop(Sandbox::new().expect("a sandbox"));
        bare.push(start.elapsed());
        let start = Instant::now();
        let mut sandbox = Sandbox::with_pair(&host, 1500).expect("a sandbox");
        paired.push(start.elapsed());
        std::thread::sleep(Duration::from_millis(5));
        let mut plan = plan(number, number % 3 == 1);
        if number % 3 == 2 {
            plan.interface = "net0".parse()?;
        }
        let start = Instant::now();
        sandbox.attach(&host, &plan).expect("a sandbox");
        match number % 3 {
            0 => attach.push(start.elapsed()),
            1 => dual.push(start.elapsed()),
            _ => named.push(start.elapsed()),
        }
    }
    tell("make a namespace", bare);
    tell("make a namespace with a pair", paired);
    tell("attach IPv4", attach);
    tell("attach IPv4 and IPv6", dual);
    tell("attach IPv4, interface renamed", named);

    let pool = SandboxPool::new(Arc::clone(&host), 1500).expect("a sandbox");
    stocked(&pool);
    let start = Instant::now();
    let times: Vec<(Duration, Sandbox)> = std::thread::scope(|scope| {
        let threads: Vec<_> = (100..200_u32)
            .map(|number| {
                let (pool, host, plan) = (&pool, &host, plan(number, false));
                scope.spawn(move || {
                    let start = Instant::now();
                    let mut sandbox = pool.take().expect("a sandbox");
                    sandbox.attach(host, &plan).expect("a sandbox");
                    (start.elapsed(), sandbox)
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().expect("a sandbox"))
            .collect()
    });
    println!("100 at once: {:?} together", start.elapsed());
    let (times, kept): (Vec<_>, Vec<_>) = times.into_iter().unzip();
    tell("100 at once, each", times);
    drop(kept);

    let mut kept = Vec::new();
    for step in 0..4_u32 {
        let (mut taken, mut attached) = (Vec::new(), Vec::new());
        for number in 0..250_u32 {
            if number % 10 == 0 {
                stocked(&pool);
            }
            let start = Instant::now();
            let mut sandbox = pool.take().expect("a sandbox");
            taken.push(start.elapsed());
            let start = Instant::now();
            sandbox
                .attach(&host, &plan(1000 + step * 250 + number, false))
                .expect("a sandbox");
            attached.push(start.elapsed());
            kept.push(sandbox);
        }
        tell(
            &format!("take, up to {} endpoints", (step + 1) * 250),
            taken,
        );
        tell(
            &format!("attach, up to {} endpoints", (step + 1) * 250),
            attached,
        );
    }
    let start = Instant::now();
    kept.truncate(1);
    println!("drop 999: {:?}", start.elapsed());
    Ok(())
}

/// Waits until the pool has something to give.
fn stocked(pool: &SandboxPool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while pool.figures().ready < 4 && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(1));
    }
}
