//! Images on their way through several programs: the same when they come back.

use std::path::Path;

use berth_testkit::archive::{Dialect, Layer, architecture, digest, gzip};
use berth_testkit::podman::Podman;
use berth_testkit::registry::Registry;
use berth_testkit::scratch::Scratch;
use berth_testkit::served::Served;
use berth_testkit::{Daemon, Engine, Settings, images, needs};
use serde_json::{Value, json};

use crate::push::manifest;
use crate::registry::clients::skopeo;
use crate::registry::push_blob;

/// Content by its digest, and descriptors of it.
#[derive(Default)]
struct Layout {
    blobs: Vec<(String, Vec<u8>)>,
}

impl Layout {
    fn add(&mut self, kind: &str, bytes: Vec<u8>) -> Value {
        let descriptor = json!({"mediaType": kind, "digest": digest(&bytes), "size": bytes.len()});
        self.blobs.push((digest(&bytes), bytes));
        descriptor
    }

    /// An image whose file says what it is for.
    fn image(&mut self, platform: &str, lower: &[Vec<u8>]) -> Value {
        let own = Layer::new().file("platform", 0o644, platform).finish();
        let layers: Vec<&Vec<u8>> = lower.iter().chain([&own]).collect();
        let diff_ids: Vec<String> = layers.iter().map(|layer| digest(layer)).collect();
        let config = json!({
            "architecture": platform, "os": "linux", "config": {"Cmd": ["cat", "/platform"]},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        });
        let kind = "application/vnd.oci.image.config.v1+json";
        let config = self.add(kind, config.to_string().into());
        let kind = "application/vnd.oci.image.layer.v1.tar+gzip";
        let layers: Vec<Value> = layers
            .into_iter()
            .map(|layer| self.add(kind, gzip(layer).expect("compressed")))
            .collect();
        let manifest = json!({
            "schemaVersion": 2, "mediaType": Dialect::Oci.manifest(), "config": config, "layers": layers,
        });
        let mut entry = self.add(Dialect::Oci.manifest(), manifest.to_string().into());
        entry["platform"] = json!({"os": "linux", "architecture": platform});
        entry
    }

    /// Writes it with one name; gives the digest behind the name.
    fn write(mut self, directory: &Path, entries: &[Value]) -> String {
        let kind = Dialect::Oci.index();
        let index = json!({"schemaVersion": 2, "mediaType": kind, "manifests": entries});
        let mut entry = self.add(kind, index.to_string().into());
        let digest = entry["digest"].as_str().unwrap_or_default().to_owned();
        entry["annotations"] = json!({"org.opencontainers.image.ref.name": "1"});
        let blobs = directory.join("blobs/sha256");
        std::fs::create_dir_all(&blobs).expect("a directory");
        for (digest, bytes) in &self.blobs {
            std::fs::write(blobs.join(&digest["sha256:".len()..]), bytes).expect("content");
        }
        let top = json!({"schemaVersion": 2, "manifests": [entry]});
        std::fs::write(directory.join("index.json"), top.to_string()).expect("an index");
        std::fs::write(
            directory.join("oci-layout"),
            r#"{"imageLayoutVersion":"1.0.0"}"#,
        )
        .expect("a layout");
        digest
    }
}

fn bare() -> Daemon {
    Daemon::with(
        Engine::Berth,
        Settings {
            without_images: true,
            ..Settings::default()
        },
    )
}

