//! Everything that a registry may have behind a name: platforms, layers of every kind, what is no image.

use berth_image::documents::media;
use berth_image::{ManifestKind, PullRequest, digest_of};
use berth_types::{ErrorKind, Platform};
use serde_json::json;

use crate::pull::{image, noise, pull, refused, request};
use crate::registry::{Answer, Fake};
use crate::support::{Home, Layer, Made, Tar, chain, descriptor};

#[test]
fn an_index_gives_the_platform_that_was_asked_for() {
    let layer = image().layers[0].clone();
    let images: Vec<Made> = ["amd64", "arm64"]
        .iter()
        .map(|architecture| {
            Made::for_platform(std::slice::from_ref(&layer), architecture, json!({}))
        })
        .collect();
    let entries: Vec<serde_json::Value> = images
        .iter()
        .zip(["amd64", "arm64"])
        .map(|(image, architecture)| {
            let mut entry = descriptor(media::OCI_MANIFEST, &image.manifest);
            entry["platform"] = json!({"os": "linux", "architecture": architecture});
            entry
        })
        .collect();
    let index = serde_json::to_vec(
        &json!({"schemaVersion": 2, "mediaType": media::OCI_INDEX, "manifests": entries}),
    )
    .unwrap();
    let served = (images.clone(), index.clone());
    let registry = Fake::start(move |asked| {
        let (images, index) = &served;
        let last = asked.path.rsplit('/').next().unwrap_or_default();
        if last == "1" {
            return Answer::ok(index).header("Content-Type", media::OCI_INDEX);
        }
        let digest = last.parse().unwrap();
        let found = images.iter().find_map(|image| image.blobs.get(&digest));
        found.map_or(Answer::status(404), |bytes| Answer::ok(bytes))
    });
    let name = format!("{}/a/b:1", registry.address);
    let home = Home::new();
    for (platform, expected) in [("linux/arm64", 1), ("linux/amd64", 0)] {
        let request = PullRequest {
            platform: Some(Platform::parse(platform).unwrap()),
            ..request(&name)
        };
        let (pulled, _) = pull(&home, request)
            .map_err(|error| panic!("{}", chain(&error)))
            .unwrap();
        assert_eq!(pulled.id, images[expected].id());
        assert_eq!(pulled.digest, digest_of(&index));
    }
    let request = PullRequest {
        platform: Some(Platform::parse("linux/s390x").unwrap()),
        ..request(&name)
    };
    let error = pull(&home, request).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("no matching manifest for linux/s390x"),
        "{error}"
    );
}

/// Zstandard in several frames, with skippable ones before, between and after them, as zstd:chunked has it.
fn chunked(tar: Vec<u8>) -> Layer {
    let skippable = |content: &[u8]| {
        let mut frame = 0x184d_2a50_u32.to_le_bytes().to_vec();
        frame.extend(u32::try_from(content.len()).unwrap().to_le_bytes());
        frame.extend(content);
        frame
    };
    let mut bytes = skippable(b"in front");
    for part in tar.chunks(100_000) {
        bytes.extend(crate::support::zstandard(part));
        bytes.extend(skippable(b"between"));
    }
    bytes.extend(skippable(&vec![b'{'; 5000]));
    Layer {
        bytes,
        diff_id: digest_of(&tar),
    }
}

