//! The kernel's NFS server (version 4) in a network namespace, for directories of a test.
//!
//! Threads of the kernel serve; they end with the value. What the server's programs write of their own is seen by them
//! alone.

use std::path::Path;

use crate::room::Room;

/// Debian package of its programs.
pub const PACKAGE: &str = "nfs-kernel-server";

/// Its list of who may have what, and clients it remembers, are in memory: `/var/lib` is the room's own.
const SERVE: &str = r"
set -e
mount -t tmpfs tmpfs /var/lib
mkdir -p /var/lib/nfs/nfsdcld /run/rpc_pipefs
touch /var/lib/nfs/etab /var/lib/nfs/rmtab
mount -t nfsd nfsd /proc/fs/nfsd
# Tells the kernel that no client is to be waited for.
mount -t rpc_pipefs sunrpc /run/rpc_pipefs
nfsdcld --pipefsdir=/run/rpc_pipefs --storagedir=/var/lib/nfs/nfsdcld
rpc.mountd --no-nfs-version 3 --manage-gids > /run/mountd 2>&1
rpc.nfsd --no-udp --no-nfs-version 3 2
";

/// A running server.
#[derive(Debug)]
pub struct NfsServer {
    room: Room,
    exports: u32,
}

impl NfsServer {
    /// A server in the network namespace of this name that serves nothing yet.
    #[track_caller]
    pub fn start(namespace: &str) -> Self {
        let room = Room::new(namespace, &[PACKAGE]);
        room.run(SERVE).ok();
        Self { room, exports: 0 }
    }

    /// Serves a directory by its path, with options as in exports(5) beside `no_subtree_check`.
    #[track_caller]
    pub fn export(&mut self, directory: &Path, options: &str) {
        // Not every file system has an id of its own.
        self.exports += 1;
        let number = self.exports;
        let path = directory.display();
        self.room
            .run(&format!(
                "exportfs -i -o {options},no_subtree_check,fsid={number} '*:{path}'"
            ))
            .ok();
    }

    /// Lets packets to the server fall away, or through again: it is there and says nothing.
    #[track_caller]
    pub fn mute(&self, mute: bool) {
        let line = if mute {
            "nft 'add table inet mute; add chain inet mute input { type filter hook input priority 0; }; \
             add rule inet mute input tcp dport 2049 drop'"
        } else {
            "nft delete table inet mute"
        };
        self.room.run(line).ok();
    }
}

impl Drop for NfsServer {
    fn drop(&mut self) {
        drop(self.room.run("rpc.nfsd 0"));
    }
}
