//! What is stored: accounted for to the block, checked and repaired, kept within a budget, and kept from whoever needs it.

use berth_testkit::archive::{Dialect, Image, Layer};
use berth_testkit::registry::Registry;
use berth_testkit::scratch::Scratch;
use berth_testkit::{Daemon, Engine, Settings, disk, wait};
use serde_json::Value;

fn usage(daemon: &Daemon) -> Value {
    daemon.api("GET", "/system/df", None).expect(200).json()
}

/// Waits until what the engine says of its data root is what `du` says, and the parts are the whole.
fn accounted(daemon: &Daemon) -> Value {
    let mut last = (Value::Null, 0);
    let found = wait::within(wait::PATIENCE, || {
        let usage = usage(daemon);
        let measured = disk::used(&daemon.data_root());
        let equal = usage["Berth"]["Total"] == measured;
        last = (usage["Berth"].clone(), measured);
        equal.then_some(usage)
    });
    let usage = found.unwrap_or_else(|| panic!("the engine says {}, du says {}", last.0, last.1));
    let containers: i64 = usage["Containers"]
        .as_array()
        .expect("containers")
        .iter()
        .map(|container| container["SizeRw"].as_i64().unwrap_or(0))
        .sum();
    let volumes: i64 = usage["Volumes"]
        .as_array()
        .expect("volumes")
        .iter()
        .map(|volume| volume["UsageData"]["Size"].as_i64().unwrap_or(0).max(0))
        .sum();
    let parts = usage["LayersSize"].as_i64().expect("a size")
        + containers
        + volumes
        + usage["Berth"]["Engine"].as_i64().expect("a size");
    assert_eq!(usage["Berth"]["Total"], parts, "{usage}");
    usage
}

fn image(name: &str, fill: u8) -> Image {
    let files = Layer::new().file("file", 0o644, vec![fill; 300_000]);
    Image::new(name, &["none"], vec![files.finish()])
}

#[test]
fn the_disk_is_accounted_for_to_the_block() {
    let daemon = Daemon::start();
    accounted(&daemon);
    let script =
        "dd if=/dev/zero of=/big bs=1k count=700; ln /big /again; truncate -s 1g /holes; seq 2000";
    daemon
        .command(
            berth_testkit::Client::Berth,
            "run --network none --name writer busybox sh -c",
        )
        .arg(script)
        .run()
        .ok();
    daemon
        .berth("run -d --network none --name idle busybox sleep 1000")
        .ok();
    daemon.berth("volume create empty").ok();
    daemon
        .berth("run --rm --network none -v data:/data busybox dd if=/dev/zero of=/data/file bs=1k count=300")
        .ok();
    let used = accounted(&daemon);
    let writer = used["Containers"]
        .as_array()
        .expect("containers")
        .iter()
        .find(|container| container["Names"][0] == "/writer")
        .expect("the container")
        .clone();
    let size = writer["SizeRw"].as_i64().expect("a size");
    // The file once, the hole not, and the log.
    assert!((800_000..1_500_000).contains(&size), "{writer}");
    daemon.berth("system df").ok().prints("Engine");
    daemon.docker("system df").ok().prints("RECLAIMABLE");
    daemon
        .berth("system df -v")
        .ok()
        .prints(&daemon.data_root().display().to_string());
    daemon
        .berth("system check -q")
        .ok()
        .prints("2 containers, 2 volumes");
    let content = daemon.data_root().join("volumes/empty/_data");
    std::fs::remove_dir(&content).expect("damage");
    daemon
        .berth("system check -q")
        .exits(1)
        .prints("volume empty: its directory");
    std::fs::create_dir(&content).expect("no damage");
    daemon.berth("rm -f writer idle").ok();
    daemon.berth("volume rm data empty").ok();
    accounted(&daemon);
}

