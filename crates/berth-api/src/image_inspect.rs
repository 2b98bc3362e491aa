//! `GET /images/{name}/json`.

use crate::container_config::{EmptyObject, StrSlice};
use crate::container_inspect::DriverData;
use crate::health::HealthConfig;
use std::collections::BTreeMap;

wire! {
    /// Everything known of one image.
    pub struct ImageInspect {
        id: String = "Id";
        repo_tags: Vec<String> = "RepoTags";
        repo_digests: Vec<String> = "RepoDigests";
        parent: String = "Parent";
        comment: String = "Comment";
        /// RFC 3339 with nanoseconds.
        created: String = "Created" omitempty;
        docker_version: String = "DockerVersion";
        author: String = "Author";
        architecture: String = "Architecture";
        variant: String = "Variant" omitempty;
        os: String = "Os";
        os_version: String = "OsVersion" omitempty;
        /// Bytes.
        size: i64 = "Size";
        /// Bytes; before API 1.44.
        virtual_size: i64 = "VirtualSize" omitempty;
        graph_driver: DriverData = "GraphDriver";
        root_fs: RootFs = "RootFS";
        metadata: ImageMetadata = "Metadata";
        descriptor: Option<OciDescriptor> = "Descriptor" omitempty;
        /// Since API 1.48, when asked for.
        manifests: Vec<ImageManifestSummary> = "Manifests" omitempty;
        config: Option<ImageConfig> = "Config";
    }

    /// One manifest behind a name.
    pub struct ImageManifestSummary {
        id: String = "ID";
        descriptor: OciDescriptor = "Descriptor";
        /// Everything it leads to is here.
        available: bool = "Available";
        size: ImageManifestSize = "Size";
        /// `image`, `attestation` or `unknown`.
        kind: String = "Kind";
        image_data: Option<ImageManifestImage> = "ImageData" omitempty;
        attestation_data: Option<ImageManifestAttestation> = "AttestationData" omitempty;
    }

    /// Bytes of a manifest and what it leads to.
    pub struct ImageManifestSize {
        /// As fetched and unpacked.
        total: i64 = "Total";
        /// As fetched.
        content: i64 = "Content";
    }

    /// What is known of a manifest that is an image.
    pub struct ImageManifestImage {
        platform: OciPlatform = "Platform";
        /// Ids of the containers that use it.
        containers: Vec<String> = "Containers";
        size: ImageManifestUnpacked = "Size";
    }

    /// Bytes of an unpacked image.
    pub struct ImageManifestUnpacked {
        unpacked: i64 = "Unpacked";
    }

    /// What is known of an attestation.
    pub struct ImageManifestAttestation {
        /// Digest of the manifest that it is about.
        of: String = "For";
    }

    /// What an image asks of a container made of it.
    pub struct ImageConfig {
        args_escaped: bool = "ArgsEscaped" omitempty;
        /// Before API 1.50.
        attach_stderr: Option<bool> = "AttachStderr" omitempty;
        /// Before API 1.50.
        attach_stdin: Option<bool> = "AttachStdin" omitempty;
        /// Before API 1.50.
        attach_stdout: Option<bool> = "AttachStdout" omitempty;
        cmd: Option<StrSlice> = "Cmd";
        /// Before API 1.50.
        domainname: Option<String> = "Domainname" omitempty;
        entrypoint: Option<StrSlice> = "Entrypoint";
        env: Option<Vec<String>> = "Env";
        exposed_ports: BTreeMap<String, EmptyObject> = "ExposedPorts" omitempty;
        healthcheck: Option<HealthConfig> = "Healthcheck" omitempty;
        /// Before API 1.50.
        hostname: Option<String> = "Hostname" omitempty;
        /// Before API 1.50.
        image: Option<String> = "Image" omitempty;
        labels: Option<BTreeMap<String, String>> = "Labels";
        on_build: Option<Vec<String>> = "OnBuild";
        /// Before API 1.50.
        open_stdin: Option<bool> = "OpenStdin" omitempty;
        shell: StrSlice = "Shell" omitempty;
        /// Before API 1.50.
        stdin_once: Option<bool> = "StdinOnce" omitempty;
        stop_signal: String = "StopSignal" omitempty;
        /// Before API 1.50.
        tty: Option<bool> = "Tty" omitempty;
        user: String = "User";
        volumes: Option<BTreeMap<String, EmptyObject>> = "Volumes";
        working_dir: String = "WorkingDir";
    }

    /// The layers of an image.
    pub struct RootFs {
        kind: String = "Type" omitempty;
        /// Digests of the uncompressed layers, lowest first.
        layers: Vec<String> = "Layers" omitempty;
    }

    /// What this engine keeps beside an image.
    pub struct ImageMetadata {
        /// RFC 3339 with nanoseconds; `0001-01-01T00:00:00Z` for never.
        last_tag_time: String = "LastTagTime";
    }

    /// A pointer to content.
    pub struct OciDescriptor {
        media_type: String = "mediaType";
        digest: String = "digest";
        /// Bytes.
        size: i64 = "size";
        urls: Vec<String> = "urls" omitempty;
        annotations: BTreeMap<String, String> = "annotations" omitempty;
        /// Base64 of the content itself.
        data: String = "data" omitempty;
        platform: Option<OciPlatform> = "platform" omitempty;
        artifact_type: String = "artifactType" omitempty;
    }

    /// The platform content is meant for.
    pub struct OciPlatform {
        architecture: String = "architecture";
        os: String = "os";
        os_version: String = "os.version" omitempty;
        os_features: Vec<String> = "os.features" omitempty;
        variant: String = "variant" omitempty;
    }
}
