//! Volumes that a server keeps, by the clients of the kernel: NFS and SMB. Servers are on the daemon's own loopback.
//!
//! A kernel without these clients is said, and nothing of this shown.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};

use berth_testkit::archive::Layer;
use berth_testkit::nfs_server::NfsServer;
use berth_testkit::smb_server::SmbServer;
use berth_testkit::{Client, Daemon, Engine, Settings, images, needs, wait};

const RUN: &str = "run --rm --network none";

/// A daemon with an NFS server beside it that serves a directory.
struct Site {
    server: NfsServer,
    share: PathBuf,
    daemon: Daemon,
}

impl Site {
    /// `None` where the kernel has no NFS.
    fn new() -> Option<Self> {
        if !needs::file_system("nfs") || !needs::file_system("nfsd") {
            return None;
        }
        let daemon = daemon();
        let mut server = NfsServer::start(&daemon.network().host());
        let share = daemon.scratch().path().join("share");
        fs::create_dir(&share).expect("a directory");
        server.export(&share, "rw,no_root_squash");
        Some(Self {
            server,
            share,
            daemon,
        })
    }

    /// Makes a volume of the share, or of a path beneath it, with further options.
    fn volume(&self, name: &str, beneath: &str, more: &str) {
        let share = self.share.display();
        self.daemon
            .berth(&format!(
                "volume create -d local -o type=nfs -o device=127.0.0.1:{share}{beneath} -o o=nfsvers=4,{more} {name}"
            ))
            .ok();
    }
}

fn daemon() -> Daemon {
    Daemon::with(
        Engine::Berth,
        Settings {
            network: true,
            arguments: vec!["--log-level=debug".to_owned()],
            ..Settings::default()
        },
    )
}

/// How often a file system of this kind is mounted beneath the daemon's directories.
fn mounts(daemon: &Daemon, kind: &str) -> usize {
    let beneath = format!("{}/", daemon.data_root().display());
    fs::read_to_string("/proc/self/mountinfo")
        .expect("mounts")
        .lines()
        .filter(|line| {
            let point = line.split(' ').nth(4).unwrap_or_default();
            point.starts_with(&beneath) && line.contains(&format!(" - {kind}"))
        })
        .count()
}

/// Waits until no file system of this kind is mounted: a container is cleared away after its end is told.
#[track_caller]
fn unmounted(daemon: &Daemon, kind: &str) {
    wait::until("nothing is mounted", || mounts(daemon, kind) == 0);
}

fn told(daemon: &Daemon, line: &str) -> String {
    daemon.berth(line).ok().text().to_owned()
}

fn content(path: impl AsRef<Path>) -> String {
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.as_ref().display()))
}

#[test]
fn nfs_is_mounted_however_the_server_is_named() {
    let Some(Site {
        server,
        share,
        daemon,
    }) = Site::new()
    else {
        return;
    };
    let path = share.display();
    for (name, options) in [
        (
            "address",
            format!("-o type=nfs -o o=addr=127.0.0.1,rw,nfsvers=4 -o device=:{path}"),
        ),
        (
            "name",
            format!("-o type=nfs -o o=addr=localhost,rw,nfsvers=4 -o device=:{path}"),
        ),
        (
            "device",
            format!(
                "-o type=nfs -o o=nfsvers=4.2,soft,timeo=100,retrans=2 -o device=127.0.0.1:{path}"
            ),
        ),
        (
            "device-name",
            format!("-o type=nfs -o o=rw,nfsvers=4 -o device=localhost:{path}"),
        ),
        (
            "version",
            format!("-o type=nfs4 -o device=localhost:{path}"),
        ),
    ] {
        daemon
            .berth(&format!("volume create --driver local {options} {name}"))
            .ok();
        assert_eq!(mounts(&daemon, "nfs"), 0, "{name}: nobody uses it yet");
        daemon
            .berth(&format!("{RUN} -v {name}:/v busybox sh -c 'echo {name} >/v/{name}; grep -c \" /v nfs4 rw\" /proc/mounts'"))
            .ok()
            .prints("1");
        assert_eq!(content(share.join(name)).trim(), name);
        unmounted(&daemon, "nfs");
        assert_eq!(told(&daemon, &format!("volume rm {name}")), name);
        // The server's files are not the volume's.
        assert!(share.join(name).is_file());
    }
    let by_mount = format!(
        "{RUN} --mount 'type=volume,src=made,dst=/v,volume-driver=local,volume-opt=type=nfs,volume-opt=device=:{path},\"volume-opt=o=addr=127.0.0.1,rw,nfsvers=4\"' busybox cat /v/name"
    );
    daemon.berth(&by_mount).ok().prints("name");
    let options = "volume inspect -f '{{.Options.o}} {{.Options.type}}' made";
    assert_eq!(told(&daemon, options), "addr=127.0.0.1,rw,nfsvers=4 nfs");
    // One without a name goes with its container.
    daemon
        .berth(&by_mount.replace("src=made,", ""))
        .ok()
        .prints("name");
    wait::until("it is gone", || told(&daemon, "volume ls -q") == "made");
    daemon.assert_clean();
    drop(server);
}

