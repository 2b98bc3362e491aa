//! Archives of every kind that `load` takes, and what it refuses.

use std::collections::BTreeMap;
use std::process::Command;

use berth_image::documents::media;
use berth_image::{ImageError, digest_of};
use berth_types::Platform;
use serde_json::json;

use crate::support::{Home, Layer, Made, Tar, chain, descriptor, gzip, layout, zstandard};

fn image() -> Made {
    let mut tar = Tar::default();
    tar.dir("bin/", 0o755).file("bin/sh", b"#!");
    Made::new(&[Layer::plain(tar.end())])
}

fn names(home: &Home) -> Vec<String> {
    let mut names: Vec<String> = home
        .store
        .list(&berth_image::ListRequest::default())
        .unwrap()
        .into_iter()
        .flat_map(|image| image.repo_tags)
        .collect();
    names.sort();
    names
}

#[test]
fn the_builtin_image_goes_the_ordinary_way() {
    let home = Home::new();
    let id = home.store.ensure_builtin().unwrap();
    assert_eq!(home.store.ensure_builtin().unwrap(), id);
    assert_eq!(id.to_string(), berth_hello::IMAGE_ID);
    let tree = home.tree(&id);
    assert!(
        tree["/hello"].starts_with("mode=100755 owner=0:0"),
        "{tree:?}"
    );
    assert_eq!(names(&home), ["berth/hello:latest"]);
    let home = home.reopen();
    assert_eq!(home.store.resolve("berth/hello").unwrap().id, id);
    assert_eq!(home.tree(&id), tree);
}

#[test]
fn archives_of_every_age_and_compression_are_taken() {
    let image = image();
    let legacy = image.legacy_save("busybox:1.0");
    let oci = image.layout("docker.io/library/busybox:2.0");
    for archive in [
        legacy.clone(),
        gzip(&legacy),
        zstandard(&legacy),
        oci.clone(),
        gzip(&oci),
    ] {
        let home = Home::new();
        let loaded = home
            .load(&archive)
            .map_err(|error| panic!("{}", chain(&error)))
            .unwrap();
        assert_eq!(loaded.len(), 1);
        assert_eq!(loaded[0].id, image.id());
        assert_eq!(loaded[0].names[0].name(), "docker.io/library/busybox");
        assert!(home.tree(&image.id()).contains_key("/bin/sh"));
        let view = home
            .store
            .inspect("busybox:1.0")
            .or_else(|_| home.store.inspect("busybox:2.0"));
        let view = view.unwrap();
        assert_eq!(view.size, 2);
        assert_eq!(
            view.document.config.cmd.as_deref(),
            Some(&["/bin/sh".to_owned()][..])
        );
        assert!(view.repo_digests.is_empty());
        let history = home.store.history(&image.id().short()).unwrap();
        assert_eq!((history.len(), history[0].size), (1, 2));
    }
}

#[test]
fn old_archives_link_equal_layers() {
    let image = image();
    let mut tar = Tar::default();
    tar.file("one/layer.tar", &image.layers[0].bytes);
    tar.symlink("two/layer.tar", "../one/layer.tar");
    let config = serde_json::to_vec(&json!({
        "os": "linux", "architecture": "amd64",
        "rootfs": {"type": "layers", "diff_ids": [image.layers[0].diff_id.to_string(), image.layers[0].diff_id.to_string()]},
    }))
    .unwrap();
    tar.file("c.json", &config);
    let list = json!([{"Config": "c.json", "RepoTags": null, "Layers": ["one/layer.tar", "two/layer.tar"]}]);
    tar.file("manifest.json", &serde_json::to_vec(&list).unwrap());
    let home = Home::new();
    let loaded = home.load(&tar.end()).unwrap();
    assert!(loaded[0].names.is_empty());
    assert!(home.tree(&loaded[0].id).contains_key("/bin/sh"));
    let dangling = home
        .store
        .list(&berth_image::ListRequest {
            filters: berth_image::ImageFilters {
                dangling: Some(true),
                ..Default::default()
            },
            ..Default::default()
        })
        .unwrap();
    assert_eq!(dangling.len(), 1);
}

