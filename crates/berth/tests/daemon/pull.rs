//! Pulling from a real registry on loopback.

use std::time::Duration;

use berth_testkit::archive::{Dialect, Image, Layer};
use berth_testkit::registry::Registry;
use berth_testkit::scratch::Scratch;
use berth_testkit::terminal::Terminal;
use berth_testkit::{Client, Daemon, Engine, Settings, images};

fn daemon_with_mirror(registry: &Registry) -> Daemon {
    let settings = Settings {
        arguments: vec!["--registry-mirror".into(), registry.mirror()],
        without_images: true,
        ..Settings::default()
    };
    Daemon::with(Engine::Berth, settings)
}

#[test]
fn official_names_come_from_the_mirror() {
    let registry = Registry::with_test_images();
    let daemon = daemon_with_mirror(&registry);
    // The stock client and ours, both with the missing image pulled on the way.
    let seen = daemon
        .berth("run --rm --network none busybox echo pulled")
        .ok();
    assert_eq!(seen.stdout, "pulled\n");
    assert!(seen.stderr.contains("latest"), "progress is shown: {seen}");
    // A whole distribution, by a daemon that was not optimized, among other tests.
    daemon
        .command(Client::Docker, "pull debian:bookworm-slim")
        .deadline(Duration::from_secs(300))
        .run()
        .ok()
        .prints("Downloaded newer image");
    daemon
        .docker("pull debian:bookworm-slim")
        .ok()
        .prints("up to date");
    assert_eq!(
        daemon.berth("pull -q debian:bookworm-slim").ok().text(),
        "docker.io/library/debian:bookworm-slim"
    );

    // The session of a person, through either client.
    for client in [Client::Berth, Client::Docker] {
        let line = "run --rm -it --network none debian:bookworm-slim bash";
        let mut shell = Terminal::start(daemon.command(client, line));
        shell.expect("# ");
        // One job, so that the key never comes between two: a shell at its prompt ignores it.
        shell.send("sh -c 'stty size; exec sleep 1000'\n");
        shell.expect("24 80");
        shell.send("\x1a");
        shell.expect("Stopped");
        shell.send("echo $((6*7)); exit 3\nexit 3\n");
        shell.expect("42");
        shell.exits(3);
    }
}

#[test]
fn an_index_gives_this_machines_platform() {
    let storage = Scratch::new();
    let registry = Registry::empty(storage.path());
    let mut image = images::busybox().expect("the test image");
    image.name = "many/platforms:1".into();
    let mut other = Image::new(
        "x:1",
        &["none"],
        vec![Layer::new().file("other", 0o644, "").finish()],
    );
    other.name = image.name.clone();
    registry
        .push_index(
            &image,
            &other,
            &["linux/amd64", "linux/arm64", "linux/s390x"],
        )
        .expect("an index");
    let daemon = daemon_with_mirror(&registry);
    let name = format!("{}/many/platforms:1", registry.host());
    daemon
        .berth(&format!("run --rm --network none {name} echo right one"))
        .ok()
        .prints("right one");
    daemon
        .berth(&format!("pull --platform linux/riscv64 {name}"))
        .exits(1)
        .says("linux/riscv64");
}

#[test]
fn both_dialects_and_digests() {
    let storage = Scratch::new();
    let registry = Registry::empty(storage.path());
    let daemon = daemon_with_mirror(&registry);
    for (dialect, name) in [
        (Dialect::Docker, "one/docker:1"),
        (Dialect::Oci, "one/oci:1"),
    ] {
        let mut image = images::busybox().expect("the test image");
        image.name = name.into();
        registry.push(&image, dialect).expect("pushed");
        let remote = format!("{}/{name}", registry.host());
        daemon
            .berth(&format!("run --rm --network none {remote} true"))
            .ok();
        let (manifest, _) = image.manifest(dialect).expect("a manifest");
        let digest = berth_testkit::archive::digest(&manifest);
        let pinned = format!(
            "{}/{}@{digest}",
            registry.host(),
            name.trim_end_matches(":1")
        );
        daemon.berth(&format!("pull {pinned}")).ok();
        let digests = daemon
            .berth(&format!("image inspect -f '{{{{.RepoDigests}}}}' {remote}"))
            .ok();
        assert!(digests.stdout.contains(&digest), "{digests}");
    }
}

