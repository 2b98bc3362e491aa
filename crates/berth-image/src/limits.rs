//! Every bound that this crate puts on what others send it.
//!
//! Images, archives and registry answers are hostile until verified, so each count, size and wait has a
//! number here. The numbers are far above what real images need; reaching one is an error, never a cut.

use std::time::Duration;

/// Largest manifest or index, in bytes (distribution specification, "Pushing Manifests": 4 MiB).
pub const MANIFEST_BYTES_MAX: u64 = 4 << 20;
/// Largest image configuration, in bytes.
pub const CONFIG_BYTES_MAX: u64 = 8 << 20;
/// Most layers of one image: overlayfs stacks at most 500 lower directories (`OVL_MAX_STACK`).
pub const LAYERS_MAX: usize = 500;
/// Most descriptors in one index.
pub const INDEX_ENTRIES_MAX: usize = 4096;
/// Most bytes of all manifests and indexes behind one name that are looked at together.
pub const DOCUMENTS_BYTES_MAX: u64 = 64 << 20;
/// Deepest nesting of indexes.
pub const INDEX_DEPTH_MAX: usize = 4;
/// Most images in one archive given to `load`.
pub const ARCHIVE_IMAGES_MAX: usize = 1024;
/// Most content that the names of one archive given to `load` may keep beyond their images, each counted.
pub const ARCHIVE_KEEPS_MAX: usize = 500_000;
/// Most entries of the outer archive given to `load`.
pub const ARCHIVE_ENTRIES_MAX: u64 = 100_000;
/// Most bytes of the outer archive given to `load`, after decompression.
pub const ARCHIVE_BYTES_MAX: u64 = 1 << 40;
/// Largest JSON file at the head of an archive (`manifest.json`, `index.json`, `oci-layout`).
pub const ARCHIVE_JSON_BYTES_MAX: u64 = 8 << 20;

/// Most entries of one layer.
pub const LAYER_ENTRIES_MAX: u64 = 8_000_000;
/// Most bytes of one layer after decompression.
pub const LAYER_BYTES_MAX: u64 = 512 << 30;
/// Bytes that may be unpacked before the ratio below is looked at.
pub const RATIO_FREE_BYTES: u64 = 1 << 30;
/// Most unpacked bytes per compressed byte, beyond [`RATIO_FREE_BYTES`]. Deflate cannot exceed 1032.
pub const RATIO_MAX: u64 = 2048;
/// Most memory for unpacking one xz stream, in KiB: what `xz -9` needs, and some more. It is the sender who says how
/// much is needed.
pub const XZ_MEMORY_KIB_MAX: u32 = 80 << 10;
/// Longest path in a layer, in bytes (`PATH_MAX`).
pub const PATH_BYTES_MAX: usize = 4096;
/// Longest name of one path component, in bytes (`NAME_MAX`).
pub const NAME_BYTES_MAX: usize = 255;
/// Most symbolic links followed while one path is resolved (`MAXSYMLINKS`).
pub const SYMLINKS_MAX: usize = 40;
/// Levels of directories held open while a tree is removed.
pub const REMOVE_DEPTH: usize = 64;
/// Largest extension header (pax records, GNU long names), in bytes.
pub const EXTENSION_BYTES_MAX: u64 = 1 << 20;
/// Most extension headers in front of one entry.
pub const EXTENSIONS_MAX: usize = 8;
/// Most segments of one sparse file.
pub const SPARSE_SEGMENTS_MAX: usize = 262_144;
/// Most extended attributes of one entry.
pub const XATTRS_MAX: usize = 128;
/// Largest value of one extended attribute, in bytes (`XATTR_SIZE_MAX`).
pub const XATTR_BYTES_MAX: usize = 65_536;

/// Most repositories remembered as where an image came from.
pub const SOURCES_MAX: usize = 8;

/// Most bytes of new layers that a transfer's answer waits for to be on disk.
pub const SETTLE_NOW_BYTES: u64 = 64 << 20;
/// Time after the last transfer until larger ones are written to disk.
pub const SETTLE_AFTER: Duration = Duration::from_secs(5);

/// Chunks of unpacked data between the decompressing and the extracting thread.
pub const PIPE_CHUNKS: usize = 8;
/// Size of such a chunk, in bytes.
pub const PIPE_CHUNK_BYTES: usize = 256 << 10;
/// Pieces of a download between the network and the decompressing thread.
pub const DOWNLOAD_QUEUE: usize = 16;

/// Bytes between two marks of content that comes in ([`crate::partials`]).
pub const PARTIAL_MARK_EVERY: u64 = 1 << 20;
/// Largest file of marks, in bytes: those of a layer of [`LAYER_BYTES_MAX`].
pub const PARTIAL_MARKS_BYTES_MAX: u64 = (LAYER_BYTES_MAX / PARTIAL_MARK_EVERY) * 40;
/// Longest time that content which came in part waits for the rest.
pub const PARTIAL_AGE_MAX: Duration = Duration::from_secs(24 * 3600);
/// Most bytes of all content that came in part.
pub const PARTIAL_BYTES_MAX: u64 = 10 << 30;
/// Smallest layer that is fetched over several connections.
pub const RANGES_FROM_BYTES: u64 = 32 << 20;
/// Bytes that one of several connections asks for at a time.
pub const RANGE_BYTES: u64 = 8 << 20;
/// Most connections for one layer.
pub const CONNECTIONS_PER_LAYER: usize = 4;
/// Most connections of one pull beyond the first of each layer.
pub const FURTHER_CONNECTIONS: usize = 4;
/// Time between looks at whether one more connection helps.
pub const FURTHER_CONNECTION_AFTER: Duration = Duration::from_millis(500);
/// With more than this waiting to be unpacked, the network is not what is waited for.
pub const FURTHER_CONNECTION_BEHIND: u64 = 4 << 20;

