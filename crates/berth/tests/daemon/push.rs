//! Pushing to a real registry on loopback.

use berth_testkit::archive::{Dialect, Image, Layer, architecture, digest};
use berth_testkit::cutting_proxy::CuttingProxy;
use berth_testkit::registry::Registry;
use berth_testkit::scratch::Scratch;
use berth_testkit::served::Served;
use berth_testkit::stub_registry::StubRegistry;
use berth_testkit::{Client, Command, Daemon, Settings, http, images, needs};
use serde_json::Value;

use crate::proxies::{NAME, Place};

/// Bytes that do not compress, the same each time.
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// A manifest or index as the registry has it.
pub(crate) fn manifest(registry: &Registry, name: &str, tag: &str) -> (String, String, Value) {
    let accept: Vec<(&str, &str)> = [Dialect::Docker, Dialect::Oci]
        .iter()
        .flat_map(|dialect| [dialect.manifest(), dialect.index()])
        .map(|kind| ("Accept", kind))
        .collect();
    let connection = http::loopback(registry.port()).expect("the registry");
    let target = format!("/v2/{name}/manifests/{tag}");
    let answer = http::request(connection, "GET", &target, &accept, b"")
        .expect("an answer")
        .expect(200);
    let kind = answer.header("content-type").unwrap_or_default().to_owned();
    (kind, digest(&answer.body), answer.json())
}

#[test]
fn an_image_goes_up_as_it_came() {
    let storage = Scratch::new();
    let registry = Registry::empty(storage.path());
    let daemon = Daemon::start();
    let host = registry.host();
    for (dialect, name) in [(Dialect::Docker, "old/style"), (Dialect::Oci, "new/style")] {
        let mut image = images::busybox().expect("the test image");
        image.name = format!("{name}:1");
        registry.push(&image, dialect).expect("pushed");
        let (kind, original, _) = manifest(&registry, name, "1");
        daemon.berth(&format!("pull -q {host}/{name}:1")).ok();
        daemon
            .berth(&format!("tag {host}/{name}:1 {host}/copy/of-{name}:2"))
            .ok();
        let client = match dialect {
            Dialect::Docker => Client::Docker,
            Dialect::Oci => Client::Berth,
        };
        let told = daemon
            .command(client, &format!("push {host}/copy/of-{name}:2"))
            .run()
            .ok();
        told.clone()
            .prints(&format!(
                "The push refers to repository [{host}/copy/of-{name}]"
            ))
            .prints(&format!("Mounted from {name}"))
            .prints(&format!("2: digest: {original} size: "));
        let (copied_kind, copied, _) = manifest(&registry, &format!("copy/of-{name}"), "2");
        assert_eq!((copied_kind, copied), (kind, original.clone()));
        daemon
            .berth(&format!("push {host}/copy/of-{name}:2"))
            .ok()
            .prints("Layer already exists");
        let seen = daemon
            .berth(&format!(
                "image inspect -f '{{{{.RepoDigests}}}}' {host}/{name}:1"
            ))
            .ok();
        assert!(
            seen.stdout.contains(&format!("copy/of-{name}@{original}")),
            "{seen}"
        );
    }
    // What other programs see of it.
    let reference = format!("docker://{host}/copy/of-old/style:2");
    Command::new(needs::program("skopeo", "skopeo"))
        .args(["inspect", "--tls-verify=false", &reference])
        .run()
        .ok()
        .prints("copy/of-old/style");
    // The bytes that a program of ours is told by.
    let pushed = daemon.api(
        "POST",
        &format!("/images/{host}/copy/of-old/style/push?tag=2"),
        None,
    );
    let last = pushed.expect(200).text();
    let last: Value = serde_json::from_str(last.lines().last().expect("lines")).expect("JSON");
    assert_eq!(last["aux"]["Tag"], "2");
    assert_eq!(
        last["aux"]["Digest"],
        manifest(&registry, "old/style", "1").1.as_str()
    );
}