#[test]
fn an_index_is_the_same_after_every_journey() {
    let scratch = Scratch::new();
    let storage = Scratch::new();
    let registry = Registry::empty(storage.path());
    let host = registry.host();
    let busybox = images::busybox().expect("the test image").layers;
    let mut layout = Layout::default();
    let others = ["arm64", "s390x", "amd64"]
        .iter()
        .filter(|other| **other != architecture())
        .take(2)
        .copied();
    let other: Vec<&str> = others.collect();
    let entries = vec![
        layout.image(other[0], &[]),
        layout.image(architecture(), &busybox),
        layout.image(other[1], &[]),
    ];
    let directory = scratch.path().join("multi");
    let index = layout.write(&directory, &entries);
    let copy = |from: &str, to: &str| {
        let options = "--all --src-tls-verify=false --dest-tls-verify=false";
        skopeo(&scratch, &format!("copy {options} {from} {to}")).ok();
    };
    let raw = |from: &str| {
        let told = skopeo(&scratch, &format!("inspect --raw {from}")).ok();
        digest(&told.stdout_bytes)
    };
    copy(
        &format!("oci:{}:1", directory.display()),
        &format!("docker://{host}/many/parts:1"),
    );
    assert_eq!(manifest(&registry, "many/parts", "1").1, index);

    // Pulled whole, saved whole.
    let daemon = bare();
    let name = format!("{host}/many/parts:1");
    daemon
        .berth(&format!("pull -q --all-platforms {name}"))
        .ok();
    let file = scratch.path().join("all.tar");
    let all = file.display();
    daemon.berth(&format!("save -o {all} {name}")).ok();
    assert_eq!(raw(&format!("oci-archive:{all}:1")), index);
    copy(
        &format!("oci-archive:{all}:1"),
        &format!("docker://{host}/copied/parts:1"),
    );
    assert_eq!(manifest(&registry, "copied/parts", "1").1, index);

    // Whoever knows no index finds the image for this machine in it.
    let docker = Daemon::with(Engine::Docker, Settings::default());
    docker
        .docker(&format!("load -i {all}"))
        .ok()
        .prints(&format!("Loaded image: {name}"));
    docker
        .docker(&format!("run --rm --network none {name}"))
        .ok()
        .prints(architecture());
    drop(docker);
    let podman = Podman::new(&needs::program("runc", "runc"));
    podman
        .call(&format!("load -q -i {all}"))
        .ok()
        .prints("many/parts:1");
    podman
        .run(&format!("--rm {name}"))
        .ok()
        .prints(architecture());
    drop(podman);

    // Back again it has every platform, is written as the same bytes, and goes up as what it was.
    let other_daemon = bare();
    other_daemon.berth(&format!("load -q -i {all}")).ok();
    let tree = other_daemon.berth("images --tree").ok();
    for platform in other.iter().copied().chain([architecture()]) {
        assert!(tree.stdout.contains(&format!("linux/{platform}")), "{tree}");
    }
    assert!(!tree.stdout.contains("not here"), "{tree}");
    other_daemon
        .berth(&format!("run --rm --network none {name}"))
        .ok()
        .prints(architecture());
    let again = scratch.path().join("again.tar");
    other_daemon
        .berth(&format!("save -o {} {name}", again.display()))
        .ok();
    let bytes = |path: &Path| std::fs::read(path).expect("an archive");
    assert!(bytes(&file) == bytes(&again), "the archives differ");
    let pushed = format!("{host}/again/parts:2");
    other_daemon.berth(&format!("tag {name} {pushed}")).ok();
    other_daemon
        .berth(&format!("push {pushed}"))
        .ok()
        .prints(&format!("2: digest: {index} size: "));
    assert_eq!(manifest(&registry, "again/parts", "2").1, index);

    // One platform by the stock client, two by ours, and one that nobody has.
    let one = scratch.path().join("one.tar");
    let line = format!(
        "save --platform linux/{} -o {} {name}",
        other[0],
        one.display()
    );
    daemon.command(needs::stock_client(28), &line).run().ok();
    let digest_of = |entry: &Value| entry["digest"].as_str().unwrap_or_default().to_owned();
    assert_eq!(
        raw(&format!("oci-archive:{}:1", one.display())),
        digest_of(&entries[0])
    );
    let two = scratch.path().join("two.tar");
    daemon
        .berth(&format!(
            "save --platform linux/{} --platform linux/{} -o {} {name}",
            other[1],
            other[0],
            two.display()
        ))
        .ok();
    copy(
        &format!("oci-archive:{}:1", two.display()),
        &format!("docker://{host}/copied/parts:2"),
    );
    let listed = manifest(&registry, "copied/parts", "2").2;
    let listed: Vec<String> = listed["manifests"]
        .as_array()
        .expect("an index")
        .iter()
        .map(digest_of)
        .collect();
    assert_eq!(listed, [digest_of(&entries[0]), digest_of(&entries[2])]);
    for line in [
        "save --platform linux/riscv64",
        "load --platform linux/riscv64",
    ] {
        let line = match line.starts_with("save") {
            true => format!("{line} {name}"),
            false => format!("{line} -i {all}"),
        };
        daemon.berth(&line).exits(1).says("linux/riscv64");
    }
    let third = bare();
    third
        .berth(&format!("load -q --platform linux/{} -i {all}", other[1]))
        .ok();
    let inspected = third
        .berth(&format!("image inspect -f '{{{{.Architecture}}}}' {name}"))
        .ok();
    assert_eq!(inspected.text(), other[1]);
}

