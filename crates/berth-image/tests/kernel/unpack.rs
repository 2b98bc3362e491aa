//! What an unpacked image looks like, compared with another implementation and with the letter of the
//! specification.

use std::os::unix::fs::MetadataExt;
use std::process::Command;

use crate::support::{Head, Home, Layer, Made, Tar, tree};

fn base() -> Vec<u8> {
    let mut tar = Tar::default();
    tar.dir("./", 0o755)
        .dir("bin/", 0o755)
        .dir("etc/", 0o755)
        .dir("gone/", 0o755)
        .dir("opaque/", 0o750)
        .dir("tmp/", 0o1777)
        .dir("usr/", 0o755)
        .dir("usr/lib/", 0o755);
    tar.symlink("lib", "usr/lib");
    tar.file("etc/passwd", b"root:x:0:0::/:/bin/sh\n");
    tar.file("gone/file", b"gone");
    tar.file("opaque/old", b"old");
    tar.file("usr/lib/libc.so", &vec![7; 100_000]);
    let setuid = Head {
        mode: 0o4755,
        uid: 12,
        gid: 34,
        ..Head::default()
    };
    tar.raw(b"bin/su", &setuid, b"#!");
    tar.hard("bin/su2", "bin/su");
    tar.hard("usr/lib/su3", "/bin/su");
    tar.file("bin/replaced", b"file");
    tar.dir("bin/becomes-file/", 0o700);
    tar.file("bin/becomes-file/inside", b"x");
    let device = |flag, device| Head {
        flag,
        mode: 0o660,
        gid: 6,
        device,
        ..Head::default()
    };
    tar.raw(b"bin/disk", &device(b'4', (8, 1)), b"");
    tar.raw(b"bin/null", &device(b'3', (1, 3)), b"");
    tar.raw(b"bin/pipe", &device(b'6', (0, 0)), b"");
    let parent = format!("usr/{}", "d".repeat(200));
    tar.pax(&[("path", parent.as_bytes())]).dir("cut", 0o755);
    let long = format!("{parent}/{}", "f".repeat(255));
    tar.pax(&[
        ("path", long.as_bytes()),
        ("mtime", b"1500000000.123456789"),
        ("uid", b"3000000"),
        ("SCHILY.xattr.user.note", b"a\0b=c\n"),
    ])
    .file("short", b"long name");
    // Capabilities as the kernel stores them, version 2.
    let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    tar.pax(&[("SCHILY.xattr.security.capability", &capability)]);
    tar.raw(
        b"bin/ping",
        &Head {
            mode: 0o755,
            ..Head::default()
        },
        b"ping",
    );
    tar.raw(
        b"././@LongLink",
        &Head {
            flag: b'L',
            ..Head::default()
        },
        format!("tmp/{}\0", "g".repeat(150)).as_bytes(),
    )
    .file("cut", b"gnu long name");
    tar.raw(
        b"././@LongLink",
        &Head {
            flag: b'K',
            ..Head::default()
        },
        format!("{}\0", "t/".repeat(100)).as_bytes(),
    )
    .symlink("tmp/longlink", "cut");
    tar.end()
}

fn second() -> Vec<u8> {
    let mut tar = Tar::default();
    tar.dir("./", 0o755)
        .dir("bin/", 0o711)
        .dir("opaque/", 0o755);
    tar.file(".wh.gone", b"");
    tar.file("opaque/new", b"new");
    tar.file("opaque/.wh..wh..opq", b"");
    tar.dir("bin/replaced/", 0o755);
    tar.file("bin/replaced/now-a-directory", b"d");
    tar.file("bin/becomes-file", b"now a file");
    tar.dir("etc/", 0o755);
    tar.file("etc/.wh.passwd", b"");
    // Twice in one layer: the last one stands.
    tar.file("etc/twice", b"first, longer");
    tar.file("etc/twice", b"second");
    tar.end()
}

