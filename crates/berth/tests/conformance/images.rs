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
