//! Images as far as running containers needs them.

use berth_testkit::archive::{Image, Layer};
use berth_testkit::images;
use serde_json::json;

use crate::subject::Subject;

pub(crate) fn images_are_listed_inspected_and_removed(on: &Subject) {
    let busybox = images::busybox().expect("the test image");
    let id = on
        .cli("images -q --no-trunc busybox")
        .ok()
        .text()
        .to_owned();
    assert_eq!(
        id,
        busybox.id(),
        "the id is the digest of the configuration"
    );
    on.cli("images --format '{{.Repository}}:{{.Tag}}'")
        .ok()
        .prints("busybox:latest");
    assert_eq!(
        on.cli("image inspect -f '{{.Os}} {{.Id}}' busybox")
            .ok()
            .text(),
        format!("linux {id}")
    );
    on.cli("inspect --type image no-such-image")
        .exits(1)
        .says("no such image");

    on.cli("create --network none --name user busybox true")
        .ok();
    on.cli("rmi busybox").exits(1).says("is using");
    on.cli("rm user").ok();
    on.cli("rmi busybox")
        .ok()
        .prints("Untagged: busybox:latest")
        .prints(&format!("Deleted: {id}"));
    on.cli("rmi busybox").exits(1).says("no such image");
    // Both forms in which an archive comes, through standard input as well.
    let bytes = busybox.docker_archive().expect("an archive");
    on.command("load")
        .stdin(bytes)
        .run()
        .ok()
        .prints("Loaded image: busybox:latest");
    on.run("--rm busybox true").ok();
}

pub(crate) fn image_configuration_is_the_default(on: &Subject) {
    let base = images::busybox().expect("the test image");
    let mut layers = base.layers.clone();
    layers.push(
        Layer::new()
            .directory("work/", 0o755)
            .file("work/.wh.nothing", 0o644, "")
            .file("etc/.wh.group", 0o644, "")
            .file("etc/extra", 0o600, "second layer\n")
            .finish(),
    );
    let mut image = Image::new(
        "configured:1",
        &["-c", "echo $0 $GREETING; pwd; id -u; ls /etc"],
        layers,
    );
    image.config["Entrypoint"] = json!(["sh"]);
    image.config["Env"] = json!(["PATH=/bin", "GREETING=hello"]);
    image.config["WorkingDir"] = json!("/work");
    image.config["User"] = json!("www-data");
    image.config["Labels"] = json!({"from": "image"});
    image.config["StopSignal"] = json!("SIGINT");
    on.daemon.load(&image);

    let seen = on.run("--name defaults configured:1").ok();
    let lines: Vec<&str> = seen.stdout.lines().collect();
    assert_eq!(lines[..3], ["sh hello", "/work", "33"]);
    assert!(
        lines.contains(&"extra") && !lines.contains(&"group"),
        "{lines:?}"
    );
    let config = on.daemon.inspect("defaults")["Config"].clone();
    assert_eq!(config["Labels"]["from"], "image");
    assert_eq!(config["StopSignal"], "SIGINT");
    assert_eq!(config["Entrypoint"], json!(["sh"]));
    // A new entrypoint drops the image's command; a new command keeps the entrypoint.
    on.run("--rm -e GREETING=bye configured:1 -c 'echo $GREETING'")
        .ok()
        .prints("bye");
    on.run("--rm --entrypoint echo configured:1").ok();
    on.run("--rm --entrypoint echo configured:1 x y")
        .ok()
        .prints("x y");
    on.run("--rm -u 0 --label from=user --entrypoint id configured:1 -u")
        .ok()
        .prints("0");
}

pub(crate) fn prunes_take_what_is_unused_and_force_spares_containers(on: &Subject) {
    let image = |name: &str, fill: u8| {
        let mut base = images::busybox().expect("the test image");
        let own = Layer::new().file("own", 0o644, vec![fill; 200_000]);
        base.layers.push(own.finish());
        let mut image = Image::new(name, &["cat", "/etc/passwd"], base.layers);
        image.config["Labels"] = json!({"kind": name});
        image
    };
    for (name, fill) in [("one:1", 1), ("two:1", 2), ("three:1", 3)] {
        on.daemon.load(&image(name, fill));
    }
    on.run("--name kept one:1").ok();
    let id = on.cli("images -q one").ok().text().to_owned();
    let used = "system df --format '{{.Type}} {{.Active}}'";
    on.cli(used).ok().prints("Images 1\n");
    on.cli(&format!("rmi {id}"))
        .exits(1)
        .says("is being used by stopped container");
    // By force the image goes; its container still has what it was made of.
    on.cli(&format!("rmi -f {id}"))
        .ok()
        .prints("Untagged: one:1");
    assert_eq!(on.cli("images -q one").ok().text(), "");
    on.cli("start -a kept").ok().prints("root");
    let made = on.cli("commit kept made:1");
    if on.is_reference() {
        // It has the layers, but looks for the image's configuration.
        made.exits(1).says("no such file or directory");
    } else {
        made.ok();
        on.run("--rm made:1").ok().prints("root");
        on.cli("rmi made:1").ok();
    }

    on.cli("image prune -f").ok();
    assert_ne!(on.cli("images -q two").ok().text(), "");
    on.cli("image prune -af --filter label=kind=two:1")
        .ok()
        .prints("untagged: two:1")
        .prints("Total reclaimed space");
    assert_ne!(on.cli("images -q three").ok().text(), "");
    on.cli("image prune -af --filter label!=kind=three:1").ok();
    on.cli("image prune -af --filter until=2000-01-01T00:00:00")
        .ok();
    assert_ne!(on.cli("images -q three").ok().text(), "");
    on.cli("image prune --filter nonsense=1 -f")
        .exits(1)
        .says("invalid filter");
    on.command("system prune -a")
        .stdin(*b"n\n")
        .run()
        .ok()
        .prints("all stopped containers");
    on.cli("system prune -af")
        .ok()
        .prints("Deleted Containers:");
    assert_eq!(on.cli("images -q three").ok().text(), "");
    on.cli("inspect kept").exits(1);
    on.cli("system df --format '{{.Type}} {{.TotalCount}} {{.Active}}'")
        .ok()
        .prints("Containers 0 0\n");
}
