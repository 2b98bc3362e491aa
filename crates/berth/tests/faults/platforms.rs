//! SIGKILL for the daemon while it removes single platforms: names always stand for a whole image.

use std::time::Instant;

use berth_testkit::archive::{Image, Layer, architecture};
use berth_testkit::random::Random;
use berth_testkit::registry::Registry;
use berth_testkit::scratch::Scratch;
use berth_testkit::{Daemon, Engine, Settings, http};

use crate::deaths;

/// How often the daemon dies; `BERTH_TEST_PLATFORM_KILLS` asks for another number.
const KILLS: u64 = 12;

#[test]
fn a_name_stands_for_a_whole_image_whenever_the_daemon_dies() {
    let (mut random, seed) = Random::from_environment();
    let kills = deaths::count("BERTH_TEST_PLATFORM_KILLS", KILLS);
    let storage = Scratch::new();
    let registry = Registry::empty(storage.path());
    let own = architecture();
    let images: Vec<Image> = [own, "s390x"]
        .iter()
        .zip(1..)
        .map(|(architecture, seed)| {
            let mut noise = Random::new(seed);
            let bytes: Vec<u8> = (0..1_000_000)
                .flat_map(|_| noise.next_u64().to_le_bytes())
                .collect();
            let layer = Layer::new().file("noise", 0o644, bytes).finish();
            let mut image = Image::new("many/kinds:1", &["none"], vec![layer]);
            image.architecture = (*architecture).to_owned();
            image
        })
        .collect();
    registry.push_platforms(&images).expect("an index");
    let settings = Settings {
        without_images: true,
        ..Settings::default()
    };
    let mut daemon = Daemon::with(Engine::Berth, settings);
    let store = ["blobs", "layers"];
    let before = deaths::occupied(&daemon, &store);
    let name = format!("{}/many/kinds:1", registry.host());
    let target = format!(
        "/v1.50/images/{name}?force=1&platforms=%7B%22os%22%3A%22linux%22%2C%22architecture%22%3A%22{own}%22%7D"
    );
    let bring = |daemon: &Daemon| {
        // What a removal unpacked stays otherwise.
        daemon.berth("image prune -f").ok();
        daemon
            .berth(&format!("pull -q --all-platforms {name}"))
            .ok();
    };
    bring(&daemon);
    let begun = Instant::now();
    let delete = |socket: &std::path::Path| {
        let connection = http::unix(socket).ok()?;
        http::request(connection, "DELETE", &target, &[], b"").ok()
    };
    delete(&daemon.socket()).expect("an answer").expect(200);
    // Half of the deaths come before the end, however long a removal takes now and later.
    let mut life = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX) * 2 + 2;
    let (mut finished, mut unfinished) = (0, 0);
    let started = Instant::now();
    for round in 1..=kills {
        let moment = format!("seed {seed}, round {round}");
        bring(&daemon);
        let answered = deaths::during(&mut daemon, &mut random, life, |socket| delete(&socket));
        let line = format!("image inspect -f '{{{{.Architecture}}}}' {name}");
        let stands_for = daemon.berth(&line).ok().text().to_owned();
        match answered {
            Some(answer) => {
                answer.expect(200);
                assert_eq!(stands_for, "s390x", "{moment}");
                finished += 1;
                life = (life / 2).max(1);
            }
            // Nothing was promised: it is one or the other.
            None => {
                assert!([own, "s390x"].contains(&stands_for.as_str()), "{moment}");
                unfinished += 1;
                life = life.saturating_mul(2);
            }
        }
        deaths::check_store(&daemon, &moment);
        if started.elapsed() > deaths::TIME {
            break;
        }
    }
    assert!(unfinished > 0, "{finished} removals were all too fast");
    daemon.berth(&format!("rmi -f {name}")).ok();
    daemon.berth("image prune -af").ok();
    deaths::space_comes_back(&daemon, &store, before, &format!("seed {seed}"));
}
