//! Names inside users' networks, asked by dig.

use super::*;

/// Lines that dig prints for a question asked inside a container.
#[track_caller]
fn dig(site: &Site, container: &str, question: &str) -> Vec<String> {
    needs::program("dig", "bind9-dnsutils");
    let pid = site.daemon.container_pid(container);
    let output = berth_testkit::Command::new("nsenter")
        .args([&format!("--net=/proc/{pid}/ns/net"), "dig"])
        .args(["@127.0.0.11", "+short", "+tries=1", "+time=5"])
        .args(question.split(' '))
        .run()
        .ok();
    let mut lines: Vec<String> = output.text().lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

#[test]
fn dig_finds_members_of_a_network() {
    let mut site = Site::new();
    site.run("network create --ipv6 front");
    site.run("run -d --name box --network front busybox sleep 1000");
    for name in ["one", "two", "three"] {
        site.run(&format!(
            "run -d --name {name} --network front --network-alias pool busybox sleep 1000"
        ));
    }
    let of = |name: &str| site.address(name, "front");
    let all = {
        let mut all = vec![of("one"), of("two"), of("three")];
        all.sort();
        all
    };
    let ipv6 =
        site.daemon.inspect("one")["NetworkSettings"]["Networks"]["front"]["GlobalIPv6Address"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
    let short = site.daemon.inspect("one")["Id"]
        .as_str()
        .unwrap_or_default()[..12]
        .to_owned();
    let (one, two) = (of("one"), of("two"));
    for (question, answer) in [
        ("one A".to_owned(), vec![one.clone()]),
        ("one AAAA".to_owned(), vec![ipv6.clone()]),
        ("one.front A".to_owned(), vec![one.clone()]),
        (format!("{short} A"), vec![one.clone()]),
        ("pool A".to_owned(), all.clone()),
        ("+tcp pool A".to_owned(), all.clone()),
        ("+noedns pool A".to_owned(), all.clone()),
        ("+bufsize=512 pool A".to_owned(), all.clone()),
        (format!("-x {two}"), vec!["two.front.".to_owned()]),
        (format!("-x {ipv6}"), vec!["one.front.".to_owned()]),
        ("one MX".to_owned(), Vec::new()),
    ] {
        assert_eq!(dig(&site, "box", &question), answer, "{question}");
    }
    // They take turns: each comes first at some time.
    let firsts: std::collections::BTreeSet<String> = (0..12)
        .filter_map(|_| {
            let pid = site.daemon.container_pid("box");
            let asked = berth_testkit::Command::new("nsenter")
                .args([&format!("--net=/proc/{pid}/ns/net"), "dig"])
                .args(["@127.0.0.11", "+short", "pool"])
                .run()
                .ok();
            asked.text().lines().next().map(str::to_owned)
        })
        .collect();
    assert_eq!(firsts.len(), 3, "{firsts:?}");
    // A new name is answered at once, the old one no more by us.
    site.run("rename one uno");
    assert_eq!(dig(&site, "box", "uno A"), [one]);
    site.run("rm -f three");
    assert_eq!(dig(&site, "box", "pool A").len(), 2);
    let pid = site.daemon.container_pid("box");
    site.daemon.kill();
    let asked = berth_testkit::Command::new("nsenter")
        .args([&format!("--net=/proc/{pid}/ns/net"), "dig"])
        .args(["@127.0.0.11", "+short", "two"])
        .run()
        .ok();
    assert_eq!(asked.text().trim(), two, "without a daemon");
    site.daemon.launch();
    assert_eq!(dig(&site, "box", "two A"), [two]);
}

#[test]
fn names_are_of_the_networks_that_are_shared() {
    let site = Site::new();
    site.run("network create front");
    site.run("network create back");
    site.run("run -d --name db --network back busybox sleep 1000");
    site.run("run -d --name web --network front --link db:store busybox sleep 1000");
    assert!(dig(&site, "web", "+noall db A").is_empty());
    site.run("network connect --link db:files back web");
    assert_eq!(dig(&site, "web", "db A"), [site.address("db", "back")]);
    assert_eq!(dig(&site, "web", "files A"), [site.address("db", "back")]);
    site.run("network disconnect back web");
    let pid = site.daemon.container_pid("web");
    let hosts = std::fs::read_to_string(format!("/proc/{pid}/root/etc/hosts")).unwrap();
    assert_eq!(hosts.matches("\tweb").count(), 0, "{hosts}");
}
