//! What running containers notice of the daemon's end, and how many networks there may be.

use std::time::Instant;

use super::*;

#[test]
fn no_request_fails_while_the_daemon_is_killed_and_started() {
    let mut site = Site::new();
    needs::program("wrk", "wrk");
    site.run("network create front");
    site.run(&format!(
        "run -d --name web -h web --network front -p 8080:80 busybox {PAGES}"
    ));
    until_page(&site.outside, "http://198.51.100.1:8080", "web");
    let load = site
        .outside
        .command("wrk -t 1 -c 4 -d 6s --timeout 10s http://198.51.100.1:8080/");
    let load = std::thread::spawn(move || load.run());
    for _ in 0..3 {
        site.daemon.kill();
        site.daemon.launch();
        site.run("run --rm --network front busybox true");
    }
    let told = load.join().unwrap().ok();
    let text = told.text();
    assert!(text.contains("requests in"), "{text}");
    for failure in ["Socket errors", "Non-2xx"] {
        assert!(!text.contains(failure), "{text}");
    }
}

#[test]
fn two_hundred_networks() {
    let site = Site::with(&["--default-address-pool", "base=10.64.0.0/12,size=24"]);
    let begin = Instant::now();
    for n in 0..200 {
        site.run(&format!("network create n{n}"));
    }
    let made = begin.elapsed();
    for n in [0, 99, 199] {
        site.run(&format!(
            "run -d --name c{n} --network n{n} busybox sleep 1000"
        ));
        site.run(&format!("exec c{n} ping -c 1 -W 5 198.51.100.2"));
        assert!(!site.address(&format!("c{n}"), &format!("n{n}")).is_empty());
    }
    let far = site.address("c199", "n199");
    let reached = site.daemon.berth(&format!("exec c0 ping -c 1 -W 1 {far}"));
    assert_ne!(reached.code(), 0, "networks are apart");
    let mut site = site;
    let begin = Instant::now();
    site.daemon.crash_and_restart();
    site.run("exec c99 ping -c 1 -W 5 198.51.100.2");
    let restarted = begin.elapsed();
    site.run("rm -f c0 c99 c199");
    let begin = Instant::now();
    let pruned = site.run("network prune -f");
    let removed = begin.elapsed();
    assert_eq!(
        pruned.lines().filter(|l| l.starts_with('n')).count(),
        200,
        "{pruned}"
    );
    wait::until("nothing is left", || site.things().is_empty());
    for (what, took, limit) in [
        ("making", made, 60),
        ("a restart", restarted, 20),
        ("removal", removed, 60),
    ] {
        assert!(
            took < wait::scaled(Duration::from_secs(limit)),
            "{what} took {took:?}"
        );
    }
}