#[test]
fn an_archive_that_is_both_keeps_its_own_manifest() {
    let image = image();
    let mut tar = Tar::default();
    for (digest, bytes) in &image.blobs {
        tar.file(&format!("blobs/sha256/{}", digest.hex()), bytes);
    }
    let mut entry = descriptor(media::OCI_MANIFEST, &image.manifest);
    entry["annotations"] = json!({"io.containerd.image.name": "docker.io/library/a:1"});
    let index = json!({"schemaVersion": 2, "manifests": [entry]});
    tar.file("index.json", &serde_json::to_vec(&index).unwrap());
    let list = json!([{
        "Config": format!("blobs/sha256/{}", image.id().hex()), "RepoTags": ["a:1", "b:2"],
        "Layers": [format!("blobs/sha256/{}", digest_of(&image.layers[0].bytes).hex())],
    }]);
    tar.file("manifest.json", &serde_json::to_vec(&list).unwrap());
    tar.file("oci-layout", b"{}");
    let home = Home::new();
    home.load(&tar.end()).unwrap();
    assert_eq!(names(&home), ["a:1", "b:2"]);
    let record = home.store.resolve("a:1").unwrap().record;
    assert_eq!(record.manifest.digest, digest_of(&image.manifest));
}

#[test]
fn platforms_side_by_side_under_one_name_are_all_kept() {
    let made = |architecture: &str| {
        let mut tar = Tar::default();
        tar.file("architecture", architecture.as_bytes());
        Made::for_platform(&[Layer::gzip(tar.end())], architecture, json!({}))
    };
    let (own, other, attestation, single) =
        (made("amd64"), made("arm64"), made("none"), made("s390x"));
    let mut blobs = BTreeMap::new();
    let mut entries = Vec::new();
    for (image, architecture, name) in [
        (&own, "amd64", Some("docker.io/library/many:1")),
        (&other, "arm64", Some("docker.io/library/many:1")),
        (&attestation, "unknown", None),
        (&single, "s390x", Some("docker.io/library/single:1")),
    ] {
        blobs.extend(image.blobs.clone());
        let mut entry = descriptor(media::OCI_MANIFEST, &image.manifest);
        entry["platform"] = json!({"os": "linux", "architecture": architecture});
        entry["annotations"] = match name {
            Some(name) => json!({"io.containerd.image.name": name, "kept": "yes"}),
            None => json!({
                "vnd.docker.reference.type": "attestation-manifest",
                "vnd.docker.reference.digest": digest_of(&other.manifest).to_string(),
            }),
        };
        entries.push(entry);
    }
    let archive = layout(&json!({"schemaVersion": 2, "manifests": entries}), &blobs);
    let home = || {
        Home::with(berth_image::Settings {
            platform: Platform::parse("linux/amd64").unwrap(),
            ..berth_image::Settings::default()
        })
    };
    let first = home();
    first
        .load(&archive)
        .map_err(|error| panic!("{}", chain(&error)))
        .unwrap();
    assert_eq!(names(&first), ["many:1", "single:1"]);
    assert_eq!(first.store.resolve("many:1").unwrap().id, own.id());
    let views = first.store.manifests("many:1").unwrap();
    let digests: Vec<_> = views.iter().map(|view| view.descriptor.digest).collect();
    assert_eq!(
        digests,
        [&own, &other, &attestation].map(|image| digest_of(&image.manifest))
    );
    assert!(views.iter().all(|view| view.available));
    let annotations = views[0].descriptor.annotations.as_ref().unwrap();
    assert_eq!(
        annotations.len(),
        1,
        "the names are those of the whole: {annotations:?}"
    );
    // The index that was made is the same each time, and leaves as one that came.
    let saved = first.store.save(&["many:1".to_owned()], &[]).unwrap();
    let saved = saved.write_to(Vec::new()).unwrap();
    let second = home();
    second.load(&saved).unwrap();
    second.load(&archive).unwrap();
    assert_eq!(second.store.manifests("many:1").unwrap(), views);
    let blobs = |home: &Home| home.store.blobs().list().unwrap().len();
    assert_eq!(blobs(&first), blobs(&second));
    // Alone, it is the other one.
    let third = home();
    let arm = Platform::parse("linux/arm64").unwrap();
    let silent = berth_image::progress::silent();
    third
        .store
        .load(&archive[..], std::slice::from_ref(&arm), &silent)
        .unwrap();
    assert_eq!(third.store.resolve("many:1").unwrap().id, other.id());
    assert_eq!(names(&third), ["many:1"]);
}