#[test]
fn an_image_looks_as_umoci_unpacks_it() {
    let layers = [Layer::gzip(base()), Layer::gzip(second())];
    let image = Made::new(&layers);
    let home = Home::new();
    home.load(&image.layout("docker.io/test/zoo:1")).unwrap();
    let ours = home.tree(&image.id());

    let work = tempfile::tempdir().unwrap();
    let layout = work.path().join("layout");
    std::fs::create_dir(&layout).unwrap();
    let mut entry =
        crate::support::descriptor(berth_image::documents::media::OCI_MANIFEST, &image.manifest);
    entry["annotations"] = serde_json::json!({"org.opencontainers.image.ref.name": "zoo"});
    let index = serde_json::json!({"schemaVersion": 2, "manifests": [entry]});
    let tar = crate::support::layout(&index, &image.blobs);
    tar::Archive::new(&tar[..]).unpack(&layout).unwrap();
    let bundle = work.path().join("bundle");
    let unpacked = Command::new("umoci")
        .args(["unpack", "--image"])
        .arg(format!("{}:zoo", layout.display()))
        .arg(&bundle)
        .output()
        .expect("umoci is installed");
    assert!(unpacked.status.success(), "{unpacked:?}");
    let theirs = tree(&bundle.join("rootfs"));
    for (path, text) in &theirs {
        assert_eq!(ours.get(path), Some(text), "{path}");
    }
    assert_eq!(ours.len(), theirs.len(), "{:?}", ours.keys());
    assert!(!ours.contains_key("/gone"));
    assert!(!ours.contains_key("/opaque/old"));
    assert!(ours["/bin/su"].contains("mode=104755"));
    assert!(ours["/bin/ping"].contains("security.capability"));
}

fn loaded(layers: &[Layer]) -> (Home, std::collections::BTreeMap<String, String>) {
    let image = Made::new(layers);
    let home = Home::new();
    home.load(&image.layout("docker.io/test/x:1"))
        .map_err(|error| panic!("{}", crate::support::chain(&error)))
        .unwrap();
    let tree = home.tree(&image.id());
    (home, tree)
}

#[test]
fn deletions_do_not_depend_on_their_place_in_the_layer() {
    let lower = {
        let mut tar = Tar::default();
        tar.dir("d/", 0o755).file("d/old", b"old").file("f", b"old");
        Layer::plain(tar.end())
    };
    let mut before = Tar::default();
    before
        .file(".wh.d", b"")
        .file(".wh.f", b"")
        .dir("d/", 0o755)
        .file("d/new", b"n")
        .file("f", b"new");
    let mut after = Tar::default();
    after
        .dir("d/", 0o755)
        .file("d/new", b"n")
        .file("f", b"new")
        .file(".wh.d", b"")
        .file(".wh.f", b"");
    let mut implied = Tar::default();
    implied
        .file(".wh.d", b"")
        .file("d/new", b"n")
        .file("f", b"new");
    for upper in [before, after, implied].iter_mut() {
        let (_home, tree) = loaded(&[lower.clone(), Layer::zstd(upper.end())]);
        assert!(tree.contains_key("/d/new"), "{tree:?}");
        assert!(!tree.contains_key("/d/old"), "{tree:?}");
        assert!(tree["/f"].contains("size=3"), "{tree:?}");
    }
}

#[test]
fn an_opaque_root_hides_all_lower_layers() {
    let mut lower = Tar::default();
    lower.file("old", b"1");
    let mut upper = Tar::default();
    upper.file("new", b"2").file(".wh..wh..opq", b"");
    let (_home, tree) = loaded(&[Layer::plain(lower.end()), Layer::plain(upper.end())]);
    assert_eq!(tree.keys().collect::<Vec<_>>(), ["/", "/new"]);
}

#[test]
fn directories_without_an_entry_take_what_is_below() {
    let mut lower = Tar::default();
    lower
        .dir("./", 0o711)
        .dir("srv/", 0o750)
        .dir("usr/", 0o755)
        .dir("usr/lib/", 0o711)
        .file("usr/lib/old", b"old")
        .symlink("lib", "usr/lib")
        .symlink("abs", "/usr/lib");
    let mut upper = Tar::default();
    upper
        .file("srv/data", b"d")
        .file("lib/new", b"n")
        .file("abs/deep/er", b"n")
        .file("fresh/one", b"1");
    let (_home, tree) = loaded(&[Layer::plain(lower.end()), Layer::gzip(upper.end())]);
    assert!(tree["/"].starts_with("mode=40711 "), "{}", tree["/"]);
    assert!(tree["/srv"].starts_with("mode=40750 owner=0:0 time=1600000000"));
    assert!(tree["/lib"].contains("to=usr/lib"), "{tree:?}");
    assert!(tree["/abs"].contains("to=/usr/lib"), "{tree:?}");
    for path in [
        "/usr/lib/old",
        "/usr/lib/new",
        "/usr/lib/deep/er",
        "/fresh/one",
    ] {
        assert!(tree.contains_key(path), "{path}: {tree:?}");
    }
    assert!(tree["/usr/lib"].starts_with("mode=40711 "));
    assert!(tree["/fresh"].starts_with("mode=40755 "));
}

