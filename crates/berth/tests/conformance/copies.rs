//! `cp` in both directions, by docker's rules on paths.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use crate::subject::Subject;

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Makes a directory with `file`, `sub/deep` and a link in it.
fn tree(path: &Path) {
    fs::create_dir_all(path.join("sub")).expect("directories");
    fs::write(path.join("file"), "file\n").expect("a file");
    fs::write(path.join("sub/deep"), "deep\n").expect("a file");
    symlink("sub/deep", path.join("link")).expect("a link");
    let mode = fs::Permissions::from_mode(0o640);
    fs::set_permissions(path.join("file"), mode).expect("permissions");
}

pub(crate) fn files_are_copied_into_containers(on: &Subject) {
    let base = on.daemon.scratch().path().join("from");
    tree(&base.join("src"));
    let src = base.join("src");
    let src = src.display();
    on.sleeper("box", "");
    let inside = |script: &str| {
        on.cli(&format!("exec box sh -c '{script}'"))
            .ok()
            .text()
            .to_owned()
    };
    let copy = |from: &str, to: &str| on.cli(&format!("cp {from} box:{to}"));
    // A file: to a new name, over a file, into a directory.
    copy(&format!("{src}/file"), "/tmp/new").ok();
    copy(&format!("{src}/sub/deep"), "/tmp/new").ok();
    copy(&format!("{src}/file"), "/tmp").ok();
    copy(&format!("{src}/file"), "/home/").ok();
    assert_eq!(
        inside("cat /tmp/new /tmp/file /home/file; stat -c %a /tmp/file"),
        "deep\nfile\nfile\n640"
    );
    copy(&format!("{src}/file"), "/tmp/none/")
        .exits(1)
        .says("no such directory");
    copy(&format!("{src}/file"), "/tmp/none/x")
        .exits(1)
        .says("could not find the file");
    copy(&format!("{src}/none"), "/tmp/x")
        .exits(1)
        .says("no such file or directory");
    // A directory: to a new name, into a directory, its content alone, over a file.
    copy(&src.to_string(), "/tmp/made").ok();
    copy(&src.to_string(), "/tmp").ok();
    copy(&format!("{src}/."), "/root").ok();
    assert_eq!(
        inside("cat /tmp/made/sub/deep /tmp/src/sub/deep /root/sub/deep; readlink /root/link"),
        "deep\ndeep\ndeep\nsub/deep"
    );
    copy(&src.to_string(), "/tmp/file")
        .exits(1)
        .says("cannot copy directory");
    // Kinds do not change places.
    inside("mkdir -p /tmp/kinds/file; mkdir /tmp/other; echo x > /tmp/other/sub");
    copy(&format!("{src}/file"), "/tmp/kinds")
        .exits(1)
        .says("cannot overwrite directory");
    copy(&format!("{src}/sub"), "/tmp/other")
        .exits(1)
        .says("cannot overwrite non-directory");
    // Links: as they are, or what they lead to; and links in the container lead within it.
    copy(&format!("{src}/link"), "/tmp/as-link").ok();
    on.cli(&format!("cp -L {src}/link box:/tmp/followed")).ok();
    inside("ln -s /tmp/made /tmp/to-made; ln -s /etc /tmp/etc");
    copy(&format!("{src}/file"), "/tmp/to-made").ok();
    copy(&format!("{src}/file"), "/tmp/etc/copied").ok();
    assert_eq!(
        inside("readlink /tmp/as-link; cat /tmp/followed /tmp/made/file /etc/copied"),
        "sub/deep\ndeep\nfile\nfile"
    );
    assert!(!Path::new("/etc/copied").exists());
    // An archive on standard input needs a directory.
    let archive = on.command("cp box:/tmp/made -").run().ok().stdout_bytes;
    on.command("cp - box:/srv")
        .stdin(archive.clone())
        .run()
        .exits(1);
    inside("mkdir /srv");
    on.command("cp - box:/srv").stdin(archive).run().ok();
    assert_eq!(inside("cat /srv/made/file"), "file");
    // A container that does not run, and its owner's own files.
    on.cli("create --network none --name still -u www-data busybox true")
        .ok();
    on.cli(&format!("cp {src}/file still:/tmp/plain")).ok();
    on.cli(&format!("cp -a {src}/file still:/tmp/owned")).ok();
    on.cli("cp still:/tmp/plain -").ok().prints("file\n");
    on.cli("commit still copied:1").ok();
    on.run("--rm -u 0 copied:1 stat -c %u:%g /tmp/plain /tmp/owned")
        .ok()
        .prints("0:0\n33:33\n");
    on.cli(&format!("cp {src}/file nobody:/x"))
        .exits(1)
        .says("no such container");
    on.cli("cp box:/a box:/b")
        .exits(1)
        .says("copying between containers is not supported");
    on.cli("cp a b")
        .exits(1)
        .says("must specify at least one container source");
}

