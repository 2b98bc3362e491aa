//! Who we are at a registry, and what is asked of registries besides images.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use berth_testkit::archive::{Dialect, Image, Layer};
use berth_testkit::registry::{Guard, PASSWORD, Registry, USER};
use berth_testkit::scratch::Scratch;
use berth_testkit::terminal::Terminal;
use berth_testkit::token_server::{Asked, REFRESH_TOKEN, TokenServer, base64};
use berth_testkit::{Client, Command, Daemon, images, needs};
use serde_json::{Value, json};

use crate::push::manifest;

/// The configuration file of a daemon's clients.
fn config_path(daemon: &Daemon) -> PathBuf {
    daemon.scratch().path().join("config/config.json")
}

fn config(daemon: &Daemon) -> Value {
    let text = fs::read_to_string(config_path(daemon)).expect("a configuration file");
    serde_json::from_str(&text).expect("JSON")
}

fn log_in(daemon: &Daemon, client: Client, host: &str, password: &str) -> berth_testkit::Output {
    daemon
        .command(client, &format!("login -u {USER} --password-stdin {host}"))
        .stdin(format!("{password}\n"))
        .run()
}

#[test]
fn a_password_opens_a_registry() {
    let storage = Scratch::new();
    let registry = Registry::guarded(storage.path(), Guard::Password);
    let daemon = Daemon::start();
    let host = registry.host();
    let name = format!("{host}/private/one:1");
    daemon.berth(&format!("tag busybox {name}")).ok();

    for client in [Client::Berth, Client::Docker] {
        let run = |line: &str| daemon.command(client, line).run();
        run(&format!("push {name}"))
            .exits(1)
            .says("no basic auth credentials");
        log_in(&daemon, client, &host, "wrong")
            .exits(1)
            .says("401 Unauthorized");
        let told = log_in(&daemon, client, &host, PASSWORD)
            .ok()
            .says("stored unencrypted in");
        assert!(told.stdout.ends_with("Login Succeeded\n"), "{told}");
        assert_eq!(
            config(&daemon)["auths"][&host]["auth"],
            base64(format!("{USER}:{PASSWORD}").as_bytes())
        );
        run(&format!("push {name}"))
            .ok()
            .prints("1: digest: sha256:");
        run(&format!("pull {name}")).ok();
        // What is stored is tried again; old clients name nobody, and say it elsewhere.
        let again = run(&format!("login {host}")).ok().prints("Login Succeeded");
        let names = client == Client::Berth || needs::docker_client() >= 28;
        let whom = if names {
            format!("existing credentials... [Username: {USER}]")
        } else {
            "existing credentials...".to_owned()
        };
        let words = format!("{}{}", again.stdout, again.stderr);
        assert!(words.contains(&whom), "{again}");
        run(&format!("logout {host}"))
            .ok()
            .prints(&format!("Removing login credentials for {host}"));
        assert_eq!(config(&daemon)["auths"], json!({}));
        run(&format!("pull {host}/private/other:1")).exits(1);
    }
    daemon
        .berth(&format!("push {name}"))
        .exits(1)
        .says(&format!("Try 'berth login {host}'."));

    // At a terminal, without showing the password.
    let mut terminal = Terminal::start(daemon.command(Client::Berth, &format!("login {host}")));
    terminal.expect("Username: ");
    terminal.send(&format!("{USER}\n"));
    terminal.expect("Password: ");
    terminal.send(&format!("{PASSWORD}\n"));
    terminal.expect("Login Succeeded");
    assert!(
        !terminal.screen().contains(PASSWORD),
        "{}",
        terminal.screen()
    );
    terminal.exits(0);
    let mut terminal =
        Terminal::start(daemon.command(Client::Berth, &format!("login -u {USER} {host}")));
    terminal.expect("Password: ");
    terminal.send("\x03");
    terminal.exits(130);

    // The file is its owner's alone, and what others wrote into it stays.
    let path = config_path(&daemon);
    let mode = fs::metadata(&path).expect("the file").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let mut changed = config(&daemon);
    changed["somebody"] = json!({"else": [1, 2]});
    fs::write(&path, changed.to_string()).expect("a changed file");
    daemon.berth(&format!("logout {host}")).ok();
    assert_eq!(config(&daemon)["somebody"], json!({"else": [1, 2]}));

    // Credentials of the surroundings count for one command.
    let auth = base64(format!("{USER}:{PASSWORD}").as_bytes());
    daemon
        .command(Client::Berth, &format!("push {name}"))
        .env(
            "DOCKER_AUTH_CONFIG",
            json!({"auths": {&host: {"auth": auth}}}).to_string(),
        )
        .run()
        .ok();
    for (line, words) in [
        (
            "login --password-stdin x",
            "the --password-stdin option requires --username to be set",
        ),
        (
            "login -u a -p b --password-stdin x",
            "cannot specify both --password and --password-stdin",
        ),
        (
            "login -u a x",
            "Cannot perform an interactive login from a non TTY device",
        ),
        ("login -u a -p b 127.0.0.1:1", "127.0.0.1:1"),
    ] {
        daemon.berth(line).exits(1).says(words);
    }
}