#[test]
fn what_cannot_be_pulled_says_why() {
    let storage = Scratch::new();
    let registry = Registry::empty(storage.path());
    let daemon = daemon_with_mirror(&registry);
    let before = daemon.berth("images -aq").ok().stdout;
    let host = registry.host();
    daemon
        .berth(&format!("pull {host}/no/such:1"))
        .exits(1)
        .says("no/such");
    daemon
        .berth(&format!("run --rm {host}/no/such:1 true"))
        .exits(125)
        .says("no/such");
    daemon
        .berth(&format!("run --pull never --rm {host}/no/such:1 true"))
        .exits(125)
        .says("no/such");
    daemon
        .berth("pull 127.0.0.1:1/no/such:1")
        .exits(1)
        .says("127.0.0.1:1");
    daemon.berth("pull busyBox").exits(1).says("lowercase");
    assert_eq!(
        daemon.berth("images -aq").ok().stdout,
        before,
        "nothing half-made"
    );
}

#[test]
fn a_corrupt_layer_is_refused_and_leaves_nothing() {
    let storage = Scratch::new();
    let registry = Registry::empty(storage.path());
    let mut image = images::busybox().expect("the test image");
    image.name = "corrupt/layer:1".into();
    registry.push(&image, Dialect::Docker).expect("pushed");
    // The registry's own file of the layer, one byte changed: the server checks only on upload.
    let (_, blobs) = image.manifest(Dialect::Docker).expect("blobs");
    let digest = berth_testkit::archive::digest(&blobs[1]);
    let hex = digest.trim_start_matches("sha256:");
    let file = storage.path().join(format!(
        "docker/registry/v2/blobs/sha256/{}/{hex}/data",
        &hex[..2]
    ));
    let mut bytes = std::fs::read(&file).expect("the stored layer");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&file, bytes).expect("a changed layer");

    let daemon = daemon_with_mirror(&registry);
    let before = daemon.berth("images -aq").ok().stdout;
    let name = format!("{}/corrupt/layer:1", registry.host());
    daemon
        .berth(&format!("pull {name}"))
        .exits(1)
        .says(hex.get(..12).expect("a digest"));
    assert_eq!(
        daemon.berth("images -aq").ok().stdout,
        before,
        "nothing half-made"
    );
    // Mended, it can be pulled: nothing wrong was kept.
    std::fs::write(&file, &blobs[1]).expect("the right layer");
    daemon
        .berth(&format!("run --rm --network none {name} true"))
        .ok();
}

#[test]
fn every_tag_of_a_repository_can_be_asked_for() {
    let storage = Scratch::new();
    let registry = Registry::empty(storage.path());
    for tag in ["1", "2", "latest"] {
        let mut image = images::busybox().expect("the test image");
        image.name = format!("team/tags:{tag}");
        image.config["Labels"] = serde_json::json!({"tag": tag});
        registry.push(&image, Dialect::Oci).expect("pushed");
    }
    let daemon = daemon_with_mirror(&registry);
    let name = format!("{}/team/tags", registry.host());
    // Ours, the stock client, and what neither can have.
    for client in [Client::Berth, Client::Docker] {
        let seen = daemon
            .command(client, &format!("pull -a {name}"))
            .run()
            .ok();
        for tag in ["1", "2", "latest"] {
            assert!(
                seen.stdout.contains(&format!("{tag}: Pulling from")),
                "{seen}"
            );
        }
        let listed = daemon
            .berth(&format!("images --format '{{{{.Tag}}}}' {name}"))
            .ok();
        let mut tags: Vec<&str> = listed.stdout.lines().collect();
        tags.sort_unstable();
        assert_eq!(tags, ["1", "2", "latest"]);
    }
    daemon
        .berth(&format!("pull -a {name}:1"))
        .exits(1)
        .says("tag can't be used with --all-tags/-a");
    daemon
        .berth(&format!("pull -a {}/none", registry.host()))
        .exits(1)
        .says("none");
}
