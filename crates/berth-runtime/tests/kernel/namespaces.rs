//! Namespaces: made, joined, and what lies in them.

use std::fs;

use serde_json::json;

use crate::fixture::{Bundle, lines, wait_for};

crate::tests![
    every_namespace_is_new,
    a_namespace_that_is_not_listed_is_the_hosts,
    without_a_mount_namespace_nothing_is_mounted_on_the_host,
    namespaces_can_be_joined,
    loopback_is_up,
    a_user_namespace_has_its_maps,
    a_user_namespace_can_be_joined,
    clocks_are_offset,
    clocks_are_offset_in_a_user_namespace,
    host_and_domain_name,
    the_cgroup_namespace_starts_at_the_group,
    kernel_parameters_are_set_inside_only,
];

fn links(text: &str) -> Vec<String> {
    lines(text).into_iter().map(str::to_owned).collect()
}

const KINDS: [&str; 7] = ["cgroup", "ipc", "mnt", "net", "pid", "uts", "time"];

fn own() -> Vec<String> {
    KINDS
        .iter()
        .map(|kind| {
            fs::read_link(format!("/proc/self/ns/{kind}"))
                .unwrap()
                .to_string_lossy()
                .into_owned()
        })
        .collect()
}

const SHOW: &str = "for n in cgroup ipc mnt net pid uts time; do readlink /proc/self/ns/$n; done";

fn every_namespace_is_new() {
    let mut bundle = Bundle::new(SHOW);
    bundle.namespace(json!({"type": "time"}));
    let inside = links(&bundle.stdout());
    let before = own();
    for (inside, outside) in inside.iter().zip(&before) {
        assert_ne!(inside, outside);
    }
    assert_eq!(inside.len(), 7);
    // And the caller is where it was.
    assert_eq!(own(), before);
}

fn a_namespace_that_is_not_listed_is_the_hosts() {
    let mut bundle = Bundle::new(SHOW);
    bundle.spec["linux"]["namespaces"] = json!([{"type": "mount"}]);
    bundle.spec.as_object_mut().unwrap().remove("hostname");
    let inside = links(&bundle.stdout());
    for ((kind, inside), outside) in KINDS.iter().zip(&inside).zip(&own()) {
        assert_eq!(inside == outside, *kind != "mnt", "{kind}");
    }
}

/// config-linux.md, "Namespaces": what is not listed is the runtime's. The mounts are the container's all the same.
fn without_a_mount_namespace_nothing_is_mounted_on_the_host() {
    let script = "readlink /proc/self/ns/mnt; cat /bound/file; ls /dev/pts /proc/acpi; \
                  touch /proc/sys/kernel/hostname 2>&1 | grep -o Read-only; exec sleep 600";
    let mut bundle = Bundle::new(script);
    bundle.spec["linux"]["namespaces"] = json!([]);
    bundle.spec.as_object_mut().unwrap().remove("hostname");
    fs::create_dir(bundle.path().join("source")).unwrap();
    fs::write(bundle.path().join("source/file"), "bound\n").unwrap();
    bundle.mount(
        json!({"destination": "/bound", "type": "bind", "source": "source",
                        "options": ["rbind", "ro"]}),
    );
    let own_path = bundle.path().to_string_lossy().into_owned();
    let mounted = || {
        let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
        table.contains(&own_path)
    };
    let mut container = match bundle.create() {
        Ok(container) => container,
        Err(error) => {
            // Kernels before 6.15 cannot mount on what is attached nowhere.
            assert!(error.chain().contains("Linux 6.15"), "{}", error.chain());
            let release = rustix::system::uname();
            let release = release.release().to_string_lossy().into_owned();
            let mut numbers = release
                .split('.')
                .map(|part| part.parse::<u32>().unwrap_or(0));
            let version = (numbers.next().unwrap(), numbers.next().unwrap());
            assert!(version < (6, 15), "{release}");
            return;
        }
    };
    assert!(!mounted());
    container.start().unwrap();
    let seen = || fs::read_to_string(bundle.path().join("stdout")).unwrap();
    crate::fixture::until("all is shown", || seen().ends_with("Read-only\n"));
    let seen = seen();
    assert!(
        seen.starts_with(&format!("{}\nbound\n", own()[2])),
        "{seen}"
    );
    assert!(seen.contains("/dev/pts:\nptmx\n"), "{seen}");
    // An exec has the same root, and mounts that the host does not see.
    let output = bundle
        .exec(bundle.shell("readlink /proc/self/ns/mnt; cat /bound/file; touch /bound/x"))
        .unwrap();
    assert_eq!(output.stdout, format!("{}\nbound\n", own()[2]));
    assert_eq!(output.code, 1, "{output:?}");
    assert!(!mounted());
    let pid = container.pid();
    container.delete(true).unwrap();
    wait_for(pid);
    assert!(!mounted());
}

fn namespaces_can_be_joined() {
    let first = Bundle::new("sleep 600");
    let mut container = first.create().unwrap();
    container.start().unwrap();
    let of = |kind: &str| format!("/proc/{}/ns/{kind}", container.pid());
    let mut second = Bundle::new(SHOW);
    for (kind, file) in [
        ("network", "net"),
        ("ipc", "ipc"),
        ("uts", "uts"),
        ("pid", "pid"),
    ] {
        second.namespace(json!({"type": kind, "path": of(file)}));
    }
    second.spec.as_object_mut().unwrap().remove("hostname");
    let inside = links(&second.stdout());
    for (kind, inside) in KINDS.iter().zip(&inside) {
        let expected = fs::read_link(of(kind))
            .unwrap()
            .to_string_lossy()
            .into_owned();
        let joined = matches!(*kind, "net" | "ipc" | "uts" | "pid" | "time");
        assert_eq!(*inside == expected, joined, "{kind}");
    }
    let pid = container.pid();
    container.delete(true).unwrap();
    wait_for(pid);
}

