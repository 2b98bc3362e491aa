//! What volumes can beyond Docker's, and what a crash of the daemon leaves of them.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown, symlink};
use std::path::PathBuf;

use berth_testkit::archive::Layer;
use berth_testkit::scratch::Scratch;
use berth_testkit::{Daemon, Engine, Settings, images, wait};
use serde_json::json;

fn told(daemon: &Daemon, line: &str) -> String {
    daemon.berth(line).ok().text().to_owned()
}

fn directory_of(daemon: &Daemon, volume: &str) -> PathBuf {
    PathBuf::from(told(
        daemon,
        &format!("volume inspect -f '{{{{.Mountpoint}}}}' {volume}"),
    ))
}

#[test]
fn volumes_are_copied_renamed_and_kept() {
    let daemon = Daemon::start();
    daemon
        .berth("run --rm --network none -v data:/d busybox sh -c 'echo one >/d/file; ln /d/file /d/link; chmod 4750 /d/file'")
        .ok();
    // A copy is a volume of its own.
    assert_eq!(told(&daemon, "volume clone --label a=b data copy"), "copy");
    daemon
        .berth("run --rm --network none -v copy:/d busybox sh -c 'stat -c \"%a %h\" /d/file; echo two >/d/file'")
        .ok()
        .prints("4750 2");
    let read = |volume: &str| {
        fs::read_to_string(directory_of(&daemon, volume).join("file")).expect("the file")
    };
    assert_eq!(
        (read("data"), read("copy")),
        ("one\n".into(), "two\n".into())
    );
    let line = "volume inspect -f '{{.Labels.a}} {{.Status.Origin}}' copy";
    assert_eq!(told(&daemon, line), "b data");
    // A snapshot can only be read, whatever is asked.
    let kept = told(&daemon, "volume snapshot data");
    assert!(kept.starts_with("data-20"), "{kept}");
    daemon
        .berth(&format!(
            "run --rm --network none -v {kept}:/d busybox touch /d/new"
        ))
        .exits(1)
        .says("Read-only file system");
    daemon
        .berth("volume clone data copy")
        .exits(1)
        .says("there is a volume of this name");
    daemon
        .berth("volume clone nosuch x1")
        .exits(1)
        .says("no such volume");
    // Who could write is refused, frozen, or accepted as asked.
    daemon
        .berth("run -d --network none --name writer -v data:/d busybox sleep 1000")
        .ok();
    daemon.wait_for("writer", "running");
    daemon
        .berth("volume clone data second")
        .exits(1)
        .says("running containers can write to the volume");
    daemon
        .berth("volume rename data third")
        .exits(1)
        .says("in use");
    assert_eq!(told(&daemon, "volume clone --live data second"), "second");
    assert_eq!(told(&daemon, "volume snapshot --pause data third"), "third");
    assert_eq!(daemon.status("writer"), "running");
    daemon.berth("pause writer").ok();
    daemon.berth("volume clone data fourth").ok();
    assert_eq!(daemon.status("writer"), "paused");
    daemon.berth("rm -f writer").ok();
    daemon.berth("volume rename data moved").ok();
    daemon
        .berth("volume inspect data")
        .exits(1)
        .says("no such volume");
    assert_eq!(read("moved"), "one\n");
    daemon.berth("volume rename moved copy").exits(1);
    daemon.berth("volume prune -a -f").ok();
    assert_eq!(told(&daemon, "volume ls -q"), "");
    daemon.assert_clean();
}