#[test]
fn the_platform_is_chosen_from_nested_indexes() {
    let layer = image().layers[0].clone();
    let images: Vec<Made> = ["amd64", "arm64", "s390x"]
        .iter()
        .map(|architecture| {
            Made::for_platform(
                std::slice::from_ref(&layer),
                architecture,
                json!({"Env": [architecture]}),
            )
        })
        .collect();
    let mut blobs: BTreeMap<_, _> = images.iter().flat_map(|i| i.blobs.clone()).collect();
    let mut entries: Vec<serde_json::Value> = images
        .iter()
        .zip(["amd64", "arm64", "s390x"])
        .map(|(image, architecture)| {
            let mut entry = descriptor(media::OCI_MANIFEST, &image.manifest);
            entry["platform"] = json!({"os": "linux", "architecture": architecture});
            entry
        })
        .collect();
    let mut attestation = descriptor(media::OCI_MANIFEST, b"not here");
    attestation["platform"] = json!({"os": "unknown", "architecture": "unknown"});
    attestation["annotations"] = json!({"vnd.docker.reference.type": "attestation-manifest"});
    entries.insert(0, attestation);
    let inner = serde_json::to_vec(
        &json!({"schemaVersion": 2, "mediaType": media::OCI_INDEX, "manifests": entries}),
    )
    .unwrap();
    blobs.insert(digest_of(&inner), inner.clone());
    let mut entry = descriptor(media::OCI_INDEX, &inner);
    entry["annotations"] = json!({"org.opencontainers.image.ref.name": "registry.example/app:3"});
    let archive = layout(&json!({"schemaVersion": 2, "manifests": [entry]}), &blobs);
    let load = |platform: &str| {
        let home = Home::new();
        let platform = Platform::parse(platform).unwrap();
        let outcome = home.store.load(
            &archive[..],
            std::slice::from_ref(&platform),
            &berth_image::progress::silent(),
        );
        (outcome, home)
    };
    let (outcome, home) = load("linux/arm64");
    assert_eq!(outcome.unwrap()[0].id, images[1].id());
    let view = home.store.inspect("registry.example/app:3").unwrap();
    assert_eq!(view.document.architecture, "arm64");
    // Several: one is unpacked, the others are kept, and what was not asked for is not.
    let home = Home::new();
    let wanted = ["linux/s390x", "linux/arm64"].map(|text| Platform::parse(text).unwrap());
    let silent = berth_image::progress::silent();
    let loaded = home.store.load(&archive[..], &wanted, &silent).unwrap();
    assert_eq!(loaded[0].id, images[2].id());
    let kept = |home: &Home, image: &Made| {
        let blobs = home.store.blobs();
        [&image.manifest, &image.config]
            .iter()
            .all(|bytes| blobs.contains(&digest_of(bytes)))
    };
    assert!(kept(&home, &images[1]) && kept(&home, &images[2]) && !kept(&home, &images[0]));
    let none = ["linux/arm64", "linux/riscv64"].map(|text| Platform::parse(text).unwrap());
    let outcome = Home::new().store.load(&archive[..], &none, &silent);
    assert!(
        matches!(outcome, Err(ImageError::NoPlatform { .. })),
        "{outcome:?}"
    );
    // One of the two that are here, both, and one that is not.
    let save = |platforms: &[Platform]| {
        let names = ["registry.example/app:3".to_owned()];
        home.store.save(&names, platforms)
    };
    let written = |platforms: &[Platform]| save(platforms).unwrap().write_to(Vec::new()).unwrap();
    let other = Home::new();
    other.load(&written(&wanted[1..])).unwrap();
    assert_eq!(
        other.store.resolve("registry.example/app:3").unwrap().id,
        images[1].id()
    );
    let other = Home::new();
    other.load(&written(&wanted)).unwrap();
    assert!(kept(&other, &images[1]) && kept(&other, &images[2]));
    let shown = other.store.manifests("registry.example/app:3").unwrap();
    assert_eq!(shown.len(), 2);
    let outcome = save(&none);
    assert!(
        matches!(outcome, Err(ImageError::NoPlatform { .. })),
        "{outcome:?}"
    );
    // Without a word about platforms all that the archive has is kept.
    let home = Home::new();
    home.load(&archive).unwrap();
    assert!(images.iter().all(|image| kept(&home, image)));
    let (outcome, home) = load("linux/riscv64");
    assert!(
        matches!(outcome, Err(ImageError::NoPlatform { .. })),
        "{outcome:?}"
    );
    assert_eq!(home.leftovers(), Vec::<String>::new());
    let home = Home::new();
    let own = home.load(&archive).unwrap();
    let expected = if cfg!(target_arch = "x86_64") { 0 } else { 1 };
    assert_eq!(own[0].id, images[expected].id());
}

