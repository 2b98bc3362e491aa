//! Networks of users, in a network namespace of the daemon's own.

use std::io::{BufRead, BufReader, Read, Write};

use berth_testkit::daemon::API;
use berth_testkit::{Daemon, network, wait};
use serde_json::{Value, json};

use crate::subject::Subject;

/// Starts a container that sleeps, and waits until it runs.
fn sleeper(on: &Subject, name: &str, flags: &str) {
    on.cli(&format!("run -d --name {name} {flags} busybox sleep 1000"))
        .ok();
    on.daemon.wait_for(name, "running");
}

fn told(on: &Subject, line: &str) -> String {
    on.cli(line).ok().text().to_owned()
}

pub(crate) fn networks_are_made_listed_and_removed(on: &Subject) {
    let on = &on.with_network();
    let line = "network ls --format '{{.Name}} {{.Driver}} {{.Scope}}'";
    assert_eq!(
        told(on, line),
        "bridge bridge local\nhost host local\nnone null local"
    );
    let id = told(
        on,
        "network create --subnet 10.123.0.0/24 --gateway 10.123.0.9 --ip-range 10.123.0.128/25 \
         --label who=me -o com.docker.network.bridge.name=br-test first",
    );
    assert_eq!(id.len(), 64);
    on.cli("network create --internal two").ok();
    let line = "network ls -f type=custom --format '{{.Name}} {{.Internal}} {{.Label \"who\"}}'";
    assert_eq!(told(on, line), "first false me\ntwo true");
    assert_eq!(told(on, "network ls -q --no-trunc -f name=first"), id);
    let line = "network inspect -f '{{range .IPAM.Config}}{{.Subnet}} {{.IPRange}} {{.Gateway}}{{end}} {{.Driver}} {{.EnableIPv6}}' first";
    assert_eq!(
        told(on, line),
        "10.123.0.0/24 10.123.0.128/25 10.123.0.9 bridge false"
    );
    assert_eq!(
        told(on, "inspect --type network -f '{{.Name}}' first"),
        "first"
    );
    assert_eq!(told(on, "network rm first"), "first");
    let bridge = on.daemon.network().on_host("ip");
    let gone = bridge.args(["link", "show", "br-test"]).run();
    assert_ne!(gone.code(), 0, "{gone}");
    on.cli("network prune -f").ok().prints("two");
    on.cli("network inspect two").exits(1).says("not found");
}

pub(crate) fn containers_join_and_leave(on: &Subject) {
    let on = &on.with_network();
    on.cli("network create --subnet 10.124.0.0/24 one").ok();
    on.cli("network create --subnet 10.125.0.0/24 two").ok();
    // The packaged reference is too old for a hardware address in a user's network.
    let mac = if on.is_reference() {
        ""
    } else {
        ",mac-address=02:42:0a:7c:00:4d"
    };
    let flags = format!("--network name=one,ip=10.124.0.77,alias=first{mac}");
    sleeper(on, "box", &flags);
    let endpoint = &on.daemon.inspect("box")["NetworkSettings"]["Networks"]["one"];
    assert_eq!(endpoint["IPAddress"], "10.124.0.77");
    if !mac.is_empty() {
        assert_eq!(endpoint["MacAddress"], "02:42:0a:7c:00:4d");
    }
    assert_eq!(endpoint["Gateway"], "10.124.0.1");
    assert_eq!(endpoint["IPPrefixLen"], 24);
    on.cli("exec box ip -4 address show eth0")
        .ok()
        .prints("10.124.0.77/24");
    on.cli("network connect --ip 10.125.0.5 --alias second two box")
        .ok();
    on.cli("exec box ip -4 address show eth1")
        .ok()
        .prints("10.125.0.5/24");
    // The stock client lists them in no order.
    let listed = told(on, "ps --format '{{.Networks}}'");
    let mut listed: Vec<&str> = listed.split(',').collect();
    listed.sort_unstable();
    assert_eq!(listed, ["one", "two"]);
    let line = "network inspect -f '{{range .Containers}}{{.Name}} {{.IPv4Address}}{{end}}' two";
    assert_eq!(told(on, line), "box 10.125.0.5/24");
    on.cli("network rm two")
        .exits(1)
        .says("has active endpoints");
    on.cli("network disconnect two box").ok();
    let gone = on.cli("exec box ip link show eth1");
    assert_ne!(gone.code(), 0, "{gone}");
    on.cli("network disconnect two box")
        .exits(1)
        .says("is not connected");
    on.cli("network rm two").ok();
    // The address stays with the container.
    on.cli("restart -t 0 box").ok();
    let again = &on.daemon.inspect("box")["NetworkSettings"]["Networks"]["one"];
    assert_eq!(again["IPAddress"], "10.124.0.77");
}

