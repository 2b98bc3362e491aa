//! Names of hosts that one program knows and others do not.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Makes a program that runs `program` where `/etc/hosts` is other than everywhere else: each of `names` is
/// 127.0.0.1. Its mount namespace ends with it.
#[track_caller]
pub fn knowing(directory: &Path, program: &Path, names: &[&str]) -> PathBuf {
    let title = program.file_name().unwrap_or_default().to_string_lossy();
    let hosts = directory.join(format!("{title}.hosts"));
    let lines: String = ["localhost"]
        .iter()
        .chain(names)
        .map(|name| format!("127.0.0.1 {name}\n"))
        .collect();
    let script = format!(
        "#!/bin/sh\nexec unshare --mount sh -c 'mount --bind {} /etc/hosts && exec {} \"$@\"' sh \"$@\"\n",
        hosts.display(),
        program.display()
    );
    let wrapper = directory.join(format!("{title}-knowing"));
    let written = fs::write(&hosts, lines)
        .and_then(|()| fs::write(&wrapper, script))
        .and_then(|()| fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755)));
    if let Err(error) = written {
        panic!("write {}: {error}", wrapper.display());
    }
    wrapper
}
