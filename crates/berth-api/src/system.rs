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
    }
}