pub(crate) fn names_are_found(on: &Subject) {
    let on = &on.with_network();
    on.cli("network create --subnet 10.126.0.0/24 names").ok();
    sleeper(
        on,
        "web",
        "--network names --ip 10.126.0.10 --network-alias www",
    );
    let ask = |name: &str| {
        on.cli(&format!(
            "run --rm --network names busybox ping -c 1 -W 5 {name}"
        ))
    };
    for name in ["web", "www"] {
        ask(name).ok().prints("(10.126.0.10)");
    }
    ask("no-such-name").exits(1);
    on.cli("run --rm --network names --add-host there:10.9.9.9 busybox cat /etc/hosts")
        .ok()
        .prints("10.9.9.9\tthere");
    on.cli("run --rm --network names --dns 192.0.2.53 --dns-search example.org busybox cat /etc/resolv.conf")
        .ok()
        .prints("nameserver 127.0.0.11");
}

pub(crate) fn ports_are_published(on: &Subject) {
    let on = &on.with_network();
    let serve = "'mkdir /w; echo hello >/w/index.html; httpd -f -p 80 -h /w'";
    on.cli(&format!(
        "run -d --name web -p 8080:80 -p 127.0.0.1:9090:81/udp --expose 99 busybox sh -c {serve}"
    ))
    .ok();
    on.daemon.wait_for("web", "running");
    let fetch = |curl: berth_testkit::Command, address: &str| {
        let url = format!("http://{address}:8080/");
        curl.args(["-sS", "--max-time", "5", &url]).run()
    };
    let hosts = on.daemon.network();
    wait::until("the published port answers outside", || {
        fetch(hosts.on_outside("curl"), network::HOST).text() == "hello"
    });
    for address in ["127.0.0.1", network::HOST] {
        let answer = fetch(hosts.on_host("curl"), address).ok();
        assert_eq!(answer.text(), "hello", "{address}");
    }
    let port = told(on, "port web 80");
    assert!(port.starts_with("0.0.0.0:8080"), "{port}");
    assert_eq!(told(on, "port web 81/udp"), "127.0.0.1:9090");
    on.cli("port web").ok().prints("80/tcp -> 0.0.0.0:8080");
    let shown = told(on, "ps --format '{{.Ports}}'");
    for part in ["0.0.0.0:8080->80/tcp", "127.0.0.1:9090->81/udp", "99/tcp"] {
        assert!(shown.contains(part), "{part} in {shown}");
    }
    if on.has_own_commands() {
        let line =
            "ports --format '{{.Port}} {{.Published}} {{.Network}} {{.Policy}} {{.Reach}}' web";
        let reached = told(on, line);
        for part in [
            "80/tcp 0.0.0.0:8080 bridge compat network",
            "81/udp 127.0.0.1:9090 bridge compat host",
        ] {
            assert!(reached.contains(part), "{part} in {reached}");
        }
    }
    on.cli("run --rm -p 8080:80 busybox true")
        .exits(125)
        .says("8080");
    on.cli("rm -f web").ok();
    on.cli("run --rm -p 8080:80 busybox true").ok();
}

pub(crate) fn mistakes_are_told(on: &Subject) {
    let on = &on.with_network();
    on.cli("network create --subnet 10.127.0.0/24 one").ok();
    for (line, text) in [
        ("network create one", "already exists"),
        ("network create --subnet 10.127.0.0/25 other", "overlap"),
        ("network create -d nosuch other", "nosuch"),
        ("network create bridge", "bridge"),
        ("network rm bridge", "pre-defined network"),
        ("network rm nosuch", "not found"),
        ("network connect one nosuch", "no such container"),
    ] {
        on.cli(line).exits(1).says(text);
    }
    on.cli("run --rm --network one --ip 10.1.2.3 busybox true")
        .exits(125);
    // Nothing is left of what failed.
    assert_eq!(
        told(on, "network ls -f type=custom --format '{{.Name}}'"),
        "one"
    );
}

/// Makes a container by the API, without the time that a client takes.
fn create(daemon: &Daemon, name: &str, command: &[&str], host: &Value, networks: &Value) -> String {
    let body = json!({
        "Image": "busybox",
        "Cmd": command,
        "ExposedPorts": {"80/tcp": {}},
        "HostConfig": host,
        "NetworkingConfig": networks,
    });
    let target = format!("/containers/create?name={name}");
    let made = daemon.api("POST", &target, Some(&body)).expect(201).json();
    made["Id"].as_str().expect("an id").to_owned()
}