#[test]
fn what_was_never_compressed_goes_up_compressed_and_is_found_again() {
    let storage = Scratch::new();
    let registry = Registry::empty(storage.path());
    let daemon = Daemon::start();
    let host = registry.host();
    let name = format!("{host}/made/here");
    let layers = vec![
        Layer::new()
            .file("text", 0o644, "much of the same ".repeat(10_000))
            .finish(),
        Layer::new().file("more", 0o644, noise(7, 100_000)).finish(),
    ];
    daemon.load(&Image::new("made/here:1", &["none"], layers));
    for tag in ["1", "2"] {
        daemon.berth(&format!("tag made/here:1 {name}:{tag}")).ok();
    }
    daemon
        .berth(&format!("push --all-tags {name}"))
        .ok()
        .prints("1: digest: sha256:")
        .prints("2: digest: sha256:");
    let (kind, first, document) = manifest(&registry, "made/here", "1");
    assert_eq!(kind, Dialect::Oci.manifest());
    for layer in document["layers"].as_array().expect("layers") {
        assert_eq!(
            layer["mediaType"],
            "application/vnd.oci.image.layer.v1.tar+gzip"
        );
    }
    assert_eq!(manifest(&registry, "made/here", "2").1, first);
    let again = daemon.berth(&format!("push {name}:1")).ok();
    assert!(
        again.stdout.contains("Layer already exists") && !again.stdout.contains("Pushed"),
        "{again}"
    );
    // Nothing was kept for it: the same form is made again where it is missing.
    let other_storage = Scratch::new();
    let other = Registry::empty(other_storage.path());
    daemon
        .berth(&format!("tag made/here:1 {}/made/here:1", other.host()))
        .ok();
    daemon
        .berth(&format!("push -q {}/made/here:1", other.host()))
        .ok();
    assert_eq!(manifest(&other, "made/here", "1").1, first);
    // And what went up comes down whole.
    let fresh = Daemon::with(
        berth_testkit::Engine::Berth,
        Settings {
            without_images: true,
            ..Settings::default()
        },
    );
    fresh.berth(&format!("pull -q {name}:1")).ok();
    let id = |daemon: &Daemon| {
        daemon
            .berth(&format!("images -q --no-trunc {name}:1"))
            .ok()
            .text()
            .to_owned()
    };
    assert_eq!(id(&fresh), id(&daemon));
}

#[test]
fn an_index_goes_up_whole_or_the_image_alone() {
    let storage = Scratch::new();
    let registry = Registry::empty(storage.path());
    let daemon = Daemon::start();
    let host = registry.host();
    let mut image = images::busybox().expect("the test image");
    image.name = "many/platforms:1".into();
    let mut other = Image::new(
        "x:1",
        &["none"],
        vec![Layer::new().file("other", 0o644, "").finish()],
    );
    other.name = image.name.clone();
    registry
        .push_index(&image, &other, &["linux/amd64", "linux/arm64"])
        .expect("an index");
    let (_, index, _) = manifest(&registry, "many/platforms", "1");
    daemon
        .berth(&format!("pull -q {host}/many/platforms:1"))
        .ok();
    // Where the other platform's image is, the index can be whole.
    daemon
        .berth(&format!(
            "tag {host}/many/platforms:1 {host}/many/platforms:2"
        ))
        .ok();
    let told = daemon.berth(&format!("push {host}/many/platforms:2")).ok();
    assert_eq!(
        manifest(&registry, "many/platforms", "2").1,
        index,
        "{told}"
    );
    // Elsewhere it cannot, and both clients say so; old ones know nothing of it.
    for (client, name) in [(Client::Berth, "only/one"), (Client::Docker, "only/two")] {
        daemon
            .berth(&format!("tag {host}/many/platforms:1 {host}/{name}:1"))
            .ok();
        let told = daemon
            .command(client, &format!("push {host}/{name}:1"))
            .run()
            .ok();
        let seen = format!("{}{}", told.stdout, told.stderr);
        let knows = client == Client::Berth || needs::docker_client() >= 28;
        assert_eq!(
            seen.contains("Not all multiplatform-content is present"),
            knows,
            "{told}"
        );
        let (kind, _, document) = manifest(&registry, name, "1");
        assert_eq!(kind, Dialect::Oci.manifest());
        assert_eq!(document["config"]["digest"], image.id());
    }
    // A platform may be named, if it is here.
    daemon
        .berth(&format!(
            "push --platform linux/{} {host}/many/platforms:2",
            architecture()
        ))
        .ok()
        .says("pushes only the specified platform");
    assert_eq!(
        manifest(&registry, "many/platforms", "2").0,
        Dialect::Oci.manifest()
    );
    daemon
        .berth(&format!(
            "push --platform linux/s390x {host}/many/platforms:1"
        ))
        .exits(1)
        .says("does not provide the specified platform (linux/s390x)");
    // With all platforms here, it can be whole anywhere.
    daemon
        .berth(&format!("pull -q --all-platforms {host}/many/platforms:1"))
        .ok();
    daemon
        .berth(&format!("tag {host}/many/platforms:1 {host}/all/of:1"))
        .ok();
    let told = daemon.berth(&format!("push {host}/all/of:1")).ok();
    assert_eq!(manifest(&registry, "all/of", "1").1, index, "{told}");
}