#[test]
fn damage_is_told_repaired_and_removed_only_when_asked() {
    let storage = Scratch::new();
    let registry = Registry::empty(storage.path());
    let pulled = image("from/registry:1", 1);
    registry.push(&pulled, Dialect::Oci).expect("a push");
    let settings = Settings {
        arguments: vec!["--registry-mirror".into(), registry.mirror()],
        without_images: true,
        ..Settings::default()
    };
    let daemon = Daemon::with(Engine::Berth, settings);
    daemon.berth("pull -q from/registry:1").ok();
    daemon.load(&image("from/archive:1", 2));
    daemon
        .berth("system check --deep")
        .ok()
        .prints("Nothing is wrong.");
    let damage = |id: &str| {
        let hex = id.trim_start_matches("sha256:");
        let path = daemon.data_root().join("blobs/sha256").join(hex);
        let mut bytes = std::fs::read(&path).expect("the configuration");
        bytes[0] ^= 1;
        std::fs::write(&path, bytes).expect("a changed configuration");
    };
    let id = |name: &str| {
        daemon
            .berth(&format!("images -q --no-trunc {name}"))
            .ok()
            .text()
            .to_owned()
    };
    damage(&id("from/registry:1"));
    damage(&id("from/archive:1"));
    daemon
        .berth("system check -q")
        .exits(1)
        .prints("needed by from/registry:1")
        .prints("needed by from/archive:1")
        .prints("Try 'berth system check --repair'.");
    let told = daemon.berth("system check -q --format json").exits(1);
    let report: Value = serde_json::from_str(&told.stdout).expect("a report");
    assert_eq!(report["Sound"], false);
    assert_eq!(
        report["Findings"].as_array().map(Vec::len),
        Some(2),
        "{report}"
    );
    daemon
        .berth("system check -q --repair")
        .exits(1)
        .prints("repaired: fetched again from from/registry")
        .prints("it came from no registry that is known")
        .prints("2 problems found, 1 left.");
    daemon.berth("system check --remove").exits(1);
    let gone = "{{.Kind}} {{.Outcome}}";
    daemon
        .command(
            berth_testkit::Client::Berth,
            "system check -q --repair --remove --format",
        )
        .arg(gone)
        .run()
        .ok()
        .prints("content removed");
    daemon
        .berth("system check --deep -q")
        .ok()
        .prints("Checked 2 images");
    assert_eq!(daemon.berth("images -q from/archive").ok().text(), "");
    daemon
        .api("POST", "/berth/system/check?remove=1", None)
        .expect(400);
    accounted(&daemon);
}

#[test]
fn a_stopped_container_keeps_what_it_is_made_of() {
    let mut daemon = Daemon::start();
    daemon
        .berth("run --network none --name kept busybox sh -c 'echo -n here >> /file; cat /file'")
        .ok();
    daemon
        .berth("rmi busybox")
        .exits(1)
        .says("is using its referenced image");
    let id = daemon.berth("images -q busybox").ok().text().to_owned();
    daemon.berth(&format!("rmi -f {id}")).ok();
    assert_eq!(daemon.berth("images -q busybox").ok().text(), "");
    assert_eq!(daemon.berth("start -a kept").ok().stdout, "herehere");
    daemon.crash_and_restart();
    assert_eq!(daemon.berth("start -a kept").ok().stdout, "here".repeat(3));
    daemon.berth("system check --deep -q").ok();
    daemon.berth("image prune -af").ok();
    assert_eq!(daemon.berth("start -a kept").ok().stdout, "here".repeat(4));
    // A new image of it stands by itself.
    daemon.berth("commit kept made:1").ok();
    let container = daemon.inspect("kept")["Id"]
        .as_str()
        .expect("an id")
        .to_owned();
    let files = daemon
        .data_root()
        .join("layers/overlay/containers")
        .join(&container);
    std::fs::rename(files.join("upper"), files.join("away")).expect("damage");
    daemon
        .berth("system check -q --repair")
        .exits(1)
        .prints(&format!(
            "container {container}: the files that it changed are missing"
        ))
        .prints("unrepaired");
    std::fs::rename(files.join("away"), files.join("upper")).expect("no damage");
    daemon.berth("rm kept").ok();
    daemon
        .berth("run --rm --network none made:1")
        .ok()
        .prints(&"here".repeat(5));
    daemon.berth("system check --deep -q").ok();
    daemon.berth("rmi made:1").ok();
    // With the last that is made of them the layers go.
    wait::until("only the built-in image is left", || {
        usage(&daemon)["LayersSize"].as_i64().unwrap_or(i64::MAX) < 1 << 20
    });
    daemon.assert_clean();
}