#[test]
fn a_layer_that_only_its_publisher_gives_out_stays_with_him() {
    let scratch = Scratch::new();
    let registry = Served::start(&scratch.path().join("r"), &[]);
    let host = registry.host();
    // The publisher's server is a registry as well, since any server will do.
    let storage = Scratch::new();
    let publisher = Registry::empty(storage.path());
    let own = gzip(&Layer::new().file("own", 0o644, "published").finish()).expect("compressed");
    publisher.push_blob("away/layer", &own).expect("published");
    let address = format!(
        "http://{}/v2/away/layer/blobs/{}",
        publisher.host(),
        digest(&own)
    );
    let mut image = images::busybox().expect("the test image");
    image
        .layers
        .push(Layer::new().file("own", 0o644, "published").finish());
    let (bytes, blobs) = image.manifest(Dialect::Oci).expect("a manifest");
    for blob in blobs.iter().filter(|blob| **blob != own) {
        push_blob(&registry, "with/foreign", blob);
    }
    let mut document: Value = serde_json::from_slice(&bytes).expect("a manifest");
    let layer = document["layers"]
        .as_array_mut()
        .and_then(|layers| layers.last_mut())
        .expect("layers");
    layer["mediaType"] = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip".into();
    layer["urls"] = json!([address]);
    let bytes = document.to_string().into_bytes();
    registry
        .send(
            "PUT",
            "/v2/with/foreign/manifests/1",
            &[("Content-Type", Dialect::Oci.manifest())],
            &bytes,
        )
        .expect(201);

    let daemon = bare();
    let name = format!("{host}/with/foreign:1");
    daemon.berth(&format!("pull -q {name}")).ok();
    daemon
        .berth(&format!("run --rm --network none {name} cat /own"))
        .ok()
        .prints("published");
    let file = scratch.path().join("foreign.tar");
    daemon
        .berth(&format!("save -o {} {name}", file.display()))
        .ok();
    drop(daemon);
    let other = bare();
    other.berth(&format!("load -q -i {}", file.display())).ok();
    other
        .berth(&format!("run --rm --network none {name} cat /own"))
        .ok()
        .prints("published");
    let pushed = format!("{host}/copied/foreign:2");
    other.berth(&format!("tag {name} {pushed}")).ok();
    other
        .berth(&format!("push {pushed}"))
        .ok()
        .prints("Skipped foreign layer")
        .prints(&format!("2: digest: {} size: ", digest(&bytes)));
    let target = format!("/v2/copied/foreign/blobs/{}", digest(&own));
    registry.send("HEAD", &target, &[], b"").expect(404);
    other.berth(&format!("rmi -f {pushed} {name}")).ok();
    other.berth(&format!("pull -q {pushed}")).ok();
    other
        .berth(&format!("run --rm --network none {pushed} cat /own"))
        .ok()
        .prints("published");
    // Others leave the layer out as well; who loads that is told where it is.
    let lacking = scratch.path().join("lacking.tar");
    skopeo(
        &scratch,
        &format!(
            "copy --src-tls-verify=false docker://{pushed} oci-archive:{}:lacking:1",
            lacking.display()
        ),
    )
    .ok();
    other
        .berth(&format!("load -q -i {}", lacking.display()))
        .exits(1)
        .says("which only its publisher gives out, at")
        .says(&address);
}
