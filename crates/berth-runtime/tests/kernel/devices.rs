//! Devices, links and the terminal in /dev.

use std::fs;

use berth_runtime::{StdioRequest, create};
use serde_json::json;

use crate::exec::read_terminal;
use crate::fixture::{Bundle, lines, wait_for};

crate::tests![
    default_devices_and_links_are_there,
    devices_of_the_configuration_are_made,
    a_device_that_is_there_is_kept_and_another_is_refused,
    other_devices_cannot_be_opened,
    the_terminal_is_the_containers_own,
    a_terminal_belongs_to_the_user,
    a_bound_dev_is_left_as_it_is,
];

fn default_devices_and_links_are_there() {
    let bundle = Bundle::new(
        "for d in null zero full random urandom tty; do stat -c '%n %F %t:%T %a' /dev/$d; done; for l in fd stdin stdout stderr ptmx; do readlink /dev/$l; done; head -c 3 /dev/zero | wc -c; echo x > /dev/null; head -c 1 /dev/urandom | wc -c",
    );
    assert_eq!(
        lines(&bundle.stdout()),
        [
            "/dev/null character special file 1:3 666",
            "/dev/zero character special file 1:5 666",
            "/dev/full character special file 1:7 666",
            "/dev/random character special file 1:8 666",
            "/dev/urandom character special file 1:9 666",
            "/dev/tty character special file 5:0 666",
            "/proc/self/fd",
            "/proc/self/fd/0",
            "/proc/self/fd/1",
            "/proc/self/fd/2",
            "pts/ptmx",
            "3",
            "1",
        ]
    );
}

fn devices_of_the_configuration_are_made() {
    let mut bundle = Bundle::new("stat -c '%n %F %t:%T %a %u %g' /dev/net/tun /dev/blk /run/pipe");
    bundle.spec["linux"]["devices"] = json!([
        {"path": "/dev/net/tun", "type": "c", "major": 10, "minor": 200, "fileMode": 0o620, "uid": 5, "gid": 6},
        {"path": "/dev/blk", "type": "b", "major": 7, "minor": 99, "fileMode": 0o600},
        {"path": "/run/pipe", "type": "p", "major": 0, "minor": 0, "fileMode": 0o644},
    ]);
    assert_eq!(
        lines(&bundle.stdout()),
        [
            "/dev/net/tun character special file a:c8 620 5 6",
            "/dev/blk block special file 7:63 600 0 0",
            "/run/pipe fifo 0:0 644 0 0",
        ]
    );
}

fn a_device_that_is_there_is_kept_and_another_is_refused() {
    let mut bundle = Bundle::new("stat -c %t:%T /made");
    bundle.spec["linux"]["devices"] =
        json!([{"path": "/made", "type": "c", "major": 1, "minor": 3}]);
    assert_eq!(bundle.stdout(), "1:3");
    // It is in the root file system now.
    assert_eq!(bundle.stdout(), "1:3");
    bundle.spec["linux"]["devices"] =
        json!([{"path": "/made", "type": "c", "major": 1, "minor": 5}]);
    assert!(bundle.create().unwrap_err().chain().contains("/made"));
    fs::remove_file(bundle.root().join("made")).unwrap();
}

fn other_devices_cannot_be_opened() {
    let mut bundle = Bundle::new(
        "cat /dev/kmsg > /dev/null 2>&1 && echo opened; mknod /dev/mem2 c 1 11 2>/dev/null; head -c 1 /dev/extra | wc -c",
    );
    bundle.spec["linux"]["devices"] = json!([
        {"path": "/dev/kmsg", "type": "c", "major": 1, "minor": 11},
        {"path": "/dev/extra", "type": "c", "major": 1, "minor": 5},
    ]);
    bundle.spec["linux"]["resources"] = json!({"devices": [
        {"allow": false, "access": "rwm"},
        {"allow": true, "type": "c", "major": 1, "minor": 5, "access": "r"},
    ]});
    assert_eq!(bundle.stdout(), "1");
}

fn the_terminal_is_the_containers_own() {
    let mut bundle = Bundle::new(
        "tty; stty size; ls -l /dev/console | cut -c1; stat -c %t:%T /dev/console /dev/pts/0; echo $$ > /dev/tty",
    );
    bundle.spec["process"]["terminal"] = json!(true);
    bundle.spec["process"]["consoleSize"] = json!({"height": 40, "width": 132});
    let mut container = create(bundle.request(StdioRequest::Terminal))
        .unwrap_or_else(|error| panic!("{}", error.chain()));
    let master = container.console.take().unwrap();
    container.start().unwrap();
    let text = read_terminal(master);
    assert_eq!(
        lines(&text),
        ["/dev/pts/0", "40 132", "c", "88:0", "88:0", "1"]
    );
    wait_for(container.pid());
    container.delete(false).unwrap();
    // The flag and the request must agree.
    assert!(bundle.create().is_err());
}

fn a_terminal_belongs_to_the_user() {
    let mut bundle =
        Bundle::new("stat -c '%u %g' /dev/console; echo x > /dev/console && echo written");
    bundle.spec["process"]["terminal"] = json!(true);
    bundle.spec["process"]["user"] = json!({"uid": 1000, "gid": 1000});
    let mut container = create(bundle.request(StdioRequest::Terminal))
        .unwrap_or_else(|error| panic!("{}", error.chain()));
    let master = container.console.take().unwrap();
    container.start().unwrap();
    assert_eq!(lines(&read_terminal(master)), ["1000 5", "x", "written"]);
    wait_for(container.pid());
    container.delete(false).unwrap();
}

fn a_bound_dev_is_left_as_it_is() {
    let mut bundle = Bundle::new("ls /dev");
    let dev = bundle.path().join("hostdev");
    fs::create_dir(&dev).unwrap();
    fs::write(dev.join("marker"), "").unwrap();
    bundle.spec["mounts"] = json!([
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {"destination": "/dev", "type": "bind", "source": dev, "options": ["rbind"]},
    ]);
    assert_eq!(bundle.stdout(), "marker");
}
