//! `image why`: what the client tells of packages, as text and for programs.

use std::collections::BTreeSet;

use berth_testkit::archive::Layer;
use berth_testkit::{Client, Daemon, Engine, Settings};
use serde_json::Value;

/// A database that rpm made, and what rpm lists of it: see the tests of `berth-image`.
const DATABASE: &[u8] = include_bytes!("../../../berth-image/tests/kernel/databases/Packages.db");
const LIST: &str = include_str!("../../../berth-image/tests/kernel/databases/Packages.db.list");

#[test]
fn packages_are_listed_and_what_is_not_read_is_named() {
    let settings = Settings {
        without_images: true,
        ..Settings::default()
    };
    let daemon = Daemon::with(Engine::Berth, settings);
    let pacman = "%NAME%\nthing\n\n%VERSION%\n1:2.0-3\n\n%ARCH%\nany\n\n%SIZE%\n3000\n";
    let root = Layer::new()
        .file("usr/lib/sysimage/rpm/Packages.db", 0o644, DATABASE)
        .file("var/lib/pacman/local/thing-1:2.0-3/desc", 0o644, pacman)
        .file("var/lib/rpm/rpmdb.sqlite", 0o644, [0; 4096])
        .finish();
    daemon
        .command(Client::Berth, "import - packages:1")
        .stdin(root)
        .run()
        .ok();
    let told = daemon.berth("image why --format json packages:1").ok();
    let why: Value = serde_json::from_str(told.text()).expect("JSON");
    let packages = why["Packages"].as_array().expect("a list");
    let listed: BTreeSet<String> = packages
        .iter()
        .map(|package| {
            let word = |name: &str| package[name].as_str().unwrap_or_default().to_owned();
            let size = package["Size"].as_u64().unwrap_or_default();
            let (manager, name) = (word("Manager"), word("Name"));
            let (version, architecture) = (word("Version"), word("Architecture"));
            format!("{manager} {name} {version} {architecture} {size}")
        })
        .collect();
    let expected: BTreeSet<String> = LIST
        .lines()
        .map(|line| format!("rpm {line}"))
        .chain(["pacman thing 1:2.0-3 any 3000".to_owned()])
        .collect();
    assert_eq!(listed, expected);
    let reason = "/var/lib/rpm/rpmdb.sqlite: it is no SQLite database";
    assert_eq!(why["UnreadDatabases"], serde_json::json!([reason]));
    let text = daemon.berth("image why packages:1").ok();
    for line in [
        "PACKAGES  15",
        "5MB       two 3:2.5~rc1-4.fc40 (rpm)",
        "PACKAGE DATA NOT READ",
        reason,
    ] {
        assert!(
            text.text().lines().any(|told| told == line),
            "{line}: {text}"
        );
    }
}
