//! Mounts: every kind, every option, and that nothing leaves the root.

use std::fs;
use std::os::unix::fs::symlink;

use serde_json::json;

use crate::fixture::{Bundle, lines};

crate::tests![
    the_mount_table_is_as_planned,
    a_file_and_a_directory_are_bound,
    attributes_hold_for_one_mount_or_for_all_below,
    propagation_is_as_asked,
    a_shared_mount_reaches_the_host_only_when_asked,
    a_tmpfs_takes_what_it_covers,
    a_read_only_tmpfs_can_be_a_mount_point,
    ids_are_mapped_on_a_mount,
    ids_are_mapped_as_the_container_maps_them,
    the_root_is_read_only,
    masked_paths_are_empty,
    read_only_paths_refuse_writes,
    links_in_the_root_stay_in_the_root,
    proc_goes_where_it_is_asked_only,
    a_detached_root_is_used,
    control_groups_are_shown,
    a_long_overlay_is_mounted,
    without_pivot_root,
];

fn the_mount_table_is_as_planned() {
    let bundle = Bundle::new("awk '{print $2, $3}' /proc/mounts");
    let output = bundle.stdout();
    let table = lines(&output);
    assert!(table[0].starts_with("/ "), "{table:?}");
    for expected in [
        "/proc proc",
        "/dev tmpfs",
        "/dev/pts devpts",
        "/dev/shm tmpfs",
        "/dev/mqueue mqueue",
        "/sys sysfs",
    ] {
        assert!(table.contains(&expected), "{expected} in {table:?}");
    }
    // Nothing of the host shines through.
    assert_eq!(
        table.iter().filter(|line| line.starts_with("/ ")).count(),
        1
    );
    assert!(!output.contains("old"));
}

fn a_file_and_a_directory_are_bound() {
    let mut bundle = Bundle::new(
        "cat /etc/new/file /data/inner; stat -c %F /data /etc/new/file; touch /data/made",
    );
    let source = bundle.path().join("source");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("inner"), "inner\n").unwrap();
    fs::write(bundle.path().join("one"), "one\n").unwrap();
    // A relative source starts at the bundle.
    bundle.mount(
        json!({"destination": "/data", "type": "bind", "source": "source", "options": ["rbind"]}),
    );
    bundle.mount(json!({"destination": "/etc/new/file", "type": "bind",
        "source": bundle.path().join("one"), "options": ["bind"]}));
    assert_eq!(
        lines(&bundle.stdout()),
        ["one", "inner", "directory", "regular file"]
    );
    assert!(source.join("made").exists());
}

/// A directory with a tmpfs below it, on the host; gone with the value.
struct HostTree {
    directory: std::path::PathBuf,
}

impl HostTree {
    fn new(bundle: &Bundle) -> Self {
        let directory = bundle.path().join("tree");
        fs::create_dir_all(directory.join("below")).unwrap();
        let mount = berth_sys::mount::new_file_system("tmpfs", Some("below"), &[], 0).unwrap();
        berth_sys::mount::attach_at(&mount, &directory.join("below")).unwrap();
        Self { directory }
    }
}

impl Drop for HostTree {
    fn drop(&mut self) {
        let _ = berth_sys::mount::detach(&self.directory.join("below"));
    }
}

fn attributes_hold_for_one_mount_or_for_all_below() {
    let script = "for d in /one /all; do touch $d/x 2>/dev/null && echo $d writes; touch $d/below/x 2>/dev/null && echo $d/below writes; done; grep -E ' /all/below ' /proc/mounts";
    let mut bundle = Bundle::new(script);
    let tree = HostTree::new(&bundle);
    bundle.mount(
        json!({"destination": "/one", "type": "bind", "source": tree.directory,
        "options": ["rbind", "ro"]}),
    );
    bundle.mount(
        json!({"destination": "/all", "type": "bind", "source": tree.directory,
        "options": ["rbind", "rro", "rnoexec", "rnosuid", "rnodev", "rnoatime"]}),
    );
    let output = bundle.stdout();
    let shown = lines(&output);
    assert_eq!(shown[0], "/one/below writes", "{output}");
    let options = shown[1].split(' ').nth(3).unwrap();
    for option in ["ro", "nosuid", "nodev", "noexec", "noatime"] {
        assert!(
            options.split(',').any(|one| one == option),
            "{option} in {options}"
        );
    }
    assert_eq!(shown.len(), 2);
}

