//! Files of containers: engine to wire.

use berth_api::{ContainerPathStat, archive::go_mode};
use berth_engine::containers::files::ArchiveStat;

/// What stands at a path.
pub(crate) fn path_stat(stat: ArchiveStat) -> ContainerPathStat {
    ContainerPathStat {
        name: stat.name,
        size: stat.size,
        mode: go_mode::from_kernel(stat.mode),
        mtime: stat.modified.to_string(),
        link_target: stat.link_target,
    }
}
