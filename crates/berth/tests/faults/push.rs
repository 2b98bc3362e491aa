//! SIGKILL for the daemon at random moments of a push: what a registry shows is whole, the image here stays what it
//! was, and the next push ends what this one began.

use std::path::Path;
use std::time::Instant;

use berth_testkit::archive::{Dialect, Image, Layer, digest};
use berth_testkit::random::Random;
use berth_testkit::registry::Registry;
use berth_testkit::scratch::Scratch;
use berth_testkit::served::Served;
use berth_testkit::{Daemon, Engine, Settings, http};
use serde_json::Value;

use crate::deaths;

/// How often the daemon dies; `BERTH_TEST_PUSH_KILLS` asks for another number.
const KILLS: u64 = 12;

/// It is killed within this time after the push began: about what a push takes.
const LIFE_MILLISECONDS: u64 = 500;

const LAYERS: u8 = 4;

/// Some layers that compress, so that a form of each is made for the push, and one that is larger than one request.
fn image() -> Image {
    let layers = (0..LAYERS)
        .map(|number| {
            let mut random = Random::new(u64::from(number) + 1);
            let words = if number == 0 { 1_500_000 } else { 150_000 };
            let content: Vec<u8> = (0..words)
                .flat_map(|_| (random.next_u64() >> 24).to_le_bytes())
                .collect();
            Layer::new()
                .file(&format!("f{number}"), 0o644, content)
                .finish()
        })
        .collect();
    Image::new("pushed:1", &["none"], layers)
}

fn push(socket: &Path, name: &str, tag: &str) -> bool {
    let target = format!("/images/{name}/push?tag={tag}");
    deaths::answer(socket, "POST", &target, "application/json", b"").is_some_and(|answer| {
        let text = answer.text();
        assert_eq!(answer.status, 200, "{text}");
        assert!(!text.contains("\"error\""), "{text}");
        text.contains("\"aux\"")
    })
}

fn get(port: u16, path: &str) -> Option<Vec<u8>> {
    let accept: Vec<(&str, &str)> = [Dialect::Oci, Dialect::Docker]
        .iter()
        .map(|dialect| ("Accept", dialect.manifest()))
        .collect();
    let connection = http::loopback(port).expect("the registry");
    let answer = http::request(connection, "GET", path, &accept, b"").expect("an answer");
    match answer.status {
        200 => Some(answer.body),
        404 => None,
        other => panic!("{path}: {other} {}", answer.text()),
    }
}

/// The manifest of a tag, if there is one, after all that it refers to was fetched and found right.
fn whole(port: u16, repository: &str, tag: &str, moment: &str) -> Option<String> {
    let bytes = get(port, &format!("/v2/{repository}/manifests/{tag}"))?;
    let manifest: Value = serde_json::from_slice(&bytes).expect("a manifest");
    let layers = manifest["layers"].as_array().expect("layers");
    assert_eq!(layers.len(), usize::from(LAYERS), "{moment}: {manifest}");
    for content in layers.iter().chain([&manifest["config"]]) {
        let wanted = content["digest"].as_str().expect("a digest");
        let found = get(port, &format!("/v2/{repository}/blobs/{wanted}"))
            .unwrap_or_else(|| panic!("{moment}: {wanted} is missing behind {tag}"));
        assert_eq!(digest(&found), wanted, "{moment}");
    }
    Some(digest(&bytes))
}

#[test]
fn a_push_is_whole_or_not_seen() {
    let (mut random, seed) = Random::from_environment();
    let kills = deaths::count("BERTH_TEST_PUSH_KILLS", KILLS);
    let storage = Scratch::new();
    let registry = Registry::empty(storage.path());
    let own = Served::start(&storage.path().join("own"), &[]);
    let settings = Settings {
        without_images: true,
        ..Settings::default()
    };
    let mut daemon = Daemon::with(Engine::Berth, settings);
    let places = ["blobs", "layers"];
    let empty = deaths::occupied(&daemon, &places);
    let image = image();
    daemon.load(&image);
    let before = deaths::occupied(&daemon, &places);
    let (mut broken, mut digests) = (0, Vec::new());
    let started = Instant::now();
    for round in 1..=kills {
        let moment = format!("seed {seed}, round {round}");
        let port = if round % 2 == 0 {
            registry.port()
        } else {
            own.port()
        };
        // Sometimes what an earlier push left there is gone on with.
        let repository = format!("pushed/r{}", random.below(3));
        let name = format!("127.0.0.1:{port}/{repository}");
        let tag = format!("t{round}");
        daemon.berth(&format!("tag pushed:1 {name}:{tag}")).ok();
        let (asked_name, asked_tag) = (name.clone(), tag.clone());
        let acknowledged = deaths::during(&mut daemon, &mut random, LIFE_MILLISECONDS, |socket| {
            push(&socket, &asked_name, &asked_tag)
        });
        let seen = whole(port, &repository, &tag, &moment);
        assert!(
            seen.is_some() || !acknowledged,
            "{moment}: {tag} is lost after it was acknowledged"
        );
        broken += u64::from(!acknowledged);
        // The image is what it was, and nothing of the push stays beside it.
        deaths::check_store(&daemon, &moment);
        assert_eq!(
            daemon.berth("images -q --no-trunc pushed:1").ok().text(),
            image.id(),
            "{moment}"
        );
        deaths::space_comes_back(&daemon, &places, before, &moment);
        // What was begun can be ended.
        assert!(push(&daemon.socket(), &name, &tag), "{moment}");
        let ended = whole(port, &repository, &tag, &moment).expect("the tag that was pushed");
        if let Some(seen) = seen {
            assert_eq!(seen, ended, "{moment}: another image under the same tag");
        }
        digests.push(ended);
        daemon.berth(&format!("rmi {name}:{tag}")).ok();
        if started.elapsed() > deaths::TIME {
            break;
        }
    }
    assert!(broken > 0, "seed {seed}: no push was ever broken off");
    digests.dedup();
    assert_eq!(
        digests.len(),
        1,
        "seed {seed}: one image, several manifests"
    );
    daemon.berth("image prune -af").ok();
    deaths::space_comes_back(&daemon, &places, empty, &format!("seed {seed}"));
    // Whoever pulls it gets that image.
    let fresh = Daemon::with(
        Engine::Berth,
        Settings {
            without_images: true,
            ..Settings::default()
        },
    );
    for port in [registry.port(), own.port()] {
        for number in 0..3 {
            let repository = format!("pushed/r{number}");
            let tags = get(port, &format!("/v2/{repository}/tags/list"));
            let tags: Value = tags.map_or(Value::Null, |bytes| {
                serde_json::from_slice(&bytes).expect("tags")
            });
            for tag in tags["tags"].as_array().into_iter().flatten() {
                let tag = tag.as_str().unwrap_or_default();
                let name = format!("127.0.0.1:{port}/{repository}:{tag}");
                fresh.berth(&format!("pull -q {name}")).ok();
                let id = fresh.berth(&format!("images -q --no-trunc {name}")).ok();
                assert_eq!(id.text(), image.id(), "seed {seed}: {name}");
            }
        }
    }
    daemon.assert_clean();
}
