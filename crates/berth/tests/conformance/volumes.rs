//! Volumes: named and anonymous, with options, filled from the image, shared, pruned.

use std::fs;
use std::path::Path;

use berth_testkit::archive::Layer;
use berth_testkit::disk::{self, LoopDevice};
use berth_testkit::{images, wait};
use serde_json::json;

use crate::subject::Subject;

fn told(on: &Subject, line: &str) -> String {
    on.cli(line).ok().text().to_owned()
}

/// An image with content at `/filled`, which it declares as a volume, as `/declared`.
fn filled(on: &Subject) {
    let layer = Layer::new()
        .directory("real", 0o2750)
        .file("real/script", 0o4755, "#!/bin/sh\n")
        .hard_link("real/again", "real/script")
        .symlink("real/link", "script")
        .symlink("filled", "real")
        .file("file", 0o644, "a file\n")
        .finish();
    let mut image = images::busybox().expect("busybox");
    image.layers.push(layer);
    "filled:1".clone_into(&mut image.name);
    image.config["Volumes"] = json!({"/declared": {}});
    on.daemon.load(&image);
}

pub(crate) fn volumes_are_made_listed_and_removed(on: &Subject) {
    assert_eq!(
        told(on, "volume create --label who=me -d local first"),
        "first"
    );
    let anonymous = told(on, "volume create");
    assert_eq!(anonymous.len(), 64);
    // Again, it is the same one.
    assert_eq!(told(on, "volume create first"), "first");
    assert_eq!(
        told(
            on,
            "volume ls -f name=first --format '{{.Name}} {{.Driver}} {{.Scope}} {{.Label \"who\"}}'"
        ),
        "first local local me"
    );
    assert_eq!(told(on, "volume ls -q -f label=who=me"), "first");
    assert_eq!(told(on, "volume ls -q -f label=who=you"), "");
    assert_eq!(
        told(on, "volume ls -f name=first")
            .lines()
            .next()
            .map(str::trim_end),
        Some("DRIVER    VOLUME NAME")
    );
    let line = "volume inspect -f '{{.Name}} {{.Driver}} {{.Scope}} {{.Labels.who}}' first";
    assert_eq!(told(on, line), "first local local me");
    let mountpoint = told(on, "volume inspect -f '{{.Mountpoint}}' first");
    assert!(mountpoint.ends_with("/volumes/first/_data"), "{mountpoint}");
    assert!(Path::new(&mountpoint).is_dir());
    assert_eq!(
        told(on, "inspect --type volume -f '{{.Name}}' first"),
        "first"
    );
    for (line, words) in [
        ("volume create a", "volume name is too short"),
        ("volume create a/b", "includes invalid characters"),
        ("volume create -o nosuch=1 second", "invalid option"),
        (
            "volume create -o type=tmpfs second",
            "missing required option",
        ),
        (
            "volume create -d nosuch second",
            "plugin \"nosuch\" not found",
        ),
        ("volume inspect second", "no such volume"),
        ("volume rm second", "no such volume"),
        ("volume ls -f nosuch=1", "invalid filter"),
    ] {
        on.cli(line).exits(1).says(words);
    }
    on.cli("volume rm -f second").ok();
    assert_eq!(told(on, "volume rm first"), "first");
    assert!(!Path::new(&mountpoint).exists());
    on.cli(&format!("volume rm {anonymous}")).ok();
    assert_eq!(told(on, "volume ls -q"), "");
}