#[test]
fn layers_of_every_kind_are_taken() {
    let file = |name: &str| {
        let mut tar = Tar::default();
        tar.file(name, &noise(250_000, 3));
        tar.end()
    };
    let mut changed = Tar::default();
    changed.raw(b"z", &crate::support::Head::default(), b"last");
    let image = Made::new(&[
        Layer::plain(Vec::new()),
        Layer::gzip(Vec::new()),
        Layer::plain(Tar::default().end()),
        Layer::gzip(Tar::default().end()),
        Layer::zstd(Tar::default().end()),
        chunked(file("chunked")),
        Layer::plain(file("plain")),
        Layer::gzip(file("gzip")),
        // Without the blocks at the end, as some builders write it.
        Layer::gzip(changed.unfinished()),
    ]);
    let registry = Fake::image(&image, |_, answer| answer);
    let home = Home::new();
    let (pulled, _) = pull(&home, request(&format!("{}/a/b:1", registry.address)))
        .map_err(|error| panic!("{}", chain(&error)))
        .unwrap();
    let names: Vec<String> = home.tree(&pulled.id).into_keys().collect();
    assert_eq!(names, ["/", "/chunked", "/gzip", "/plain", "/z"]);
    // One byte of a part that no decompression looks at still counts.
    let digest = digest_of(&image.layers[5].bytes).to_string();
    let registry = Fake::image(&image, move |asked, mut answer| {
        if asked.path.ends_with(&digest) {
            *answer.body.last_mut().unwrap() ^= 1;
        }
        answer
    });
    let error = refused(&Home::new(), &format!("{}/a/b:1", registry.address));
    assert!(
        chain(&error).contains("does not match its digest"),
        "{}",
        chain(&error)
    );
}

/// The image with its manifest changed.
fn with_manifest(image: &Made, change: impl FnOnce(&mut serde_json::Value)) -> Made {
    let mut image = image.clone();
    let mut manifest: serde_json::Value = serde_json::from_slice(&image.manifest).unwrap();
    change(&mut manifest);
    image.manifest = serde_json::to_vec(&manifest).unwrap();
    image
        .blobs
        .insert(digest_of(&image.manifest), image.manifest.clone());
    image
}

#[test]
fn layers_may_be_elsewhere() {
    let plain = image();
    let layer = digest_of(&plain.layers[0].bytes).to_string();
    let elsewhere = Fake::image(&plain, |asked, answer| {
        assert!(!asked.headers.contains_key("authorization"), "{asked:?}");
        match asked.path.as_str() {
            "/nothing" => Answer::status(404),
            _ => answer,
        }
    });
    let urls = json!([
        "ftp://nowhere",
        format!("http://{}/nothing", elsewhere.address),
        format!("http://{}/v2/x/blobs/{layer}", elsewhere.address),
    ]);
    let foreign = with_manifest(&plain, |manifest| {
        manifest["layers"][0]["urls"] = urls;
        manifest["layers"][0]["mediaType"] =
            "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip".into();
    });
    let registry = Fake::image(&foreign, move |asked, answer| {
        if asked.path.ends_with(&layer) {
            return Answer::status(404);
        }
        answer
    });
    let home = Home::new();
    let (pulled, _) = pull(&home, request(&format!("{}/a/b:1", registry.address)))
        .map_err(|error| panic!("{}", chain(&error)))
        .unwrap();
    assert_eq!(pulled.id, foreign.id());
    let manifest = |home: &Home, name: &str| {
        let image = home.store.resolve(name).unwrap();
        home.store.portable_manifest(&image).unwrap().0.digest
    };
    // It leaves with the layer, and where that is read the places are known still: to us and by Docker's own list.
    let name = format!("{}/a/b:1", registry.address);
    let archive = crate::assemble::saved(&home, &[&name]);
    let other = Home::new();
    other.load(&archive).unwrap();
    assert_eq!(manifest(&other, &name), digest_of(&foreign.manifest));
    let text = String::from_utf8_lossy(&archive);
    assert!(text.contains("\"LayerSources\":{\"sha256:"), "{text}");
    // What other programs write has not got it.
    let lacking = {
        let mut lacking = foreign.clone();
        lacking.blobs.remove(&digest_of(&plain.layers[0].bytes));
        lacking.layout("docker.io/test/lacking:1")
    };
    let error = chain(&Home::new().load(&lacking).unwrap_err());
    assert!(
        error.contains("which only its publisher gives out, at"),
        "{error}"
    );
}

