//! A full disk: a clear error, nothing half-made, and it works again when there is room.

use std::fs;

use berth_testkit::archive::{Image, Layer};
use berth_testkit::registry::Registry;
use berth_testkit::scratch::Scratch;
use berth_testkit::{Daemon, Engine, Settings, disk, images, wait};

use crate::push::noise;

/// Room for the daemon's own files and not for the image.
const TIGHT: u64 = 16 << 20;

/// Room for the image and some containers.
const ROOMY: u64 = 40 << 20;

/// The daemon keeps a sealed copy of its executable in the data root where it has to.
fn room_for_the_executable() -> u64 {
    let path = berth_testkit::daemon::executable().expect("the executable under test");
    std::fs::metadata(path).expect("its size").len()
}

#[test]
fn an_image_that_does_not_fit_leaves_nothing() {
    let settings = Settings {
        without_images: true,
        disk_bytes: Some(room_for_the_executable() + TIGHT),
        ..Settings::default()
    };
    let daemon = Daemon::with(Engine::Berth, settings);
    let big = images::debian()
        .and_then(|image| images::archive_file(&image))
        .expect("an archive");
    for _ in 0..3 {
        let refused = daemon.berth(&format!("load -i {}", big.display())).exits(1);
        assert!(
            refused.stderr.to_lowercase().contains("no space left"),
            "{refused}"
        );
    }
    assert_eq!(daemon.berth("images -q debian").ok().stdout, "");
    daemon.berth("system check --deep -q").ok();
    // What was written before the end of the disk is gone: something small fits again.
    let layer = Layer::new().file("file", 0o644, vec![7; 1 << 20]);
    let small = Image::new("small:1", &["none"], vec![layer.finish()]);
    daemon.load(&small);
    assert_ne!(daemon.berth("images -q small").ok().stdout, "");
}

#[test]
fn a_container_may_fill_the_disk_and_the_engine_lives() {
    let settings = Settings {
        disk_bytes: Some(room_for_the_executable() + ROOMY),
        ..Settings::default()
    };
    let daemon = Daemon::with(Engine::Berth, settings);
    daemon
        .berth("run --network none --name glutton busybox sh -c 'cat /dev/zero > /big'")
        .exits(1)
        .says("no space left");
    // The records cannot grow now; whatever is answered, the daemon answers.
    let while_full = daemon.berth("run --rm --network none busybox true");
    assert!(matches!(while_full.code(), 0 | 125 | 126), "{while_full}");
    daemon.berth("rm -f glutton").ok();
    // The files are deleted after the answer.
    wait::until("there is room again", || {
        daemon.berth("run --rm --network none busybox true").code() == 0
    });
    daemon.assert_clean();
}

/// A daemon whose data root is an ext4 file system of its own, and the directory that this is in.
fn on_a_small_disk() -> (Scratch, Daemon) {
    let place = Scratch::new();
    let image = place.path().join("disk");
    disk::ext4(&image, room_for_the_executable() + (96 << 20));
    let settings = Settings {
        disk_image: Some(image),
        ..Settings::default()
    };
    let daemon = Daemon::with(Engine::Berth, settings);
    (place, daemon)
}

/// Takes every block that is left.
fn fill(daemon: &Daemon) {
    disk::fill(&daemon.data_root_inside().join("filler"));
}

/// What is in the content store and among the volumes, by name.
fn kept(daemon: &Daemon) -> Vec<String> {
    let mut names = Vec::new();
    for place in ["blobs/sha256", "blobs/partial", "layers/overlay", "volumes"] {
        let entries = fs::read_dir(daemon.data_root_inside().join(place));
        for entry in entries.into_iter().flatten().flatten() {
            names.push(format!("{place}/{}", entry.file_name().display()));
        }
    }
    names.sort();
    names
}

#[test]
fn what_frees_space_works_on_a_full_disk() {
    let (_place, daemon) = on_a_small_disk();
    for number in 0..4 {
        let layer = Layer::new().file("data", 0o644, noise(number + 1, 4 << 20));
        let name = format!("large:{number}");
        daemon.load(&Image::new(&name, &["none"], vec![layer.finish()]));
    }
    for number in 0..4 {
        daemon
            .berth(&format!(
                "run --network none --name c{number} -v v{number}:/v busybox \
                 sh -c 'head -c 3000000 /dev/urandom | tee /v/data > /data'"
            ))
            .ok();
    }
    daemon
        .berth("run -d --network none --name alive -v used:/v busybox sleep 100000")
        .ok();
    let root = daemon.data_root_inside();
    for line in [
        "rmi large:0",
        "rm c0",
        "volume rm v0",
        "image prune -af",
        "rm -v c1",
        "container prune -f",
        "volume prune -af",
        "system prune -af --volumes",
    ] {
        fill(&daemon);
        let told = daemon.berth(line).ok();
        let nothing = told.stdout.contains("reclaimed space: 0B");
        // Of those that come last, something is left to the last but one.
        if !nothing && !line.starts_with("system") {
            wait::until(&format!("{line} frees something"), || {
                disk::free(&root) > 2 << 20
            });
        }
    }
    // To stop and to start what is there takes nothing new that would have to be promised.
    fill(&daemon);
    daemon.berth("stop -t 0 alive").ok();
    daemon.berth("rm alive").ok();
    disk::empty(&root.join("filler"));
    assert_eq!(daemon.berth("ps -aq").ok().stdout, "");
    assert_eq!(daemon.berth("images -q large").ok().stdout, "");
    daemon.berth("system check --deep -q").ok();
    daemon.load(&images::busybox().expect("busybox"));
    daemon.berth("run --rm --network none busybox true").ok();
    daemon.assert_clean();
}

