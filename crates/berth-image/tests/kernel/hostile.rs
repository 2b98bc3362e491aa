//! The zoo: archives and manifests that want what no image may have. Each is refused with a clear error,
//! nothing outside the store is touched, and nothing stays.

use std::path::Path;

use berth_image::documents::media;
use berth_image::{ImageError, digest_of};
use proptest::prelude::*;
use serde_json::json;

use crate::support::{Head, Home, Layer, Made, Tar, chain, descriptor, gzip, layout, zstandard};

/// Loads an image of these layers; tells the error. Nothing may have changed around the store.
fn refused(layers: &[Layer]) -> String {
    let image = Made::new(layers);
    let home = Home::new();
    let outside = tempfile::tempdir_in(home.directory.path()).unwrap();
    std::fs::write(outside.path().join("victim"), b"untouched").unwrap();
    let error = home
        .load(&image.layout("docker.io/test/hostile:1"))
        .expect_err("it was taken");
    assert_eq!(home.leftovers(), Vec::<String>::new());
    assert!(home.store.resolve("test/hostile:1").is_err());
    let victim = outside.path().join("victim");
    assert_eq!(std::fs::read(victim).unwrap(), b"untouched");
    chain(&error)
}

pub(crate) fn layer(make: impl FnOnce(&mut Tar)) -> Layer {
    let mut tar = Tar::default();
    make(&mut tar);
    Layer::gzip(tar.end())
}

#[test]
fn paths_that_leave_the_root_are_refused() {
    for path in [
        "../victim",
        "../../../../../../../etc/berth-was-here",
        "a/../../victim",
        "./../x",
        "..",
        "/../x",
    ] {
        let text = refused(&[layer(|tar| {
            tar.file(path, b"x");
        })]);
        assert!(text.contains("leaves the root"), "{path}: {text}");
    }
    assert!(!Path::new("/etc/berth-was-here").exists());
    for target in ["../outside", "../../../../etc/passwd", "a/../../x"] {
        let text = refused(&[layer(|tar| {
            tar.hard("link", target);
        })]);
        assert!(text.contains("leaves the root"), "{target}: {text}");
    }
    let text = refused(&[layer(|tar| {
        tar.hard("passwd", "/etc/passwd");
    })]);
    assert!(text.contains("not in this layer"), "{text}");
    for whiteout in [".wh.", ".wh..", ".wh...", "a/.wh..."] {
        let text = refused(&[layer(|tar| {
            tar.dir("a/", 0o755).file(whiteout, b"");
        })]);
        assert!(text.contains("names nothing"), "{whiteout}: {text}");
    }
}

#[test]
fn links_as_parents_lead_nowhere_outside() {
    let marker = tempfile::tempdir().unwrap();
    let outside = marker.path().display().to_string();
    let up = "../".repeat(40);
    // All of these are taken, since other engines take them; what they write stays inside.
    let layers = [
        layer(|tar| {
            tar.symlink("abs", &outside).file("abs/written", b"x");
        }),
        layer(|tar| {
            tar.symlink("up", &format!("{up}{outside}"))
                .file("up/written", b"x");
        }),
        layer(|tar| {
            tar.dir("a/", 0o755)
                .symlink("a/b", "..")
                .symlink("a/c", "b/..")
                .symlink("a/d", &format!("c/../..{outside}"))
                .file("a/d/written", b"x");
        }),
        layer(|tar| {
            tar.symlink("d", &outside)
                .file("f", b"x")
                .hard("d/hard", "f")
                .symlink("d/soft", "/etc")
                .dir("d/sub/", 0o777)
                .file("d/.wh.hidden", b"")
                .file("d/.wh..wh..opq", b"");
        }),
        // A directory that becomes a link between its entry and its content.
        layer(|tar| {
            tar.dir("x/", 0o755)
                .symlink("x", &outside)
                .file("x/written", b"x");
        }),
        // A link that the entry itself replaces: a file is not written through it.
        layer(|tar| {
            tar.symlink("f", &format!("{outside}/through"))
                .file("f", b"x");
        }),
    ];
    let image = Made::new(&layers);
    let home = Home::new();
    home.load(&image.layout("docker.io/test/links:1"))
        .map_err(|error| panic!("{}", chain(&error)))
        .unwrap();
    let found: Vec<_> = std::fs::read_dir(marker.path()).unwrap().collect();
    assert!(found.is_empty(), "{found:?}");
    let text = refused(&[layer(|tar| {
        tar.symlink("a", "b").symlink("b", "a").file("a/x", b"");
    })]);
    assert!(text.contains("too many symbolic links"), "{text}");
}

