//! Root file systems of containers.

use berth_image::rootfs_file;
use berth_types::ContainerId;

use crate::support::{Head, Home, Layer, Made, Tar};

fn home() -> (Home, Made) {
    let mut base = Tar::default();
    let root = Head {
        flag: b'5',
        mode: 0o751,
        uid: 5,
        gid: 6,
        ..Head::default()
    };
    base.raw(b"./", &root, b"");
    base.dir("etc/", 0o755)
        .file("etc/passwd", b"root:x:0:0::/:\n")
        .file("etc/group", b"root:x:0:\n")
        .file("etc/shadow", b"secret")
        .symlink("etc/abs", "/etc/passwd")
        .symlink("etc/up", "../../../../etc/passwd")
        .symlink("etc/host", "../../../../../../proc/self/environ")
        .symlink("etc/zero", "/dev/zero")
        .symlink("etc/loop", "loop")
        .dir("dev/", 0o755);
    base.raw(
        b"dev/zero",
        &Head {
            flag: b'3',
            device: (1, 5),
            ..Head::default()
        },
        b"",
    );
    base.raw(
        b"etc/pipe",
        &Head {
            flag: b'6',
            ..Head::default()
        },
        b"",
    );
    let mut top = Tar::default();
    top.file("etc/.wh.shadow", b"")
        .file("etc/group", b"new:x:7:\n");
    let image = Made::new(&[Layer::gzip(base.end()), Layer::zstd(top.end())]);
    let home = Home::new();
    home.load(&image.layout("docker.io/test/a:1")).unwrap();
    (home, image)
}

#[test]
fn a_container_changes_its_own_copy_only() {
    let (home, image) = home();
    let ids = [[1; 32], [2; 32]].map(ContainerId::from_random);
    let overlay = home.store.prepare_rootfs(&ids[0], &image.id()).unwrap();
    assert_eq!(
        home.store.prepare_rootfs(&ids[0], &image.id()).unwrap(),
        overlay
    );
    let other = home.store.prepare_rootfs(&ids[1], &image.id()).unwrap();
    {
        let mount = overlay.mount_detached().unwrap();
        let root = berth_sys::path::descriptor_path(&mount);
        let tree = crate::support::tree(&root);
        assert!(
            tree["/"].starts_with("mode=40751 owner=5:6"),
            "{}",
            tree["/"]
        );
        assert!(!tree.contains_key("/etc/shadow"));
        std::fs::write(root.join("etc/passwd"), b"changed").unwrap();
        std::fs::remove_file(root.join("etc/group")).unwrap();
        std::fs::write(root.join("new"), vec![0; 4096]).unwrap();
        std::fs::hard_link(root.join("new"), root.join("again")).unwrap();
    }
    assert_eq!(home.store.rootfs_usage(&ids[0]).unwrap(), 4096 + 7);
    assert_eq!(home.store.rootfs_usage(&ids[1]).unwrap(), 0);
    let read = |path| rootfs_file(&overlay, path, 100).unwrap();
    assert_eq!(read("/etc/passwd").as_deref(), Some(&b"changed"[..]));
    assert_eq!(read("/etc/group"), None);
    let unchanged = rootfs_file(&other, "etc/group", 100).unwrap();
    assert_eq!(unchanged.as_deref(), Some(&b"new:x:7:\n"[..]));
    assert_eq!(home.store.prepared_rootfs().unwrap(), ids);
    for id in &ids {
        home.store.remove_rootfs(id).unwrap();
        home.store.remove_rootfs(id).unwrap();
    }
    home.store.wait_for_trash();
    assert!(home.store.prepared_rootfs().unwrap().is_empty());
}

