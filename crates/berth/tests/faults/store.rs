//! SIGKILL for the daemon at random moments of pull, load, removal and prune: what was acknowledged is there, what is
//! there is what its digest says, and the space comes back.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use berth_testkit::archive::{Dialect, Image, Layer};
use berth_testkit::daemon::API;
use berth_testkit::random::Random;
use berth_testkit::registry::Registry;
use berth_testkit::scratch::Scratch;
use berth_testkit::{Daemon, Engine, Settings, http};

use crate::deaths;
use crate::load::call;

/// How often the daemon dies; `BERTH_TEST_STORE_KILLS` asks for another number.
const KILLS: u64 = 20;

/// A daemon lives up to this long before it is killed.
const LIFE_MILLISECONDS: u64 = 400;

/// What is known of the images by their names.
#[derive(Default)]
struct Known {
    over: AtomicBool,
    /// Acknowledged, and nobody has begun to remove it.
    there: Mutex<HashSet<String>>,
    acknowledged: Mutex<u64>,
}

fn images() -> Vec<Image> {
    (0..4_u8)
        .map(|number| {
            let layers = (0..3_u8)
                .map(|layer| {
                    // The lowest layer is the same in all.
                    let fill = if layer == 0 { 99 } else { number * 10 + layer };
                    let mut random = Random::new(u64::from(fill));
                    let noise: Vec<u8> = (0..60_000)
                        .flat_map(|_| random.next_u64().to_le_bytes())
                        .collect();
                    let one = Layer::new();
                    one.file(&format!("f{layer}"), 0o644, noise).finish()
                })
                .collect();
            Image::new(&format!("kind/n{number}:1"), &["none"], layers)
        })
        .collect()
}

struct Worker<'a> {
    socket: PathBuf,
    random: Random,
    known: &'a Known,
    archives: &'a [(String, Vec<u8>)],
}

impl Worker<'_> {
    fn work(&mut self) {
        while !self.known.over.load(Ordering::Relaxed) {
            let which = usize::try_from(self.random.below(self.archives.len() as u64)).unwrap_or(0);
            let (name, archive) = &self.archives[which];
            match self.random.below(6) {
                0 | 1 => self.bring(name, &format!("/images/create?fromImage={name}"), &[]),
                2 | 3 => self.bring(name, "/images/load?quiet=1", archive),
                4 => {
                    self.forget(&[name]);
                    let _ = call(
                        &self.socket,
                        "DELETE",
                        &format!("/images/{name}?force=1"),
                        None,
                    );
                }
                _ => {
                    let all: Vec<&String> = self.archives.iter().map(|(name, _)| name).collect();
                    self.forget(&all);
                    let all = "%7B%22dangling%22%3A%7B%22false%22%3Atrue%7D%7D";
                    let _ = call(
                        &self.socket,
                        "POST",
                        &format!("/images/prune?filters={all}"),
                        None,
                    );
                }
            }
        }
    }

    fn forget(&self, names: &[&String]) {
        let mut there = self.known.there.lock().expect("the ledger");
        for name in names {
            there.remove(*name);
        }
    }

    fn bring(&self, name: &str, target: &str, body: &[u8]) {
        let kind = [("Content-Type", "application/x-tar")];
        let answer = http::unix(&self.socket).and_then(|connection| {
            http::request(connection, "POST", &format!("{API}{target}"), &kind, body)
        });
        // Without the end of the answer nothing was promised.
        let Ok(answer) = answer else { return };
        if answer.status == 200 && !answer.text().contains("\"error\"") {
            self.known
                .there
                .lock()
                .expect("the ledger")
                .insert(name.to_owned());
            *self.known.acknowledged.lock().expect("the ledger") += 1;
        }
    }
}

#[test]
fn images_survive_whole_or_not_at_all() {
    let (mut random, seed) = Random::from_environment();
    let kills = deaths::count("BERTH_TEST_STORE_KILLS", KILLS);
    let storage = Scratch::new();
    let registry = Registry::empty(storage.path());
    let mut archives = Vec::new();
    for image in images() {
        registry.push(&image, Dialect::Oci).expect("a push");
        archives.push((
            image.name.clone(),
            image.docker_archive().expect("an archive"),
        ));
    }
    let settings = Settings {
        arguments: vec!["--registry-mirror".into(), registry.mirror()],
        without_images: true,
        ..Settings::default()
    };
    let mut daemon = Daemon::with(Engine::Berth, settings);
    let store = ["blobs", "layers"];
    let before = deaths::occupied(&daemon, &store);
    let started = Instant::now();
    let mut acknowledged = 0;
    for round in 1..=kills {
        let known = Known::default();
        thread::scope(|scope| {
            let mut worker = Worker {
                socket: daemon.socket(),
                random: Random::new(random.next_u64()),
                known: &known,
                archives: &archives,
            };
            let working = scope.spawn(move || worker.work());
            // Longer and longer on a slow machine, until something is finished.
            let life = LIFE_MILLISECONDS * if acknowledged == 0 { round } else { 1 };
            deaths::live_for(Duration::from_millis(random.below(life)));
            daemon.kill();
            known.over.store(true, Ordering::Relaxed);
            working.join().expect("the worker");
        });
        daemon.launch();
        for name in known.there.lock().expect("the ledger").iter() {
            let found = daemon.berth(&format!("images -q {name}")).ok();
            assert_ne!(
                found.text(),
                "",
                "seed {seed}, round {round}: {name} is lost"
            );
        }
        deaths::check_store(&daemon, &format!("seed {seed}, round {round}"));
        acknowledged += *known.acknowledged.lock().expect("the ledger");
        if started.elapsed() > deaths::TIME {
            break;
        }
    }
    assert!(acknowledged > 0, "nothing was ever finished");
    daemon.berth("image prune -af").ok();
    deaths::space_comes_back(&daemon, &store, before, &format!("seed {seed}"));
    daemon.assert_clean();
}
