//! Attacks that other runtimes have fallen to.

use std::fs;
use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;

use crate::fixture::{Bundle, wait_for};

crate::tests![
    no_descriptor_leaks,
    a_working_directory_by_descriptor_is_refused,
    the_host_is_not_reachable_after_the_root_has_changed,
    a_mount_target_cannot_be_swapped,
    nothing_covers_proc,
    a_huge_passwd_is_harmless,
    the_session_keyring_is_the_containers_own,
];

/// CVE-2024-21626 and its kin.
fn no_descriptor_leaks() {
    let bundle = Bundle::new("ls /proc/self/fd | tr '\\n' ' '");
    let leak = fs::File::open("/").unwrap();
    rustix::io::fcntl_setfd(&leak, rustix::io::FdFlags::empty()).unwrap();
    // 3 is the directory being listed.
    assert_eq!(bundle.stdout(), "0 1 2 3");
}

fn a_working_directory_by_descriptor_is_refused() {
    let leak = fs::File::open("/").unwrap();
    rustix::io::fcntl_setfd(&leak, rustix::io::FdFlags::empty()).unwrap();
    for number in 3..20 {
        let mut bundle = Bundle::new("pwd; ls");
        bundle.spec["process"]["cwd"] = json!(format!("/proc/self/fd/{number}"));
        match bundle.run() {
            Err(_) => {}
            Ok(output) => {
                assert!(
                    !output.stdout.contains("unreachable"),
                    "{number}: {output:?}"
                );
                assert!(!output.stdout.contains("home"), "{number}: {output:?}");
            }
        }
    }
}

fn the_host_is_not_reachable_after_the_root_has_changed() {
    let bundle = Bundle::new(
        "cd /; i=0; while [ $i -lt 50 ]; do cd ..; i=$((i+1)); done; ls | tr '\\n' ' '; readlink /proc/1/root",
    );
    assert_eq!(bundle.stdout(), "bin dev etc proc root sys tmp /");
}

/// CVE-2021-30465: a directory that a mount goes to becomes a link while the mount is made.
fn a_mount_target_cannot_be_swapped() {
    static STOP: AtomicBool = AtomicBool::new(false);
    let outside = tempfile::tempdir().unwrap();
    let mut bundle = Bundle::new("true");
    let shared = bundle.path().join("shared");
    fs::create_dir_all(shared.join("real")).unwrap();
    let source = bundle.path().join("source");
    fs::create_dir(&source).unwrap();
    bundle.mount(
        json!({"destination": "/shared", "type": "bind", "source": shared, "options": ["rbind"]}),
    );
    bundle.mount(json!({"destination": "/shared/real/target", "type": "bind", "source": source, "options": ["bind"]}));
    // A process swaps; a thread would keep this one from cloning.
    let (link, real, other) = (
        shared.join("link"),
        shared.join("real"),
        shared.join("other"),
    );
    symlink(outside.path(), &link).unwrap();
    let swapper = berth_sys::process::clone_process(&Default::default(), || {
        while !STOP.load(Ordering::Relaxed) {
            let _ = fs::rename(&real, &other);
            let _ = fs::rename(&link, &real);
            let _ = fs::rename(&real, &link);
            let _ = fs::rename(&other, &real);
        }
        0
    })
    .unwrap();
    for _ in 0..200 {
        match bundle.create() {
            Ok(container) => {
                let pid = container.pid();
                container.delete(true).unwrap();
                wait_for(pid);
            }
            // Losing the race is allowed; leaving the root is not.
            Err(error) => assert!(!error.chain().is_empty()),
        }
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
    }
    swapper.signal(9).unwrap();
    swapper.wait().unwrap();
}

/// CVE-2019-16884: an image's volume over /proc would fake the files that labels are written to.
fn nothing_covers_proc() {
    let mut bundle = Bundle::new("true");
    let source = bundle.path().join("fake");
    fs::create_dir(&source).unwrap();
    for destination in ["/proc", "/proc/self/attr", "/tmp/../proc"] {
        bundle.mount(json!({"destination": destination, "type": "bind", "source": source, "options": ["bind"]}));
        assert!(bundle.create().is_err(), "{destination}");
        bundle.spec["mounts"].as_array_mut().unwrap().pop();
    }
    // Emulated files as from lxcfs are fine.
    fs::write(bundle.path().join("uptime"), "1.00 1.00\n").unwrap();
    bundle.mount(json!({"destination": "/proc/uptime", "type": "bind",
        "source": bundle.path().join("uptime"), "options": ["bind"]}));
    bundle.spec["process"]["args"] = json!(["cat", "/proc/uptime"]);
    assert_eq!(bundle.stdout(), "1.00 1.00");
}

/// CVE-2024-9676: files of an image that are read before its program runs.
fn a_huge_passwd_is_harmless() {
    let bundle = Bundle::new("echo $HOME");
    let passwd = bundle.root().join("etc/passwd");
    let file = fs::File::create(&passwd).unwrap();
    file.set_len(1 << 40).unwrap();
    assert_eq!(bundle.stdout(), "/");
    fs::remove_file(&passwd).unwrap();
    symlink("/dev/zero", &passwd).unwrap();
    assert_eq!(bundle.stdout(), "/");
    fs::remove_file(&passwd).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &passwd,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RWXU,
        0,
    )
    .unwrap();
    assert_eq!(bundle.stdout(), "/");
}

/// The program must not possess the keys of the caller's session, so it gets a session keyring of its own.
fn the_session_keyring_is_the_containers_own() {
    if !std::path::Path::new("/proc/keys").exists() {
        return;
    }
    let mut bundle = Bundle::new("cat /proc/keys");
    bundle.spec["linux"]["maskedPaths"] = json!([]);
    let output = bundle.stdout();
    assert!(output.contains(&format!("_ses.{}", bundle.id)), "{output}");
}