#[test]
fn tokens_are_asked_for_with_the_scopes_that_are_needed() {
    let (keys, storage) = (Scratch::new(), Scratch::new());
    let server = TokenServer::start(&keys.path().join("keys"));
    let registry = Registry::guarded(storage.path(), Guard::Tokens(&server));
    let daemon = Daemon::start();
    let host = registry.host();
    daemon
        .berth(&format!("tag busybox {host}/public/one:1"))
        .ok();
    daemon
        .berth(&format!("push {host}/public/one:1"))
        .exits(1)
        .says("push access denied for");
    log_in(&daemon, Client::Berth, &host, "wrong")
        .exits(1)
        .says("unauthorized: incorrect username or password");
    for client in [Client::Docker, Client::Berth] {
        log_in(&daemon, client, &host, PASSWORD)
            .ok()
            .prints("Login Succeeded");
        // The password is not kept where a token stands for it.
        let stored = config(&daemon)["auths"][&host].clone();
        assert_eq!(stored["identitytoken"], REFRESH_TOKEN);
        assert_eq!(stored["auth"], base64(format!("{USER}:").as_bytes()));
        daemon
            .command(client, &format!("push {host}/public/one:1"))
            .run()
            .ok();
    }
    let log = server.log();
    assert!(
        log.iter()
            .any(|asked| asked.offline && asked.scopes.is_empty()),
        "{log:?}"
    );
    let last = log.last().expect("requests");
    assert!(last.by_refresh_token, "{last:?}");
    assert!(
        last.scopes
            .contains(&"repository:public/one:pull,push".to_owned()),
        "{last:?}"
    );
    // Another repository of the registry has the layers: one token is for both.
    daemon
        .berth(&format!("tag {host}/public/one:1 {host}/private/two:1"))
        .ok();
    daemon
        .berth(&format!("push {host}/private/two:1"))
        .ok()
        .prints("Mounted from public/one");
    let wanted: Asked = server.log().last().expect("requests").clone();
    assert_eq!(
        wanted.scopes,
        [
            "repository:private/two:pull,push",
            "repository:public/one:pull"
        ]
    );
    // Whoever is nobody in particular sees what is public, and nothing else.
    daemon.berth(&format!("logout {host}")).ok();
    daemon.berth(&format!("pull {host}/public/one:1")).ok();
    daemon
        .berth(&format!("pull {host}/private/two:1"))
        .exits(1)
        .says("pull access denied for");
}

/// A credential helper that keeps each secret in a file, and tells what it was asked.
const HELPER: &str = r#"#!/bin/sh
cd "$(dirname "$0")" || exit 1
input=$(cat)
echo "$1" >> asked
case "$1" in
store)
    key=$(printf %s "$input" | sed 's/.*"ServerURL":"\([^"]*\)".*/\1/' | tr / _)
    printf %s "$input" > "kept-$key" ;;