#[test]
fn a_link_as_parent_is_followed_inside_the_layer() {
    let mut tar = Tar::default();
    tar.dir("real/", 0o755)
        .symlink("rel", "real")
        .symlink("abs", "/real")
        .symlink("up", "../../../../real")
        .symlink("dangling", "not/there")
        .file("rel/a", b"a")
        .file("abs/b", b"b")
        .file("up/c", b"c")
        .file("dangling/d", b"d");
    let (_home, tree) = loaded(&[Layer::plain(tar.end())]);
    for path in ["/real/a", "/real/b", "/real/c", "/not/there/d"] {
        assert!(tree.contains_key(path), "{path}: {tree:?}");
    }
}

#[test]
fn sparse_files_of_every_form_have_their_holes() {
    let directory = tempfile::tempdir().unwrap();
    let file = std::fs::File::create(directory.path().join("sparse")).unwrap();
    use std::os::unix::fs::FileExt;
    file.write_all_at(&[1; 5000], 1 << 20).unwrap();
    file.write_all_at(b"end", 9 << 20).unwrap();
    file.set_len(10 << 20).unwrap();
    let expected = berth_image::digest_of(&std::fs::read(directory.path().join("sparse")).unwrap());
    for form in [
        &["--format=gnu"][..],
        &["--format=posix", "--sparse-version=0.0"],
        &["--format=posix", "--sparse-version=0.1"],
        &["--format=posix", "--sparse-version=1.0"],
    ] {
        let output = Command::new("tar")
            .args(form)
            .args(["--sparse", "-C"])
            .arg(directory.path())
            .args(["-c", "sparse"])
            .output()
            .unwrap();
        assert!(output.status.success());
        assert!(output.stdout.len() < 100_000);
        let image = Made::new(&[Layer::plain(output.stdout)]);
        let home = Home::new();
        home.load(&image.layout("docker.io/test/sparse:1"))
            .map_err(|error| panic!("{form:?}: {}", crate::support::chain(&error)))
            .unwrap();
        let view = home.store.inspect(&image.id().to_string()).unwrap();
        let path = view.layer_directories[0].join("sparse");
        let content = std::fs::read(&path).unwrap();
        assert_eq!(berth_image::digest_of(&content), expected, "{form:?}");
        let metadata = path.metadata().unwrap();
        assert!(metadata.blocks() * 512 < 100_000, "{form:?} has no holes");
    }
}

#[test]
fn attributes_that_steer_the_host_are_not_taken() {
    let mut tar = Tar::default();
    tar.pax(&[
        ("SCHILY.xattr.trusted.overlay.redirect", b"/etc"),
        ("SCHILY.xattr.trusted.overlay.opaque", b"y"),
        ("SCHILY.xattr.security.selinux", b"x"),
        ("SCHILY.xattr.user.fine", b"1"),
    ])
    .dir("d/", 0o755);
    let image = Made::new(&[Layer::plain(tar.end())]);
    let home = Home::new();
    home.load(&image.layout("docker.io/test/x:1")).unwrap();
    let view = home.store.inspect(&image.id().to_string()).unwrap();
    let path = view.layer_directories[0].join("d");
    let mut list = [0_u8; 1024];
    let length = rustix::fs::listxattr(&path, &mut list[..]).unwrap();
    assert_eq!(&list[..length], b"user.fine\0");
}

#[test]
fn hundred_and_twenty_seven_layers_and_none_can_be_mounted() {
    let layers: Vec<Layer> = (0..127)
        .map(|number| {
            let mut tar = Tar::default();
            tar.file(&format!("f{number}"), b"x");
            Layer::plain(tar.end())
        })
        .collect();
    let (_home, tree) = loaded(&layers);
    assert_eq!(tree.len(), 128);
    let (_home, tree) = loaded(&[]);
    assert_eq!(tree.len(), 1);
    // A layer of no bytes at all is an archive without entries.
    let (_home, tree) = loaded(&[Layer::plain(Vec::new()), Layer::gzip(Vec::new())]);
    assert_eq!(tree.len(), 1);
}

#[test]
fn equal_beginnings_share_their_layers() {
    let mut first = Tar::default();
    first.file("base", b"b");
    let base = Layer::plain(first.end());
    let mut second = Tar::default();
    second.file("top", b"t");
    let (a, b) = (
        Made::new(std::slice::from_ref(&base)),
        Made::new(&[base.clone(), Layer::plain(second.end())]),
    );
    let home = Home::new();
    home.load(&a.layout("docker.io/test/a:1")).unwrap();
    home.load(&b.layout("docker.io/test/b:1")).unwrap();
    let directories = |id: &berth_types::Digest| {
        home.store
            .inspect(&id.to_string())
            .unwrap()
            .layer_directories
    };
    assert_eq!(directories(&a.id())[0], directories(&b.id())[1]);
    let inode = |path: &std::path::Path| path.metadata().unwrap().ino();
    assert_eq!(
        inode(&directories(&a.id())[0]),
        inode(&directories(&b.id())[1])
    );
}
