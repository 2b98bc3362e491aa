//! SIGKILL for the daemon at random moments of prune and of removals: what was told to be gone is gone, what is in use
//! stays whole, and the next prune gives back all the space.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Instant;

use berth_testkit::archive::{Image, Layer};
use berth_testkit::random::Random;
use berth_testkit::{Daemon, Engine, Settings, images};
use serde_json::{Value, json};

use crate::deaths;
use crate::load::call;

/// How often the daemon dies; `BERTH_TEST_PRUNE_KILLS` asks for another number.
const KILLS: u64 = 12;

/// It is killed within this time after the removals began.
const LIFE_MILLISECONDS: u64 = 120;

/// Images, containers, volumes and networks that nobody needs, of each kind, in each round.
const RUBBISH: usize = 4;

const DIRECTORIES: [&str; 4] = ["blobs", "layers", "containers", "volumes"];

/// What the volume in use holds.
const VALUABLE: &str = "this is needed";

/// Ids and names that an answer said are gone.
type Gone = BTreeSet<String>;

fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut random = Random::new(seed);
    (0..length / 8)
        .flat_map(|_| random.next_u64().to_le_bytes())
        .collect()
}

/// Makes what is to be removed.
fn litter(daemon: &Daemon, round: u64) {
    for number in 0..RUBBISH {
        let seed = round * 100 + number as u64;
        let layer = Layer::new()
            .directory("data", 0o755)
            .file("f", 0o644, noise(seed, 1 << 20));
        let mut image = images::busybox().expect("busybox");
        image.layers.push(layer.finish());
        image.name = format!("rubbish:{number}");
        load(daemon, &image);
        let name = format!("r{round}-{number}");
        let body = json!({
            "Image": image.name,
            "Cmd": ["true"],
            "HostConfig": {"NetworkMode": "none", "Mounts": [
                {"Type": "volume", "Target": "/data"},
                {"Type": "volume", "Target": "/named", "Source": format!("v{round}-{number}")},
            ]},
        });
        let target = format!("/containers/create?name={name}");
        daemon.api("POST", &target, Some(&body)).expect(201);
        let body = Layer::new()
            .file("data/f", 0o644, noise(seed + 50, 300_000))
            .file("named/f", 0o644, noise(seed + 60, 300_000))
            .file("own", 0o644, noise(seed + 70, 300_000));
        let target = format!("/containers/{name}/archive?path=/");
        daemon.api_bytes("PUT", &target, &body.finish()).expect(200);
        daemon
            .berth(&format!("network create n{round}-{number}"))
            .ok();
    }
}

fn load(daemon: &Daemon, image: &Image) {
    let bytes = image.docker_archive().expect("an archive");
    daemon
        .api_bytes("POST", "/images/load?quiet=1", &bytes)
        .expect(200);
}

/// What `system prune` asks for and two removals by name, in any order, until the daemon is gone.
fn clean(socket: &Path, mut random: Random, round: u64) -> Gone {
    let named = "filters=%7B%22all%22%3A%7B%22true%22%3Atrue%7D%7D";
    let dangling = "filters=%7B%22dangling%22%3A%7B%22false%22%3Atrue%7D%7D";
    let mut gone = Gone::new();
    loop {
        let number = random.below(RUBBISH as u64);
        let (method, target) = match random.below(7) {
            0 | 1 => ("POST", "/containers/prune".to_owned()),
            2 => ("POST", format!("/volumes/prune?{named}")),
            3 => ("POST", format!("/images/prune?{dangling}")),
            4 => ("POST", "/networks/prune".to_owned()),
            5 => ("DELETE", format!("/containers/r{round}-{number}?v=1")),
            _ => ("DELETE", format!("/images/rubbish:{number}?force=1")),
        };
        let Ok((status, body)) = call(socket, method, &target, None) else {
            return gone;
        };
        let known = matches!(status, 200 | 204 | 404 | 409);
        assert!(known, "{method} {target}: {status} {body}");
        if status == 204 {
            gone.insert(format!("r{round}-{number}"));
        }
        for list in ["ContainersDeleted", "VolumesDeleted", "NetworksDeleted"] {
            let names = body[list].as_array().into_iter().flatten();
            gone.extend(names.filter_map(|name| Some(name.as_str()?.to_owned())));
        }
        // Of a removal the answer itself is the list.
        let images = body["ImagesDeleted"].as_array().or(body.as_array());
        for one in images.into_iter().flatten() {
            gone.extend(one["Deleted"].as_str().map(str::to_owned));
            gone.extend(one["Untagged"].as_str().map(str::to_owned));
        }
    }
}

