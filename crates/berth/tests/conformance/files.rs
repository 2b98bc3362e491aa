//! What a container sees of files: binds, temporary file systems, its own layer.

use std::fs;

use berth_testkit::Command;

use crate::subject::Subject;

pub(crate) fn bind_mounts(on: &Subject) {
    let host = on.daemon.scratch().path().join("bound");
    fs::create_dir(&host).expect("a directory to bind");
    fs::write(host.join("file"), "from host\n").expect("a file to bind");
    let path = host.display();
    on.run(&format!(
        "--rm -v {path}:/data busybox sh -c 'cat /data/file; echo back > /data/reply'"
    ))
    .ok()
    .prints("from host");
    assert_eq!(
        fs::read_to_string(host.join("reply")).expect("the reply"),
        "back\n"
    );
    for flag in [
        format!("-v {path}:/data:ro"),
        format!("--mount type=bind,src={path},dst=/data,readonly"),
    ] {
        on.run(&format!("--rm {flag} busybox sh -c 'echo x > /data/file'"))
            .exits(1)
            .says("read-only file system");
    }
    // One file over another.
    on.run(&format!(
        "--rm -v {path}/file:/etc/passwd busybox cat /etc/passwd"
    ))
    .ok()
    .prints("from host");
    // -v makes what is missing, --mount refuses.
    on.run(&format!("--rm -v {path}/new/deep:/data busybox true"))
        .ok();
    assert!(host.join("new/deep").is_dir());
    on.run(&format!(
        "--rm --mount type=bind,src={path}/none,dst=/data busybox true"
    ))
    .exits(125)
    .says("does not exist");
    on.run("--rm -v relative/path:/data:nosuchoption busybox true")
        .exits(125);
}

pub(crate) fn temporary_file_systems(on: &Subject) {
    on.run("--rm --tmpfs /scratch:size=4m,mode=1770 busybox sh -c 'mount | grep \" /scratch \"; stat -c %a /scratch'")
        .ok()
        .prints("size=4096k")
        .prints("1770");
    on.run("--rm --mount type=tmpfs,dst=/scratch,tmpfs-size=8m busybox mount")
        .ok()
        .prints("size=8192k");
    on.run("--rm busybox sh -c 'mount | grep \" /dev/shm \"'")
        .ok()
        .prints("size=65536k");
    on.run("--rm --shm-size 16m busybox sh -c 'mount | grep \" /dev/shm \"'")
        .ok()
        .prints("size=16384k");
}

pub(crate) fn read_only_root(on: &Subject) {
    on.run("--rm --read-only busybox touch /new")
        .exits(1)
        .says("read-only file system");
    on.run("--rm --read-only --tmpfs /run busybox sh -c 'touch /run/new && touch /dev/shm/new'")
        .ok();
}

pub(crate) fn changes_stay_with_the_container(on: &Subject) {
    on.run("--name writer busybox sh -c 'cat /kept 2>/dev/null; echo kept > /kept; rm /etc/group'")
        .ok();
    // Its own layer lives on between two runs of it, and nobody else sees it.
    on.cli("start -a writer").exits(1).prints("kept");
    on.run("--rm busybox sh -c 'ls /kept; cat /etc/group'")
        .ok()
        .says("/kept")
        .prints("www-data");
}

pub(crate) fn every_container_can_be_told_from_a_host(on: &Subject) {
    on.run("--name marked busybox sh -c 'test -f /.dockerenv && readlink /etc/mtab && head -n 1 /etc/mtab'")
        .ok()
        .prints("/proc/mounts\n")
        .prints(" / ");
    // Neither the container's own change nor part of an image made of it, which has it again all the same.
    assert_eq!(on.cli("diff marked").ok().text(), "");
    let exported = on.daemon.scratch().path().join("marked.tar");
    on.cli(&format!("export -o {} marked", exported.display()))
        .ok();
    let listed = Command::new("tar").args(["-tf", &exported.display().to_string()]);
    listed.run().ok().prints(".dockerenv\n");
    on.cli("commit marked made").ok();
    on.run("--rm made test -f /.dockerenv").ok();
    // What an image has itself is left to it; the reference puts its link there all the same.
    if !on.is_reference() {
        on.run("--name own busybox sh -c 'rm /etc/mtab && echo mine > /etc/mtab'")
            .ok();
        on.cli("commit own owned").ok();
        on.run("--rm owned cat /etc/mtab").ok().prints("mine");
    }
}