/// Asks for something that is done, and says what it was for where it is not.
fn done(daemon: &Daemon, method: &str, target: &str, what: &str) {
    let answer = daemon.api(method, target, None);
    assert_eq!(answer.status, 204, "{what}: {}", answer.text());
}

fn remove(daemon: &Daemon, ids: &[String]) {
    for id in ids {
        let target = format!("/containers/{id}?force=1");
        done(daemon, "DELETE", &target, "remove");
    }
}

/// Runs a container that removes itself, from its start to the moment its removal is told.
fn run_to_removal(daemon: &Daemon, id: &str, what: &str) {
    let mut waiting = BufReader::new(daemon.connect().expect("a connection"));
    let head = format!(
        "POST {API}/containers/{id}/wait?condition=removed HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
         Content-Length: 0\r\n\r\n"
    );
    waiting.get_mut().write_all(head.as_bytes()).expect("sent");
    // With the head the wait has begun.
    let mut line = String::new();
    waiting.read_line(&mut line).expect("an answer");
    assert!(line.contains(" 200 "), "{line}");
    done(daemon, "POST", &format!("/containers/{id}/start"), what);
    let mut rest = String::new();
    waiting.read_to_string(&mut rest).expect("the end");
    assert!(rest.contains("StatusCode"), "{rest}");
}

pub(crate) fn what_a_run_had_is_free_when_its_end_is_told(on: &Subject) {
    let on = &on.with_network();
    let daemon = &on.daemon;
    let port = |network: &str, auto_remove: bool| {
        json!({
            "NetworkMode": network,
            "AutoRemove": auto_remove,
            "PortBindings": {"80/tcp": [{"HostPort": "18080"}]},
        })
    };
    let subnet = json!({
        "Name": "own",
        "IPAM": {"Config": [{"Subnet": "10.126.0.0/24"}]},
    });
    for round in 0..6 {
        // The port of a container that has removed itself.
        for number in 0..3 {
            let name = format!("short{round}-{number}");
            let id = create(daemon, &name, &["true"], &port("bridge", true), &json!({}));
            run_to_removal(daemon, &id, "the port of one that has removed itself");
        }
        // The port of one that was stopped, and of one that was killed.
        for end in ["stop?t=0", "kill"] {
            let first = create(
                daemon,
                "first",
                &["sleep", "1000"],
                &port("bridge", false),
                &json!({}),
            );
            let second = create(
                daemon,
                "second",
                &["sleep", "1000"],
                &port("bridge", false),
                &json!({}),
            );
            done(
                daemon,
                "POST",
                &format!("/containers/{first}/start"),
                "start",
            );
            done(daemon, "POST", &format!("/containers/{first}/{end}"), end);
            let what = format!("the port after {end}");
            done(
                daemon,
                "POST",
                &format!("/containers/{second}/start"),
                &what,
            );
            remove(daemon, &[first, second]);
        }
        // Its address, and its place in a network.
        daemon
            .api("POST", "/networks/create", Some(&subnet))
            .expect(201);
        let host = json!({"NetworkMode": "own"});
        let at = json!({"EndpointsConfig": {"own": {"IPAMConfig": {"IPv4Address": "10.126.0.9"}}}});
        let ids: Vec<String> = ["first", "second"]
            .into_iter()
            .map(|name| create(daemon, name, &["sleep", "1000"], &host, &at))
            .collect();
        for id in &ids {
            done(
                daemon,
                "POST",
                &format!("/containers/{id}/start"),
                "the address of one that was stopped",
            );
            done(
                daemon,
                "POST",
                &format!("/containers/{id}/stop?t=0"),
                "stop",
            );
            let members = daemon.api("GET", "/networks/own", None).expect(200).json();
            assert_eq!(
                members["Containers"],
                json!({}),
                "a member that was stopped"
            );
        }
        done(
            daemon,
            "DELETE",
            "/networks/own",
            "a network whose only members were stopped",
        );
        remove(daemon, &ids);
        daemon
            .api("POST", "/networks/create", Some(&subnet))
            .expect(201);
        let own = json!({"NetworkMode": "own", "AutoRemove": true});
        let id = create(daemon, "only", &["true"], &own, &json!({}));
        run_to_removal(daemon, &id, "start");
        done(
            daemon,
            "DELETE",
            "/networks/own",
            "a network whose only member has removed itself",
        );
    }
}