#[test]
fn who_prepares_one_at_the_same_moment_gets_the_same_directory() {
    use std::os::unix::fs::MetadataExt;
    let (home, image) = home();
    for round in 0..50 {
        let id = ContainerId::from_random([round; 32]);
        let barrier = std::sync::Barrier::new(4);
        let seen: Vec<(u64, u32, u32)> = std::thread::scope(|scope| {
            let first: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        barrier.wait();
                        let overlay = home.store.prepare_rootfs(&id, &image.id()).unwrap();
                        // It has the attributes of the image's root from the moment it is there.
                        let upper = std::fs::metadata(overlay.upper.unwrap()).unwrap();
                        (upper.ino(), upper.mode() & 0o7777, upper.uid())
                    })
                })
                .collect();
            first.into_iter().map(|t| t.join().unwrap()).collect()
        });
        assert!(
            seen.iter().all(|upper| *upper == (seen[0].0, 0o751, 5)),
            "{seen:?}"
        );
    }
}

#[test]
fn files_are_read_with_the_image_as_root_and_bounded() {
    let (home, image) = home();
    let overlay = home.store.image_rootfs(&image.id()).unwrap();
    let read = |path: &str| rootfs_file(&overlay, path, 15);
    for path in [
        "etc/passwd",
        "/etc/passwd",
        "//etc/./passwd",
        "/etc/abs",
        "/etc/up",
        "/../etc/passwd",
    ] {
        assert_eq!(
            read(path).unwrap().as_deref(),
            Some(&b"root:x:0:0::/:\n"[..]),
            "{path}"
        );
    }
    // A device, a pipe, a link out, a loop, something deleted and a directory are all no such file.
    for path in [
        "etc/zero",
        "dev/zero",
        "etc/pipe",
        "etc/host",
        "etc/loop",
        "etc/shadow",
        "etc",
        "etc/passwd/x",
        "",
    ] {
        assert_eq!(read(path).unwrap(), None, "{path}");
    }
    assert!(rootfs_file(&overlay, "etc/passwd", 14).is_err());
}

#[test]
fn what_a_crash_leaves_is_swept() {
    let (home, image) = home();
    let root = home.directory.path().to_owned();
    let layers = root.join("layers/overlay");
    std::fs::create_dir_all(layers.join("staging/77/deep/er")).unwrap();
    std::fs::create_dir_all(layers.join("0123456789ab/deep")).unwrap();
    std::fs::create_dir_all(layers.join("trash/3/deep")).unwrap();
    std::fs::create_dir_all(layers.join("not-ours")).unwrap();
    std::fs::write(root.join("blobs/ingest/5"), b"half").unwrap();
    std::fs::write(root.join("blobs/sha256").join("ab".repeat(32)), b"nobody's").unwrap();
    let home = home.reopen();
    home.store.wait_for_trash();
    for gone in ["staging/77", "0123456789ab", "trash/3"] {
        assert!(!layers.join(gone).exists(), "{gone}");
    }
    assert!(layers.join("not-ours").exists());
    assert_eq!(
        std::fs::read_dir(root.join("blobs/ingest"))
            .unwrap()
            .count(),
        0
    );
    assert!(!root.join("blobs/sha256").join("ab".repeat(32)).exists());
    assert!(home.tree(&image.id()).contains_key("/etc/passwd"));
}

#[test]
fn directories_of_any_depth_are_removed() {
    use rustix::fs::{Mode, OFlags, mkdirat, openat};
    let (home, image) = home();
    let id = ContainerId::from_random([3; 32]);
    let overlay = home.store.prepare_rootfs(&id, &image.id()).unwrap();
    let upper = overlay.upper.unwrap();
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut here = berth_sys::fs::open_directory(&upper).unwrap();
    for _ in 0..3_000 {
        mkdirat(&here, "d", Mode::from_raw_mode(0o700)).unwrap();
        mkdirat(&here, ".removing-1", Mode::from_raw_mode(0o700)).unwrap();
        here = openat(&here, "d", flags, Mode::empty()).unwrap();
    }
    drop(here);
    home.store.rootfs_usage(&id).unwrap();
    home.store.remove_rootfs(&id).unwrap();
    home.store.wait_for_trash();
    let trash = home.directory.path().join("layers/overlay/trash");
    assert_eq!(std::fs::read_dir(trash).unwrap().count(), 0);
}