#[test]
fn what_needs_space_is_refused_whole_on_a_full_disk() {
    let storage = Scratch::new();
    let registry = Registry::empty(storage.path());
    let (_place, mut daemon) = on_a_small_disk();
    // Never compressed: a push has to make a form of it.
    let name = format!("{}/made/here:1", registry.host());
    let layer = Layer::new().file("data", 0o644, noise(1, 4 << 20));
    daemon.load(&Image::new(&name, &["none"], vec![layer.finish()]));
    daemon
        .berth(
            "run -d --network none --name alive -v filled:/v busybox \
             sh -c 'head -c 3000000 /dev/urandom | tee /v/data > /data; sync; touch /ready; exec sleep 100000'",
        )
        .ok();
    wait::until("the container has written", || {
        daemon.berth("exec alive ls /ready").code() == 0
    });
    daemon
        .berth("create --network none --name still busybox true")
        .ok();
    let outside = Scratch::new();
    let sent = outside.write("sent", noise(2, 4 << 20));
    let archive = Layer::new().file("data", 0o644, noise(3, 4 << 20)).finish();
    let archive = outside.write("volume.tar", archive);
    let before = kept(&daemon);
    let containers = daemon.berth("ps -aq").ok().stdout;
    for round in ["first", "after a restart"] {
        fill(&daemon);
        if round != "first" {
            // It starts on a full disk, and knows everything.
            daemon.crash_and_restart();
            assert_eq!(daemon.berth("ps -aq").ok().stdout, containers, "{round}");
            assert_eq!(daemon.status("alive"), "running", "{round}");
            fill(&daemon);
        }
        for line in [
            "commit alive made:1".to_owned(),
            format!("cp {} alive:/sent", sent.display()),
            format!("cp {} still:/sent", sent.display()),
            format!("cp {} alive:/v/sent", sent.display()),
            "volume clone --live filled second".to_owned(),
            "volume snapshot --live filled kept".to_owned(),
            format!("volume import third {}", archive.display()),
            format!("load -i {}", archive.display()),
            "create --network none --name new -v fresh:/v busybox true".to_owned(),
        ] {
            let told = daemon.berth(&line).exits(1);
            let words = told.stderr.to_lowercase();
            assert!(
                words.contains("no space left") || line.starts_with("load"),
                "{round}: {line}: {told}"
            );
        }
        // What needs little may be done.
        let volume = daemon.berth("volume create empty");
        match volume.code() {
            0 => drop(daemon.berth("volume rm empty").ok()),
            _ => drop(volume.says("no space left")),
        }
        let pushed = daemon.berth(&format!("push {name}"));
        if pushed.code() != 0 {
            pushed.says("no space left");
        }
        // Nothing is half-made, and what was there can be read.
        let left = || {
            let mut now = kept(&daemon);
            now.retain(|name| !before.contains(name));
            now
        };
        let gone = wait::within(wait::PATIENCE, || left().is_empty().then_some(()));
        assert!(gone.is_some(), "{round}: {:?}", left());
        assert_eq!(daemon.berth("ps -aq").ok().stdout, containers, "{round}");
        assert_eq!(daemon.berth("images -q made").ok().stdout, "", "{round}");
        daemon.berth("exec alive wc -c /data /v/data").ok();
        daemon.berth("exec alive ls /sent").exits(1);
        daemon.berth("exec alive ls /v/sent").exits(1);
        // Without room for it nothing can be compared: that is no damage, and nothing is removed for it.
        daemon.berth("system check -q").ok();
        for line in [
            "system check --deep -q",
            "system check --deep --repair --remove -q",
        ] {
            let told = daemon.berth(line);
            if told.code() != 0 {
                let told = told.says("no space left");
                assert!(!told.stdout.contains("problem"), "{told}");
            }
        }
        assert_ne!(daemon.berth(&format!("images -q {name}")).ok().stdout, "");
    }
    disk::empty(&daemon.data_root_inside().join("filler"));
    daemon.berth("commit alive made:1").ok();
    daemon.berth("volume clone --live filled second").ok();
    daemon
        .berth(&format!("volume import third {}", archive.display()))
        .ok();
    daemon
        .berth(&format!("cp {} still:/sent", sent.display()))
        .ok();
    daemon.berth(&format!("push {name}")).ok();
    daemon.berth("start still").ok();
    daemon.berth("system check --deep -q").ok();
    daemon.assert_clean();
}