/// How often a removal looks again at names that change meanwhile.
pub const REPLANS_MAX: u32 = 10;

/// Layers that one pull downloads at a time unless the settings say otherwise, as Docker does.
pub const DOWNLOADS_PER_PULL: usize = 3;
/// Layers that one push sends at a time unless the settings say otherwise, as Docker does.
pub const UPLOADS_PER_PUSH: usize = 5;
/// Largest content that is sent in one request; what is larger can be taken up again where it broke.
pub const MONOLITHIC_BYTES_MAX: u64 = 4 << 20;
/// What has to arrive between two breaks of an upload for the attempts to be counted anew, in bytes.
pub const UPLOAD_STEP_BYTES: u64 = 1 << 20;
/// Longest wait for a registry that has all bytes of a content and works on them.
pub const COMMIT_TIMEOUT: Duration = Duration::from_secs(300);
/// Other repositories whose content a push may ask to take over.
pub const MOUNT_SOURCES_MAX: usize = 8;
/// Other repositories that are asked for one content before it is sent.
pub const MOUNT_ATTEMPTS: usize = 2;
/// Largest answer to a search, in bytes.
pub const SEARCH_BYTES_MAX: u64 = 8 << 20;
/// Repositories that a registry is asked to list at a time.
pub const CATALOG_PAGE: usize = 1000;
/// Longest name of a repository that is told, in bytes (distribution specification, "Pulling manifests").
pub const REPOSITORY_BYTES_MAX: usize = 255;
/// Such lists that one search looks through.
pub const CATALOG_PAGES_MAX: usize = 100;
/// Attempts for one request or one download before it fails, unless the settings say otherwise.
pub const DOWNLOAD_ATTEMPTS: u32 = 5;
/// Attempts for one request to an upstream in whose name we answer: somebody waits.
pub const UPSTREAM_ATTEMPTS: u32 = 2;
/// Repositories of an upstream whose authorization is remembered.
pub const UPSTREAM_REPOSITORIES: usize = 1024;
/// Wait before the second attempt; doubled for each further one.
pub const BACKOFF_FIRST: Duration = Duration::from_millis(250);
/// Longest wait between two attempts.
pub const BACKOFF_MAX: Duration = Duration::from_secs(20);
/// Longest wait that a registry may ask for; when it asks for more, that is told instead of waited for.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(30);
/// Longest time for a connection to be made.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);
/// Longest time until the head of an answer has come.
pub const RESPONSE_TIMEOUT: Duration = Duration::from_secs(60);
/// Longest silence within a download before it is taken up again.
pub const STALL_TIMEOUT: Duration = Duration::from_secs(30);
/// What has to come between two breaks of a download for the attempts to be counted anew, and in the time of
/// [`DRIP_STALLS`], in bytes: a server that gives less keeps us waiting for nothing.
pub const DOWNLOAD_STEP_BYTES: u64 = 64 << 10;
/// How many times the longest silence a download may be waited for in all until [`DOWNLOAD_STEP_BYTES`] have come.
pub const DRIP_STALLS: u32 = 4;
/// Longest time for all pages of a list, or of a search.
pub const LIST_TIMEOUT: Duration = Duration::from_secs(600);
/// Most redirects followed for one request.
pub const REDIRECTS_MAX: usize = 8;
/// Most places that one layer's descriptor may name beside its registry.
pub const LAYER_URLS_MAX: usize = 8;
/// Largest file with certificates or a key, in bytes.
pub const PEM_BYTES_MAX: u64 = 4 << 20;
/// Most pages of a list (tags, referrers).
pub const LIST_PAGES_MAX: usize = 1000;
/// Largest page of a list, in bytes.
pub const LIST_PAGE_BYTES_MAX: u64 = 4 << 20;
/// Most bytes of all pages of a list: few entries may be large ones.
pub const LIST_BYTES_MAX: u64 = 64 << 20;
/// Most entries of a list.
pub const LIST_ENTRIES_MAX: usize = 100_000;
/// Largest answer of a token server, in bytes.
pub const TOKEN_BYTES_MAX: u64 = 1 << 20;
/// Most of an error answer that is read, in bytes.
pub const ERROR_BYTES_MAX: u64 = 64 << 10;
/// Longest time a token is used without an `expires_in` that says so.
pub const TOKEN_LIFETIME: Duration = Duration::from_secs(60);
/// Shortest time between two progress reports of the same layer.
pub const PROGRESS_INTERVAL: Duration = Duration::from_millis(100);
/// Files that a look into an image lists as the largest.
pub const WHY_LARGEST: usize = 20;
/// Largest package database that is read, in bytes.
pub const WHY_DATABASE_BYTES: u64 = 64 << 20;
/// Largest database of rpm that is read, in bytes; it is read page by page.
pub const WHY_RPM_BYTES: u64 = 512 << 20;
/// Largest header of a package in a database of rpm, in bytes.
pub const WHY_HEADER_BYTES: u64 = 32 << 20;
/// Largest description of one package that is read, in bytes.
pub const WHY_METADATA_BYTES: u64 = 1 << 20;
/// Most packages that are listed.
pub const WHY_PACKAGES_MAX: usize = 20_000;

/// How often room is made for a file of an archive, when somebody else always puts something there first.
pub const PLACE_ATTEMPTS: usize = 16;