#[test]
fn docker_says_where_a_layer_is_given_out_in_its_own_way() {
    let mut layer = Tar::default();
    layer.file("file", b"content");
    let plain = Made::new(&[Layer::plain(layer.end())]);
    let source = json!({
        "mediaType": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
        "digest": digest_of(b"compressed").to_string(), "size": 10, "urls": ["https://example.com/layer"],
    });
    let mut tar = Tar::default();
    tar.file("config.json", &plain.config);
    tar.file("layer.tar", &plain.layers[0].bytes);
    let list = json!([{
        "Config": "config.json", "RepoTags": ["a:1"], "Layers": ["layer.tar"],
        "LayerSources": {plain.layers[0].diff_id.to_string(): source},
    }]);
    tar.file("manifest.json", &serde_json::to_vec(&list).unwrap());
    let home = Home::new();
    home.load(&tar.end()).unwrap();
    let check = |home: &Home| {
        let image = home.store.resolve("a:1").unwrap();
        let (_, _, manifest) = home.store.portable_manifest(&image).unwrap();
        assert!(manifest.layers[0].is_foreign(), "{manifest:?}");
        assert_eq!(manifest.layers[0].digest, digest_of(b"compressed"));
        assert_eq!(home.tree(&image.id), home.tree(&plain.id()));
    };
    check(&home);
    let other = Home::new();
    other
        .load(&crate::assemble::saved(&home, &["a:1"]))
        .unwrap();
    check(&other);
}

#[test]
fn what_is_no_image_is_refused_by_name() {
    for (expected, pointer, media_type) in [
        (
            "artifact",
            "/config/mediaType",
            "application/vnd.cncf.helm.config.v1+json",
        ),
        (
            "artifact",
            "/config/mediaType",
            "application/vnd.oci.empty.v1+json",
        ),
        (
            "artifact",
            "/layers/0/mediaType",
            "application/vnd.in-toto+json",
        ),
        (
            "encrypted",
            "/layers/0/mediaType",
            "application/vnd.oci.image.layer.v1.tar+gzip+encrypted",
        ),
    ] {
        let odd = with_manifest(&image(), |manifest| {
            *manifest.pointer_mut(pointer).unwrap() = media_type.into();
        });
        let registry = Fake::image(&odd, |_, answer| answer);
        let error = refused(&Home::new(), &format!("{}/a/b:1", registry.address));
        assert!(chain(&error).contains(expected), "{}", chain(&error));
        assert_eq!(error.kind(), ErrorKind::NotImplemented);
    }
}