fn propagation_is_as_asked() {
    let mut bundle =
        Bundle::new("grep -E ' /(private|slave|shared|root) | / / ' /proc/self/mountinfo");
    let tree = HostTree::new(&bundle);
    for word in ["private", "slave", "shared"] {
        bundle.mount(json!({"destination": format!("/{word}"), "type": "bind",
            "source": tree.directory.join("below"), "options": ["rbind", format!("r{word}")]}));
    }
    bundle.spec["linux"]["rootfsPropagation"] = json!("private");
    let output = bundle.stdout();
    let fields = |destination: &str| {
        let line = lines(&output)
            .into_iter()
            .find(|line| line.split(' ').nth(4) == Some(destination))
            .unwrap_or_else(|| panic!("{destination} in {output}"))
            .to_owned();
        line.split(' ')
            .skip(6)
            .take_while(|field| *field != "-")
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert!(fields("/private").is_empty());
    assert!(
        fields("/shared")
            .iter()
            .any(|field| field.starts_with("shared:"))
    );
    assert!(
        !fields("/slave")
            .iter()
            .any(|field| field.starts_with("shared:"))
    );
}

fn a_shared_mount_reaches_the_host_only_when_asked() {
    for (root, word, seen) in [
        ("rshared", "rshared", true),
        ("rslave", "rslave", false),
        ("rprivate", "rprivate", false),
    ] {
        let mut bundle = Bundle::new("mount -t tmpfs inner /data && touch /data/seen");
        let tree = HostTree::new(&bundle);
        let below = tree.directory.join("below");
        berth_sys::mount::set_propagation(&below, berth_sys::mount::Propagation::Shared, false)
            .unwrap();
        bundle.mount(json!({"destination": "/data", "type": "bind", "source": below, "options": ["rbind", word]}));
        bundle.spec["linux"]["rootfsPropagation"] = json!(root);
        for set in ["bounding", "effective", "permitted"] {
            bundle.spec["process"]["capabilities"][set]
                .as_array_mut()
                .unwrap()
                .push(json!("CAP_SYS_ADMIN"));
        }
        bundle.stdout();
        assert_eq!(below.join("seen").exists(), seen, "{word}");
        if seen {
            berth_sys::mount::detach(&below).unwrap();
        }
    }
}

fn a_tmpfs_takes_what_it_covers() {
    let mut bundle = Bundle::new(
        "cd /data && find . | sort | tr '\\n' ' '; cat file; readlink link; stat -c '%a %u %g' . file; echo new > file",
    );
    let data = bundle.root().join("data");
    fs::create_dir_all(data.join("deep/er")).unwrap();
    fs::write(data.join("file"), "content\n").unwrap();
    symlink("file", data.join("link")).unwrap();
    std::os::unix::fs::chown(data.join("file"), Some(7), Some(8)).unwrap();
    let mode = |path: &std::path::Path, mode| {
        fs::set_permissions(
            path,
            <fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(mode),
        )
        .unwrap();
    };
    mode(&data.join("file"), 0o4640);
    mode(&data, 0o1751);
    bundle.mount(json!({"destination": "/data", "type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup"]}));
    assert_eq!(
        bundle.stdout(),
        ". ./deep ./deep/er ./file ./link content\nfile\n1751 0 0\n4640 7 8"
    );
    assert_eq!(fs::read_to_string(data.join("file")).unwrap(), "content\n");
}