#[test]
fn volumes_travel_as_archives() {
    let daemon = Daemon::start();
    daemon
        .berth("run --rm --network none -v data:/d busybox sh -c 'echo one >/d/file; ln /d/file /d/link; mkdir -m 2750 /d/inner; chown 7:8 /d/inner; chmod 751 /d'")
        .ok();
    let file = daemon.scratch().path().join("data.tar");
    let path = file.display();
    daemon.berth(&format!("volume export -o {path} data")).ok();
    assert_eq!(
        told(&daemon, &format!("volume import --label a=b again {path}")),
        "again"
    );
    let look = "run --rm --network none -v again:/d busybox stat -c '%n %a %u:%g %h' /d/. /d/file /d/inner";
    daemon
        .berth(look)
        .ok()
        .prints("/d/. 751 0:0")
        .prints("/d/file 644 0:0 2")
        .prints("/d/inner 2750 7:8");
    daemon
        .berth(&format!("volume import again {path}"))
        .exits(1)
        .says("there is a volume of this name");
    // What is cut off, or asks for a place outside, makes no volume.
    let whole = fs::read(&file).expect("the archive");
    fs::write(&file, &whole[..700]).expect("a part of it");
    let hostile = Layer::new().file("../outside", 0o644, "x").finish();
    let outside = daemon.scratch().path().join("hostile.tar");
    fs::write(&outside, hostile).expect("an archive");
    for archive in [&file, &outside] {
        daemon
            .berth(&format!("volume import third {}", archive.display()))
            .exits(1);
        daemon.berth("volume inspect third").exits(1);
    }
    daemon
        .berth("run -d --network none --name writer -v data:/d busybox sleep 1000")
        .ok();
    daemon.wait_for("writer", "running");
    daemon
        .berth(&format!("volume export -o {path} data"))
        .exits(1)
        .says("running containers can write to the volume");
    daemon
        .berth(&format!("volume export --live -o {path} data"))
        .ok();
    daemon.assert_clean();
}

#[test]
fn parts_of_volumes_do_not_lead_out() {
    let daemon = Daemon::start();
    daemon
        .berth("run --rm --network none -v data:/d busybox sh -c 'mkdir -p /d/a/b; echo inner >/d/a/b/file'")
        .ok();
    let mount = "type=volume,src=data,dst=/m,volume-subpath=";
    let run = |subpath: &str, command: &str| {
        daemon.berth(&format!(
            "run --rm --network none --mount {mount}{subpath} busybox {command}"
        ))
    };
    run("a/b", "cat /m/file").ok().prints("inner");
    run("a/b/file", "cat /m").ok().prints("inner");
    run("a/nosuch", "true")
        .exits(127)
        .says("cannot access path");
    run("../..", "true")
        .exits(125)
        .says("relative path within the volume");
    // What a container put there is followed with the volume as root.
    let root = directory_of(&daemon, "data");
    symlink("/", root.join("root")).expect("a link");
    symlink("../../../../../../etc", root.join("up")).expect("a link");
    run("root", "ls /m").ok().prints("up");
    run("up", "true").exits(127).says("cannot access path");
    daemon.assert_clean();
}

#[test]
fn files_belong_to_the_caller_where_that_is_asked() {
    let daemon = Daemon::start();
    let host = daemon.scratch().path().join("work");
    fs::create_dir(&host).expect("a directory");
    chown(&host, Some(1234), Some(2345)).expect("its owner");
    fs::write(host.join("old"), "old\n").expect("a file");
    chown(host.join("old"), Some(1234), Some(2345)).expect("its owner");
    fs::write(host.join("roots"), "root's\n").expect("a file");
    let path = host.display();
    let owner = |name: &str| {
        let facts = fs::metadata(host.join(name)).expect("a file");
        (facts.uid(), facts.gid())
    };
    // As root in the container, and as somebody else; both see the caller's files as theirs.
    for (user, name) in [("0:0", "one"), ("77:88", "two")] {
        daemon
            .berth(&format!(
                "run --rm --network none -u {user} --mount type=bind,src={path},dst=/w,owner=1234:2345 busybox \
                 sh -c 'stat -c %u:%g /w/old; echo new >/w/{name}; echo more >>/w/old'"
            ))
            .ok()
            .prints(user);
        assert_eq!(owner(name), (1234, 2345), "as {user}");
    }
    // The host's root owns nothing there that a container's root could change.
    daemon
        .berth(&format!(
            "run --rm --network none --mount type=bind,src={path},dst=/w,owner=1234:2345 busybox sh -c 'echo x >>/w/roots'"
        ))
        .exits(1);
    // The caller is who calls; with sudo, who called that.
    let line = format!("run --rm --network none -v {path}:/w:owner=caller busybox touch /w/three");
    daemon
        .command(berth_testkit::Client::Berth, &line)
        .env("SUDO_UID", "1234")
        .env("SUDO_GID", "2345")
        .run()
        .ok();
    assert_eq!(owner("three"), (1234, 2345));
    daemon
        .berth(&format!(
            "run --rm --network none -v {path}:/w:owner=caller busybox touch /w/four"
        ))
        .ok();
    assert_eq!(owner("four"), (0, 0));
    daemon
        .berth("run --rm --network none --mount type=bind,src=/proc,dst=/w,owner=1:1 busybox true")
        .exits(125)
        .says("map the owners of files");
    daemon.assert_clean();
}