pub(crate) fn volumes_outlive_containers(on: &Subject) {
    on.run("--rm -v data:/data busybox sh -c 'echo kept >/data/file'")
        .ok();
    on.run("--rm -v data:/data:ro busybox cat /data/file")
        .ok()
        .prints("kept");
    on.run("--rm -v data:/data:ro busybox touch /data/new")
        .exits(1)
        .says("read-only file system");
    on.run("--rm --mount type=volume,src=data,dst=/data,readonly busybox touch /data/new")
        .exits(1)
        .says("read-only file system");
    on.sleeper("user", "-v data:/data");
    on.cli("volume rm data")
        .exits(1)
        .says("volume is in use")
        .says(on.daemon.inspect("user")["Id"].as_str().expect("an id"));
    let mount = &on.daemon.inspect("user")["Mounts"][0];
    let source = mount["Source"].as_str().expect("a source");
    assert!(source.ends_with("/volumes/data/_data"), "{mount}");
    for (key, value) in [
        ("Type", "volume"),
        ("Name", "data"),
        ("Driver", "local"),
        ("Destination", "/data"),
        ("Mode", "z"),
        ("Propagation", ""),
    ] {
        assert_eq!(mount[key], value, "{mount}");
    }
    assert_eq!(mount["RW"], true);
    assert_eq!(told(on, "ps -q -f volume=data").len(), 12);
    assert_eq!(
        told(on, "ps --format '{{.Mounts}} {{.LocalVolumes}}'"),
        "data 1"
    );
    assert_eq!(told(on, "volume ls -q -f dangling=true"), "");
    on.cli("rm -f -v user").ok();
    // It has a name, so it stays.
    assert_eq!(told(on, "volume ls -q -f dangling=true"), "data");
    on.cli("volume rm data").ok();
}

pub(crate) fn anonymous_volumes_go_with_their_container(on: &Subject) {
    let count = || told(on, "volume ls -q").lines().count();
    on.run("--rm -v /data busybox touch /data/file").ok();
    assert_eq!(count(), 0);
    on.cli("create --name kept -v /data -v named:/named busybox true")
        .ok();
    assert_eq!(count(), 2);
    let mounts = on.daemon.inspect("kept");
    let name = mounts["Mounts"]
        .as_array()
        .and_then(|m| m.iter().find(|m| m["Destination"] == "/data"))
        .and_then(|m| m["Name"].as_str())
        .expect("a volume at /data")
        .to_owned();
    assert_eq!(name.len(), 64);
    // Another container holds it: then it does not go with the first.
    on.cli("create --name other --volumes-from kept:ro busybox true")
        .ok();
    on.cli("rm -v kept").ok();
    assert_eq!(
        told(on, &format!("volume inspect -f '{{{{.Name}}}}' {name}")),
        name
    );
    let other = on.daemon.inspect("other");
    assert!(
        other["Mounts"]
            .as_array()
            .is_some_and(|m| m.len() == 2 && m.iter().all(|m| m["RW"] == false)),
        "{other}"
    );
    on.cli("rm -v other").ok();
    assert_eq!(told(on, "volume ls -q"), "named");
    // Without -v it stays.
    on.cli("create --name kept -v /data busybox true").ok();
    on.cli("rm kept").ok();
    assert_eq!(count(), 2);
    on.cli("create --volumes-from nosuch busybox true")
        .exits(1)
        .says("No such container");
}

pub(crate) fn empty_volumes_get_what_the_image_has(on: &Subject) {
    filled(on);
    let look = "sh -c 'stat -c \"%n %a\" /filled/. /filled/script; readlink /filled/link; stat -c %h /filled/script'";
    // The packaged reference loses set-id bits of files.
    let mode = if on.is_reference() { "755" } else { "4755" };
    let wanted = format!("/filled/. 2750\n/filled/script {mode}\nscript\n2");
    // The mount point is a link in the image: it leads to /real there, never anywhere on the host.
    for flags in [
        "-v /filled",
        "-v copied:/filled",
        "--mount type=volume,dst=/filled",
    ] {
        let shown = on.run(&format!("--rm {flags} filled:1 {look}"));
        let shown = shown.ok();
        assert_eq!(shown.text(), wanted, "{flags}");
    }
    // Once, and only into what is empty.
    on.run("--rm -v copied:/copied busybox rm /copied/script")
        .ok();
    on.run("--rm -v copied:/filled filled:1 ls /filled/script")
        .exits(1);
    on.run("--rm -v empty:/filled:nocopy filled:1 sh -c 'ls -A /filled | wc -l'")
        .ok()
        .prints("0");
    on.cli("create --name declared filled:1 true").ok();
    assert_eq!(
        on.daemon.inspect("declared")["Mounts"][0]["Destination"],
        "/declared"
    );
    on.cli("rm -v declared").ok();
    on.cli("create -v /file filled:1 true")
        .exits(1)
        .says("cannot mount volume over existing file");
    on.cli("volume rm copied empty").ok();
    assert_eq!(told(on, "volume ls -q"), "");
}