#[test]
fn nfs_is_read_only_where_that_is_asked_and_parts_of_it_are_mounted() {
    let Some(site) = Site::new() else {
        return;
    };
    let (daemon, share) = (&site.daemon, &site.share);
    fs::create_dir_all(share.join("a/b")).expect("directories");
    fs::write(share.join("a/b/file"), "inner\n").expect("a file");
    std::os::unix::fs::symlink("/etc", share.join("out")).expect("a link");
    site.volume("reading", "", "ro");
    site.volume("writing", "", "rw");
    for volume in ["reading:/v", "writing:/v:ro"] {
        daemon
            .berth(&format!(
                "{RUN} -v {volume} busybox sh -c 'cat /v/a/b/file; echo x >/v/new'"
            ))
            .exits(1)
            .prints("inner")
            .says("Read-only file system");
    }
    // An empty one that can only be read gets nothing of the image's, and is no failure.
    fs::create_dir(share.join("empty")).expect("a directory");
    site.volume("empty", "/empty", "ro");
    daemon
        .berth(&format!("{RUN} -v empty:/bin busybox true"))
        .exits(127);
    let part = |subpath: &str| {
        format!("{RUN} --mount type=volume,src=writing,dst=/v,volume-subpath={subpath} busybox")
    };
    daemon
        .berth(&format!(
            "{} sh -c 'cat /v/file; echo new >/v/new'",
            part("a/b")
        ))
        .ok()
        .prints("inner");
    assert_eq!(content(share.join("a/b/new")), "new\n");
    daemon
        .berth(&format!("{} cat /v", part("a/b/file")))
        .ok()
        .prints("inner");
    for nowhere in ["nosuch", "out"] {
        daemon
            .berth(&format!("{} true", part(nowhere)))
            .exits(127)
            .says("cannot access path");
    }
    unmounted(daemon, "nfs");
    // Files are reached and copied without a run.
    daemon
        .berth("create --name idle --network none -v writing:/v busybox true")
        .ok();
    let out = daemon.scratch().path().join("out");
    daemon
        .berth(&format!("cp idle:/v/a/b/file {}", out.display()))
        .ok();
    assert_eq!(content(&out), "inner\n");
    daemon.berth("rm idle").ok();
    daemon.berth("volume clone writing copied").ok();
    daemon
        .berth(&format!("{RUN} -v copied:/v busybox cat /v/a/b/new"))
        .ok()
        .prints("new");
    daemon.assert_clean();
}

