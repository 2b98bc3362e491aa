//! Samba in a network namespace, for one directory of a test.

use std::path::Path;

use crate::room::Room;
use crate::wait;

/// Debian package of its programs.
pub const PACKAGE: &str = "samba";

/// `$share`, `$password` are filled in. `/run` is the room's own.
const SERVE: &str = r"
set -e
mkdir -p /run/smb/private
cat > /run/smb/conf <<'END'
[global]
server role = standalone server
disable netbios = yes
smb ports = 445
private dir = /run/smb/private
lock directory = /run/smb
state directory = /run/smb
cache directory = /run/smb
pid directory = /run/smb
ncalrpc dir = /run/smb/ncalrpc
log file = /run/smb/log
load printers = no
printcap name = /dev/null
disable spoolss = yes
[share]
path = $share
read only = no
create mask = 0777
directory mask = 0777
END
printf '%s\n%s\n' '$password' '$password' | smbpasswd -c /run/smb/conf -a -s root
smbd --daemon --configfile=/run/smb/conf
";

/// A running server. Its share is called `share`, and `root` has a password there.
#[derive(Debug)]
pub struct SmbServer {
    room: Room,
}

impl SmbServer {
    /// Serves a directory in the network namespace of this name.
    #[track_caller]
    pub fn start(namespace: &str, directory: &Path, password: &str) -> Self {
        let room = Room::new(namespace, &[PACKAGE]);
        let share = directory.display().to_string();
        room.run(
            &SERVE
                .replace("$share", &share)
                .replace("$password", password),
        )
        .ok();
        let server = Self { room };
        wait::until("samba listens", || {
            let connect = "bash -c ': < /dev/tcp/127.0.0.1/445'";
            server.room.run(connect).code() == 0
        });
        server
    }
}
