//! Images as lists tell of them.

use crate::image_inspect::{ImageManifestSummary, OciDescriptor};
use std::collections::BTreeMap;

wire! {
    /// One line of `GET /images/json`.
    pub struct ImageSummary {
        /// Containers that use it; -1 when not counted.
        containers: i64 = "Containers";
        /// Seconds since 1970.
        created: i64 = "Created";
        id: String = "Id";
        labels: Option<BTreeMap<String, String>> = "Labels";
        parent_id: String = "ParentId";
        descriptor: Option<OciDescriptor> = "Descriptor" omitempty;
        /// Since API 1.47, when asked for.
        manifests: Vec<ImageManifestSummary> = "Manifests" omitempty;
        repo_digests: Vec<String> = "RepoDigests";
        repo_tags: Vec<String> = "RepoTags";
        /// Bytes; -1 when not computed.
        shared_size: i64 = "SharedSize";
        /// Bytes.
        size: i64 = "Size";
        /// Bytes; before API 1.44.
        virtual_size: i64 = "VirtualSize" omitempty;
    }

    /// One line of `GET /images/{name}/history`.
    pub struct ImageHistoryItem {
        comment: String = "Comment";
        /// Seconds since 1970.
        created: i64 = "Created";
        created_by: String = "CreatedBy";
        /// `<missing>` for layers without an image of their own.
        id: String = "Id";
        /// Bytes.
        size: i64 = "Size";
        tags: Option<Vec<String>> = "Tags";
    }

    /// One thing removed by `DELETE /images/{name}`.
    pub struct ImageDeleteResponseItem {
        deleted: String = "Deleted" omitempty;
        untagged: String = "Untagged" omitempty;
    }

    /// Answer of `POST /images/prune`.
    pub struct ImagePruneReport {
        images_deleted: Option<Vec<ImageDeleteResponseItem>> = "ImagesDeleted";
        /// Bytes.
        space_reclaimed: u64 = "SpaceReclaimed";
    }
}