fn loopback_is_up() {
    let bundle = Bundle::new("ip addr show lo");
    let shown = bundle.stdout();
    assert!(
        shown.contains("127.0.0.1/8") && shown.contains("UP"),
        "{shown}"
    );
}

fn a_user_namespace_has_its_maps() {
    let mut bundle = Bundle::new(
        "cat /proc/self/uid_map /proc/self/gid_map; id -u; stat -c %u /proc /dev /dev/pts /dev/null; mount | grep -c ^; touch /tmp/x && stat -c %u /tmp/x",
    );
    bundle.user_namespace();
    let output = bundle.stdout();
    let shown = lines(&output);
    for line in &shown[..2] {
        assert_eq!(
            line.split_whitespace().collect::<Vec<_>>(),
            ["0", "100000", "65536"]
        );
    }
    assert_eq!(shown[2], "0");
    // /dev/null is the host's and not mapped; the rest is the container's own.
    assert_eq!(shown[4..6], ["0", "0"]);
    assert_eq!(shown[6], "65534");
    assert_eq!(*shown.last().unwrap(), "0");
}

fn a_user_namespace_can_be_joined() {
    let mut first = Bundle::new("sleep 600");
    first.user_namespace();
    let mut container = first
        .create()
        .unwrap_or_else(|error| panic!("{}", error.chain()));
    container.start().unwrap();
    let mut second = Bundle::new(
        "readlink /proc/self/ns/user; id -u; echo $$; ip addr show lo | grep -c 127.0.0.1; hostname",
    );
    second.user_namespace();
    second.namespace(json!({"type": "user", "path": format!("/proc/{}/ns/user", container.pid())}));
    second.spec["linux"]
        .as_object_mut()
        .unwrap()
        .remove("uidMappings");
    second.spec["linux"]
        .as_object_mut()
        .unwrap()
        .remove("gidMappings");
    let output = second.stdout();
    let expected = fs::read_link(format!("/proc/{}/ns/user", container.pid())).unwrap();
    assert_eq!(
        lines(&output),
        [&*expected.to_string_lossy(), "0", "1", "1", "box"]
    );
    let pid = container.pid();
    container.delete(true).unwrap();
    wait_for(pid);
}

fn seconds(text: &str) -> f64 {
    text.split_whitespace().next().unwrap().parse().unwrap()
}

fn clocks_are_offset() {
    let mut bundle = Bundle::new("cat /proc/uptime");
    bundle.namespace(json!({"type": "time"}));
    bundle.spec["linux"]["timeOffsets"] =
        json!({"boottime": {"secs": 1_000_000}, "monotonic": {"secs": 5}});
    let inside = seconds(&bundle.stdout());
    let outside = seconds(&fs::read_to_string("/proc/uptime").unwrap());
    assert!(inside - outside > 999_000.0, "{inside} {outside}");
}

fn clocks_are_offset_in_a_user_namespace() {
    let mut bundle = Bundle::new("cat /proc/uptime");
    bundle.user_namespace();
    bundle.namespace(json!({"type": "time"}));
    bundle.spec["linux"]["timeOffsets"] = json!({"boottime": {"secs": 1_000_000}});
    let inside = seconds(&bundle.stdout());
    let outside = seconds(&fs::read_to_string("/proc/uptime").unwrap());
    assert!(inside - outside > 999_000.0, "{inside} {outside}");
}

fn host_and_domain_name() {
    let mut bundle = Bundle::new("hostname; cat /proc/sys/kernel/domainname");
    bundle.spec["domainname"] = json!("example.org");
    assert_eq!(lines(&bundle.stdout()), ["box", "example.org"]);
    assert_ne!(
        fs::read_to_string("/proc/sys/kernel/hostname")
            .unwrap()
            .trim(),
        "box"
    );
}

fn the_cgroup_namespace_starts_at_the_group() {
    let bundle = Bundle::new("cat /proc/self/cgroup; ls /sys/fs/cgroup");
    let output = bundle.stdout();
    let groups: Vec<&str> = lines(&output)
        .into_iter()
        .filter(|line| line.contains(':'))
        .collect();
    assert!(!groups.is_empty());
    for line in groups {
        assert!(line.ends_with(":/"), "{line}");
    }
}

fn kernel_parameters_are_set_inside_only() {
    let path = "/proc/sys/net/ipv4/ip_forward";
    let outside = fs::read_to_string(path).unwrap();
    let mut bundle = Bundle::new(
        "cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/kernel/shmmni /proc/sys/net/ipv4/ip_forward",
    );
    bundle.spec["linux"]["sysctl"] = json!({
        "net.ipv4.ip_unprivileged_port_start": "81", "kernel.shmmni": "123", "net/ipv4/ip_forward": "1"});
    assert_eq!(lines(&bundle.stdout()), ["81", "123", "1"]);
    assert_eq!(fs::read_to_string(path).unwrap(), outside);
}