#[test]
fn what_skopeo_writes_is_read() {
    let image = image();
    let work = tempfile::tempdir().unwrap();
    let path = |name: &str| work.path().join(name).display().to_string();
    std::fs::write(path("in.tar"), image.layout("docker.io/library/in:1")).unwrap();
    let archive = format!("oci-archive:{}", path("in.tar"));
    for (to, name) in [
        (
            format!("docker-archive:{}:busybox:9", path("d.tar")),
            "busybox:9",
        ),
        (
            format!("oci-archive:{}:busybox:8", path("o.tar")),
            "busybox:8",
        ),
    ] {
        let output = Command::new("skopeo")
            .args(["copy", "--insecure-policy", &archive, &to])
            .output()
            .expect("skopeo is installed");
        assert!(output.status.success(), "{output:?}");
        let file = to.split(':').nth(1).unwrap();
        let home = Home::new();
        home.load(&std::fs::read(file).unwrap())
            .map_err(|error| panic!("{to}: {}", chain(&error)))
            .unwrap();
        assert_eq!(names(&home), [name]);
    }
}

#[test]
fn a_truncated_archive_leaves_nothing() {
    let image = image();
    let home = Home::new();
    for archive in [
        image.legacy_save("x:1"),
        image.layout("docker.io/library/x:1"),
        gzip(&image.legacy_save("x:1")),
    ] {
        let mut length = 0;
        while length < archive.len().saturating_sub(1024).max(archive.len() / 2) {
            let outcome = home.load(&archive[..length]);
            assert!(
                outcome.is_err(),
                "{length} of {} bytes were taken",
                archive.len()
            );
            length += 300;
        }
    }
    assert_eq!(home.leftovers(), Vec::<String>::new());
    let error = home.load(b"this is no archive at all").unwrap_err();
    assert_eq!(error.kind(), berth_types::ErrorKind::InvalidArgument);
    assert!(home.load(b"").is_err());
    assert_eq!(home.leftovers(), Vec::<String>::new());
}

#[test]
fn a_name_moves_to_the_newer_image() {
    let (first, second) = (image(), {
        let mut tar = Tar::default();
        tar.file("other", b"o");
        Made::new(&[Layer::plain(tar.end())])
    });
    let home = Home::new();
    home.load(&first.legacy_save("x:1")).unwrap();
    let lines = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let sink: berth_image::ProgressSink = {
        let lines = lines.clone();
        std::sync::Arc::new(move |progress| {
            if let berth_image::Progress::Status(line) = progress {
                lines.lock().unwrap().push(line);
            }
        })
    };
    home.store
        .load(&second.legacy_save("x:1")[..], &[], &sink)
        .unwrap();
    assert_eq!(
        *lines.lock().unwrap(),
        [
            format!(
                "The image x:1 already exists, renaming the old one with ID {} to empty string",
                first.id()
            ),
            "Loaded image: x:1".to_owned()
        ]
    );
    assert_eq!(home.store.resolve("x:1").unwrap().id, second.id());
    assert!(home.store.names(&first.id()).unwrap().is_empty());
    assert_eq!(
        home.store.resolve(&first.id().hex()[..6]).unwrap().id,
        first.id()
    );
}