fn a_read_only_tmpfs_can_be_a_mount_point() {
    let mut bundle =
        Bundle::new("touch /ro/x 2>/dev/null || echo refused; touch /ro/inner/x && echo written");
    bundle.mount(
        json!({"destination": "/ro", "type": "tmpfs", "source": "tmpfs", "options": ["ro"]}),
    );
    bundle.mount(json!({"destination": "/ro/inner", "type": "tmpfs", "source": "tmpfs"}));
    assert_eq!(lines(&bundle.stdout()), ["refused", "written"]);
}

fn ids_are_mapped_on_a_mount() {
    let mut bundle = Bundle::new("stat -c '%u %g' /data/file; touch /data/made");
    let source = bundle.path().join("source");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("file"), "").unwrap();
    std::os::unix::fs::chown(source.join("file"), Some(5), Some(6)).unwrap();
    let map = json!([{"containerID": 0, "hostID": 1000, "size": 100}]);
    bundle.mount(
        json!({"destination": "/data", "type": "bind", "source": source,
        "options": ["rbind", "ridmap"], "uidMappings": map, "gidMappings": map}),
    );
    // 5 on disk is 1005 seen through the map; what 0 would make has no id on disk.
    let output = bundle
        .run()
        .unwrap_or_else(|error| panic!("{}", error.chain()));
    assert_eq!(output.stdout.trim(), "1005 1006");
    assert_ne!(output.code, 0);
}

fn ids_are_mapped_as_the_container_maps_them() {
    let mut bundle = Bundle::new("stat -c '%u %g' /data/file; touch /data/made");
    let source = bundle.path().join("source");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("file"), "").unwrap();
    bundle.user_namespace();
    bundle.mount(json!({"destination": "/data", "type": "bind", "source": source, "options": ["bind", "idmap"]}));
    assert_eq!(bundle.stdout(), "0 0");
    use std::os::unix::fs::MetadataExt;
    assert_eq!(fs::metadata(source.join("made")).unwrap().uid(), 0);
}

fn the_root_is_read_only() {
    let mut bundle =
        Bundle::new("touch /x 2>/dev/null || echo refused; touch /dev/shm/x && echo written");
    bundle.spec["root"]["readonly"] = json!(true);
    assert_eq!(lines(&bundle.stdout()), ["refused", "written"]);
    assert!(!bundle.root().join("x").exists());
}

fn masked_paths_are_empty() {
    let mut bundle = Bundle::new(
        "cat /secret | wc -c; ls /hidden | wc -l; ls -d /hidden2; touch /hidden/x 2>/dev/null || echo refused; cat /proc/keys | wc -c",
    );
    fs::write(bundle.root().join("secret"), "secret").unwrap();
    for name in ["hidden", "hidden2"] {
        fs::create_dir(bundle.root().join(name)).unwrap();
        fs::write(bundle.root().join(name).join("file"), "x").unwrap();
    }
    bundle.spec["linux"]["maskedPaths"] = json!([
        "/secret",
        "/hidden",
        "/hidden2",
        "/not/there",
        "/secret/below",
        "/proc/keys"
    ]);
    assert_eq!(
        lines(&bundle.stdout()),
        ["0", "0", "/hidden2", "refused", "0"]
    );
}

fn read_only_paths_refuse_writes() {
    let mut bundle = Bundle::new(
        "echo 1 2>/dev/null > /proc/sys/kernel/shmmni || echo refused; touch /etc/x 2>/dev/null || echo refused; cat /etc/passwd | wc -l",
    );
    bundle.spec["linux"]["readonlyPaths"] = json!(["/proc/sys", "/etc", "/not/there"]);
    assert_eq!(lines(&bundle.stdout()), ["refused", "refused", "2"]);
}

fn links_in_the_root_stay_in_the_root() {
    let mut bundle = Bundle::new("ls /real; cat /target/file");
    let outside = bundle.path().join("outside");
    fs::create_dir(&outside).unwrap();
    symlink(&outside, bundle.root().join("absolute")).unwrap();
    symlink("../../../../../../..", bundle.root().join("up")).unwrap();
    symlink("/real", bundle.root().join("chained")).unwrap();
    let source = bundle.path().join("source");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("file"), "content").unwrap();
    for destination in ["/absolute/a", "/up/target", "/chained"] {
        bundle.mount(json!({"destination": destination, "type": "bind", "source": source, "options": ["bind"]}));
    }
    assert_eq!(lines(&bundle.stdout()), ["file", "content"]);
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    assert!(!std::path::Path::new("/target").exists());
}

