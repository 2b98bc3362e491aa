//! A full disk: a clear error, nothing half-made, and it works again when there is room.

use berth_testkit::{Daemon, Engine, Settings, images};

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
    let small = berth_testkit::archive::Image::new(
        "small:1",
        &["none"],
        vec![
            berth_testkit::archive::Layer::new()
                .file("file", 0o644, vec![7; 1 << 20])
                .finish(),
        ],
    );
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
    berth_testkit::wait::until("there is room again", || {
        daemon.berth("run --rm --network none busybox true").code() == 0
    });
    daemon.assert_clean();
}
