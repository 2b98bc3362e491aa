//! Images that want out of their root, or want too much.

use std::fs;

use berth_testkit::archive::{EntryType, Image, Layer};
use berth_testkit::{Client, Daemon, Output};

#[track_caller]
fn load(daemon: &Daemon, layers: Vec<Vec<u8>>) -> Output {
    let bytes = Image::new("hostile:1", &["none"], layers)
        .docker_archive()
        .expect("an archive");
    daemon.command(Client::Berth, "load").stdin(bytes).run()
}

#[test]
fn layers_cannot_leave_their_root() {
    let daemon = Daemon::start();
    let outside = daemon.scratch().path().join("outside");
    fs::create_dir(&outside).expect("a place to reach for");
    let mark = outside.join("mark");
    fs::write(&mark, "untouched").expect("a file to reach for");
    let aim = outside.display().to_string();
    let up = "../".repeat(12);

    let cases: Vec<(&str, Vec<u8>)> = vec![
        (
            "parent",
            Layer::new()
                .file(&format!("{up}{aim}/new"), 0o644, "x")
                .finish(),
        ),
        (
            "parent inside",
            Layer::new()
                .file(&format!("a/{up}{aim}/new"), 0o644, "x")
                .finish(),
        ),
        (
            "absolute link",
            Layer::new()
                .symlink("link", &aim)
                .file("link/new", 0o644, "x")
                .finish(),
        ),
        (
            "chained links",
            Layer::new()
                .symlink("one", "/")
                .symlink("two", "one")
                .file(&format!("two{aim}/new"), 0o644, "x")
                .finish(),
        ),
        (
            "relative link",
            Layer::new()
                .symlink("link", &format!("{up}{aim}"))
                .file("link/new", 0o644, "x")
                .finish(),
        ),
        (
            "hard link out",
            Layer::new()
                .hard_link("copy", mark.to_str().expect("text"))
                .finish(),
        ),
        (
            "hard link through a link",
            Layer::new()
                .symlink("link", &aim)
                .hard_link("copy", "link/mark")
                .finish(),
        ),
        (
            "write through a linked file",
            Layer::new()
                .symlink("file", mark.to_str().expect("text"))
                .file("file", 0o644, "overwritten")
                .finish(),
        ),
        (
            "whiteout above",
            Layer::new()
                .file(&format!("{up}{aim}/.wh.mark"), 0o644, "")
                .finish(),
        ),
        (
            "whiteout through a link",
            Layer::new()
                .symlink("link", &aim)
                .file("link/.wh.mark", 0o644, "")
                .finish(),
        ),
        (
            "whiteout of the parent",
            Layer::new().file("a/.wh...", 0o644, "").finish(),
        ),
        (
            "opaque through a link",
            Layer::new()
                .symlink("link", &aim)
                .file("link/.wh..wh..opq", 0o644, "")
                .finish(),
        ),
        (
            "device through a link",
            Layer::new()
                .symlink("link", &aim)
                .entry("link/device", EntryType::Fifo, 0o666, "", b"")
                .finish(),
        ),
    ];
    for (name, layer) in cases {
        // Refused, or kept inside: never outside, and the daemon lives.
        let seen = load(&daemon, vec![layer.clone()]);
        assert!(matches!(seen.code(), 0 | 1), "{name}: {seen}");
        if seen.code() == 1 {
            assert!(!seen.stderr.trim().is_empty(), "{name}: no reason given");
        } else {
            daemon.berth("rmi -f hostile:1").ok();
        }
        let again = load(&daemon, vec![layer.clone(), layer]);
        assert!(matches!(again.code(), 0 | 1), "{name}, twice: {again}");
        if again.code() == 0 {
            daemon.berth("rmi -f hostile:1").ok();
        }
        let names: Vec<_> = fs::read_dir(&outside).expect("outside").flatten().collect();
        assert_eq!(names.len(), 1, "{name} wrote outside: {names:?}");
        assert_eq!(
            fs::read_to_string(&mark).expect("the mark"),
            "untouched",
            "{name}"
        );
        use std::os::unix::fs::MetadataExt;
        assert_eq!(
            fs::metadata(&mark).expect("the mark").nlink(),
            1,
            "{name} linked to it"
        );
    }
    for (name, layer) in [
        (
            "dot dot",
            Layer::new().file("../../etc/escaped", 0o644, "x").finish(),
        ),
        ("only dot dot", Layer::new().directory("..", 0o777).finish()),
    ] {
        let seen = load(&daemon, vec![layer]).exits(1);
        assert!(seen.stderr.contains(".."), "{name}: {seen}");
    }
    daemon.berth("run --rm --network none busybox true").ok();
}

