//! The Engine API as it travels: wire types, stream framing and the typed client.
//!
//! Owns the JSON shapes Docker's Engine publishes (field names, their order, and which empty values
//! are `null`, empty or left out), the eight-byte stream framing, and a client for them. Does not own
//! any meaning: validation and defaults belong to the engine, which never sees these types.
//!
//! Names and rules follow the published description of API 1.51 and what Docker 28 really sends.

#[macro_use]
mod wire;

pub mod archive;
mod auth;
mod client;
mod container_action;
mod container_config;
mod container_create;
mod container_inspect;
mod container_stats;
mod container_summary;
mod error_response;
mod event;
mod exec;
mod filters;
pub mod framing;
mod health;
mod host_config;
mod image;
mod image_inspect;
mod image_why;
pub mod limits;
mod mount;
mod network;
mod progress;
mod query;
mod registry;
mod system;
mod system_info;
mod version;
mod volume;

pub use archive::{ContainerPathStat, FilesystemChange, PATH_STAT_HEADER};
pub use auth::{AuthConfig, AuthConfigs, AuthError, AuthResponse};
pub use client::{
    AttachOptions, ByteStream, CheckOptions, Client, ClientError, CommitOptions,
    ContainerListOptions, ContainerRemoveOptions, ContainerWaiting, CopyOptions, EventsOptions,
    Hijacked, HijackedReader, Host, HostError, ImageListOptions, ImageRemoveOptions, ImportOptions,
    JsonStream, LoadOptions, LogStream, LogsOptions, PullOptions, PushOptions, ReferrersOptions,
    StatsOptions, StopOptions, VolumeImportOptions, WaitCondition,
};
pub use container_action::{
    ContainerPruneReport, ContainerTopResponse, ContainerUpdateBody, ContainerUpdateResponse,
    ContainerWaitExitError, ContainerWaitResponse,
};
pub use container_config::{ContainerConfig, EmptyObject, StrSlice};
pub use container_create::{ContainerCreateBody, ContainerCreateResponse};
pub use container_inspect::{ContainerInspect, ContainerState, DriverData};
pub use container_stats::{
    BlkioStatEntry, BlkioStats, ContainerStats, CpuStats, CpuUsage, MemoryStats, NetworkStats,
    PidsStats, StorageStats, ThrottlingData,
};
pub use container_summary::{
    ContainerSummary, ContainerSummaryHostConfig, NetworkSettingsSummary, PortSummary,
};
pub use error_response::ErrorResponse;
pub use event::{EventActor, EventMessage};
pub use exec::{ExecConfig, ExecInspect, ExecProcessConfig, ExecStartConfig, IdResponse};
pub use filters::{Filters, FiltersError};
pub use health::{Health, HealthConfig, HealthcheckResult};
pub use host_config::{
    DeviceMapping, DeviceRequest, HostConfig, LogConfig, PortBinding, PortMap, Resources,
    RestartPolicy, ThrottleDevice, Ulimit, WeightDevice,
};
pub use image::{ImageDeleteResponseItem, ImageHistoryItem, ImagePruneReport, ImageSummary};
pub use image_inspect::{
    ImageConfig, ImageInspect, ImageManifestAttestation, ImageManifestImage, ImageManifestSize,
    ImageManifestSummary, ImageManifestUnpacked, ImageMetadata, OciDescriptor, OciPlatform, RootFs,
};
pub use image_why::{ImageWhy, WhyFile, WhyHidden, WhyPackage, WhyPrivileged, WhyStep};
pub use mount::{
    BindOptions, ImageOptions, Mount, MountDriver, MountPoint, TmpfsOptions, VolumeOptions,
};
pub use network::{
    ConfigReference, EndpointIpamConfig, EndpointResource, EndpointSettings, Ipam, IpamConfig,
    NetworkAddress, NetworkConnectRequest, NetworkCreateRequest, NetworkCreateResponse,
    NetworkDisconnectRequest, NetworkInspect, NetworkPruneReport, NetworkSettings,
    NetworkingConfig, PortExposure,
};
pub use progress::{ErrorDetail, JsonMessage, ProgressDetail};
pub use query::{Query, QueryError, decode as decode_query_text};
pub use registry::{
    DistributionInspect, ManifestListPush, ManifestListPushed, ManifestReferrers, ManifestSource,
    PushResult, PushedInstead, RemoteManifest, SearchResult,
};
pub use system::{
    BuildCachePruneReport, CheckFinding, CheckReport, ComponentVersion, DataRootUsage, DiskUsage,
    Ping, PlatformName, SystemVersion,
};
pub use system_info::{
    Commit, IndexInfo, PluginsInfo, RegistryServiceConfig, RuntimeWithStatus, SwarmInfo, SystemInfo,
};
pub use version::{ApiVersion, ApiVersionError};
pub use volume::{
    Volume, VolumeCopyRequest, VolumeCreateRequest, VolumeListResponse, VolumePruneReport,
    VolumeUsageData,
};

/// Media type of an upgraded connection that carries raw bytes (a terminal).
pub const MEDIA_TYPE_RAW_STREAM: &str = "application/vnd.docker.raw-stream";
/// Media type of an upgraded connection or log stream that carries [`framing`] frames.
pub const MEDIA_TYPE_MULTIPLEXED_STREAM: &str = "application/vnd.docker.multiplexed-stream";
