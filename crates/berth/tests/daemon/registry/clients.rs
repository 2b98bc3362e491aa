//! Every kind of client does what its users do.

use std::path::Path;
use std::time::Duration;

use berth_testkit::podman::Podman;
use berth_testkit::scratch::Scratch;
use berth_testkit::served::Served;
use berth_testkit::{Command, Daemon, Engine, Output, Settings, images, needs, words};

/// Runs skopeo without anything of the user's.
pub(crate) fn skopeo(scratch: &Scratch, line: &str) -> Output {
    needs::program("skopeo", "skopeo");
    Command::new("skopeo")
        .args(["--insecure-policy"])
        .args(words::words(line))
        .env("HOME", scratch.path())
        .env("XDG_RUNTIME_DIR", scratch.path())
        .deadline(Duration::from_secs(120))
        .run()
}

fn test_archive() -> String {
    let image = images::busybox().expect("the test image");
    images::archive_file(&image)
        .expect("its archive")
        .display()
        .to_string()
}

/// Pushes busybox under a name.
pub(super) fn push_test_image(scratch: &Scratch, name: &str) {
    let archive = test_archive();
    let line = format!("copy --dest-tls-verify=false docker-archive:{archive} docker://{name}");
    skopeo(scratch, &line).ok();
}

#[test]
fn skopeo_and_podman_do_everything() {
    let scratch = Scratch::new();
    let registry = Served::start(&scratch.path().join("r"), &["--keep-blobs", "0s"]);
    let host = registry.host();
    let archive = test_archive();
    let copy = |from: &str, to: &str| {
        let line = format!("copy --src-tls-verify=false --dest-tls-verify=false {from} {to}");
        skopeo(&scratch, &line).ok()
    };
    // In both dialects, in and out, and within the registry (which mounts).
    copy(
        &format!("--format v2s2 docker-archive:{archive}"),
        &format!("docker://{host}/team/busybox:docker"),
    );
    copy(
        &format!("--format oci docker-archive:{archive}"),
        &format!("docker://{host}/team/busybox:oci"),
    );
    copy(
        &format!("docker://{host}/team/busybox:oci"),
        &format!("docker://{host}/other/busybox:1"),
    );
    let layout = scratch.path().join("layout");
    copy(
        &format!("docker://{host}/other/busybox:1"),
        &format!("oci:{}:1", layout.display()),
    );
    skopeo(
        &scratch,
        &format!("list-tags --tls-verify=false docker://{host}/team/busybox"),
    )
    .ok()
    .prints("\"docker\"")
    .prints("\"oci\"");
    skopeo(
        &scratch,
        &format!("inspect --tls-verify=false docker://{host}/other/busybox:1"),
    )
    .ok()
    .prints("sha256:");
    skopeo(
        &scratch,
        &format!("delete --tls-verify=false docker://{host}/other/busybox:1"),
    )
    .ok();
    skopeo(
        &scratch,
        &format!("inspect --tls-verify=false docker://{host}/other/busybox:1"),
    )
    .exits(1);

    let podman = Podman::new(&needs::program("runc", "runc"));
    let name = format!("{host}/podman/busybox:1");
    podman
        .call(&format!(
            "pull -q --tls-verify=false {host}/team/busybox:oci"
        ))
        .ok();
    podman.call(&format!("tag busybox {name}")).ok();
    podman
        .call(&format!("push -q --tls-verify=false {name}"))
        .ok();
    podman
        .call(&format!(
            "push -q --tls-verify=false --format v2s2 --compression-format zstd {name}"
        ))
        .ok();
    podman.call(&format!("rmi {name}")).ok();
    podman
        .call(&format!("pull -q --tls-verify=false {name}"))
        .ok();
    podman
        .call(&format!(
            "search --tls-verify=false --list-tags {host}/podman/busybox"
        ))
        .ok();
    // A list of its own, pushed with what it names.
    let list = format!("{host}/podman/list:1");
    podman.call(&format!("manifest create {list}")).ok();
    podman
        .call(&format!(
            "manifest add --tls-verify=false {list} docker://{name}"
        ))
        .ok();
    podman
        .call(&format!(
            "manifest push --all --tls-verify=false {list} docker://{list}"
        ))
        .ok();
    podman
        .call(&format!("pull -q --tls-verify=false {list}"))
        .ok();
}

#[test]
fn both_engines_pull_and_the_stock_client_pushes() {
    let scratch = Scratch::new();
    let registry = Served::start(&scratch.path().join("r"), &[]);
    let name = format!("{}/docker/busybox:1", registry.host());
    // The reference engine pushes and pulls.
    let docker = Daemon::with(Engine::Docker, Settings::default());
    docker.docker(&format!("tag busybox {name}")).ok();
    let pushed = docker.docker(&format!("push {name}")).ok();
    docker
        .docker(&format!("push {name}"))
        .ok()
        .prints("Layer already exists");
    docker.docker(&format!("rmi {name}")).ok();
    docker.docker(&format!("pull {name}")).ok();
    drop(docker);
    // Ours takes what that one left there.
    let settings = Settings {
        without_images: true,
        ..Settings::default()
    };
    let berth = Daemon::with(Engine::Berth, settings);
    berth.docker(&format!("pull {name}")).ok();
    berth
        .berth(&format!(
            "run --rm --network none {name} echo from our registry"
        ))
        .ok()
        .prints("from our registry");
    let digest = pushed
        .stdout
        .split_whitespace()
        .find(|word| word.starts_with("sha256:"))
        .expect("docker names the digest")
        .to_owned();
    let pinned = format!("{}/docker/busybox@{digest}", registry.host());
    berth.berth(&format!("pull {pinned}")).ok();
    assert!(Path::new(registry.root()).join("registry.db").exists());
}
