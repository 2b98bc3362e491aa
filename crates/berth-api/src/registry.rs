//! What is asked of registries through the engine.

use crate::image_inspect::{OciDescriptor, OciPlatform};

wire! {
    /// What a push tells of each tag (`aux` of its progress).
    pub struct PushResult {
        tag: String = "Tag";
        digest: String = "Digest";
        /// Bytes of the manifest or index.
        size: i64 = "Size";
    }

    /// Told when one image was pushed where the name stands for several (`aux` of a push's progress).
    pub struct PushedInstead {
        manifest_pushed_instead_of_index: bool = "manifestPushedInsteadOfIndex";
        original_index: Option<OciDescriptor> = "originalIndex" omitempty;
        selected_manifest: Option<OciDescriptor> = "selectedManifest" omitempty;
    }

    /// Answer of `GET /distribution/{name}/json`.
    pub struct DistributionInspect {
        descriptor: OciDescriptor = "Descriptor";
        platforms: Vec<OciPlatform> = "Platforms";
    }

    /// One result of `GET /images/search`.
    pub struct SearchResult {
        star_count: i64 = "star_count";
        is_official: bool = "is_official";
        name: String = "name";
        /// Always false.
        is_automated: bool = "is_automated";
        description: String = "description";
    }

    /// Answer of `GET /berth/manifests/{name}`: a manifest or index as its registry has it.
    pub struct RemoteManifest {
        descriptor: OciDescriptor = "Descriptor";
        /// Base64 of the document itself.
        document: String = "Document";
        platforms: Vec<OciPlatform> = "Platforms";
    }

    /// Answer of `GET /berth/manifests/{name}/referrers`: what a registry keeps beside a manifest.
    pub struct ManifestReferrers {
        /// Digest of the manifest.
        subject: String = "Subject";
        /// What refers to it, in the registry's order.
        referrers: Vec<OciDescriptor> = "Referrers";
    }

    /// Request of `PUT /berth/manifests/{name}`: a list of manifests for a registry.
    pub struct ManifestListPush {
        media_type: String = "MediaType";
        /// Base64 of the list itself.
        document: String = "Document";
        /// What it refers to.
        manifests: Vec<ManifestSource> = "Manifests";
        /// Do without TLS and a certificate that verifies.
        insecure: bool = "Insecure" omitempty;
    }

    /// A manifest that a list refers to.
    pub struct ManifestSource {
        /// Where it is, by digest.
        reference: String = "Reference";
        media_type: String = "MediaType";
        /// Base64 of the manifest itself.
        document: String = "Document";
    }

    /// Answer of `PUT /berth/manifests/{name}`.
    pub struct ManifestListPushed {
        digest: String = "Digest";
        /// Manifests that were brought over from other repositories, by the names they have now.
        brought: Vec<String> = "Brought" omitempty;
    }
}
