//! `config.json` of a few containers, whole.

use std::path::PathBuf;
use std::sync::Arc;

use super::*;
use crate::containers::spec::{MountKind, MountPoint, Propagation, Ulimit};
use crate::containers::test_support::record;

fn surroundings() -> Surroundings {
    Surroundings {
        account: Account {
            uid: 0,
            gid: 0,
            groups: vec![0, 10],
            home: "/root".to_owned(),
        },
        etc: vec![(PathBuf::from("/data/hosts"), "/etc/hosts")],
        cgroup: PathBuf::from("/berth/x"),
        ..Surroundings::default()
    }
}

fn json(change: impl FnOnce(&mut ContainerRecord), around: &Surroundings) -> serde_json::Value {
    let mut container = record(1, "web");
    change(&mut container);
    let spec = specification(&container, &HostFeatures::default(), around).expect("a spec");
    let mut value = serde_json::to_value(spec).expect("JSON");
    // Sets have no order in the document.
    for set in ["bounding", "effective", "permitted"] {
        if let Some(list) = value["process"]["capabilities"][set].as_array_mut() {
            list.sort_by_key(ToString::to_string);
        }
    }
    if let Some(map) = value["linux"]["sysctl"].as_object_mut() {
        map.sort_keys();
    }
    value
}

fn text(value: &serde_json::Value) -> String {
    serde_json::to_string_pretty(value).expect("JSON")
}

#[test]
fn a_plain_container() {
    insta::assert_snapshot!("plain", text(&json(|_| {}, &surroundings())));
}

#[test]
fn a_privileged_container_of_the_host() {
    let value = json(
        |r| {
            let host = &mut Arc::make_mut(&mut r.spec).host;
            host.privileged = true;
            host.network_mode = NetworkMode::Host;
            host.pid = PidMode::Host;
            host.ipc = IpcMode::Host;
            host.uts = UtsMode::Host;
        },
        &Surroundings {
            shm: Some(PathBuf::from("/dev/shm")),
            ..surroundings()
        },
    );
    insta::assert_snapshot!("privileged", text(&value));
}

#[test]
fn limits_user_mounts_and_hardening() {
    let value = json(
        |r| {
            r.resources.memory = Some(64 << 20);
            r.resources.memory_swap = Some(128 << 20);
            r.resources.nano_cpus = Some(1_500_000_000);
            r.resources.pids_limit = Some(0);
            r.resources.ulimits = vec![Ulimit {
                name: "nofile".to_owned(),
                soft: 1024,
                hard: -1,
            }];
            let spec = Arc::make_mut(&mut r.spec);
            spec.config.tty = true;
            spec.config.env = vec!["A=1".to_owned(), "PATH=/own".to_owned()];
            spec.host.console_size = Some((24, 80));
            spec.host.readonly_rootfs = true;
            spec.host.security_opt = vec![
                "no-new-privileges".to_owned(),
                "systempaths=unconfined".to_owned(),
            ];
            spec.host.cap_drop = vec!["all".to_owned()];
            spec.host.cap_add = vec!["net_admin".to_owned()];
            spec.mounts = vec![MountPoint {
                kind: MountKind::Bind,
                source: "/srv".to_owned(),
                target: "/data".to_owned(),
                mode: "ro".to_owned(),
                writable: false,
                propagation: Some(Propagation::RSlave),
                recursive_read_only: true,
                create_source: true,
                ..MountPoint::default()
            }];
        },
        &Surroundings {
            account: Account {
                uid: 1000,
                gid: 1000,
                groups: vec![1000],
                home: "/home/me".to_owned(),
            },
            init: Some(PathBuf::from("/usr/bin/berth")),
            ..surroundings()
        },
    );
    insta::assert_snapshot!("limited", text(&value));
}

#[test]
fn security_options_are_read_and_unknown_ones_refused() {
    let parse = |texts: &[&str]| {
        SecurityOptions::parse(&texts.iter().map(|t| (*t).to_owned()).collect::<Vec<_>>())
    };
    let options = parse(&[
        "seccomp=unconfined",
        "label:disable",
        "no-new-privileges=false",
    ])
    .expect("options");
    assert_eq!(options.seccomp, SeccompChoice::Unconfined);
    assert_eq!(options.no_new_privileges, Some(false));
    for bad in [
        "x",
        "seccom=unconfined",
        "no-new-privileges=maybe",
        "systempaths=all",
    ] {
        assert!(parse(&[bad]).is_err(), "{bad} was taken");
    }
}

#[test]
fn device_rules_are_read_and_nonsense_refused() {
    assert!(cgroup_rule("c 1:3 rwm").is_ok());
    assert!(cgroup_rule("b 8:* r").is_ok());
    for bad in [
        "",
        "c 1 rwm",
        "d 1:3 r",
        "c 1:3 x",
        "c 1:3 rwmr",
        "c a:3 r",
        "c 1:3",
    ] {
        assert!(cgroup_rule(bad).is_err(), "{bad:?} was taken");
    }
}
