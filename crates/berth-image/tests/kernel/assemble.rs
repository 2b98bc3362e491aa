//! Images made here: what a container changed as a layer, saved archives, imports.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use berth_image::assemble::ImportRequest;
use berth_image::progress::silent;
use berth_image::rootfs::rootfs_upper;
use berth_image::{Change, ChangeKind, ImageError};
use berth_types::{ContainerId, Digest, Platform, Reference};
use rustix::fs::{CWD, FileType, Mode, XattrFlags};

use crate::support::{Head, Home, Layer, Made, Tar, chain, gzip, tree, zstandard};

pub(crate) fn base() -> Made {
    let mut low = Tar::default();
    low.dir("etc/", 0o755)
        .file("etc/passwd", b"root:x:0:0::/:\n")
        .file("etc/gone", b"gone")
        .file("etc/kept", b"kept")
        .dir("full/", 0o750)
        .file("full/a", b"a")
        .dir("full/inner/", 0o755)
        .file("full/inner/b", b"b")
        .dir("swap/", 0o755)
        .file("swap/x", b"x")
        .symlink("lib", "usr/lib")
        .dir("usr/", 0o755)
        .dir("usr/lib/", 0o755);
    let mut high = Tar::default();
    high.file("etc/passwd", b"root:x:0:0:changed:/:\n")
        .file("full/c", b"c");
    // umoci of Debian 12 knows no zstd.
    Made::new(&[Layer::gzip(low.end()), Layer::gzip(high.end())])
}