#[test]
fn everything_behind_a_name_is_kept_on_request() {
    let layer = image().layers[0].clone();
    let own = Made::for_platform(std::slice::from_ref(&layer), "amd64", json!({}));
    let mut tar = Tar::default();
    tar.file("other", b"other");
    let other = Made::for_platform(&[Layer::gzip(tar.end())], "arm64", json!({}));
    // What BuildKit attests: an image by its configuration, a document by its layer.
    let statement = Layer::plain(b"{\"_type\":\"https://in-toto.io/Statement/v0.1\"}".to_vec());
    let attestation = with_manifest(
        &Made::for_platform(&[statement], "unknown", json!({})),
        |manifest| manifest["layers"][0]["mediaType"] = "application/vnd.in-toto+json".into(),
    );
    let entry = |image: &Made, architecture: &str| {
        let mut entry = descriptor(media::OCI_MANIFEST, &image.manifest);
        entry["platform"] = json!({
            "os": if architecture == "unknown" { "unknown" } else { "linux" },
            "architecture": architecture,
        });
        entry
    };
    let mut attested = entry(&attestation, "unknown");
    attested["annotations"] = json!({"vnd.docker.reference.type": "attestation-manifest"});
    let index = serde_json::to_vec(&json!({
        "schemaVersion": 2, "mediaType": media::OCI_INDEX,
        // In front, so that whoever takes the first is found out.
        "manifests": [attested, entry(&other, "arm64"), entry(&own, "amd64")],
    }))
    .unwrap();
    let served: Vec<Made> = vec![own.clone(), other.clone(), attestation.clone()];
    let document = index.clone();
    let registry = Fake::start(move |asked| {
        let last = asked.path.rsplit('/').next().unwrap_or_default();
        if last == "1" {
            return Answer::ok(&document).header("Content-Type", media::OCI_INDEX);
        }
        let digest = last.parse().unwrap();
        let found = served.iter().find_map(|image| image.blobs.get(&digest));
        found.map_or(Answer::status(404), |bytes| Answer::ok(bytes))
    });
    let name = format!("{}/a/b:1", registry.address);
    let home = Home::new();
    let (pulled, _) = pull(&home, request(&name)).unwrap();
    assert_eq!(pulled.id, own.id());
    assert_eq!(home.store.blobs().list().unwrap().len(), 4);
    let (pulled, _) = pull(
        &home,
        PullRequest {
            all_platforms: true,
            ..request(&name)
        },
    )
    .map_err(|error| panic!("{}", chain(&error)))
    .unwrap();
    assert_eq!(pulled.id, own.id());
    let everything = || {
        let blobs = home.store.blobs();
        for image in [&own, &other, &attestation] {
            for bytes in [&image.manifest, &image.config, &image.layers[0].bytes] {
                assert!(blobs.read(&digest_of(bytes), 1 << 30).unwrap().is_some());
            }
        }
        assert_eq!(blobs.list().unwrap().len(), 10);
    };
    everything();
    let shown = home.store.manifests(&name).unwrap();
    assert!(shown.iter().all(|manifest| manifest.available));
    assert!(matches!(shown[0].kind, ManifestKind::Attestation { .. }));
    let platform = |at: usize| match &shown[at].kind {
        ManifestKind::Image { platform, unpacked } => (platform.to_string(), unpacked.is_some()),
        other => panic!("{other:?}"),
    };
    assert_eq!(platform(1), ("linux/arm64/v8".to_owned(), false));
    assert_eq!(platform(2), ("linux/amd64".to_owned(), true));
    // Asked for once, it stays; another platform needs nothing from the registry but what the name stands for.
    pull(&home, request(&name)).unwrap();
    everything();
    let before = registry.log.lock().unwrap().len();
    let (foreign, _) = pull(
        &home,
        PullRequest {
            platform: Some(Platform::parse("linux/arm64").unwrap()),
            ..request(&name)
        },
    )
    .unwrap();
    assert_eq!(foreign.id, other.id());
    assert_eq!(registry.log.lock().unwrap().len(), before + 1);
    // It leaves whole, attestation included, and comes back so.
    let archive = crate::assemble::saved(&home, &[&name]);
    let again = Home::new();
    again.load(&archive).unwrap();
    for bytes in [
        &own.config,
        &other.config,
        &attestation.layers[0].bytes,
        &index,
    ] {
        let content = again.store.blobs().read(&digest_of(bytes), 1 << 30);
        assert!(content.unwrap().is_some());
    }
    let shown = again.store.manifests(&name).unwrap();
    assert_eq!(shown.len(), 3);
    assert!(shown.iter().all(|manifest| manifest.available));
    assert_eq!(
        crate::assemble::saved(&again, &[&name]).len(),
        archive.len()
    );
    assert_eq!(again.store.resolve(&name).unwrap().id, other.id());
    // It all goes with the name.
    again
        .store
        .remove(&name, berth_image::RemoveRequest::default(), &[])
        .unwrap();
    assert_eq!(again.leftovers(), Vec::<String>::new());
}

#[test]
fn the_layers_of_all_platforms_are_kept_as_their_manifests_name_them() {
    // Here already, from an archive that was never compressed.
    let mut tar = Tar::default();
    tar.file("file", b"content");
    let tar = tar.end();
    let plain = Made::new(&[Layer::plain(tar.clone())]);
    let compressed = Made::new(&[Layer::gzip(tar)]);
    assert_eq!(plain.id(), compressed.id());
    let home = Home::new();
    home.load(&plain.layout("docker.io/test/plain:1")).unwrap();
    let mut entry = descriptor(media::OCI_MANIFEST, &compressed.manifest);
    entry["platform"] = json!({"os": "linux", "architecture": "amd64"});
    let index = serde_json::to_vec(
        &json!({"schemaVersion": 2, "mediaType": media::OCI_INDEX, "manifests": [entry]}),
    )
    .unwrap();
    let document = index.clone();
    let registry = Fake::image(&compressed, move |asked, answer| {
        if asked.path.ends_with("/1") {
            return Answer::ok(&document).header("Content-Type", media::OCI_INDEX);
        }
        answer
    });
    let name = format!("{}/a/b:1", registry.address);
    let request = PullRequest {
        all_platforms: true,
        ..request(&name)
    };
    pull(&home, request).unwrap();
    let layer = digest_of(&compressed.layers[0].bytes);
    assert!(home.store.blobs().contains(&layer));
    let other = Home::new();
    other
        .load(&crate::assemble::saved(&home, &[&name]))
        .unwrap();
    let content = other.store.blobs().read(&digest_of(&index), 1 << 20);
    assert!(content.unwrap().is_some(), "the index went whole");
}