#[test]
fn an_empty_share_gets_what_the_image_has() {
    let Some(mut site) = Site::new() else {
        return;
    };
    let layer = Layer::new()
        .directory("data", 0o751)
        .file("data/one", 0o4750, "one\n")
        .hard_link("data/two", "data/one")
        .directory("data/inner", 0o2770)
        .symlink("data/inner/link", "../one")
        .owner(7, 8)
        .file("data/owned", 0o640, "owned\n")
        .finish();
    let mut image = images::busybox().expect("busybox");
    image.layers.push(layer);
    "filled:1".clone_into(&mut image.name);
    site.daemon.load(&image);
    site.volume("fills", "", "rw");
    // At create, as Docker does; nothing stays mounted for a container that does not run.
    site.daemon.berth("create --name first --network none -v fills:/data filled:1 stat -c '%n %a %u:%g %h' /data /data/one /data/inner /data/owned").ok();
    let facts = |name: &str| {
        let facts = fs::symlink_metadata(site.share.join(name)).expect("copied");
        (
            facts.mode() & 0o7777,
            facts.uid(),
            facts.gid(),
            facts.nlink(),
        )
    };
    assert_eq!(facts("one"), (0o4750, 0, 0, 2));
    assert_eq!(facts("owned"), (0o640, 7, 8, 1));
    assert_eq!(
        fs::read_link(site.share.join("inner/link")).expect("a link"),
        Path::new("../one")
    );
    assert_eq!(mounts(&site.daemon, "nfs"), 0);
    site.daemon
        .berth("start -a first")
        .ok()
        .prints("/data 751 0:0")
        .prints("/data/one 4750 0:0 2")
        .prints("/data/inner 2770")
        .prints("/data/owned 640 7:8");
    site.daemon.berth("rm first").ok();
    // What is there already stays as it is.
    fs::remove_file(site.share.join("one")).expect("removed");
    site.daemon
        .berth(&format!("{RUN} -v fills:/data filled:1 ls -A /data"))
        .ok();
    assert!(!site.share.join("one").exists());
    let fresh = |name: &str| {
        let path = site.daemon.scratch().path().join(name);
        fs::create_dir(&path).expect("a directory");
        path
    };
    let (left, squashed) = (fresh("left"), fresh("squashed"));
    chown(&squashed, Some(65534), Some(65534)).expect("nobody's");
    site.server.export(&left, "rw,no_root_squash");
    site.server.export(&squashed, "rw,root_squash");
    let create = |name: &str, path: &Path| {
        let line = format!(
            "volume create -o type=nfs4 -o device=127.0.0.1:{} {name}",
            path.display()
        );
        site.daemon.berth(&line).ok();
    };
    create("left", &left);
    create("squashed", &squashed);
    site.daemon
        .berth(&format!("{RUN} -v left:/data:nocopy filled:1 ls -A /data"))
        .ok();
    assert_eq!(fs::read_dir(&left).expect("a directory").count(), 0);
    // A server that does not let root give files away: what cannot be copied whole is not copied, and that is said.
    site.daemon
        .berth(&format!("{RUN} -v squashed:/data filled:1 true"))
        .exits(125)
        .says("operation not permitted");
    assert_eq!(fs::read_dir(&squashed).expect("a directory").count(), 0);
    site.daemon
        .berth(&format!(
            "{RUN} -v squashed:/data:nocopy filled:1 touch /data/new"
        ))
        .ok();
    unmounted(&site.daemon, "nfs");
    site.daemon.berth("volume rm fills left squashed").ok();
    site.daemon.assert_clean();
}

#[test]
fn containers_share_one_mount_until_the_last_ends() {
    let Some(mut site) = Site::new() else {
        return;
    };
    site.volume("shared", "", "rw");
    let run = |daemon: &Daemon, name: &str| {
        daemon
            .berth(&format!("run -d --network none --name {name} -v shared:/v busybox sh -c 'echo {name} >>/v/log; sleep 1000'"))
            .ok();
    };
    run(&site.daemon, "one");
    run(&site.daemon, "two");
    wait::until("both have written", || {
        fs::read_to_string(site.share.join("log")).is_ok_and(|log| log.lines().count() == 2)
    });
    assert_eq!(mounts(&site.daemon, "nfs"), 1);
    site.daemon
        .berth("volume rm shared")
        .exits(1)
        .says("in use");
    site.daemon
        .berth("exec two sh -c 'echo again >>/v/log'")
        .ok();
    site.daemon
        .berth("exec one tail -n 1 /v/log")
        .ok()
        .prints("again");
    site.daemon.berth("rm -f one").ok();
    assert_eq!(mounts(&site.daemon, "nfs"), 1);
    // The next engine takes the mount up.
    site.daemon.crash_and_restart();
    site.daemon.wait_for("two", "running");
    run(&site.daemon, "three");
    assert_eq!(mounts(&site.daemon, "nfs"), 1);
    site.daemon.berth("rm -f two").ok();
    site.daemon.berth("exec three grep -c . /v/log").ok();
    site.daemon.berth("stop -t 0 three").ok();
    unmounted(&site.daemon, "nfs");
    site.daemon.berth("rm three").ok();
    site.daemon.berth("volume rm shared").ok();
    site.daemon.assert_clean();
}

