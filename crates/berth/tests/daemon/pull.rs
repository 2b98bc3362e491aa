//! Pulling from a real registry on loopback.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use berth_testkit::archive::{Dialect, Image, Layer};
use berth_testkit::registry::Registry;
use berth_testkit::scratch::Scratch;
use berth_testkit::terminal::Terminal;
use berth_testkit::{Client, Daemon, Engine, Settings, http, images, wait};

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
        .says("no/such from 127.0.0.1:1")
        .says(": connect: Connection refused (os error 111)");
    daemon
        .berth("pull no-such-host.invalid/no/such:1")
        .exits(1)
        .says(": connect: failed to lookup address information:");
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

/// A way to a registry that counts the bytes that come over it, and can be made slow.
struct Way {
    port: u16,
    came: Arc<AtomicU64>,
    slow: Arc<AtomicBool>,
}

impl Way {
    fn to(registry: &Registry) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        let way = Self {
            port: listener.local_addr().expect("a port").port(),
            came: Arc::default(),
            slow: Arc::default(),
        };
        let (came, slow, port) = (way.came.clone(), way.slow.clone(), registry.port());
        std::thread::spawn(move || {
            for near in listener.incoming().flatten() {
                let Ok(far) = TcpStream::connect(("127.0.0.1", port)) else {
                    continue;
                };
                let (from, to) = (near.try_clone(), far.try_clone());
                let (Ok(mut from), Ok(mut to)) = (from, to) else {
                    continue;
                };
                std::thread::spawn(move || {
                    drop(std::io::copy(&mut from, &mut to));
                    drop(to.shutdown(Shutdown::Write));
                });
                let (came, slow) = (came.clone(), slow.clone());
                std::thread::spawn(move || forward(&far, &near, &came, &slow));
            }
        });
        way
    }

    fn came(&self) -> u64 {
        self.came.load(Ordering::SeqCst)
    }
}

fn forward(mut far: &TcpStream, mut near: &TcpStream, came: &AtomicU64, slow: &AtomicBool) {
    const RATE: u64 = 16 << 20;
    let mut buffer = vec![0; 64 << 10];
    let (start, mut sent) = (Instant::now(), 0);
    while let Ok(count) = far.read(&mut buffer) {
        if count == 0 || near.write_all(&buffer[..count]).is_err() {
            break;
        }
        came.fetch_add(count as u64, Ordering::SeqCst);
        sent += count as u64;
        if slow.load(Ordering::SeqCst) {
            let due = Duration::from_secs_f64(sent as f64 / RATE as f64);
            std::thread::sleep(due.saturating_sub(start.elapsed()));
        }
    }
    drop(near.shutdown(Shutdown::Both));
}

#[test]
fn a_killed_daemon_goes_on_where_it_was() {
    const MIB: u64 = 1 << 20;
    let storage = Scratch::new();
    let registry = Registry::empty(storage.path());
    // Nothing that compression could make smaller.
    let mut state = 88_172_645_463_325_252_u64;
    let mut noise = Vec::with_capacity(24 << 20);
    while noise.len() < 24 << 20 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        noise.extend_from_slice(&state.to_le_bytes());
    }
    let layer = Layer::new().file("noise", 0o644, noise).finish();
    let image = Image::new("large/layer:1", &["none"], vec![layer]);
    registry.push(&image, Dialect::Oci).expect("pushed");
    let mut daemon = daemon_with_mirror(&registry);
    let way = Way::to(&registry);
    let name = format!("127.0.0.1:{}/large/layer:1", way.port);

    way.slow.store(true, Ordering::SeqCst);
    let mut pull = daemon
        .command(Client::Berth, &format!("pull {name}"))
        .into_inner()
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("a client");
    // Sockets hold some of what has come.
    wait::until("most of it has come", || way.came() > 16 * MIB);
    daemon.kill();
    assert!(!pull.wait().expect("the client ends").success());
    daemon.launch();
    way.slow.store(false, Ordering::SeqCst);
    let before = way.came();
    assert!(before < 24 * MIB, "it was killed too late: {before} bytes");
    daemon.berth(&format!("pull {name}")).ok();
    let rest = way.came() - before;
    assert!(rest < 20 * MIB, "{rest} bytes came again");
    let id = daemon
        .berth(&format!("image inspect -f '{{{{.Id}}}}' {name}"))
        .ok();
    assert_eq!(id.text(), image.id());
    let partial = daemon.data_root().join("blobs/partial");
    assert_eq!(std::fs::read_dir(partial).expect("a directory").count(), 0);
}

#[test]
fn the_images_of_all_platforms_are_kept_on_request() {
    let storage = Scratch::new();
    let registry = Registry::empty(storage.path());
    let mut image = images::busybox().expect("the test image");
    image.name = "many/kept:1".into();
    let layer = Layer::new().file("other", 0o644, "other").finish();
    let mut other = Image::new("x:1", &["none"], vec![layer]);
    other.name = image.name.clone();
    registry
        .push_index(&image, &other, &["linux/amd64", "linux/arm64"])
        .expect("an index");
    let daemon = daemon_with_mirror(&registry);
    let name = format!("{}/many/kept:1", registry.host());
    let blobs = || {
        let directory = daemon.data_root().join("blobs/sha256");
        std::fs::read_dir(directory).expect("a directory").count()
    };
    let before = blobs();
    daemon.berth(&format!("pull --all-platforms {name}")).ok();
    // An index, and for each platform a manifest, a configuration and a layer.
    assert_eq!(blobs() - before, 7);
    daemon
        .berth(&format!("run --rm --network none {name} echo right one"))
        .ok()
        .prints("right one");
    let shown = daemon.berth("images --tree").ok();
    for platform in ["├─ linux/amd64", "└─ linux/arm64"] {
        assert!(shown.stdout.contains(platform), "{shown}");
    }
    assert!(!shown.stdout.contains("not here"), "{shown}");
    // The version that has it.
    let path = format!("/v1.48/images/{name}/json?manifests=1");
    let connection = daemon.connect().expect("a connection");
    let inspected = http::request(connection, "GET", &path, &[], b"").expect("an answer");
    let inspected = inspected.expect(200).json();
    let manifests = inspected["Manifests"].as_array().expect("manifests");
    assert!(
        manifests
            .iter()
            .all(|one| one["Kind"] == "image" && one["Available"] == true)
    );
    assert_eq!(manifests.len(), 2);
    // The same name once more, without the wish: what is kept stays.
    daemon.berth(&format!("pull {name}")).ok();
    assert_eq!(blobs() - before, 7);
    daemon.berth(&format!("rmi {name}")).ok();
    assert_eq!(blobs(), before, "gone with the name");
}