#[test]
fn broken_uploads_are_tried_again() {
    let storage = Scratch::new();
    let registry = Registry::empty(storage.path());
    let daemon = Daemon::start();
    const LAYER: usize = 24 << 20;
    const CUTS: usize = 3;
    let proxy = CuttingProxy::start(registry.port(), 7 << 20, CUTS);
    let mut image = Image::new(
        "large:1",
        &["none"],
        vec![Layer::new().file("noise", 0o644, noise(3, LAYER)).finish()],
    );
    image.name = format!("{}/large/one:1", proxy.host());
    daemon.load(&image);
    let told = daemon.berth(&format!("push {}", image.name)).ok();
    assert_eq!(proxy.cuts(), CUTS, "{told}");
    assert!(told.stdout.contains("Retrying in"), "{told}");
    let fresh = Daemon::start();
    let direct = format!("{}/large/one:1", registry.host());
    fresh.berth(&format!("pull -q {direct}")).ok();
}

#[test]
fn an_upload_goes_on_where_it_broke() {
    const LAYER: usize = 24 << 20;
    const CUTS: usize = 3;
    let registry = StubRegistry::start();
    let storage = Scratch::new();
    let served = Served::start(&storage.path().join("r"), &[]);
    let daemon = Daemon::start();
    let layer = Layer::new().file("noise", 0o644, noise(5, LAYER)).finish();
    daemon.load(&Image::new("large:1", &["none"], vec![layer]));
    for port in [registry.port(), served.port()] {
        let proxy = CuttingProxy::start(port, 7 << 20, CUTS);
        let name = format!("{}/large/one:1", proxy.host());
        daemon.berth(&format!("tag large:1 {name}")).ok();
        daemon.berth(&format!("push {name}")).ok();
        assert_eq!(proxy.cuts(), CUTS);
        // What was in the pipes when a connection broke is sent again, and nothing else is.
        let sent = proxy.sent();
        assert!(
            sent < LAYER as u64 + LAYER as u64 / 2,
            "{sent} bytes for a layer of {LAYER}"
        );
    }
    assert!(registry.stored() > LAYER);
    let asked = registry.log();
    let begun = asked
        .iter()
        .filter(|line| line.starts_with("POST") && line.ends_with("/blobs/uploads/"))
        .count();
    assert_eq!(
        begun, 2,
        "one upload each for layer and configuration: {asked:?}"
    );
    let fresh = Daemon::start();
    fresh
        .berth(&format!("pull -q {}/large/one:1", served.host()))
        .ok();

    // A registry that asks for patience gets some.
    daemon
        .berth(&format!("tag large:1 {}/again:1", registry.host()))
        .ok();
    registry.be_busy(3);
    daemon
        .berth(&format!("push {}/again:1", registry.host()))
        .ok();
    registry.be_busy(1000);
    daemon
        .berth(&format!("push {}/again:1", registry.host()))
        .exits(1)
        .says("toomanyrequests: slow down");
    registry.be_busy(0);

    // It has a search as well.
    let host = registry.host();
    let found = daemon.berth(&format!("search {host}/one")).ok();
    let lines: Vec<&str> = found.stdout.lines().collect();
    assert_eq!(lines.len(), 3, "{found}");
    assert!(
        lines[0].starts_with("NAME ") && lines[0].ends_with("OFFICIAL"),
        "{found}"
    );
    assert!(
        lines[1].contains("The first of all the images that were ever p\u{2026}")
            && lines[1].ends_with("[OK]"),
        "{found}"
    );
    daemon
        .docker(&format!(
            "search --filter stars=5 --format '{{{{.Name}}}}' {host}/one"
        ))
        .ok()
        .prints("one\n");
    daemon
        .berth(&format!("search --limit 101 {host}/one"))
        .exits(1)
        .says("limit 101 is outside the range of [1, 100]");
    daemon
        .berth(&format!("search -f is-nice=true {host}/one"))
        .exits(1)
        .says("invalid filter 'is-nice'");
}