#[test]
fn what_an_nfs_server_refuses_is_said_and_leaves_no_mount() {
    let Some(site) = Site::new() else {
        return;
    };
    let daemon = &site.daemon;
    site.volume("wrong", "/nosuch", "rw");
    site.volume("word", "", "rw,nosuchoption");
    site.volume("version", "", "rw,nfsvers=9");
    daemon
        .berth("volume create -o type=nfs -o device=:/x -o o=addr=no-such.invalid,nfsvers=4 server")
        .ok();
    daemon
        .berth("volume create -o type=nfs -o device=:/x -o o=nfsvers=4 nobody")
        .ok();
    daemon
        .berth("volume create -o type=nfs -o device=127.0.0.1:/x -o o=nfsvers=4,port=9,soft port")
        .ok();
    // The client takes "no such file" for a program that is not there, as Docker's does.
    for (name, code, says) in [
        ("wrong", 127, "no such file or directory"),
        ("word", 125, "invalid argument"),
        ("version", 125, "invalid argument"),
        ("server", 125, "no-such.invalid"),
        ("nobody", 125, "invalid argument"),
        ("port", 125, "connection refused"),
    ] {
        // The image has something at one, so that it is to be filled at create; at the other the start mounts.
        for target in ["/bin", "/v"] {
            daemon
                .berth(&format!("{RUN} -v {name}:{target} busybox true"))
                .exits(code)
                .says(says);
            assert_eq!(mounts(daemon, "nfs"), 0);
        }
        daemon
            .berth(&format!(
                "create --name kept --network none -v {name}:/v busybox true"
            ))
            .ok();
        let answer = daemon.api("POST", "/containers/kept/start", None);
        assert_eq!(answer.status, 500, "{}", answer.text());
        daemon.berth("rm kept").ok();
        daemon.berth(&format!("volume rm {name}")).ok();
    }
    daemon.assert_clean();
}

#[test]
fn a_server_that_does_not_answer_holds_up_nobody_else() {
    let Some(mut site) = Site::new() else {
        return;
    };
    let soft = "rw,soft,timeo=100,retrans=1";
    site.volume("before", "", soft);
    site.daemon
        .berth("run -d --network none --name before -v before:/v busybox sleep 1000")
        .ok();
    site.server.mute(true);
    // More of them than mounts are made at once.
    let names: Vec<String> = (0..12).map(|number| format!("after{number}")).collect();
    for name in &names {
        site.volume(name, "", soft);
        site.daemon
            .berth(&format!(
                "create --network none --name {name} -v {name}:/v busybox true"
            ))
            .ok();
    }
    let starting: Vec<_> = names
        .iter()
        .map(|name| {
            let line = format!("start {name}");
            let command = site.daemon.command(Client::Berth, &line);
            let command = command.deadline(wait::PATIENCE * 10);
            std::thread::spawn(move || command.run())
        })
        .collect();
    let daemon = &site.daemon;
    daemon.berth("volume create plain").ok();
    daemon
        .berth(&format!("{RUN} -v plain:/v busybox touch /v/file"))
        .ok();
    for line in [
        "ps -a",
        "volume ls",
        "volume inspect before",
        "system df -v",
        "inspect after0",
        "logs before",
    ] {
        daemon.berth(line).ok();
    }
    daemon.berth("volume rm plain").ok();
    assert!(
        !starting.iter().any(std::thread::JoinHandle::is_finished),
        "the server does not answer, and a start does not wait for it any more"
    );
    for start in starting {
        start
            .join()
            .expect("no panic")
            .exits(1)
            .says("failed to mount local volume");
    }
    assert_eq!(mounts(&site.daemon, "nfs"), 1);
    // What was mounted before is let go of, by an engine that has to find that out first.
    site.daemon.crash_and_restart();
    site.daemon.berth("system df").ok();
    site.daemon.berth("rm -f before").ok();
    assert_eq!(mounts(&site.daemon, "nfs"), 0);
    site.daemon.berth("volume rm before").ok();
    site.server.mute(false);
    // The kernel asks again at longer and longer intervals.
    wait::until("the server is reached again", || {
        site.daemon.berth("start -a after0").code() == 0
    });
    site.daemon.remove_all();
    site.daemon.berth("volume prune -a -f").ok();
    site.daemon.assert_clean();
}