#[test]
fn a_crash_leaves_no_mount_and_keeps_what_runs() {
    let mut daemon = Daemon::start();
    daemon
        .berth("volume create -o type=tmpfs -o device=tmpfs memory")
        .ok();
    daemon
        .berth("run -d --network none --name one -v memory:/m -v plain:/p busybox sh -c 'echo here >/m/file; sleep 1000'")
        .ok();
    daemon.wait_for("one", "running");
    let mount = directory_of(&daemon, "memory");
    let mounted = || {
        fs::read_to_string("/proc/self/mountinfo")
            .expect("mounts")
            .contains(&format!(" {} ", mount.display()))
    };
    assert!(mounted());
    daemon.crash_and_restart();
    // The same memory for one that comes after.
    berth_testkit::wait::until("the file is there", || {
        daemon
            .berth("run --rm --network none -v memory:/m busybox cat /m/file")
            .stdout
            .contains("here")
    });
    assert!(mounted());
    daemon.berth("volume rm memory").exits(1).says("in use");
    // It ends while nobody looks.
    let pid = daemon.container_pid("one");
    daemon.kill();
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(pid).expect("a process"),
        rustix::process::Signal::KILL,
    )
    .expect("ended");
    daemon.launch();
    daemon.wait_for("one", "exited");
    berth_testkit::wait::until("nothing is mounted", || !mounted());
    daemon.berth("rm -v one").ok();
    daemon.berth("volume rm memory plain").ok();
    daemon.assert_clean();
}

#[test]
fn the_image_cannot_lead_a_copy_out_of_itself() {
    let daemon = Daemon::start();
    let secret = daemon.scratch().path().join("secret");
    fs::create_dir(&secret).expect("a directory");
    fs::write(secret.join("file"), "of the host\n").expect("a file");
    let outside = secret.display().to_string();
    let layer = Layer::new()
        .symlink("absolute", "/proc/self/root")
        .symlink("climbing", "../../../../../../../../../etc/berth-nosuch")
        .symlink("loop", "loop")
        .directory("held", 0o755)
        .symlink("held/link", "/etc/shadow")
        .finish();
    let mut image = images::busybox().expect("busybox");
    image.layers.push(layer);
    "hostile:1".clone_into(&mut image.name);
    image.config["Volumes"] = json!({"/held": {}});
    daemon.load(&image);
    for target in ["/absolute", "/climbing", "/loop", &outside] {
        let created = daemon.berth(&format!(
            "create --network none -v v:{target} hostile:1 true"
        ));
        if created.code() == 0 {
            let content = fs::read_dir(directory_of(&daemon, "v")).expect("the volume");
            assert_eq!(content.count(), 0, "{target}");
        }
        daemon.remove_all();
        daemon.berth("volume rm -f v").ok();
    }
    // A link is copied as a link.
    let id = told(&daemon, "create --network none hostile:1 true");
    let volume = daemon.inspect(&id)["Mounts"][0]["Name"]
        .as_str()
        .expect("a name")
        .to_owned();
    let link = directory_of(&daemon, &volume).join("link");
    assert_eq!(
        fs::read_link(link).expect("a link"),
        PathBuf::from("/etc/shadow")
    );
    daemon.berth(&format!("rm -v {id}")).ok();
    daemon.assert_clean();
}