pub(crate) fn local_volumes_take_mount_options(on: &Subject) {
    on.cli("volume create -o type=tmpfs -o device=tmpfs -o o=size=1m,uid=7 memory")
        .ok();
    let line = "volume inspect -f '{{.Options.type}} {{.Options.o}}' memory";
    assert_eq!(told(on, line), "tmpfs size=1m,uid=7");
    on.sleeper("one", "-v memory:/m");
    on.cli("exec one sh -c 'mount | grep \" /m \"; stat -c %u /m; echo shared >/m/file'")
        .ok()
        .prints("size=1024k")
        .prints("7");
    // Two containers have the same.
    on.run("--rm -v memory:/m busybox cat /m/file")
        .ok()
        .prints("shared");
    on.cli("rm -f one").ok();
    on.run("--rm -v memory:/m busybox cat /m/file").exits(1);
    let directory = on.daemon.scratch().path().join("device");
    fs::create_dir(&directory).expect("a directory");
    fs::write(directory.join("file"), "of the host\n").expect("a file");
    let device = directory.display();
    on.cli(&format!(
        "volume create -o type=none -o o=bind -o device={device} bound"
    ))
    .ok();
    on.run("--rm -v bound:/b busybox sh -c 'cat /b/file; echo new >/b/new'")
        .ok()
        .prints("of the host");
    assert!(directory.join("new").is_file());
    on.cli(&format!(
        "volume create -o type=none -o o=bind -o device={device}/nosuch missing"
    ))
    .ok();
    on.run("--rm -v missing:/b busybox true")
        .exits(127)
        .says("no such file or directory");
    on.run("--rm --mount type=volume,src=by-mount,dst=/m,volume-opt=type=tmpfs,volume-opt=device=tmpfs,volume-label=a=b busybox true")
        .ok();
    assert_eq!(
        told(
            on,
            "volume inspect -f '{{.Options.type}} {{.Labels.a}}' by-mount"
        ),
        "tmpfs b"
    );
    on.cli("volume rm memory bound missing by-mount").ok();
    assert!(
        directory.join("file").is_file(),
        "what was bound is not the volume's"
    );
}

pub(crate) fn unused_volumes_are_pruned(on: &Subject) {
    on.cli("volume create --label keep=1 one").ok();
    on.cli("volume create two").ok();
    on.cli("create --name user -v used:/u -v /anonymous busybox true")
        .ok();
    // Named ones go with --all since API 1.42; the packaged engine is older, and means all.
    let prune = if on.is_reference() {
        "volume prune -f"
    } else {
        "volume prune -a -f"
    };
    on.cli(&format!("{prune} --filter label!=keep=1"))
        .ok()
        .prints("two")
        .prints("Total reclaimed space");
    assert_eq!(told(on, "volume ls -q -f name=one"), "one");
    on.cli("rm user").ok();
    on.cli(prune).ok();
    assert_eq!(told(on, "volume ls -q"), "");
}

