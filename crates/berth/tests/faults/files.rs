//! SIGKILL for the daemon at random moments of commit and of copies into containers: what was acknowledged is there
//! and whole, and nothing of the rest stays.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use berth_testkit::Daemon;
use berth_testkit::archive::Layer;
use berth_testkit::random::Random;

use crate::deaths;

/// How often the daemon dies; `BERTH_TEST_FILES_KILLS` asks for another number.
const KILLS: u64 = 12;

/// It is killed within this time after the work began.
const LIFE_MILLISECONDS: u64 = 800;

/// Files of one copy.
const FILES: usize = 40;

/// Files as they lie in the directory that one copy makes.
fn content(copy: &str, number: usize) -> String {
    format!("{copy} {number}\n").repeat(400)
}

fn archive(copy: &str) -> Vec<u8> {
    let mut layer = Layer::new().directory(copy, 0o755);
    for number in 0..FILES {
        layer = layer.file(&format!("{copy}/f{number}"), 0o640, content(copy, number));
    }
    layer.finish()
}

/// What was acknowledged while one daemon lived.
#[derive(Default)]
struct Done {
    /// Container and directory.
    copies: Vec<(String, String)>,
    /// Names of images, with the directories their container was known to have.
    images: Vec<(String, Vec<String>)>,
}

fn work(socket: &Path, round: u64, known: &BTreeMap<String, Vec<String>>) -> Done {
    let mut done = Done::default();
    for step in 0.. {
        // One that does not run, and one that does.
        let container = ["still", "busy"][step % 2];
        let copy = format!("c{round}-{step}");
        let target = format!("/containers/{container}/archive?path=/");
        let body = archive(&copy);
        match deaths::answer(socket, "PUT", &target, "application/x-tar", &body) {
            Some(answer) if answer.status == 200 => {
                done.copies.push((container.to_owned(), copy.clone()));
            }
            Some(answer) => panic!("{copy}: {} {}", answer.status, answer.text()),
            None => break,
        }
        let target = format!("/commit?container={container}&repo=made&tag={copy}");
        match deaths::answer(socket, "POST", &target, "application/json", b"{}") {
            Some(answer) if answer.status == 201 => {
                let own = done
                    .copies
                    .iter()
                    .filter(|(of, _)| of == container)
                    .map(|(_, copy)| copy.clone());
                let before = known.get(container).cloned().unwrap_or_default();
                let has = before.into_iter().chain(own).collect();
                done.images.push((format!("made:{copy}"), has));
            }
            Some(answer) => panic!("commit: {} {}", answer.status, answer.text()),
            None => break,
        }
    }
    done
}

/// Looks through the directories in a container made of an image or of one itself.
#[track_caller]
fn look(daemon: &Daemon, line: &str, copies: &[String], moment: &str) {
    let script = copies.iter().fold(String::new(), |script, copy| {
        format!("{script} echo {copy} $(ls /{copy} | wc -l) $(cat /{copy}/* | md5sum);")
    });
    let told = daemon.berth(&format!("{line} sh -c '{script} true'")).ok();
    let expected = copies.iter().fold(String::new(), |text, copy| {
        // In the order of a shell's pattern.
        let mut names: Vec<usize> = (0..FILES).collect();
        names.sort_by_key(|number| format!("f{number}"));
        let whole: String = names.iter().map(|n| content(copy, *n)).collect();
        format!("{text}{copy} {FILES} {} -\n", md5(whole.as_bytes()))
    });
    assert_eq!(told.stdout, expected, "{moment}: {line}");
}

fn md5(bytes: &[u8]) -> String {
    let output = berth_testkit::Command::new("md5sum")
        .stdin(bytes)
        .run()
        .ok();
    let sum = output.text().split(' ').next().unwrap_or_default();
    sum.to_owned()
}

#[test]
fn copies_and_commits_that_were_acknowledged_are_whole() {
    let (mut random, seed) = Random::from_environment();
    let kills = deaths::count("BERTH_TEST_FILES_KILLS", KILLS);
    let mut daemon = Daemon::start();
    let places = ["blobs", "layers", "containers"];
    let before = deaths::occupied(&daemon, &places);
    daemon
        .berth("run -d --network none --name busy busybox sleep 100000")
        .ok();
    daemon
        .berth("create --network none --name still busybox sleep 100000")
        .ok();
    let pid = daemon.container_pid("busy");
    let mut known: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let (mut copies, mut images) = (0, 0);
    let started = Instant::now();
    for round in 1..=kills {
        let moment = format!("seed {seed}, round {round}");
        let known_before = known.clone();
        // On a slow machine it lives longer, until something was ever finished.
        let nothing = copies == 0 || images == 0;
        let life = LIFE_MILLISECONDS * if nothing { round } else { 1 };
        let done = deaths::during(&mut daemon, &mut random, life, |socket| {
            work(&socket, round, &known_before)
        });
        copies += done.copies.len();
        images += done.images.len();
        for (container, copy) in done.copies {
            known.entry(container).or_default().push(copy);
        }
        deaths::check_store(&daemon, &moment);
        assert_eq!(daemon.container_pid("busy"), pid, "{moment}");
        assert_eq!(daemon.status("busy"), "running", "{moment}");
        for (image, has) in &done.images {
            let line = format!("run --rm --network none {image}");
            look(&daemon, &line, has, &moment);
            daemon.berth(&format!("rmi {image}")).ok();
        }
        let of_busy = known.get("busy").cloned().unwrap_or_default();
        look(&daemon, "exec busy", &of_busy, &moment);
        if started.elapsed() > deaths::TIME {
            break;
        }
    }
    assert!(
        copies > 0 && images > 0,
        "seed {seed}: too little happened to be a test: {copies} copies, {images} images"
    );
    daemon.berth("start still").ok();
    let of_still = known.get("still").cloned().unwrap_or_default();
    look(&daemon, "exec still", &of_still, &format!("seed {seed}"));
    // An image that nobody was told of may be there, with its name: whole, too.
    let left = daemon.berth("images -q made").ok().stdout;
    for id in left.lines() {
        daemon
            .berth(&format!("run --rm --network none {id} true"))
            .ok();
    }
    daemon.remove_all();
    daemon.berth("image prune -af --filter label!=none").ok();
    daemon.load(&berth_testkit::images::busybox().expect("busybox"));
    deaths::space_comes_back(&daemon, &places, before, &format!("seed {seed}"));
    daemon.assert_clean();
}
