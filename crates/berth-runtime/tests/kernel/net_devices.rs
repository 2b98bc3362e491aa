//! Network devices of the host that are moved into containers. The host is a network namespace of the test's own.

use std::process::Command;

use berth_runtime::Container;
use berth_sys::namespace;
use berth_sys::process::CLONE_NEWNET;
use serde_json::json;

use crate::fixture::{Bundle, wait_for};

crate::tests![
    a_device_keeps_its_addresses_and_gets_a_name,
    the_kernel_chooses_a_number,
    what_cannot_be_moved_is_refused_and_nothing_is_moved,
];

fn ip(words: &str) -> String {
    let output = Command::new("ip")
        .args(words.split_whitespace())
        .output()
        .expect("the package iproute2 is needed");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {words}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

/// Leaves the host's network behind and makes two devices in a new one.
fn host_with_devices() {
    namespace::unshare(CLONE_NEWNET).unwrap();
    ip("link add one type veth peer name one-peer");
    ip("link set one mtu 1400 address 02:00:00:00:00:11");
    ip("addr add 192.0.2.7/24 broadcast 192.0.2.255 dev one");
    ip("addr add 2001:db8::7/64 dev one nodad");
    ip("addr add 198.51.100.1/32 scope link dev one");
    ip("link add two type veth peer name two-peer");
}

fn end(container: Container) {
    let pid = container.pid();
    container.delete(true).unwrap();
    wait_for(pid);
}

fn a_device_keeps_its_addresses_and_gets_a_name() {
    host_with_devices();
    let mut bundle = Bundle::new("ip addr show dev inside; ip link show dev two");
    bundle.spec["linux"]["netDevices"] = json!({"one": {"name": "inside"}, "two": {}});
    bundle.spec["hooks"] = json!({"createRuntime": [{"path": "/bin/sh", "env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"],
        "args": ["sh", "-c", "! ip link show dev one && ! ip link show dev two"]}]});
    let text = bundle.stdout();
    for part in [
        "mtu 1400",
        "02:00:00:00:00:11",
        "inet 192.0.2.7/24 brd 192.0.2.255",
        "inet6 2001:db8::7/64",
        ",UP",
        " two@",
    ] {
        assert!(text.contains(part), "{part} is missing: {text}");
    }
    assert!(!text.contains("198.51.100.1"), "not global: {text}");
}

fn the_kernel_chooses_a_number() {
    host_with_devices();
    let mut bundle = Bundle::new("ls /sys/class/net");
    bundle.spec["linux"]["netDevices"] =
        json!({"one": {"name": "net%d"}, "two": {"name": "net%d"}});
    let text = bundle.stdout();
    assert!(text.contains("net0") && text.contains("net1"), "{text}");
}

fn what_cannot_be_moved_is_refused_and_nothing_is_moved() {
    host_with_devices();
    let mut bundle = Bundle::new("sleep 600");
    let mut refused = |devices: serde_json::Value, reason: &str| {
        bundle.spec["linux"]["netDevices"] = devices;
        let error = bundle.create().unwrap_err().chain();
        assert!(error.contains(reason), "{error}");
    };
    refused(
        json!({"absent": {}}),
        "network device absent: No such device",
    );
    refused(
        json!({"one": {"name": "lo"}}),
        "network device lo: File exists",
    );
    refused(json!({"one": {"name": "a/b"}}), "cannot be a device's name");
    refused(
        json!({"one": {"name": "a%db"}}),
        "cannot be a device's name",
    );
    refused(json!({"": {}}), "cannot be a device's name");
    // The second fails: the first comes back as it was.
    refused(
        json!({"one": {"name": "same"}, "two": {"name": "same"}}),
        "same: File exists",
    );
    let text = ip("addr show dev one");
    assert!(
        text.contains("192.0.2.7/24") && text.contains("2001:db8::7/64"),
        "{text}"
    );
    ip("link show dev two");
    // A namespace that is joined can be given devices as well.
    bundle.spec["linux"]["netDevices"] = json!({"one": {}});
    let container = bundle.create().unwrap();
    let mut other = Bundle::new("ip addr show dev two");
    other
        .namespace(json!({"type": "network", "path": format!("/proc/{}/ns/net", container.pid())}));
    other.spec["linux"]["netDevices"] = json!({"two": {}});
    assert!(other.stdout().contains(",UP"));
    end(container);
    bundle.spec["linux"]["namespaces"]
        .as_array_mut()
        .unwrap()
        .retain(|one| one["type"] != "network");
    let error = bundle.create().unwrap_err().chain();
    assert!(error.contains("needs a network namespace"), "{error}");
}
