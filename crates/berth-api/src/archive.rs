//! Files of containers and images: what stands at a path, and what changed.

wire! {
    /// What stands at a path of a container; the header `X-Docker-Container-Path-Stat`, as JSON in Base64.
    pub struct ContainerPathStat {
        name: String = "name";
        /// Bytes.
        size: i64 = "size";
        /// Type and permissions in Go's bits (`os.FileMode`).
        mode: u32 = "mode";
        /// RFC 3339 with nanoseconds.
        mtime: String = "mtime";
        /// Where a symbolic link leads in the container.
        link_target: String = "linkTarget";
    }

    /// One line of `GET /containers/{id}/changes`.
    pub struct FilesystemChange {
        path: String = "Path";
        /// 0 modified, 1 added, 2 deleted.
        kind: i64 = "Kind";
    }
}

/// Bits of Go's `os.FileMode` beside the nine of permissions.
pub mod go_mode {
    /// A directory.
    pub const DIRECTORY: u32 = 1 << 31;
    /// A symbolic link.
    pub const SYMLINK: u32 = 1 << 27;
    /// A device.
    pub const DEVICE: u32 = 1 << 26;
    /// A named pipe.
    pub const NAMED_PIPE: u32 = 1 << 25;
    /// A socket.
    pub const SOCKET: u32 = 1 << 24;
    /// Set-user-id.
    pub const SET_UID: u32 = 1 << 23;
    /// Set-group-id.
    pub const SET_GID: u32 = 1 << 22;
    /// A character device, with [`DEVICE`].
    pub const CHARACTER: u32 = 1 << 21;
    /// Sticky.
    pub const STICKY: u32 = 1 << 20;

    /// What the kernel calls a mode, in Go's bits.
    #[must_use]
    pub fn from_kernel(mode: u32) -> u32 {
        let kind = match mode & 0o170_000 {
            0o040_000 => DIRECTORY,
            0o120_000 => SYMLINK,
            0o060_000 => DEVICE,
            0o020_000 => DEVICE | CHARACTER,
            0o010_000 => NAMED_PIPE,
            0o140_000 => SOCKET,
            _ => 0,
        };
        let special = [(0o4000, SET_UID), (0o2000, SET_GID), (0o1000, STICKY)]
            .into_iter()
            .filter(|(bit, _)| mode & bit != 0)
            .fold(0, |bits, (_, go)| bits | go);
        mode & 0o777 | kind | special
    }
}

/// Name of the header with a [`ContainerPathStat`].
pub const PATH_STAT_HEADER: &str = "x-docker-container-path-stat";

impl ContainerPathStat {
    /// The header's value.
    #[must_use]
    pub fn to_header(&self) -> String {
        use base64::Engine as _;
        let json = serde_json::to_vec(self).expect("wire types always serialise");
        base64::engine::general_purpose::STANDARD.encode(json)
    }

    /// Reads a header's value; None when it is none.
    #[must_use]
    pub fn from_header(text: &str) -> Option<Self> {
        use base64::Engine as _;
        let json = base64::engine::general_purpose::STANDARD
            .decode(text)
            .ok()?;
        serde_json::from_slice(&json).ok()
    }

    /// Whether it is a directory.
    #[must_use]
    pub fn is_directory(&self) -> bool {
        self.mode & go_mode::DIRECTORY != 0
    }

    /// Whether it is a symbolic link.
    #[must_use]
    pub fn is_symlink(&self) -> bool {
        self.mode & go_mode::SYMLINK != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_told_as_go_tells_them() {
        assert_eq!(go_mode::from_kernel(0o100_644), 420);
        assert_eq!(go_mode::from_kernel(0o040_755), 2_147_484_141);
        assert_eq!(go_mode::from_kernel(0o120_777), 134_218_239);
        assert_eq!(go_mode::from_kernel(0o104_755), 0o755 | go_mode::SET_UID);
        assert_eq!(
            go_mode::from_kernel(0o041_777),
            0o777 | go_mode::DIRECTORY | go_mode::STICKY
        );
        assert_eq!(
            go_mode::from_kernel(0o020_666),
            0o666 | go_mode::DEVICE | go_mode::CHARACTER
        );
    }

    #[test]
    fn the_header_is_read_as_it_is_written() {
        let stat = ContainerPathStat {
            name: "é".into(),
            size: 7,
            link_target: "/x".into(),
            ..ContainerPathStat::default()
        };
        assert_eq!(
            ContainerPathStat::from_header(&stat.to_header()),
            Some(stat)
        );
        assert_eq!(ContainerPathStat::from_header("%"), None);
    }
}