pub(crate) fn volume_events_are_told(on: &Subject) {
    on.cli("volume create seen").ok();
    on.run("--rm -v seen:/s busybox true").ok();
    on.cli("volume rm seen").ok();
    let mut seen = String::new();
    wait::until("all events", || {
        let line = "events --since 0 --until 0s -f volume=seen --format '{{.Action}}'";
        seen = on.cli(line).ok().stdout;
        seen.contains("destroy")
    });
    let mut actions: Vec<&str> = seen.lines().collect();
    // The packaged reference tells of a creation whenever a volume is asked for.
    actions.dedup();
    assert_eq!(actions, ["create", "mount", "unmount", "destroy"]);
}

pub(crate) fn local_volumes_show_block_devices(on: &Subject) {
    let file = on.daemon.scratch().path().join("blocks");
    disk::ext4(&file, 16 << 20);
    let device = LoopDevice::of(&file);
    let path = device.path().display();
    on.cli(&format!(
        "volume create -o type=ext4 -o device={path} -o o=noatime blocks"
    ))
    .ok();
    let directory = told(on, "volume inspect -f '{{.Mountpoint}}' blocks");
    let mounted = || mounted_at(&directory);
    on.sleeper("one", "-v blocks:/b");
    on.cli("exec one sh -c 'mount | grep \" /b \"; echo kept >/b/file; ls /b'")
        .ok()
        .prints("noatime")
        .prints("lost+found");
    assert!(mounted());
    // Two containers have the same, and it goes with the last.
    on.run("--rm -v blocks:/b busybox cat /b/file")
        .ok()
        .prints("kept");
    assert!(mounted());
    on.cli("rm -f one").ok();
    wait::until("it is unmounted", || !mounted());
    // What cannot be written to, cannot be written to.
    on.cli(&format!(
        "volume create -o type=ext4 -o device={path} -o o=ro reading"
    ))
    .ok();
    on.run("--rm -v reading:/b busybox sh -c 'cat /b/file; touch /b/new'")
        .exits(1)
        .prints("kept")
        .says("Read-only file system");
    // The content is the device's, not the volume's.
    on.cli("volume rm blocks reading").ok();
    on.cli(&format!(
        "volume create -o type=ext4 -o device={path} again"
    ))
    .ok();
    on.run("--rm -v again:/b busybox cat /b/file")
        .ok()
        .prints("kept");
    on.cli("volume rm again").ok();

    // A copy into what does not run mounts it for as long as that takes.
    on.cli(&format!(
        "volume create -o type=ext4 -o device={path} copied"
    ))
    .ok();
    on.cli("create --name still -v copied:/b busybox cat /b/sent")
        .ok();
    let sent = on.daemon.scratch().write("sent", "by a copy\n");
    on.cli(&format!("cp {} still:/b/sent", sent.display())).ok();
    wait::until("it is unmounted again", || {
        !mounted_at(&told(on, "volume inspect -f '{{.Mountpoint}}' copied"))
    });
    on.cli("start -a still").ok().prints("by a copy");
    on.cli("rm still").ok();
    on.cli("volume rm copied").ok();

    // Why one cannot be mounted is said, and nothing is left of the attempt.
    for (name, options, words) in [
        (
            "none",
            "-o type=ext4 -o device=/dev/no-such".to_owned(),
            "no such file or directory",
        ),
        (
            "other",
            format!("-o type=xfs -o device={path}"),
            "failed to mount local volume",
        ),
        (
            "server",
            "-o type=nfs -o device=:/x -o o=addr=no-such.invalid".to_owned(),
            "no-such.invalid",
        ),
    ] {
        on.cli(&format!("volume create {options} {name}")).ok();
        let refused = on.run(&format!("--rm -v {name}:/b busybox true"));
        assert!(matches!(refused.code(), 125 | 127), "{refused}");
        refused.says(words);
        assert!(!mounted_at(&told(
            on,
            &format!("volume inspect -f '{{{{.Mountpoint}}}}' {name}")
        )));
        on.cli(&format!("volume rm {name}")).ok();
    }
}

fn mounted_at(directory: &str) -> bool {
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("mounts");
    mounts.contains(&format!(" {directory} "))
}
