//! Single platforms of images, removed and brought back.

use berth_testkit::archive::{Image, Layer, architecture};
use berth_testkit::registry::Registry;
use berth_testkit::scratch::Scratch;
use berth_testkit::{Client, Daemon, Engine, Settings, http, images, needs};

/// Images of one name for this machine and two others.
pub(crate) fn images_for(platforms: [&str; 3]) -> Vec<Image> {
    platforms
        .iter()
        .map(|platform| {
            let mut image = images::busybox().expect("the test image");
            let own = Layer::new().file("platform", 0o644, platform);
            image.layers.push(own.finish());
            image.name = "many/kinds:1".into();
            image.architecture = (*platform).to_owned();
            image
        })
        .collect()
}

fn removed_with(client: Client) {
    let storage = Scratch::new();
    let registry = Registry::empty(storage.path());
    let own = architecture();
    let kinds = images_for([own, "s390x", "riscv64"]);
    registry.push_platforms(&kinds).expect("an index");
    let settings = Settings {
        without_images: true,
        ..Settings::default()
    };
    let mut daemon = Daemon::with(Engine::Berth, settings);
    let before = daemon.berth("images -aq").ok().stdout;
    let name = format!("{}/many/kinds:1", registry.host());
    let tree = |daemon: &Daemon| {
        let shown = daemon.berth("images --tree").ok().stdout;
        let line = |kind: &str| {
            let found = shown.lines().find(|line| line.contains(kind));
            found.is_some_and(|line| !line.contains("not here"))
        };
        [own, "s390x", "riscv64"].map(|kind| line(&format!("linux/{kind}")))
    };
    daemon
        .berth(&format!("pull -q --all-platforms {name}"))
        .ok();
    daemon.berth(&format!("tag {name} second:1")).ok();
    assert_eq!(tree(&daemon), [true, true, true]);

    let rm =
        |daemon: &Daemon, line: &str| daemon.command(client, &format!("image rm {line}")).run();
    rm(&daemon, &format!("--platform linux/s390x {name}"))
        .exits(1)
        .says("Content will be removed from all images referencing this variant")
        .says("to force delete");
    rm(&daemon, &format!("--platform nonsense/x/y/z -f {name}")).exits(1);
    // Who insists is told, and that is all.
    rm(&daemon, &format!("-f --platform linux/mips64le {name}"))
        .ok()
        .says("does not provide the specified platform (linux/mips64le)");
    assert_eq!(tree(&daemon), [true, true, true]);
    let told = rm(&daemon, &format!("-f --platform linux/s390x {name}")).ok();
    assert!(
        told.stdout.starts_with("Deleted: sha256:") && !told.stdout.contains("Untagged"),
        "{told}"
    );
    assert_eq!(tree(&daemon), [true, false, true]);
    daemon.crash_and_restart();
    assert_eq!(tree(&daemon), [true, false, true]);

    // This machine's own: not while it runs.
    daemon
        .berth(&format!(
            "run -d --name held --network none {name} sleep 1000"
        ))
        .ok();
    rm(&daemon, &format!("-f --platform linux/{own} second:1"))
        .exits(1)
        .says("is being used by running container");
    daemon.berth("kill held").ok();
    daemon.wait_for("held", "exited");
    rm(&daemon, &format!("-f --platform linux/{own} second:1"))
        .ok()
        .prints(&format!("Deleted: {}", kinds[0].id()));
    for one in [name.as_str(), "second:1"] {
        let seen = daemon.berth(&format!("image inspect -f '{{{{.Architecture}}}}' {one}"));
        assert_eq!(seen.ok().text(), "riscv64");
    }
    // What it is made of stays for the container.
    daemon.berth("cp held:/platform -").ok().prints(own);
    daemon.berth("rm held").ok();
    daemon.berth("system check --deep -q").ok();

    // The next pull brings it back.
    daemon
        .berth(&format!("pull -q --all-platforms {name}"))
        .ok();
    assert_eq!(tree(&daemon), [true, true, true]);
    daemon
        .berth(&format!("run --rm --network none {name} cat /platform"))
        .ok()
        .prints(own);
    daemon.berth("rmi second:1").ok();
    let all =
        format!("-f --platform linux/{own} --platform linux/s390x --platform linux/riscv64 {name}");
    rm(&daemon, &all).ok().prints(&format!("Untagged: {name}"));
    assert_eq!(daemon.berth("images -aq").ok().stdout, before);
    daemon.berth("system check --deep -q").ok();
}

#[test]
fn platforms_are_removed_by_our_client() {
    removed_with(Client::Berth);
}

#[test]
fn platforms_are_removed_by_the_stock_client() {
    if needs::feature("docker command of version 28", needs::docker_client() >= 28) {
        removed_with(Client::Docker);
    }
}

#[test]
fn older_versions_of_the_api_know_nothing_of_it() {
    let daemon = Daemon::start();
    let target =
        "/images/busybox?platforms=%7B%22os%22%3A%22x%22%2C%22architecture%22%3A%22y%22%7D";
    let delete = |version: &str, target: &str| {
        let connection = daemon.connect().expect("a connection");
        http::request(
            connection,
            "DELETE",
            &format!("/{version}{target}"),
            &[],
            b"",
        )
        .expect("an answer")
        .status
    };
    assert_eq!(delete("v1.50", target), 400, "without force");
    assert_eq!(delete("v1.50", &format!("{target}&force=1")), 404);
    assert_eq!(delete("v1.50", "/images/busybox?force=1&platforms=x"), 400);
    assert_eq!(delete("v1.49", target), 200);
}