get)
    key=$(printf %s "$input" | tr / _)
    cat "kept-$key" 2>/dev/null || { echo "credentials not found in native keychain"; exit 1; } ;;
erase)
    rm -f "kept-$(printf %s "$input" | tr / _)" ;;
list)
    echo "{}" ;;
esac
"#;

#[test]
fn a_helper_keeps_what_it_is_given() {
    let storage = Scratch::new();
    let registry = Registry::guarded(storage.path(), Guard::Password);
    let daemon = Daemon::start();
    let host = registry.host();
    let name = format!("{host}/private/one:1");
    daemon.berth(&format!("tag busybox {name}")).ok();
    let programs = Scratch::new();
    let helper = programs.path().join("docker-credential-files");
    fs::write(&helper, HELPER).expect("a helper");
    fs::set_permissions(&helper, fs::Permissions::from_mode(0o755)).expect("a program");
    let path = format!(
        "{}:{}",
        programs.path().display(),
        std::env::var("PATH").unwrap_or_default()
    );
    let command = |client: Client, line: &str| daemon.command(client, line).env("PATH", &path);
    let file = config_path(&daemon);
    fs::create_dir_all(file.parent().expect("a directory")).expect("a directory");
    for (client, settings) in [
        (Client::Berth, json!({"credsStore": "files"})),
        (Client::Docker, json!({"credsStore": "files"})),
        (
            Client::Berth,
            json!({"credHelpers": {&host: "files"}, "credsStore": "absent"}),
        ),
    ] {
        fs::write(&file, settings.to_string()).expect("a configuration file");
        let told = command(client, &format!("login -u {USER} --password-stdin {host}"))
            .stdin(PASSWORD)
            .run()
            .ok();
        assert!(!told.stderr.contains("unencrypted"), "{told}");
        assert_eq!(config(&daemon)["auths"], json!({&host: {}}));
        let kept = programs.path().join(format!("kept-{host}"));
        let secret: Value =
            serde_json::from_slice(&fs::read(&kept).expect("a kept secret")).expect("JSON");
        assert_eq!(
            secret,
            json!({"ServerURL": host, "Username": USER, "Secret": PASSWORD})
        );
        command(client, &format!("push {name}")).run().ok();
        command(client, &format!("logout {host}")).run().ok();
        assert!(!kept.exists());
        assert_eq!(config(&daemon)["auths"], json!({}));
    }
    // A helper that is not there keeps nobody from what is public.
    fs::write(&file, json!({"credsStore": "absent"}).to_string()).expect("a file");
    daemon
        .berth(&format!("push {name}"))
        .exits(1)
        .says("docker-credential-absent")
        .says("going on without credentials")
        .says("no basic auth credentials");
}

