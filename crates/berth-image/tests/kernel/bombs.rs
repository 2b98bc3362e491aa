//! The zoo, continued: bombs by count, documents too large to be true, names given twice.

use berth_image::digest_of;
use berth_image::documents::media;
use serde_json::json;

use crate::support::{Home, Layer, Made, Tar, chain, descriptor, layout, zstandard};

/// Loads any archive; tells the error. Nothing of it may stay.
fn refused_archive(archive: &[u8]) -> String {
    let home = Home::new();
    let error = home.load(archive).expect_err("it was taken");
    assert_eq!(home.leftovers(), Vec::<String>::new());
    chain(&error)
}

#[test]
fn bombs_by_count_are_stopped() {
    // Small as they come, each entry costs a record of ours.
    let mut tar = Tar::default();
    for number in 0..=berth_image::limits::ARCHIVE_ENTRIES_MAX {
        tar.file(&format!("{number}"), b"");
    }
    let text = refused_archive(&zstandard(&tar.end()));
    assert!(
        text.contains("exceeds the limit of 100000 entries"),
        "{text}"
    );

    let entry = descriptor(media::OCI_MANIFEST, b"not here");
    let wide = json!({"schemaVersion": 2, "manifests": vec![entry.clone(); 5000]});
    let text = refused_archive(&layout(&wide, &std::collections::BTreeMap::new()));
    assert!(text.contains("exceeds the limit of 4096 entries"), "{text}");

    let many = json!([{"Config": "c", "RepoTags": null, "Layers": []}]);
    let many = vec![many[0].clone(); 1025];
    let mut tar = Tar::default();
    tar.file("c", b"{}")
        .file("manifest.json", &serde_json::to_vec(&many).unwrap());
    let text = refused_archive(&tar.end());
    assert!(text.contains("exceeds the limit of 1024 images"), "{text}");
}

#[test]
fn documents_too_large_to_be_true_are_refused() {
    let label = "x".repeat(9 << 20);
    let made = Made::for_platform(&[], "amd64", json!({"Labels": {"large": label}}));
    let text = refused_archive(&made.layout("docker.io/test/large:1"));
    assert!(text.contains("exceeds the limit"), "{text}");
    let mut tar = Tar::default();
    tar.file("manifest.json", &vec![b' '; (8 << 20) + 1]);
    let text = refused_archive(&tar.end());
    assert!(text.contains("exceeds the limit"), "{text}");
}

#[test]
fn the_last_of_several_entries_with_one_name_counts() {
    let home = Home::new();
    let image = Made::new(&[crate::hostile::layer(|tar| {
        tar.file("twice", b"first")
            .file("twice", b"second")
            .file("linked", b"kept")
            .hard("other", "linked")
            .file("linked", b"replaced")
            .dir("became/", 0o755)
            .file("became/inner", b"gone")
            .file("became", b"a file")
            .symlink("link", "linked")
            .dir("link/", 0o700)
            .file("link/inner", b"inside");
    })]);
    home.load(&image.layout("docker.io/test/twice:1")).unwrap();
    let tree = home.tree(&image.id());
    let has = |path: &str, content: &[u8]| {
        let text = tree.get(path).unwrap_or_else(|| panic!("{path}: {tree:?}"));
        assert!(text.contains(&digest_of(content).short()), "{path}: {text}");
    };
    has("/twice", b"second");
    has("/linked", b"replaced");
    // A second entry makes a new file; what was linked to the old one keeps it.
    has("/other", b"kept");
    has("/became", b"a file");
    assert!(!tree.contains_key("/became/inner"), "{tree:?}");

    // Content given twice under the name of one digest is what the digest says, or nothing.
    let lying = {
        let mut tar = Tar::default();
        tar.file("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#);
        let entry = descriptor(media::OCI_MANIFEST, &image.manifest);
        let index = json!({"schemaVersion": 2, "manifests": [entry]});
        tar.file("index.json", &serde_json::to_vec(&index).unwrap());
        for (digest, content) in &image.blobs {
            tar.file(&format!("blobs/sha256/{}", digest.hex()), content);
        }
        let path = format!("blobs/sha256/{}", image.id().hex());
        tar.file(&path, b"{\"other\":true}");
        tar.end()
    };
    let text = refused_archive(&lying);
    assert!(text.contains("does not match its digest"), "{text}");
}

#[test]
fn names_that_keep_the_same_over_and_over_are_stopped() {
    let mut tar = Tar::default();
    tar.file("file", b"content");
    let image = Made::new(&[Layer::gzip(tar.end())]);
    let mut blobs = image.blobs.clone();
    // What an artifact leads to is kept, whatever it is.
    let contents: Vec<serde_json::Value> = (0..1000_u32)
        .map(|number| {
            let bytes = number.to_le_bytes();
            blobs.insert(digest_of(&bytes), bytes.to_vec());
            descriptor("application/octet-stream", &bytes)
        })
        .collect();
    let mut own = descriptor(media::OCI_MANIFEST, &image.manifest);
    own["platform"] =
        json!({"os": "linux", "architecture": berth_types::Platform::host().architecture});
    let artifact = serde_json::to_vec(&json!({"schemaVersion": 2, "layers": contents})).unwrap();
    blobs.insert(digest_of(&artifact), artifact.clone());
    let mut beside = descriptor(media::OCI_MANIFEST, &artifact);
    beside["platform"] = json!({"os": "unknown", "architecture": "unknown"});
    let index =
        json!({"schemaVersion": 2, "mediaType": media::OCI_INDEX, "manifests": [own, beside]});
    let index = serde_json::to_vec(&index).unwrap();
    blobs.insert(digest_of(&index), index.clone());
    let archive = |names: usize| {
        let entries: Vec<serde_json::Value> = (0..names)
            .map(|number| {
                let mut entry = descriptor(media::OCI_INDEX, &index);
                let name = format!("docker.io/test/again:{number}");
                entry["annotations"] = json!({"io.containerd.image.name": name});
                entry
            })
            .collect();
        layout(&json!({"schemaVersion": 2, "manifests": entries}), &blobs)
    };
    Home::new().load(&archive(3)).unwrap();
    let text = refused_archive(&archive(berth_image::limits::ARCHIVE_KEEPS_MAX / 1000 + 1));
    assert!(text.contains("kept with its names"), "{text}");
}