fn proc_goes_where_it_is_asked_only() {
    let mut bundle = Bundle::new("true");
    fs::remove_dir(bundle.root().join("proc")).unwrap();
    symlink("/tmp", bundle.root().join("proc")).unwrap();
    let error = bundle.create().unwrap_err();
    assert!(
        error.chain().contains("ordinary directory"),
        "{}",
        error.chain()
    );
    bundle.spec["mounts"][0]["destination"] = json!("/tmp");
    bundle.spec["mounts"][0]["type"] = json!("proc");
    fs::remove_file(bundle.root().join("proc")).unwrap();
    bundle.spec["process"]["args"] = json!(["sh", "-c", "cat /tmp/self/comm"]);
    assert_eq!(bundle.stdout(), "cat");
}

fn a_detached_root_is_used() {
    let bundle = Bundle::new("touch /made; ls /made; awk '$2==\"/\"{print $3}' /proc/mounts");
    let layers: Vec<_> = ["upper", "work"]
        .iter()
        .map(|name| {
            let directory = bundle.path().join(name);
            fs::create_dir(&directory).unwrap();
            directory
        })
        .collect();
    let overlay = berth_sys::mount::overlay::Overlay {
        lower: vec![bundle.root()],
        upper: Some(layers[0].clone()),
        work: Some(layers[1].clone()),
        ..Default::default()
    };
    let mut request = bundle.request(bundle.files());
    request.root = berth_runtime::RootSource::Detached(overlay.mount_detached().unwrap());
    let mut container =
        berth_runtime::create(request).unwrap_or_else(|error| panic!("{}", error.chain()));
    container.start().unwrap();
    let status = crate::fixture::wait_for(container.pid());
    let output = bundle.output(status, Vec::new());
    assert_eq!(lines(&output.stdout), ["/made", "overlay"], "{output:?}");
    assert!(layers[0].join("made").exists());
    assert!(!bundle.root().join("made").exists());
    container.delete(false).unwrap();
}

fn control_groups_are_shown() {
    let bundle = Bundle::new(
        "ls /sys/fs/cgroup/pids/cgroup.procs /sys/fs/cgroup/cgroup.procs 2>/dev/null | wc -l; touch /sys/fs/cgroup/x 2>/dev/null || echo refused; cat /sys/fs/cgroup/pids/cgroup.procs /sys/fs/cgroup/cgroup.procs 2>/dev/null | head -1",
    );
    assert_eq!(lines(&bundle.stdout()), ["1", "refused", "1"]);
}

fn a_long_overlay_is_mounted() {
    let mut bundle = Bundle::new("ls /merged | wc -l");
    let layers: Vec<String> = (0..12)
        .map(|number| {
            let layer = bundle.path().join(format!("{}{number}", "layer".repeat(8)));
            fs::create_dir(&layer).unwrap();
            fs::write(layer.join(format!("file{number}")), "").unwrap();
            layer.to_string_lossy().into_owned()
        })
        .collect();
    bundle.mount(
        json!({"destination": "/merged", "type": "overlay", "source": "overlay",
        "options": [format!("lowerdir={}", layers.join(":")), "ro"]}),
    );
    assert_eq!(bundle.stdout(), "12");
}

fn without_pivot_root() {
    let bundle = Bundle::new("ls / | head -3 | tr '\\n' ' '; echo done");
    let mut request = bundle.request(bundle.files());
    request.no_pivot = true;
    let mut container =
        berth_runtime::create(request).unwrap_or_else(|error| panic!("{}", error.chain()));
    container.start().unwrap();
    let status = crate::fixture::wait_for(container.pid());
    let output = bundle.output(status, Vec::new());
    assert_eq!(output.stdout, "bin dev etc done\n", "{output:?}");
    container.delete(false).unwrap();
}