/// Does to a mounted root what programs in containers do.
fn change(root: &Path) {
    let path = |name: &str| root.join(name);
    std::fs::remove_file(path("etc/gone")).unwrap();
    // A directory taken away and made anew hides what was in it.
    std::fs::remove_dir_all(path("full")).unwrap();
    std::fs::create_dir(path("full")).unwrap();
    std::fs::write(path("full/new"), "new").unwrap();
    // A directory becomes a file, and a link a directory.
    std::fs::remove_dir_all(path("swap")).unwrap();
    std::fs::write(path("swap"), "file").unwrap();
    std::fs::remove_file(path("lib")).unwrap();
    std::fs::create_dir(path("lib")).unwrap();
    // Hard links across directories, odd and long names, attributes, capabilities, special files, holes.
    std::fs::create_dir_all(path("srv/one/two")).unwrap();
    std::fs::write(path("srv/one/file"), "linked").unwrap();
    std::fs::hard_link(path("srv/one/file"), path("srv/one/two/again")).unwrap();
    std::fs::hard_link(path("srv/one/file"), path("linked")).unwrap();
    std::fs::write(path(&format!("srv/{}", "n".repeat(255))), "long").unwrap();
    let deep = "d".repeat(120);
    std::fs::create_dir_all(path(&format!("srv/{deep}/{deep}/ü\nx"))).unwrap();
    symlink("t".repeat(300), path("srv/link")).unwrap();
    std::fs::write(path("srv/empty"), "").unwrap();
    std::fs::write(path("srv/program"), "#!").unwrap();
    std::fs::set_permissions(path("srv/program"), std::fs::Permissions::from_mode(0o6755)).unwrap();
    std::os::unix::fs::chown(path("srv/program"), Some(4_000_000), Some(12)).unwrap();
    std::fs::set_permissions(path("srv/program"), std::fs::Permissions::from_mode(0o6755)).unwrap();
    let set = |name: &str, key: &str, value: &[u8]| {
        rustix::fs::lsetxattr(path(name), key, value, XattrFlags::empty()).unwrap();
    };
    set("srv/program", "user.note", b"a=b\n\0c");
    // cap_net_raw=ep, revision 2.
    let capability = [1, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    set("srv/empty", "security.capability", &capability);
    set("srv/one", "user.directory", b"1");
    let node = |name: &str, kind, device| {
        rustix::fs::mknodat(CWD, path(name), kind, Mode::from_raw_mode(0o640), device).unwrap();
    };
    node("srv/pipe", FileType::Fifo, 0);
    node(
        "srv/disk",
        FileType::BlockDevice,
        rustix::fs::makedev(8, 300),
    );
    let sparse = std::fs::File::create(path("srv/sparse")).unwrap();
    sparse.set_len(3 << 20).unwrap();
    std::os::unix::fs::FileExt::write_at(&sparse, b"in the middle", 1 << 20).unwrap();
    std::fs::set_permissions(path("etc/kept"), std::fs::Permissions::from_mode(0o600)).unwrap();
    // What mounts leave behind.
    for name in ["etc/hosts", "dev/console"] {
        std::fs::create_dir_all(path(name).parent().unwrap()).unwrap();
        std::fs::write(path(name), "").unwrap();
    }
}

fn mount_points() -> BTreeSet<Vec<u8>> {
    ["etc/hosts", "dev", "dev/console"]
        .map(|path| path.as_bytes().to_vec())
        .into()
}

/// What a container shows at mount points and of the layer below its image.
const SURROUNDINGS: [&str; 9] = [
    "/.dockerenv",
    "/dev",
    "/dev/console",
    "/etc/hostname",
    "/etc/hosts",
    "/etc/mtab",
    "/etc/resolv.conf",
    "/proc",
    "/sys",
];

/// The parts of a second are not kept in layers, as with other engines, and the surroundings are not seen.
fn comparable(tree: BTreeMap<String, String>) -> BTreeMap<String, String> {
    tree.into_iter()
        .filter(|(path, _)| !SURROUNDINGS.contains(&path.as_str()))
        .map(|(path, text)| {
            let (before, rest) = text.split_once(" time=").unwrap();
            let (time, rest) = rest.split_once('.').unwrap();
            // The time of the root is that of the mount.
            let time = if path == "/" { "" } else { time };
            (path, format!("{before} time={time}{}", &rest[9..]))
        })
        .collect()
}

/// A container of the image that was changed, and how it looks.
pub(crate) fn changed(home: &Home, image: &Digest) -> (ContainerId, BTreeMap<String, String>) {
    let id = ContainerId::from_random([7; 32]);
    let rootfs = home.store.prepare_rootfs(&id, image).unwrap();
    let mount = rootfs.mount_detached().unwrap();
    let root = berth_sys::path::descriptor_path(&mount);
    change(&root);
    (id, comparable(tree(&root)))
}

pub(crate) fn commit(home: &Home, id: &ContainerId, image: &Digest, name: &str) -> Digest {
    let parent = home.store.resolve(&image.to_string()).unwrap();
    let mut assembly = home.store.assembly();
    let mut layers = assembly.layers_of(&parent).unwrap();
    let rootfs = home.store.prepare_rootfs(id, image).unwrap();
    let upper = rootfs_upper(&rootfs).unwrap();
    let layer = assembly
        .capture(&upper, &layers, &mount_points(), &silent())
        .unwrap();
    layers.extend(layer);
    let document = home.store.document(&parent.id).unwrap();
    let name = Reference::parse(name).unwrap();
    assembly
        .finish(document, layers, &[name], Some(parent.id))
        .unwrap()
}

pub(crate) fn saved(home: &Home, names: &[&str]) -> Vec<u8> {
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    let save = home.store.save(&names, &[]).unwrap();
    save.write_to(Vec::new()).unwrap()
}

#[test]
fn what_a_container_changed_is_a_layer_that_shows_the_same_everywhere() {
    let (home, made) = (Home::new(), base());
    home.load(&made.layout("docker.io/test/base:1")).unwrap();
    let (id, seen) = changed(&home, &made.id());
    let image = commit(&home, &id, &made.id(), "test/made:1");
    assert_eq!(comparable(home.tree(&image)), seen);
    // The same changes are the same layer.
    let again = commit(&home, &id, &made.id(), "test/made:2");
    assert_eq!(again, image);
    let record = home.store.resolve("test/made:1").unwrap().record;
    assert_eq!(record.diff_ids.len(), 3);
    assert_eq!(record.parent, Some(made.id()));

    let archive = saved(&home, &["test/made:1", "test/base:1"]);
    assert!(archive == saved(&home, &["test/made:1", "test/base:1"]));
    for archive in [archive.clone(), gzip(&archive), zstandard(&archive)] {
        let other = Home::new();
        other.load(&archive).unwrap();
        assert_eq!(other.store.resolve("test/made:1").unwrap().id, image);
        assert_eq!(other.tree(&image), home.tree(&image));
        assert!(saved(&other, &["test/made:1", "test/base:1"]) == archive || archive[0] != b'o');
        for id in [image, made.id()] {
            let request = berth_image::RemoveRequest {
                force: true,
                no_prune: false,
            };
            drop(other.store.remove(&id.to_string(), request, &[]));
        }
        assert_eq!(other.leftovers(), Vec::<String>::new());
    }
    home.store.remove_rootfs(&id).unwrap();
}

#[test]
fn changes_are_listed_without_what_mounts_left() {
    let (home, made) = (Home::new(), base());
    home.load(&made.layout("docker.io/test/base:1")).unwrap();
    let (id, _) = changed(&home, &made.id());
    let listed = home
        .store
        .rootfs_changes(&id, &made.id(), &mount_points())
        .unwrap();
    let find = |path: &str| {
        listed
            .iter()
            .find(|change| change.path == path.as_bytes())
            .map(|change| change.kind)
    };
    let (modified, added, deleted) = (
        Some(ChangeKind::Modified),
        Some(ChangeKind::Added),
        Some(ChangeKind::Deleted),
    );
    for (path, kind) in [
        ("/etc", modified),
        ("/etc/gone", deleted),
        ("/etc/kept", modified),
        ("/etc/passwd", None),
        ("/etc/hosts", None),
        ("/dev", None),
        ("/full", modified),
        ("/full/a", deleted),
        ("/full/c", deleted),
        ("/full/inner", deleted),
        ("/full/new", added),
        ("/swap", modified),
        ("/lib", added),
        ("/srv/one/two/again", added),
        ("/usr", None),
    ] {
        // A link that became a directory is a change of kind; what it is called is a matter of taste.
        if path == "/lib" {
            assert!(find(path).is_some());
            continue;
        }
        assert_eq!(find(path), kind, "{path}");
    }
    let paths: Vec<&Vec<u8>> = listed.iter().map(|Change { path, .. }| path).collect();
    assert!(paths.is_sorted());
    home.store.remove_rootfs(&id).unwrap();
}

#[test]
fn names_that_layers_cannot_hold_are_refused_and_leave_nothing() {
    let (home, made) = (Home::new(), base());
    home.load(&made.layout("docker.io/test/base:1")).unwrap();
    let before = home.leftovers();
    let id = ContainerId::from_random([8; 32]);
    let rootfs = home.store.prepare_rootfs(&id, &made.id()).unwrap();
    {
        let mount = rootfs.mount_detached().unwrap();
        let root = berth_sys::path::descriptor_path(&mount);
        std::fs::write(root.join("etc/.wh.passwd"), "").unwrap();
    }
    let parent = home.store.resolve("test/base:1").unwrap();
    let mut assembly = home.store.assembly();
    let layers = assembly.layers_of(&parent).unwrap();
    let upper = rootfs_upper(&rootfs).unwrap();
    let error = assembly
        .capture(&upper, &layers, &BTreeSet::new(), &silent())
        .unwrap_err();
    assert!(error.to_string().contains(".wh.passwd"), "{error}");
    drop(assembly);
    home.store.remove_rootfs(&id).unwrap();
    assert_eq!(home.leftovers(), before);
}

#[test]
fn archives_of_root_file_systems_become_images() {
    let home = Home::new();
    let mut root = Tar::default();
    root.dir("./", 0o711)
        .dir("./bin/", 0o755)
        .file("./bin/sh", b"#!")
        .hard("./bin/again", "./bin/sh")
        .raw(
            b"./pipe",
            &Head {
                flag: b'6',
                ..Head::default()
            },
            b"",
        );
    let plain = root.end();
    let mut ids = Vec::new();
    for bytes in [plain.clone(), gzip(&plain), zstandard(&plain)] {
        let request = ImportRequest {
            message: "by hand".into(),
            platform: Some(Platform::parse("linux/arm64").unwrap()),
            name: Some(Reference::parse("root:1").unwrap().with_default_tag()),
            ..ImportRequest::default()
        };
        let id = home
            .store
            .import(bytes.as_slice(), request, &silent())
            .unwrap();
        let view = home.store.inspect(&id.to_string()).unwrap();
        assert_eq!(view.document.architecture, "arm64");
        assert_eq!(view.document.history[0].comment, "by hand");
        assert_eq!(home.store.resolve("root:1").unwrap().id, id);
        let tree = home.tree(&id);
        assert!(tree["/"].starts_with("mode=40711"), "{}", tree["/"]);
        assert!(tree["/bin/again"].contains("links=2"));
        ids.push(id);
    }
    // One layer, whatever it came in; the latest name wins.
    let layers: BTreeSet<Digest> = ids
        .iter()
        .map(|id| home.store.resolve(&id.to_string()).unwrap().record.diff_ids[0])
        .collect();
    assert_eq!(layers.len(), 1);
    let mut outside = Tar::default();
    outside.file("../outside", b"x");
    let bytes = outside.end();
    let refused = home
        .store
        .import(bytes.as_slice(), ImportRequest::default(), &silent())
        .unwrap_err();
    assert!(
        matches!(refused, ImageError::Archive { .. }),
        "{}",
        chain(&refused)
    );
}