#[test]
fn an_upload_over_tls_goes_on_where_it_broke() {
    const LAYER: usize = 24 << 20;
    const CUTS: usize = 3;
    let place = Place::new();
    let cutting = CuttingProxy::start(place.registry.port(), 7 << 20, CUTS);
    let host = cutting.host().replace("127.0.0.1", NAME);
    let certificates = place.scratch.path().join("certs.d");
    let own = certificates.join(&host);
    let directory = certificates.display().to_string();
    let daemon = place.bare_daemon(true, &["--registry-certs-dir", &directory]);
    let layer = Layer::new().file("noise", 0o644, noise(9, LAYER)).finish();
    daemon.load(&Image::new("large:1", &["none"], vec![layer]));
    let name = format!("{host}/large/one:1");
    daemon.berth(&format!("tag large:1 {name}")).ok();
    daemon
        .berth(&format!("push {name}"))
        .exits(1)
        .says("certificate");
    assert_eq!(cutting.cuts(), 0, "nothing goes to who is not known");
    std::fs::create_dir_all(&own).expect("a directory");
    std::fs::copy(place.authority.certificate(), own.join("ca.crt")).expect("copied");
    let before = cutting.sent();
    daemon.berth(&format!("push {name}")).ok();
    assert_eq!(cutting.cuts(), CUTS);
    let sent = cutting.sent() - before;
    assert!(
        sent < LAYER as u64 + LAYER as u64 / 2,
        "{sent} bytes for a layer of {LAYER}"
    );
    daemon.berth(&format!("rmi large:1 {name}")).ok();
    daemon.berth(&format!("pull -q {name}")).ok();
}

#[test]
fn what_cannot_be_pushed_says_why() {
    let daemon = Daemon::start();
    let storage = Scratch::new();
    let registry = Registry::empty(storage.path());
    let host = registry.host();
    daemon.berth(&format!("tag busybox {host}/one:1")).ok();
    for (line, words) in [
        (
            format!("push {host}/nothing"),
            format!("An image does not exist locally with the tag: {host}/nothing"),
        ),
        (
            format!("push {host}/one:other"),
            format!("tag does not exist: {host}/one:other"),
        ),
        (
            format!("push -a {host}/one:1"),
            "tag can't be used with --all-tags/-a".to_owned(),
        ),
        (
            format!("push {host}/one@sha256:{}", "a".repeat(64)),
            "cannot push a digest reference".to_owned(),
        ),
        ("push busyBox".to_owned(), "must be lowercase".to_owned()),
        (
            "push --platform x/y/z/a b".to_owned(),
            "invalid platform".to_owned(),
        ),
    ] {
        daemon.berth(&line).exits(1).says(&words);
    }
    daemon
        .berth("tag busybox 127.0.0.1:1/nobody/listens:1")
        .ok();
    daemon
        .berth("push 127.0.0.1:1/nobody/listens:1")
        .exits(1)
        .says("127.0.0.1:1");
}