#[test]
fn a_share_by_smb_is_mounted_with_a_password_that_is_not_told() {
    if !needs::file_system("cifs") {
        return;
    }
    let daemon = daemon();
    let share = daemon.scratch().path().join("share");
    fs::create_dir(&share).expect("a directory");
    let server = SmbServer::start(&daemon.network().host(), &share, "hidden-1");
    for (name, device, more) in [
        ("address", "//127.0.0.1/share", ""),
        ("name", "//localhost/share", ""),
        ("told", "//server/share", "addr=localhost,"),
    ] {
        daemon
            .berth(&format!("volume create -d local -o type=cifs -o device={device} -o o={more}username=root,password=hidden-1,vers=3.0 {name}"))
            .ok();
        daemon
            .berth(&format!("{RUN} -v {name}:/v busybox sh -c 'echo {name} >/v/{name}; grep -c \" /v cifs rw\" /proc/mounts'"))
            .ok()
            .prints("1");
        assert_eq!(content(share.join(name)).trim(), name);
        unmounted(&daemon, "cifs");
    }
    let options = "-o type=cifs -o device=//127.0.0.1/share -o o=username=root,vers=3.0,password=";
    daemon
        .berth(&format!("volume create {options}hidden-1,ro reading"))
        .ok();
    daemon
        .berth(&format!(
            "{RUN} -v reading:/v busybox sh -c 'cat /v/name; echo x >/v/new'"
        ))
        .exits(1)
        .prints("name")
        .says("Read-only file system");
    // The options are shown to those who ask for them, as in Docker, and to nobody else.
    let shown = told(&daemon, "volume inspect -f '{{.Options.o}}' address");
    assert!(shown.contains("password=hidden-1"), "{shown}");
    daemon
        .berth(&format!("volume create {options}hidden-2 wrong"))
        .ok();
    daemon
        .berth("run -d --network none --name one -v address:/v busybox sleep 1000")
        .ok();
    for output in [
        daemon
            .berth(&format!("{RUN} -v wrong:/v busybox true"))
            .exits(126)
            .says("permission denied"),
        daemon
            .berth(&format!("volume create {options}x address"))
            .exits(1)
            .says("there is a volume of this name"),
        daemon.berth("inspect one").ok(),
        daemon.berth("volume ls").ok(),
        daemon.berth("events --since 0 --until 0s").ok(),
    ] {
        assert!(!output.to_string().contains("hidden-"), "{output}");
    }
    let log = daemon.log();
    assert!(!log.contains("hidden-"), "{log}");
    assert_eq!(mounts(&daemon, "cifs"), 1);
    daemon.berth("rm -f one").ok();
    assert_eq!(mounts(&daemon, "cifs"), 0);
    daemon.berth("volume prune -a -f").ok();
    assert!(share.join("name").is_file());
    daemon.assert_clean();
    drop(server);
}

#[test]
fn an_empty_share_by_smb_gets_the_files_of_the_image() {
    if !needs::file_system("cifs") {
        return;
    }
    let daemon = daemon();
    let share = daemon.scratch().path().join("share");
    fs::create_dir(&share).expect("a directory");
    let server = SmbServer::start(&daemon.network().host(), &share, "hidden-1");
    let layer = Layer::new()
        .directory("data", 0o755)
        .file("data/one", 0o644, "one\n")
        .hard_link("data/two", "data/one")
        .directory("data/inner", 0o755)
        .file("data/inner/three", 0o600, "three\n")
        .finish();
    let mut image = images::busybox().expect("busybox");
    image.layers.push(layer);
    "filled:1".clone_into(&mut image.name);
    daemon.load(&image);
    daemon
        .berth("volume create -o type=cifs -o device=//127.0.0.1/share -o o=username=root,password=hidden-1 fills")
        .ok();
    daemon
        .berth(&format!(
            "{RUN} -v fills:/data filled:1 cat /data/one /data/two /data/inner/three"
        ))
        .ok()
        .prints("one\none\nthree\n");
    assert_eq!(content(share.join("inner/three")), "three\n");
    unmounted(&daemon, "cifs");
    daemon.berth("volume rm fills").ok();
    daemon.assert_clean();
    drop(server);
}