#[test]
fn a_list_in_dockers_own_format_leaves_as_it_is_and_an_image_of_it_as_others_read_it() {
    let image = |architecture: &str| {
        let mut tar = Tar::default();
        tar.file("for", architecture.as_bytes());
        let made = Made::for_platform(&[Layer::gzip(tar.end())], architecture, json!({}));
        with_manifest(&made, |manifest| {
            manifest["mediaType"] = media::DOCKER_MANIFEST.into();
            manifest["config"]["mediaType"] = media::DOCKER_CONFIG.into();
            manifest["layers"][0]["mediaType"] = format!("{}.gzip", media::DOCKER_LAYER).into();
        })
    };
    let images = ["amd64", "arm64"].map(|architecture| (architecture, image(architecture)));
    let entries: Vec<serde_json::Value> = images
        .iter()
        .map(|(architecture, image)| {
            let mut entry = descriptor(media::DOCKER_MANIFEST, &image.manifest);
            entry["platform"] = json!({"os": "linux", "architecture": architecture});
            entry
        })
        .collect();
    let list = json!({"schemaVersion": 2, "mediaType": media::DOCKER_INDEX, "manifests": entries});
    let list = serde_json::to_vec(&list).unwrap();
    let (served, document) = (images.clone(), list.clone());
    let registry = Fake::start(move |asked| {
        let last = asked.path.rsplit('/').next().unwrap_or_default();
        if last == "1" {
            return Answer::ok(&document).header("Content-Type", media::DOCKER_INDEX);
        }
        let digest = last.parse().unwrap();
        let found = served
            .iter()
            .find_map(|(_, image)| image.blobs.get(&digest));
        found.map_or(Answer::status(404), |bytes| Answer::ok(bytes))
    });
    let name = format!("{}/a/b:1", registry.address);
    let home = Home::new();
    let request = PullRequest {
        all_platforms: true,
        ..request(&name)
    };
    pull(&home, request).unwrap();
    let again = Home::new();
    again
        .load(&crate::assemble::saved(&home, &[&name]))
        .unwrap();
    let shown = again.store.manifests(&name).unwrap();
    assert!(shown.len() == 2 && shown.iter().all(|manifest| manifest.available));
    assert!(again.store.blobs().contains(&digest_of(&list)));
    // The one that is not unpacked, for a program that takes OCI's format alone.
    let wanted = [Platform::parse("linux/arm64").unwrap()];
    let save = home
        .store
        .save(std::slice::from_ref(&name), &wanted)
        .unwrap();
    let tools = crate::interop::Tools::new();
    let file = tools.path("one.tar");
    std::fs::write(&file, save.write_to(Vec::new()).unwrap()).unwrap();
    let raw = crate::interop::run(&format!("skopeo inspect --raw oci-archive:{file}:1"));
    let manifest: serde_json::Value = serde_json::from_str(&raw).unwrap();
    assert_eq!(manifest["config"]["digest"], images[1].1.id().to_string());
    assert_eq!(
        manifest["layers"][0]["mediaType"],
        format!("{}+gzip", media::OCI_LAYER)
    );
    let other = Home::new();
    other.load(&std::fs::read(&file).unwrap()).unwrap();
    let found = other.store.inspect(&name).unwrap();
    assert_eq!(found.document.architecture, "arm64");
}