/// Every id and name that the engine still tells of.
fn listed(daemon: &Daemon) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut take = |value: &Value| {
        let name = value.as_str().unwrap_or_default();
        names.insert(name.trim_start_matches('/').to_owned());
    };
    for (target, list) in [
        ("/containers/json?all=1", None),
        ("/images/json?all=1", None),
        ("/networks", None),
        ("/volumes", Some("Volumes")),
    ] {
        let answer = daemon.api("GET", target, None).expect(200).json();
        let list = list.map_or(&answer, |name| &answer[name]);
        for one in list.as_array().into_iter().flatten() {
            take(&one["Id"]);
            take(&one["Name"]);
            for name in ["Names", "RepoTags"] {
                one[name]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .for_each(&mut take);
            }
        }
    }
    names
}

/// What is in use is as it was, and what is left of the rest is whole.
#[track_caller]
fn check(daemon: &Daemon, gone: &Gone, round: u64, moment: &str) {
    let listed = listed(daemon);
    // The image that is built in is there whenever the engine starts.
    let hello = daemon.api("GET", "/images/berth/hello/json", None);
    let hello = hello.expect(200).json()["Id"].clone();
    let back: Vec<&String> = gone
        .intersection(&listed)
        .filter(|name| *name != "berth/hello:latest" && hello != ***name)
        .collect();
    assert!(
        back.is_empty(),
        "{moment}: back after their removal: {back:?}"
    );
    for name in ["kept", "kept-net", "kept:1"] {
        assert!(
            listed.contains(name),
            "{moment}: {name} is lost: {listed:?}"
        );
    }
    assert_eq!(daemon.status("kept"), "running", "{moment}");
    daemon
        .berth("exec kept cat /data/f /own")
        .ok()
        .prints(&format!("{VALUABLE}{VALUABLE}"));
    for number in 0..RUBBISH {
        let volume = format!("v{round}-{number}");
        if listed.contains(&volume) {
            let path = daemon.data_root().join(format!("volumes/{volume}/_data/f"));
            let found = fs::read(&path).unwrap_or_default();
            let seed = round * 100 + number as u64 + 60;
            assert!(
                found == noise(seed, 300_000),
                "{moment}: {volume} is not whole"
            );
        }
        let container = format!("r{round}-{number}");
        // One whose removal was begun is not listed as anything that could be used.
        if listed.contains(&container) && daemon.status(&container) == "created" {
            daemon.berth(&format!("start -a {container}")).ok();
        }
    }
    deaths::check_store(daemon, moment);
}

#[test]
fn what_is_removed_goes_whole_and_nothing_else_does() {
    let (mut random, seed) = Random::from_environment();
    let kills = deaths::count("BERTH_TEST_PRUNE_KILLS", KILLS);
    let settings = Settings {
        without_images: true,
        network: true,
        ..Settings::default()
    };
    let mut daemon = Daemon::with(Engine::Berth, settings);
    let mut image = images::busybox().expect("busybox");
    "kept:1".clone_into(&mut image.name);
    load(&daemon, &image);
    daemon.berth("network create kept-net").ok();
    daemon
        .berth("run -d --network kept-net --name kept -v kept:/data kept:1 sleep 100000")
        .ok();
    let script = format!("printf \"{VALUABLE}\" | tee /data/f /own");
    daemon.berth(&format!("exec kept sh -c '{script}'")).ok();
    let before = deaths::occupied(&daemon, &DIRECTORIES);
    let mut removed = 0;
    let started = Instant::now();
    for round in 1..=kills {
        let moment = format!("seed {seed}, round {round}");
        litter(&daemon, round);
        let worker = Random::new(random.next_u64());
        // On a slow machine it lives longer, until something was ever finished.
        let life = LIFE_MILLISECONDS * if removed == 0 { round } else { 1 };
        let gone = deaths::during(&mut daemon, &mut random, life, |socket| {
            clean(&socket, worker, round)
        });
        removed += gone.len();
        check(&daemon, &gone, round, &moment);
        daemon.berth("system prune -af --volumes").ok();
        daemon.berth("volume prune -af").ok();
        let left = listed(&daemon);
        let rubbish = left.iter().find(|name| {
            name.starts_with("rubbish") || name.starts_with(['r', 'v', 'n']) && name.contains('-')
        });
        assert_eq!(rubbish, None, "{moment}: after a prune that ended");
        deaths::space_comes_back(&daemon, &DIRECTORIES, before, &moment);
        if started.elapsed() > deaths::TIME {
            break;
        }
    }
    assert!(removed > 0, "seed {seed}: nothing was ever removed");
    daemon.berth("rm -f kept").ok();
    daemon.berth("network rm kept-net").ok();
    daemon.assert_clean();
}
