//! Registries: who we are there, what goes there and what comes back.

use berth_testkit::registry::{Guard, PASSWORD, Registry, USER};
use berth_testkit::scratch::Scratch;

use crate::subject::Subject;

pub(crate) fn images_go_to_a_registry_and_come_back(on: &Subject) {
    let storage = Scratch::new();
    let registry = Registry::guarded(storage.path(), Guard::Password);
    let host = registry.host();
    let name = format!("{host}/team/app");
    for tag in ["1", "2"] {
        on.cli(&format!("tag busybox {name}:{tag}")).ok();
    }
    on.cli(&format!("push {name}:1"))
        .exits(1)
        .says("no basic auth credentials");
    on.command(&format!("login -u {USER} --password-stdin {host}"))
        .stdin("wrong")
        .run()
        .exits(1)
        .says("401 Unauthorized");
    on.command(&format!("login -u {USER} --password-stdin {host}"))
        .stdin(PASSWORD)
        .run()
        .ok()
        .prints("Login Succeeded");
    let pushed = on
        .cli(&format!("push {name}:1"))
        .ok()
        .prints(&format!("The push refers to repository [{name}]"))
        .prints(": Pushed\n");
    let digest = pushed
        .stdout
        .lines()
        .find_map(|line| line.strip_prefix("1: digest: ")?.split(' ').next())
        .unwrap_or_else(|| panic!("no digest: {pushed}"))
        .to_owned();
    on.cli(&format!("push -a {name}"))
        .ok()
        .prints("Layer already exists")
        .prints(&format!("2: digest: {digest} size: "));
    assert_eq!(
        on.cli(&format!("push -q {name}:2")).ok().text(),
        format!("{name}:2")
    );
    let digests = format!("image inspect -f '{{{{.RepoDigests}}}}' {name}:1");
    on.cli(&digests).ok().prints(&format!("{name}@{digest}"));

    for (line, words) in [
        (
            format!("push {host}/nothing"),
            format!("An image does not exist locally with the tag: {host}/nothing"),
        ),
        (
            format!("push {name}:3"),
            format!("tag does not exist: {name}:3"),
        ),
        (
            format!("push -a {name}:1"),
            "tag can't be used with --all-tags/-a".to_owned(),
        ),
    ] {
        on.cli(&line).exits(1).says(&words);
    }

    let id = on.cli(&format!("images -q --no-trunc {name}:1")).ok();
    on.cli(&format!("rmi -f {}", id.text())).ok();
    on.cli(&format!("pull {name}@{digest}")).ok();
    on.cli(&format!("pull -q {name}:2")).ok();
    on.run(&format!("--rm {name}:2 true")).ok();
    assert_eq!(
        on.cli(&format!("images -q --no-trunc {name}:2"))
            .ok()
            .text(),
        id.text()
    );
    on.cli(&format!("logout {host}"))
        .ok()
        .prints(&format!("Removing login credentials for {host}"));
    on.cli(&format!("pull {name}:1")).exits(1);
    on.cli(&format!("search --limit 101 {host}/app"))
        .exits(1)
        .says("limit 101 is outside the range of [1, 100]");
}

pub(crate) fn what_cannot_be_pulled_is_told(on: &Subject) {
    let storage = Scratch::new();
    let registry = Registry::empty(storage.path());
    let host = registry.host();
    let name = format!("{host}/team/app");
    on.cli(&format!("tag busybox {name}:1")).ok();
    on.cli(&format!("push {name}:1")).ok();
    on.cli(&format!("rmi {name}:1")).ok();
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let unreached = nobody.local_addr().expect("its address");
    drop(nobody);
    for (line, words) in [
        (
            format!("pull {name}:2"),
            format!("manifest for {name}:2 not found: manifest unknown"),
        ),
        (
            format!("pull {host}/none:1"),
            format!("manifest for {host}/none:1 not found: manifest unknown"),
        ),
        (
            format!("pull -a {host}/none"),
            format!("repository {host}/none not found: name unknown"),
        ),
        (
            format!("pull {unreached}/app:1"),
            "connection refused".to_owned(),
        ),
    ] {
        let seen = on.cli(&line).exits(1).says(&words);
        assert!(!seen.stdout.contains("Pulling from"), "{seen}");
    }
    on.cli(&format!("pull {name}:1"))
        .ok()
        .prints("1: Pulling from team/app\n");
    on.cli(&format!("pull {name}@sha256:{}", "0".repeat(64)))
        .exits(1)
        .says(&format!("manifest for {name}@sha256:0000"))
        .says("not found: manifest unknown");
}