#[test]
fn chains_of_links_over_layers_stay_inside() {
    let marker = tempfile::tempdir().unwrap();
    let outside = marker.path().display().to_string();
    let layers = [
        layer(|tar| {
            tar.symlink("evil", &outside).symlink("loop", "loop");
        }),
        layer(|tar| {
            tar.file("evil/written", b"x").file("loop/y", b"y");
        }),
    ];
    let image = Made::new(&layers);
    let home = Home::new();
    home.load(&image.layout("docker.io/test/links:1")).unwrap();
    home.tree(&image.id());
    assert_eq!(std::fs::read_dir(marker.path()).unwrap().count(), 0);
}

#[test]
fn damaged_layers_are_refused() {
    let good = {
        let mut tar = Tar::default();
        tar.file("a", &[1; 3000]).file("b", b"2");
        tar.end()
    };
    let mut bad_checksum = good.clone();
    bad_checksum[0] ^= 1;
    assert!(refused(&[Layer::plain(bad_checksum)]).contains("checksum"));
    assert!(refused(&[Layer::plain(good[..2000].to_vec())]).contains("truncated"));
    let mut cut = Layer::gzip(good.clone());
    cut.bytes.truncate(cut.bytes.len() - 20);
    assert!(refused(&[cut]).contains("truncated"));
    let mut garbled = Layer::gzip(vec![9; 1 << 20]);
    let middle = garbled.bytes.len() / 2;
    garbled.bytes[middle] ^= 0xff;
    refused(&[garbled]);
    let mut lying = Layer::gzip(good.clone());
    lying.diff_id = digest_of(b"something else");
    assert!(refused(&[lying]).contains("does not match its digest"));
    for magic in [&b"BZh91AY"[..], b"\xfd7zXZ\0"] {
        let layer = Layer {
            bytes: magic.to_vec(),
            diff_id: digest_of(magic),
        };
        assert!(refused(&[layer]).contains("truncated"));
    }
}

#[test]
fn impossible_headers_are_refused() {
    let head = |flag: u8, size: u64| Head {
        flag,
        size: Some(size),
        ..Head::default()
    };
    type Make = Box<dyn Fn(&mut Tar)>;
    let cases: Vec<(&str, Make)> = vec![
        (
            "limit",
            Box::new(move |tar| {
                tar.raw(b"l", &head(b'L', 1 << 32), b"");
            }),
        ),
        (
            "limit",
            Box::new(move |tar| {
                tar.raw(b"x", &head(b'x', 1 << 32), b"");
            }),
        ),
        (
            "truncated",
            Box::new(move |tar| {
                tar.raw(b"big", &head(b'0', 1 << 33), b"small");
            }),
        ),
        (
            "malformed",
            Box::new(|tar| {
                tar.raw(
                    b"x",
                    &Head {
                        flag: b'x',
                        ..Head::default()
                    },
                    b"999999 path=x\n",
                )
                .file("y", b"");
            }),
        ),
        (
            "malformed",
            Box::new(|tar| {
                tar.pax(&[("path", b"a\0b")]).file("y", b"");
            }),
        ),
        (
            "malformed",
            Box::new(|tar| {
                tar.pax(&[("size", b"-5")]).file("y", b"");
            }),
        ),
        (
            "not possible",
            Box::new(|tar| {
                tar.pax(&[("uid", b"4294967295")]).file("y", b"");
            }),
        ),
        (
            "not possible",
            Box::new(|tar| {
                tar.pax(&[("size", b"18446744073709551615")]).file("y", b"");
            }),
        ),
        (
            "type",
            Box::new(|tar| {
                tar.raw(
                    b"v",
                    &Head {
                        flag: b'V',
                        ..Head::default()
                    },
                    b"",
                );
            }),
        ),
        (
            "after an extension",
            Box::new(|tar| {
                tar.pax(&[("path", b"x")]);
            }),
        ),
        (
            "not a directory",
            Box::new(|tar| {
                tar.file("./", b"x");
            }),
        ),
        (
            "file stands",
            Box::new(|tar| {
                tar.file("a", b"").file("a/b", b"");
            }),
        ),
        (
            "to a directory",
            Box::new(|tar| {
                tar.dir("d/", 0o755).hard("e", "d");
            }),
        ),
        (
            "to nothing",
            Box::new(|tar| {
                tar.symlink("s", "");
            }),
        ),
        (
            "limit",
            Box::new(|tar| {
                tar.pax(&[("path", "n".repeat(256).as_bytes())])
                    .file("y", b"");
            }),
        ),
        (
            "limit",
            Box::new(|tar| {
                tar.pax(&[("path", "d/".repeat(2100).as_bytes())])
                    .file("y", b"");
            }),
        ),
        (
            "sparse map",
            Box::new(|tar| {
                tar.pax(&[("GNU.sparse.size", b"10"), ("GNU.sparse.map", b"5,10")])
                    .file("y", b"0123456789");
            }),
        ),
        (
            "sparse",
            Box::new(|tar| {
                tar.pax(&[
                    ("GNU.sparse.major", b"1"),
                    ("GNU.sparse.minor", b"0"),
                    ("GNU.sparse.realsize", b"9"),
                ])
                .file("y", b"99999999\n");
            }),
        ),
        (
            "too large",
            Box::new(|tar| {
                tar.pax(&[("SCHILY.xattr.user.x", &[0; 70_000])])
                    .file("y", b"");
            }),
        ),
    ];
    for (expected, make) in cases {
        let mut tar = Tar::default();
        make(&mut tar);
        let text = refused(&[Layer::plain(tar.end())]);
        assert!(text.contains(expected), "expected {expected:?}: {text}");
    }
}

