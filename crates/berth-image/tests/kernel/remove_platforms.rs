//! Single platforms of images that have several go, and the others stay.

use std::collections::BTreeMap;

use berth_image::documents::media;
use berth_image::{ImageError, ImageUse, ListRequest, ManifestKind, Removal};
use berth_types::Platform;
use serde_json::json;

use crate::support::{Home, Layer, Made, Tar, descriptor, layout};

const NAME: &str = "test/many:1";

fn image(architecture: &str) -> Made {
    let mut base = Tar::default();
    base.file("base", b"in all of them");
    let mut top = Tar::default();
    top.file("top", architecture.as_bytes());
    let layers = [Layer::gzip(base.end()), Layer::gzip(top.end())];
    Made::for_platform(&layers, architecture, json!({"Cmd": ["/top"]}))
}

/// Images for this machine and two others, behind an index with two names.
fn home() -> (Home, [Made; 3]) {
    let images = ["amd64", "arm64", "s390x"].map(image);
    let mut blobs = BTreeMap::new();
    let entries: Vec<_> = ["amd64", "arm64", "s390x"]
        .iter()
        .zip(&images)
        .map(|(architecture, image)| {
            blobs.extend(image.blobs.clone());
            let mut entry = descriptor(media::OCI_MANIFEST, &image.manifest);
            entry["platform"] = json!({"os": "linux", "architecture": architecture});
            entry
        })
        .collect();
    let index = serde_json::to_vec(&json!({
        "schemaVersion": 2, "mediaType": media::OCI_INDEX, "manifests": entries,
    }))
    .unwrap();
    let mut top = descriptor(media::OCI_INDEX, &index);
    top["annotations"] = json!({"io.containerd.image.name": format!("docker.io/{NAME}")});
    blobs.insert(berth_image::digest_of(&index), index);
    let home = Home::with(berth_image::Settings {
        platform: Platform::parse("linux/amd64").unwrap(),
        ..berth_image::Settings::default()
    });
    let top = json!({"schemaVersion": 2, "manifests": [top]});
    home.load(&layout(&top, &blobs)).unwrap();
    home.store.tag(NAME, "test/other:2").unwrap();
    (home, images)
}

fn platforms(names: &[&str]) -> Vec<Platform> {
    names
        .iter()
        .map(|name| Platform::parse(&format!("linux/{name}")).unwrap())
        .collect()
}

fn here(home: &Home, name: &str) -> Vec<String> {
    let views = home.store.manifests(name).unwrap();
    let available = views.into_iter().filter(|view| view.available);
    available
        .map(|view| match view.kind {
            ManifestKind::Image { platform, .. } => platform.architecture,
            other => panic!("{other:?}"),
        })
        .collect()
}

fn kinds(removed: &[Removal]) -> Vec<&'static str> {
    removed
        .iter()
        .map(|removal| match removal {
            Removal::Untagged { .. } => "name",
            Removal::Manifest { .. } => "manifest",
            Removal::Image(_) => "image",
            Removal::Layer { .. } => "layer",
        })
        .collect()
}

#[test]
fn a_platform_goes_from_all_names_and_its_content_with_it() {
    let (home, [own, other, _]) = home();
    let before = home.store.blobs().list().unwrap().len();
    let remove = |name: &str, which: &[&str]| {
        home.store
            .remove_platforms(name, &platforms(which), Vec::new)
    };
    let removed = remove(NAME, &["arm64"]).unwrap();
    assert_eq!(kinds(&removed), ["manifest"]);
    for name in [NAME, "test/other:2"] {
        assert_eq!(here(&home, name), ["amd64", "s390x"]);
        assert_eq!(home.store.resolve(name).unwrap().id, own.id());
    }
    // Its manifest, configuration and upper layer; the lower one is that of the others, too.
    assert_eq!(before - home.store.blobs().list().unwrap().len(), 3);
    assert!(!home.store.blobs().contains(&other.id()));
    for (name, which) in [
        (NAME, "arm64"),
        (NAME, "riscv64"),
        (own.id().to_string().as_str(), "arm64"),
    ] {
        assert!(
            matches!(
                remove(name, &[which]),
                Err(ImageError::PlatformNotHere { .. })
            ),
            "{name} {which}"
        );
    }
    assert!(matches!(
        remove("test/none", &["amd64"]),
        Err(ImageError::NoSuchImage { .. })
    ));
    // All or nothing of what is not there.
    assert!(remove(NAME, &["s390x", "arm64"]).is_err());
    assert_eq!(here(&home, NAME), ["amd64", "s390x"]);
    let removed = remove(&own.id().to_string(), &["s390x", "amd64"]).unwrap();
    assert_eq!(
        kinds(&removed),
        [
            "manifest", "name", "name", "manifest", "image", "layer", "layer"
        ]
    );
    assert_eq!(home.leftovers(), Vec::<String>::new());
}

#[test]
fn names_of_the_unpacked_image_stand_for_another_one_then() {
    let (home, [own, _, last]) = home();
    let held = |running: bool| {
        vec![ImageUse {
            container: "c".repeat(64),
            image: own.id(),
            running,
        }]
    };
    let refused = home
        .store
        .remove_platforms(NAME, &platforms(&["amd64"]), || held(true));
    assert!(
        matches!(refused, Err(ImageError::Conflict { .. })),
        "{refused:?}"
    );
    assert_eq!(here(&home, NAME), ["amd64", "arm64", "s390x"]);
    assert_eq!(home.store.resolve(NAME).unwrap().id, own.id());
    home.store
        .remove_platforms(NAME, &platforms(&["arm64"]), Vec::new)
        .unwrap();
    // A container that does not run keeps what it is made of, and nothing else does.
    let removed = home
        .store
        .remove_platforms("test/other:2", &platforms(&["amd64"]), || held(false))
        .unwrap();
    assert_eq!(kinds(&removed), ["manifest", "image"]);
    let again = home
        .store
        .remove_platforms("test/other:2", &platforms(&["amd64"]), || held(false));
    assert!(
        matches!(again, Err(ImageError::PlatformNotHere { .. })),
        "{again:?}"
    );
    let home = home.reopen();
    for name in [NAME, "test/other:2"] {
        assert_eq!(home.store.resolve(name).unwrap().id, last.id());
    }
    assert_eq!(home.store.list(&ListRequest::default()).unwrap().len(), 1);
    assert!(home.tree(&last.id()).contains_key("/top"));
    assert!(home.tree(&own.id()).contains_key("/top"));
    home.store.let_go(|_| false).unwrap();
    assert_eq!(here(&home, NAME), ["s390x"]);
    assert!(!home.store.blobs().contains(&own.id()));
    let removed = home
        .store
        .remove_platforms(NAME, &platforms(&["s390x"]), Vec::new)
        .unwrap();
    assert_eq!(
        kinds(&removed),
        ["name", "name", "manifest", "image", "layer", "layer"]
    );
    assert_eq!(home.leftovers(), Vec::<String>::new());
}