#[test]
fn broken_archives_are_refused() {
    let daemon = Daemon::start();
    let image = berth_testkit::images::busybox().expect("the test image");
    let whole = image.docker_archive().expect("an archive");
    let load = |bytes: &[u8]| daemon.command(Client::Berth, "load").stdin(bytes).run();
    let before = daemon.berth("images -aq --no-trunc").ok().stdout;
    for length in [0, 1, 511, 512, 1000, whole.len() / 3, whole.len() - 3000] {
        let seen = load(&whole[..length]).exits(1);
        assert!(!seen.stderr.trim().is_empty(), "{length}");
    }
    load(b"this is no archive at all").exits(1);
    // A layer that is not what the configuration says it is.
    let layer = Layer::new()
        .file("etc/passwd", 0o644, "nobody:x:65534:65534:")
        .finish();
    let lying = Image::new("lying:1", &["none"], vec![layer]);
    let mut bytes = lying.docker_archive().expect("an archive");
    let needle = b"nobody:x:65534:65534";
    let at = bytes
        .windows(needle.len())
        .position(|window| window == needle)
        .expect("in the layer");
    bytes[at] ^= 1;
    load(&bytes).exits(1);
    assert_eq!(
        daemon.berth("images -aq --no-trunc").ok().stdout,
        before,
        "nothing half-made"
    );
    daemon.berth("run --rm --network none busybox true").ok();
}

#[test]
fn hostile_users_and_directories_stay_inside() {
    let daemon = Daemon::start();
    let base = berth_testkit::images::busybox().expect("the test image");
    for (name, layer, config) in [
        (
            "passwd-link",
            Layer::new().symlink("etc/passwd", "/dev/zero").finish(),
            ("User", "www-data"),
        ),
        (
            "passwd-pipe",
            Layer::new()
                .entry("etc/passwd", EntryType::Fifo, 0o644, "", b"")
                .finish(),
            ("User", "www-data"),
        ),
        (
            "workdir-link",
            Layer::new().symlink("w", "/proc/self/fd/8").finish(),
            ("WorkingDir", "/w/../../.."),
        ),
        (
            "workdir-fd",
            Layer::new().finish(),
            ("WorkingDir", "/proc/self/fd/7"),
        ),
        (
            "proc-link",
            Layer::new().symlink("proc", "/etc").finish(),
            ("WorkingDir", "/"),
        ),
    ] {
        let mut layers = base.layers.clone();
        if name == "proc-link" {
            layers = vec![
                Layer::new()
                    .symlink("proc", "/tmp")
                    .directory("tmp/", 0o1777)
                    .finish(),
            ];
        } else {
            layers.push(layer);
        }
        let mut image = Image::new(&format!("{name}:1"), &["true"], layers);
        image.config[config.0] = config.1.into();
        daemon.load(&image);
        let seen = daemon.berth(&format!("run --rm --network none {name}:1"));
        assert!(matches!(seen.code(), 0 | 125..=127), "{name}: {seen}");
        if name.starts_with("passwd") {
            seen.exits(125);
        }
    }
    daemon.assert_clean();
}
