use super::*;

fn spec(change: impl FnOnce(&mut serde_json::Value)) -> Spec {
    let mut document = serde_json::json!({
        "ociVersion": "1.2.0",
        "root": {"path": "rootfs", "readonly": true},
        "hostname": "box",
        "process": {"user": {"uid": 0, "gid": 0}, "args": ["sh"], "cwd": "/"},
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]}
        ],
        "linux": {
            "namespaces": [{"type": "mount"}, {"type": "uts"}, {"type": "pid"},
                           {"type": "network", "path": "/run/netns/x"}],
            "maskedPaths": ["/proc/kcore"],
            "readonlyPaths": ["/proc/sys"],
            "devices": [{"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 438}],
            "rootfsPropagation": "rslave"
        }
    });
    change(&mut document);
    serde_json::from_value(document).unwrap()
}

#[test]
fn an_ordinary_container_is_planned() {
    insta::assert_debug_snapshot!(SetupPlan::of(&spec(|_| {})).unwrap());
}

#[test]
fn what_cannot_be_is_refused_with_its_field() {
    type Change = fn(&mut serde_json::Value);
    let cases: [(&str, Change); 11] = [
        ("ociVersion", |d| d["ociVersion"] = "2.0.0".into()),
        ("root", |d| d["root"] = serde_json::Value::Null),
        ("linux", |d| d["linux"] = serde_json::Value::Null),
        ("linux.namespaces", |d| {
            d["linux"]["namespaces"] = serde_json::json!([{"type": "mount"}, {"type": "mount"}]);
        }),
        ("hostname", |d| {
            d["linux"]["namespaces"] = serde_json::json!([{"type": "mount"}]);
        }),
        ("linux.uidMappings", |d| {
            d["linux"]["uidMappings"] =
                serde_json::json!([{"containerID": 0, "hostID": 0, "size": 1}]);
        }),
        ("linux.sysctl[\"vm.swappiness\"]", |d| {
            d["linux"]["sysctl"] = serde_json::json!({"vm.swappiness": "1"});
        }),
        ("linux.sysctl[\"net/../vm/swappiness\"]", |d| {
            d["linux"]["sysctl"] = serde_json::json!({"net/../vm/swappiness": "1"});
        }),
        ("linux.sysctl[\"kernel.shmmax\"]", |d| {
            d["linux"]["sysctl"] = serde_json::json!({"kernel.shmmax": "1"});
        }),
        ("linux.rootfsPropagation", |d| {
            d["linux"]["rootfsPropagation"] = "odd".into();
        }),
        ("linux.timeOffsets", |d| {
            d["linux"]["timeOffsets"] = serde_json::json!({"monotonic": {"secs": 1}});
        }),
    ];
    for (field, change) in cases {
        match SetupPlan::of(&spec(change)) {
            Err(RuntimeError::Invalid { field: found, .. }) => assert_eq!(found, field),
            other => panic!("{field}: {other:?}"),
        }
    }
}

#[test]
fn parameters_become_paths() {
    let plan = SetupPlan::of(&spec(|d| {
        d["linux"]["sysctl"] =
            serde_json::json!({"net.ipv4.conf.eth0/1.forwarding": "1", "net/core/somaxconn": "9"});
    }))
    .unwrap();
    assert_eq!(
        plan.sysctls,
        [
            (PathBuf::from("net/core/somaxconn"), "9".to_owned()),
            (
                PathBuf::from("net/ipv4/conf/eth0.1/forwarding"),
                "1".to_owned()
            ),
        ]
    );
}

#[test]
fn a_bound_dev_is_left_alone() {
    let plan = SetupPlan::of(&spec(|d| {
        d["mounts"] = serde_json::json!([
            {"destination": "/dev", "type": "bind", "source": "/dev", "options": ["rbind"]}
        ]);
    }))
    .unwrap();
    assert!(!plan.fill_dev && plan.devices.is_empty() && plan.links.is_empty());
}

#[test]
fn a_device_of_the_configuration_replaces_a_default_one() {
    let plan = SetupPlan::of(&spec(|d| {
        d["linux"]["devices"] = serde_json::json!([
            {"path": "/dev/null", "type": "c", "major": 1, "minor": 3, "fileMode": 384, "uid": 7}
        ]);
    }))
    .unwrap();
    let null: Vec<_> = plan
        .devices
        .iter()
        .filter(|device| device.path == Path::new("/dev/null"))
        .collect();
    assert_eq!(null.len(), 1);
    assert_eq!((null[0].mode, null[0].user), (0o600, 7));
}