pub(crate) fn files_are_copied_out_of_containers(on: &Subject) {
    let base = on.daemon.scratch().path().join("to");
    fs::create_dir(&base).expect("a directory");
    let to = base.display();
    on.run(
        "-d --name box busybox sh -c 'mkdir -p /data/sub; echo file > /data/file; echo deep > /data/sub/deep; \
         ln -s sub/deep /data/link; ln -s /data /to-data; ln -s /none /dangling; chmod 4755 /data/file; \
         ln /data/file /data/again; chown 7:8 /data/file; touch /ready; sleep 1000'",
    )
    .ok();
    berth_testkit::wait::until("the files are there", || {
        on.cli("cp box:/ready -").code() == 0
    });
    let copy =
        |flags: &str, from: &str, name: &str| on.cli(&format!("cp {flags} box:{from} {to}/{name}"));
    copy("", "/data/file", "new").ok();
    assert_eq!(read(&base.join("new")), "file\n");
    let metadata = fs::metadata(base.join("new")).expect("the copy");
    assert_eq!(metadata.uid(), rustix::process::getuid().as_raw());
    copy("", "/data/sub/deep", "new").ok();
    assert_eq!(read(&base.join("new")), "deep\n");
    copy("", "/data/file", "").ok();
    assert_eq!(read(&base.join("file")), "file\n");
    copy("", "/data", "made").ok();
    copy("", "/data", "").ok();
    fs::create_dir(base.join("content")).expect("a directory");
    copy("", "/data/.", "content").ok();
    for name in ["made", "data", "content"] {
        assert_eq!(read(&base.join(name).join("sub/deep")), "deep\n", "{name}");
        let link = fs::read_link(base.join(name).join("link")).expect("a link");
        assert_eq!(link, Path::new("sub/deep"));
        let ino = |file: &str| {
            fs::metadata(base.join(name).join(file))
                .expect("a file")
                .ino()
        };
        assert_eq!(ino("file"), ino("again"), "hard links stay");
    }
    copy("", "/data", "file")
        .exits(1)
        .says("cannot copy directory");
    copy("", "/data/file", "none/").exits(1);
    copy("", "/data/file", "none/x")
        .exits(1)
        .says("invalid output path");
    copy("", "/nope", "x")
        .exits(1)
        .says("Could not find the file /nope in container box");
    // Links.
    copy("", "/to-data", "as-link").ok();
    assert_eq!(
        fs::read_link(base.join("as-link")).expect("a link"),
        Path::new("/data")
    );
    copy("-L", "/to-data", "followed").ok();
    assert_eq!(read(&base.join("followed/file")), "file\n");
    copy("", "/to-data/sub", "through").ok();
    assert_eq!(read(&base.join("through/deep")), "deep\n");
    copy("", "/to-data/.", "inner").ok();
    assert_eq!(read(&base.join("inner/file")), "file\n");
    copy("", "/dangling", "dangling").ok();
    assert!(
        fs::symlink_metadata(base.join("dangling"))
            .expect("a link")
            .is_symlink()
    );
    // Kinds do not change places.
    fs::create_dir_all(base.join("kinds/sub")).expect("directories");
    fs::write(base.join("kinds/data"), "x").expect("a file");
    copy("", "/data", "kinds")
        .exits(1)
        .says("cannot overwrite non-directory");
    // Of one that ended.
    on.cli("kill box").ok();
    on.daemon.wait_for("box", "exited");
    copy("-q", "/data/sub/deep", "last").ok();
    assert_eq!(read(&base.join("last")), "deep\n");
}

pub(crate) fn copies_go_through_mounts(on: &Subject) {
    let base = on.daemon.scratch().path().join("mounts");
    fs::create_dir_all(base.join("rw")).expect("directories");
    fs::create_dir_all(base.join("ro")).expect("directories");
    fs::write(base.join("ro/file"), "kept from writing 4711\n").expect("a file");
    fs::write(base.join("local"), "local\n").expect("a file");
    let path = base.display();
    for (name, command) in [("going", "sleep 1000"), ("still", "true")] {
        let verb = if name == "going" { "run -d" } else { "create" };
        on.cli(&format!(
            "{verb} --network none --name {name} -v {path}/rw:/rw -v {path}/ro:/ro:ro busybox {command}"
        ))
        .ok();
        on.cli(&format!("cp {path}/local {name}:/rw/{name}")).ok();
        assert_eq!(read(&base.join("rw").join(name)), "local\n");
        on.cli(&format!("cp {name}:/ro/file {path}/from-{name}"))
            .ok();
        assert_eq!(
            read(&base.join(format!("from-{name}"))),
            "kept from writing 4711\n"
        );
        on.cli(&format!("cp {path}/local {name}:/ro/x"))
            .exits(1)
            .says("mounted volume is marked read-only");
        // The mount point itself belongs to the container, what is in it does not.
        let exported = on.command(&format!("export {name}")).run().ok().stdout;
        assert!(!exported.contains("kept from writing 4711"));
    }
    // Volumes of a container that does not run.
    on.cli("create --network none --name kept -v named:/named busybox true")
        .ok();
    on.cli(&format!("cp {path}/local kept:/named/file")).ok();
    on.run("--rm -v named:/there busybox cat /there/file")
        .ok()
        .prints("local");
    on.cli(&format!("cp kept:/named/file {path}/from-volume"))
        .ok();
    assert_eq!(read(&base.join("from-volume")), "local\n");
    on.cli("rm kept").ok();
    on.cli("volume rm named").ok();
    on.run(&format!(
        "-d --name locked --read-only -v {path}/rw:/rw busybox sleep 1000"
    ))
    .ok();
    on.cli(&format!("cp {path}/local locked:/tmp/x"))
        .exits(1)
        .says("container rootfs is marked read-only");
    on.cli(&format!("cp {path}/local locked:/rw/locked")).ok();
    assert!(base.join("rw/locked").exists());
}
