//! `_ping`, `version` and `system/df`.

use crate::container_summary::ContainerSummary;
use crate::image::ImageSummary;
use crate::version::ApiVersion;
use std::collections::BTreeMap;

/// What `_ping` answers, all of it in headers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ping {
    /// Newest API version the engine speaks; None from a server that does not tell.
    pub api_version: Option<ApiVersion>,
    /// `linux`.
    pub os_type: String,
    /// Whether experimental features are on.
    pub experimental: bool,
    /// Preferred builder, `1` or `2`; empty when there is none.
    pub builder_version: String,
    /// The `Server` header.
    pub server: String,
}

wire! {
    /// `GET /version`.
    pub struct SystemVersion {
        platform: PlatformName = "Platform";
        components: Vec<ComponentVersion> = "Components" omitempty;
        version: String = "Version";
        api_version: String = "ApiVersion";
        min_api_version: String = "MinAPIVersion" omitempty;
        git_commit: String = "GitCommit";
        go_version: String = "GoVersion";
        os: String = "Os";
        arch: String = "Arch";
        kernel_version: String = "KernelVersion" omitempty;
        experimental: bool = "Experimental" omitempty;
        build_time: String = "BuildTime" omitempty;
    }

    /// The product's name.
    pub struct PlatformName {
        name: String = "Name";
    }

    /// A component of the engine.
    pub struct ComponentVersion {
        name: String = "Name";
        version: String = "Version";
        details: BTreeMap<String, String> = "Details" omitempty;
    }

    /// `GET /system/df`. A kind that was not asked for is `null`.
    pub struct DiskUsage {
        /// Bytes of all image layers together.
        layers_size: i64 = "LayersSize";
        images: Option<Vec<ImageSummary>> = "Images";
        containers: Option<Vec<ContainerSummary>> = "Containers";
        volumes: Option<Vec<serde_json::Value>> = "Volumes";
        build_cache: Option<Vec<serde_json::Value>> = "BuildCache";
        builder_size: i64 = "BuilderSize" omitempty;
        /// Berth's own: the whole of the data root.
        berth: Option<DataRootUsage> = "Berth" omitempty;
    }

    /// What `POST /build/prune` removed.
    pub struct BuildCachePruneReport {
        caches_deleted: Option<Vec<String>> = "CachesDeleted";
        space_reclaimed: u64 = "SpaceReclaimed";
    }

    /// What the data root occupies. Its parts above and `Engine` add up to `Total`.
    pub struct DataRootUsage {
        root: String = "Root";
        total: i64 = "Total";
        engine: i64 = "Engine";
    }

    /// What `POST /berth/system/check` looked at and found: the last line of its stream, as `aux`.
    pub struct CheckReport {
        /// Whether nothing is wrong, or nothing any more.
        sound: bool = "Sound";
        contents: u64 = "Contents";
        content_bytes: u64 = "ContentBytes";
        layers: u64 = "Layers";
        layers_compared: u64 = "LayersCompared";
        images: u64 = "Images";
        names: u64 = "Names";
        containers: u64 = "Containers";
        volumes: u64 = "Volumes";
        findings: Vec<CheckFinding> = "Findings";
    }

    /// Something that is wrong.
    pub struct CheckFinding {
        /// `content`, `layer`, `image`, `name`, `container` or `volume`.
        kind: String = "Kind";
        object: String = "Object";
        problem: String = "Problem";
        /// Images that need it.
        images: Vec<String> = "Images" omitempty;
        /// `found`, `repaired`, `unrepaired` or `removed`.
        outcome: String = "Outcome";
        /// How it was repaired, or why it was not.
        detail: String = "Detail" omitempty;
    }
}