#[test]
fn a_budget_takes_unused_images_and_nothing_else() {
    let scratch = Scratch::new();
    let file = scratch.path().join("daemon.json");
    let budget = |unused_for: &str| {
        format!(r#"{{"disk-budget": {{"limit": "100k", "unused-for": "{unused_for}"}}}}"#)
    };
    std::fs::write(&file, budget("24h")).expect("settings");
    let settings = Settings {
        arguments: vec!["--config-file".into(), file.display().to_string()],
        without_images: true,
        ..Settings::default()
    };
    let mut daemon = Daemon::with(Engine::Berth, settings);
    for (name, fill) in [("old:1", 1), ("used:1", 2), ("new:1", 3)] {
        daemon.load(&image(name, fill));
    }
    daemon.berth("create --network none used:1 none").ok();
    // Over the limit, and yet everything was in use within the last day.
    let told = |daemon: &Daemon| {
        daemon
            .berth("events --since 1h --until 0s --filter type=daemon --filter event=disk-budget")
            .ok()
            .stdout
    };
    wait::until("it was looked at", || told(&daemon).contains("images=0"));
    for name in ["old:1", "used:1", "new:1"] {
        assert_ne!(
            daemon.berth(&format!("images -q {name}")).ok().text(),
            "",
            "{name}"
        );
    }
    std::fs::write(&file, budget("0s")).expect("settings");
    daemon.terminate();
    daemon.launch();
    wait::until("unused images are gone", || {
        daemon.berth("images -q old").ok().text().is_empty()
            && daemon.berth("images -q new").ok().text().is_empty()
    });
    assert_ne!(daemon.berth("images -q used").ok().text(), "");
    assert_ne!(daemon.berth("images -q berth/hello").ok().text(), "");
    assert!(told(&daemon).contains("images=2"), "{}", told(&daemon));
    daemon.remove_all();
}

#[test]
fn a_budget_takes_what_is_missed_least_first() {
    let scratch = Scratch::new();
    let storage = scratch.path().join("registry");
    std::fs::create_dir(&storage).expect("a directory");
    let registry = Registry::empty(&storage);
    let half = image("half/done:1", 7);
    let (_, blobs) = half.manifest(Dialect::Oci).expect("a manifest");
    registry.push(&half, Dialect::Oci).expect("a push");
    let file = scratch.path().join("daemon.json");
    let budget = |limit: &str, unused_for: &str| {
        let text =
            format!(r#"{{"disk-budget": {{"limit": "{limit}", "unused-for": "{unused_for}"}}}}"#);
        std::fs::write(&file, text).expect("settings");
    };
    budget("1g", "0s");
    let settings = Settings {
        arguments: vec!["--config-file".into(), file.display().to_string()],
        ..Settings::default()
    };
    let mut daemon = Daemon::with(Engine::Berth, settings);
    // Two logs of several files, one of a container that goes on and one of a container that does not.
    let noisy = "head -c 400000 /dev/urandom | od -v";
    for (name, end) in [("ended", "true"), ("running", "exec sleep 100000")] {
        daemon
            .berth(&format!(
                "run -d --network none --name {name} --log-opt max-size=200k --log-opt max-file=5 busybox \
                 sh -c '{noisy}; {end}'"
            ))
            .ok();
    }
    daemon.wait_for("ended", "exited");
    wait::until("the logs are rotated", || {
        logs_of(&daemon, "ended").len() == 5 && logs_of(&daemon, "running").len() == 5
    });
    let ended_before = daemon.berth("logs ended").ok().stdout;
    let running_before = logs_of(&daemon, "running");
    daemon.load(&image("unused:1", 5));
    // What a pull left that was broken off.
    let digest = berth_testkit::archive::digest(&blobs[1]);
    let partial = daemon
        .data_root()
        .join("blobs/partial")
        .join(digest.trim_start_matches("sha256:"));
    std::fs::write(&partial, &blobs[1][..blobs[1].len() / 2]).expect("a partial layer");
    let occupied = |told: &str| -> u64 {
        let rest = told.split("occupied=").nth(1).expect("a number");
        let number = rest.split([',', ')']).next().expect("a number");
        number.trim().parse().expect("a number")
    };
    let told = |daemon: &Daemon| {
        let line = "events --since 1h --until 0s --filter type=daemon --filter event=disk-budget";
        daemon.berth(line).ok().stdout
    };
    let restart = |daemon: &mut Daemon| {
        daemon.terminate();
        daemon.launch();
        wait::until("it was looked at", || told(daemon).contains("occupied="));
        told(daemon)
    };
    // Nothing is old enough but what was never finished.
    budget("1k", "24h");
    let first = restart(&mut daemon);
    assert!(!partial.exists(), "{first}");
    assert!(
        first.contains("images=0") && first.contains("logs=0"),
        "{first}"
    );
    let all = occupied(&first);
    // A limit that the image alone brings within reach.
    budget(&(all - 1000).to_string(), "0s");
    let second = restart(&mut daemon);
    assert!(
        second.contains("images=1") && second.contains("logs=0"),
        "{second}"
    );
    assert_eq!(daemon.berth("images -q unused").ok().stdout, "");
    assert_eq!(logs_of(&daemon, "ended").len(), 5);
    // And one that takes one file of a log more.
    budget(&(occupied(&second) - 1000).to_string(), "0s");
    let third = restart(&mut daemon);
    assert_eq!(logs_of(&daemon, "ended").len(), 4, "{third}");
    let left = daemon.berth("logs ended").ok().stdout;
    assert!(ended_before.ends_with(&left) && !left.is_empty());
    // Whatever the limit is, the latest file stays, and so does all of what runs.
    budget("1k", "0s");
    restart(&mut daemon);
    assert_eq!(logs_of(&daemon, "ended").len(), 1);
    assert_ne!(daemon.berth("logs ended").ok().stdout, "");
    assert_eq!(logs_of(&daemon, "running"), running_before);
    assert_eq!(daemon.status("running"), "running");
    daemon.assert_clean();
}

fn daemon_log(daemon: &Daemon, container: &str) -> std::path::PathBuf {
    let path = daemon.inspect(container)["LogPath"].clone();
    std::path::PathBuf::from(path.as_str().unwrap_or_default())
}

/// Files of a container's log, by name.
fn logs_of(daemon: &Daemon, container: &str) -> Vec<String> {
    let path = daemon_log(daemon, container);
    let entries = std::fs::read_dir(path.parent().expect("a directory")).expect("logs");
    let mut names: Vec<String> = entries
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name.contains("-json.log"))
        .collect();
    names.sort();
    names
}