/// Gigabytes of zeros; how small that is depends on the format.
#[test]
fn bombs_are_stopped() {
    let mut tar = Tar::default();
    tar.raw(
        b"zeros",
        &Head {
            size: Some(8 << 30),
            ..Head::default()
        },
        b"",
    );
    let head = tar.unfinished();
    let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
    std::io::Write::write_all(&mut encoder, &head).unwrap();
    let chunk = vec![0; 1 << 20];
    for _ in 0..1500 {
        std::io::Write::write_all(&mut encoder, &chunk).unwrap();
    }
    let bytes = encoder.finish().unwrap();
    assert!(bytes.len() < 1 << 20);
    let text = refused(&[Layer {
        diff_id: digest_of(b"never reached"),
        bytes,
    }]);
    assert!(
        text.contains("unpacked bytes per compressed byte"),
        "{text}"
    );
}

#[test]
fn documents_that_lie_are_refused() {
    let mut tar = Tar::default();
    tar.file("a", b"1");
    let good = Made::new(&[Layer::plain(tar.end())]);
    let home = Home::new();
    let load =
        |index: serde_json::Value, blobs: &std::collections::BTreeMap<_, Vec<u8>>| -> String {
            let error = home.load(&layout(&index, blobs)).expect_err("it was taken");
            assert_eq!(home.leftovers(), Vec::<String>::new());
            chain(&error)
        };
    let entry = descriptor(media::OCI_MANIFEST, &good.manifest);
    // Content under another content's name.
    let mut swapped = good.blobs.clone();
    swapped.insert(good.id(), b"{}".to_vec());
    let text = load(json!({"schemaVersion": 2, "manifests": [entry]}), &swapped);
    assert!(text.contains("does not match its digest"), "{text}");
    // A size that is not the content's.
    let mut wrong = entry.clone();
    wrong["size"] = json!(7);
    let text = load(
        json!({"schemaVersion": 2, "manifests": [wrong]}),
        &good.blobs,
    );
    assert!(text.contains("wrong size"), "{text}");
    // Content that is not there.
    let mut less = good.blobs.clone();
    less.remove(&digest_of(&good.layers[0].bytes));
    let text = load(json!({"schemaVersion": 2, "manifests": [entry]}), &less);
    assert!(text.contains("does not contain"), "{text}");
    // An index of an index of an index …
    let mut blobs = good.blobs.clone();
    let mut inner = entry.clone();
    for _ in 0..10 {
        let bytes = serde_json::to_vec(
            &json!({"schemaVersion": 2, "mediaType": media::OCI_INDEX, "manifests": [inner]}),
        )
        .unwrap();
        inner = descriptor(media::OCI_INDEX, &bytes);
        blobs.insert(digest_of(&bytes), bytes);
    }
    let text = load(json!({"schemaVersion": 2, "manifests": [inner]}), &blobs);
    assert!(text.contains("levels"), "{text}");
    // Both at once, and neither.
    for (document, expected) in [
        (
            json!({"schemaVersion": 2, "manifests": [], "layers": [], "config": entry}),
            "both",
        ),
        (json!({"schemaVersion": 1, "name": "x"}), "schema 1"),
        (
            json!({"schemaVersion": 2, "mediaType": media::OCI_INDEX, "manifests": []}),
            "states",
        ),
        (json!([]), "parse"),
    ] {
        let bytes = serde_json::to_vec(&document).unwrap();
        let mut blobs = good.blobs.clone();
        blobs.insert(digest_of(&bytes), bytes.clone());
        let index =
            json!({"schemaVersion": 2, "manifests": [descriptor(media::OCI_MANIFEST, &bytes)]});
        let text = load(index, &blobs);
        assert!(text.contains(expected), "{expected}: {text}");
    }
    // More layers than the configuration knows, and another system.
    let config = json!({"os": "windows", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": []}});
    for (config, layers, expected) in [
        (config.clone(), 0, "Linux"),
        (
            json!({"rootfs": {"type": "layers", "diff_ids": []}}),
            1,
            "length mismatch",
        ),
        (
            json!({"rootfs": {"type": "tree", "diff_ids": []}}),
            0,
            "not layers",
        ),
    ] {
        let config = serde_json::to_vec(&config).unwrap();
        let mut blobs = good.blobs.clone();
        let layers: Vec<_> = (0..layers)
            .map(|_| descriptor(media::OCI_LAYER, &good.layers[0].bytes))
            .collect();
        let manifest = serde_json::to_vec(
            &json!({"schemaVersion": 2, "config": descriptor(media::OCI_CONFIG, &config), "layers": layers}),
        )
        .unwrap();
        for bytes in [&config, &manifest] {
            blobs.insert(digest_of(bytes), bytes.clone());
        }
        let index =
            json!({"schemaVersion": 2, "manifests": [descriptor(media::OCI_MANIFEST, &manifest)]});
        let text = load(index, &blobs);
        assert!(text.contains(expected), "{expected}: {text}");
    }
}

#[test]
fn outer_archives_write_nothing_by_name() {
    for (name, link) in [
        ("../../manifest.json", None),
        ("a", Some("../../../etc/passwd")),
    ] {
        let mut tar = Tar::default();
        match link {
            None => tar.file(name, b"[]"),
            Some(link) => tar.symlink(name, link),
        };
        let home = Home::new();
        let error = home.load(&tar.end()).unwrap_err();
        assert!(matches!(error, ImageError::Archive { .. }), "{error}");
        assert_eq!(home.leftovers(), Vec::<String>::new());
    }
    // A path of manifest.json that is a link out, or not there.
    for path in ["/etc/passwd", "../../etc/passwd", "nothing"] {
        let mut tar = Tar::default();
        let list = json!([{"Config": path, "RepoTags": [], "Layers": []}]);
        tar.file("manifest.json", &serde_json::to_vec(&list).unwrap());
        let home = Home::new();
        assert!(home.load(&tar.end()).is_err(), "{path}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// Any damage to a layer ends in an error or in a tree inside the store, never in a panic or outside.
    #[test]
    fn a_damaged_archive_never_surprises(
        places in proptest::collection::vec((0_usize..6000, any::<u8>()), 1..8), compress in 0..3,
    ) {
        let mut tar = Tar::default();
        tar.dir("d/", 0o755)
            .file("d/f", &[3; 700])
            .pax(&[("path", b"d/long"), ("mtime", b"1.5"), ("SCHILY.xattr.user.a", b"b")])
            .file("x", b"y")
            .symlink("l", "d")
            .hard("h", "d/f");
        let mut bytes = tar.end();
        for (place, value) in places {
            let length = bytes.len();
            bytes[place % length] = value;
        }
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("root");
        std::fs::create_dir(&root).unwrap();
        let packed = match compress {
            0 => bytes,
            1 => gzip(&bytes),
            _ => zstandard(&bytes),
        };
        let mut archive = berth_image::archive::ArchiveReader::new(&packed[..], "test", 1000);
        let descriptor = berth_sys::fs::open_directory(&root).unwrap();
        let _ = berth_image::layers::unpack::unpack(&mut archive, descriptor, "test");
        let names: Vec<_> = std::fs::read_dir(directory.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        prop_assert_eq!(names, ["root"]);
    }

    /// Documents of any bytes are answered, not panicked at.
    #[test]
    fn any_document_is_answered(bytes in proptest::collection::vec(any::<u8>(), 0..300), text in "\\PC{0,200}") {
        use berth_image::documents::Document;
        let _ = Document::parse(&bytes, None, "test");
        let _ = Document::parse(text.as_bytes(), Some(media::OCI_INDEX), "test");
    }
}