#[test]
fn what_a_server_does_not_give_is_said_without_passwords() {
    let daemon = Daemon::start();
    for (name, options) in [
        (
            "smb",
            "-o type=cifs -o device=//127.0.0.1/share -o o=username=me,password=hidden",
        ),
        ("nfs", "-o type=nfs -o device=127.0.0.1:/export"),
    ] {
        daemon
            .berth(&format!("volume create {options} {name}"))
            .ok();
        let refused = daemon
            .berth(&format!(
                "run --rm --network none -v {name}:/v busybox true"
            ))
            .exits(125)
            .says("failed to mount local volume: mount ");
        assert!(!refused.stderr.contains("hidden"), "{refused}");
        let mount = directory_of(&daemon, name);
        let mounts = fs::read_to_string("/proc/self/mountinfo").expect("mounts");
        assert!(!mounts.contains(&format!(" {} ", mount.display())));
        daemon.berth(&format!("volume rm {name}")).ok();
    }
    // As later versions of Docker refuse it.
    daemon
        .berth("volume create -o type=cifs -o device=//127.0.0.1:445/share port")
        .exits(1)
        .says("port not allowed in CIFS device URL");
    daemon.assert_clean();
}

#[test]
fn nothing_is_copied_into_what_can_only_be_read() {
    let daemon = Daemon::start();
    let host = daemon.scratch().path().join("host");
    fs::create_dir(&host).expect("a directory");
    let content = || fs::read_dir(&host).expect("the directory").count();
    let device = host.display();
    daemon
        .berth(&format!(
            "volume create -o type=none -o o=bind,ro -o device={device} reading"
        ))
        .ok();
    // The image's programs are behind the volume.
    daemon
        .berth("run --rm --network none -v reading:/bin busybox true")
        .exits(127);
    assert_eq!(content(), 0);
    daemon
        .berth(&format!(
            "volume create -o type=none -o o=bind -o device={device} writing"
        ))
        .ok();
    daemon
        .berth("run --rm --network none -v writing:/bin busybox true")
        .ok();
    assert!(content() > 0);
    daemon.assert_clean();
}

#[test]
fn volumes_are_unmounted_also_where_the_data_root_is_a_link() {
    let scratch = Scratch::new();
    let (real, link) = (scratch.path().join("real"), scratch.path().join("link"));
    fs::create_dir(&real).expect("a data root");
    symlink(&real, &link).expect("a link to it");
    let daemon = Daemon::with(
        Engine::Berth,
        Settings {
            arguments: vec!["--data-root".to_owned(), link.display().to_string()],
            ..Settings::default()
        },
    );
    told(
        &daemon,
        "volume create -o type=tmpfs -o device=tmpfs memory",
    );
    let place = directory_of(&daemon, "memory");
    assert!(place.starts_with(&real), "{}", place.display());
    let mounted = || {
        let table = fs::read_to_string("/proc/self/mountinfo").expect("what is mounted");
        let place = format!(" {} ", place.display());
        table.lines().filter(|line| line.contains(&place)).count()
    };
    daemon
        .berth("run -d --name one --network none -v memory:/m busybox sleep 1000")
        .ok();
    daemon
        .berth("run -d --name two --network none -v memory:/m busybox sleep 1000")
        .ok();
    assert_eq!(mounted(), 1);
    daemon.berth("rm -f one two").ok();
    wait::until("the volume is unmounted", || mounted() == 0);
}
