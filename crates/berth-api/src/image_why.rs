//! `GET /berth/images/{name}/why`: what an image's bytes are, and what in it deserves a look.

wire! {
    /// What is known about an image's content.
    pub struct ImageWhy {
        id: String = "Id";
        /// Bytes of all layers.
        size: u64 = "Size";
        /// Bytes of files that later layers replace or delete.
        wasted: u64 = "Wasted";
        /// The user that its program runs as; empty when it does not say.
        user: String = "User";
        runs_as_root: bool = "RunsAsRoot";
        /// Oldest first.
        steps: Vec<WhyStep> = "Steps";
        /// The largest files that are seen, largest first.
        largest: Vec<WhyFile> = "Largest";
        /// The files that waste most, most first.
        hidden: Vec<WhyHidden> = "Hidden";
        /// Files with set-id bits or capabilities, by path.
        privileged: Vec<WhyPrivileged> = "Privileged";
        packages: Vec<WhyPackage> = "Packages";
        /// Package databases that are there and are not read, or not wholly; each its path, a colon and the reason.
        unread: Vec<String> = "UnreadDatabases";
    }

    /// One step of an image's making.
    pub struct WhyStep {
        created_by: String = "CreatedBy";
        /// Digest of its layer; empty when it changed no file.
        layer: String = "Layer" omitempty;
        /// Bytes of its files.
        size: u64 = "Size";
        files: u64 = "Files";
        /// Bytes of earlier steps that it hides.
        hides: u64 = "Hides";
        /// Bytes of it that later steps hide.
        hidden: u64 = "Hidden";
        largest: Vec<WhyFile> = "Largest";
    }

    /// What a file costs.
    pub struct WhyFile {
        path: String = "Path";
        /// Bytes.
        size: u64 = "Size";
        /// Number of the step that brought it, from zero.
        step: u64 = "Step";
    }

    /// A file that is stored more often than it is seen.
    pub struct WhyHidden {
        path: String = "Path";
        /// Bytes that nobody sees.
        size: u64 = "Size";
        /// Copies that nobody sees.
        copies: u64 = "Copies";
        /// Whether the file is gone altogether.
        deleted: bool = "Deleted";
    }

    /// A file that gives rights to whoever runs it.
    pub struct WhyPrivileged {
        path: String = "Path";
        /// Permission bits in octal.
        mode: String = "Mode";
        uid: u32 = "Uid";
        gid: u32 = "Gid";
        /// As getcap writes them.
        capabilities: String = "Capabilities" omitempty;
    }

    /// An installed package.
    pub struct WhyPackage {
        /// `dpkg`, `apk`, `rpm`, `pacman` or `python`.
        manager: String = "Manager";
        name: String = "Name";
        version: String = "Version";
        /// In its manager's words.
        architecture: String = "Architecture" omitempty;
        /// Bytes it says it takes.
        size: u64 = "Size" omitempty;
    }
}
