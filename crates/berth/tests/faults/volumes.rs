//! SIGKILL for the daemon at random moments while volumes are made, filled from an image, copied, renamed and removed.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use berth_testkit::archive::Layer;
use berth_testkit::random::Random;
use berth_testkit::{Daemon, images, wait};
use serde_json::json;

use crate::deaths;
use crate::load::call;

/// How often the daemon dies; `BERTH_TEST_KILLS` asks for another number.
const KILLS: u64 = 15;
/// A daemon lives up to this long before it is killed.
const LIFE_MILLISECONDS: u64 = 120;
/// Files that the image has for each volume.
const FILES: usize = 150;

#[test]
fn a_volume_is_whole_or_not_there() {
    let (mut random, seed) = Random::from_environment();
    let kills = deaths::count("BERTH_TEST_KILLS", KILLS);
    let mut daemon = Daemon::start();
    let mut layer = Layer::new().directory("full", 0o751);
    for number in 0..FILES {
        layer = layer.file(&format!("full/f{number}"), 0o640, format!("{number}\n"));
    }
    let mut image = images::busybox().expect("busybox");
    image.layers.push(layer.finish());
    "full:1".clone_into(&mut image.name);
    daemon.load(&image);
    let socket = daemon.socket();
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        for worker in 0..3 {
            let (socket, over) = (&socket, &over);
            scope.spawn(move || {
                let mut round = 0;
                while !over.load(Ordering::Relaxed) {
                    round += 1;
                    lead(socket, &format!("w{worker}-{round}"));
                }
            });
        }
        let shooting = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for round in 1..=kills {
                deaths::live_for(Duration::from_millis(20 + random.below(LIFE_MILLISECONDS)));
                daemon.crash_and_restart();
                check(&daemon, &format!("seed {seed}, round {round}"));
            }
        }));
        over.store(true, Ordering::Relaxed);
        if let Err(panic) = shooting {
            std::panic::resume_unwind(panic);
        }
    });
    daemon.remove_all();
    daemon.crash_and_restart();
    let listed = check(&daemon, &format!("seed {seed}, at the end"));
    // Nothing beside what is listed takes room.
    let kept: BTreeSet<String> = fs::read_dir(daemon.data_root().join("volumes"))
        .expect("volumes")
        .map(|e| {
            e.expect("an entry")
                .file_name()
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    assert_eq!(kept, listed, "seed {seed}");
    daemon.berth("volume prune -a -f").ok();
    daemon.assert_clean();
}

/// One volume's life, as far as the daemon lives.
fn lead(socket: &Path, name: &str) {
    let ask = |method: &str, path: &str, body: Option<serde_json::Value>| {
        // It is shot all the time; what matters is what it finds when it is back.
        let _ = call(socket, method, path, body.as_ref());
    };
    let container = json!({
        "Image": "full:1",
        "HostConfig": {"NetworkMode": "none", "Binds": [format!("{name}:/full")]},
        "Volumes": {"/full/deeper": {}},
    });
    ask(
        "POST",
        &format!("/containers/create?name={name}"),
        Some(container),
    );
    ask(
        "POST",
        &format!("/berth/volumes/{name}/clone"),
        Some(json!({"Name": format!("{name}-copy")})),
    );
    ask("DELETE", &format!("/containers/{name}?v=1"), None);
    ask(
        "POST",
        &format!("/berth/volumes/{name}/rename?name={name}-moved"),
        None,
    );
    ask("DELETE", &format!("/volumes/{name}-copy"), None);
}

/// Every volume that is listed has its directory, and all or nothing of the image's content. Gives their names.
fn check(daemon: &Daemon, moment: &str) -> BTreeSet<String> {
    let (status, list) = wait::until_some("the list of volumes", || {
        call(&daemon.socket(), "GET", "/volumes", None).ok()
    });
    assert_eq!(status, 200, "{moment}: {list}");
    let mut names = BTreeSet::new();
    for volume in list["Volumes"].as_array().into_iter().flatten() {
        let name = volume["Name"].as_str().unwrap_or_default().to_owned();
        let path = volume["Mountpoint"].as_str().unwrap_or_default();
        // Workers go on meanwhile: a volume may be removed, or be filling. Neither lasts.
        let mut files = 0;
        let whole = wait::within(wait::PATIENCE, || {
            files = fs::read_dir(path).map_or(0, |entries| entries.flatten().count());
            let there = fs::symlink_metadata(path).is_ok();
            let (status, _) =
                call(&daemon.socket(), "GET", &format!("/volumes/{name}"), None).ok()?;
            let fits = status == 404 || there && (files == 0 || files == FILES);
            fits.then_some(status)
        });
        match whole {
            Some(404) => continue,
            Some(_) => {}
            None => panic!("{moment}: {name} stays with {files} files"),
        }
        names.insert(name);
    }
    names
}