#[test]
fn lists_of_manifests_are_made_and_put() {
    let storage = Scratch::new();
    let registry = Registry::empty(storage.path());
    let daemon = Daemon::start();
    let host = registry.host();
    let mut here = images::busybox().expect("the test image");
    here.name = "list/here:1".into();
    registry.push(&here, Dialect::Oci).expect("pushed");
    let other = Image::new(
        "list/there:1",
        &["none"],
        vec![Layer::new().file("there", 0o644, "").finish()],
    );
    registry.push(&other, Dialect::Oci).expect("pushed");
    let (_, digest, _) = manifest(&registry, "list/here", "1");

    // What a name stands for, without fetching it.
    let seen = daemon
        .api(
            "GET",
            &format!("/distribution/{host}/list/here:1/json"),
            None,
        )
        .expect(200)
        .json();
    assert_eq!(seen["Descriptor"]["digest"], digest.as_str());
    assert_eq!(seen["Descriptor"]["mediaType"], Dialect::Oci.manifest());
    assert_eq!(seen["Platforms"][0]["os"], "linux");
    daemon
        .api(
            "GET",
            &format!("/distribution/{host}/list/nothing:1/json"),
            None,
        )
        .expect(404);

    let list = format!("{host}/list/all:1");
    let (one, two) = (
        format!("{host}/list/here:1"),
        format!("{host}/list/there:1"),
    );
    daemon
        .berth(&format!("manifest create {list} {one} {two}"))
        .ok()
        .prints(&format!("Created manifest list {list}"));
    daemon
        .berth(&format!("manifest create {list} {one}"))
        .exits(1)
        .says("refusing to amend an existing manifest list with no --amend flag");
    daemon
        .berth(&format!(
            "manifest annotate --os linux --arch vax {list} {two}"
        ))
        .exits(1)
        .says("unsupported os/arch combination: linux/vax");
    daemon
        .berth(&format!(
            "manifest annotate --os linux --arch arm --variant v7 {list} {two}"
        ))
        .ok();
    // The stock client goes on with what ours began.
    let seen = daemon.docker(&format!("manifest inspect {list}")).ok();
    let local: Value = serde_json::from_str(&seen.stdout).expect("JSON");
    assert_eq!(local["manifests"].as_array().map(Vec::len), Some(2));
    assert_eq!(
        daemon
            .berth(&format!("manifest inspect {list}"))
            .ok()
            .stdout,
        seen.stdout
    );
    let pushed = daemon.berth(&format!("manifest push --purge {list}")).ok();
    let (kind, digest, document) = manifest(&registry, "list/all", "1");
    assert_eq!(kind, Dialect::Oci.index());
    assert!(pushed.stdout.ends_with(&format!("{digest}\n")), "{pushed}");
    assert_eq!(pushed.stdout.matches("Pushed ref ").count(), 2, "{pushed}");
    let platforms: Vec<&Value> = document["manifests"]
        .as_array()
        .expect("entries")
        .iter()
        .map(|entry| &entry["platform"])
        .collect();
    assert!(
        platforms.contains(&&json!({"architecture": "arm", "os": "linux", "variant": "v7"})),
        "{document}"
    );
    // Everybody can read it, from its own repository.
    Command::new(needs::program("skopeo", "skopeo"))
        .args(["inspect", "--tls-verify=false", "--raw"])
        .arg(format!("docker://{list}"))
        .run()
        .ok()
        .prints("\"v7\"");
    daemon
        .berth(&format!("run --rm --network none {list} true"))
        .ok();
    let remote = daemon.berth(&format!("manifest inspect -v {list}")).ok();
    let remote: Value = serde_json::from_str(&remote.stdout).expect("JSON");
    assert_eq!(remote.as_array().map(Vec::len), Some(2));
    assert!(remote[0]["OCIManifest"]["layers"].is_array(), "{remote}");
    // Forgotten by the push, made by the stock client, put by ours.
    daemon
        .berth(&format!("manifest rm {list}"))
        .exits(1)
        .says("No such manifest");
    // Old ones read no manifests of the OCI's.
    let create = format!("manifest create --insecure {host}/list/again:1 {one}");
    let client = needs::stock_client(28);
    daemon.command(client, &create).run().ok();
    daemon
        .berth(&format!("manifest push {host}/list/again:1"))
        .ok();
    daemon
        .berth(&format!("manifest rm {host}/list/again:1"))
        .ok();
    daemon
        .berth(&format!("manifest create {host}/list/more:1 {list}"))
        .exits(1)
        .says("is a manifest list");
    daemon
        .berth(&format!("manifest inspect {host}/list/nothing:1"))
        .exits(1)
        .says("no such manifest");
    // A registry without a search has at least a list.
    let found = daemon
        .berth(&format!("search --format '{{{{.Name}}}}' {host}/list/here"))
        .ok();
    assert_eq!(found.stdout, "list/here\n");
}
