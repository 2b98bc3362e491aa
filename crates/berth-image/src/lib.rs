//! Images: content by digest, unpacked layers, names, loading archives, pulling from registries and pushing to them.
//!
//! Hostile archives, manifests and registry answers are handled in this crate and nowhere else.
//!
//! Owns: `blobs/` and `layers/` of the data directory and the image tables of the record store. Does not own
//! containers, mounts, terminals, HTTP servers or environment variables. [`ImageStore`] is the way in.

pub mod archive;
pub mod assemble;
pub mod blobs;
pub mod builtin;
pub mod check;
pub mod copy;
pub mod documents;
pub mod error;
pub mod files;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
pub mod inspect;
pub mod layers;
pub mod limits;
pub mod load;
pub mod login;
pub mod manifests;
pub mod progress;
pub mod pull;
pub mod push;
pub mod query;
pub mod records;
pub mod registry;
pub mod remote;
pub mod remove;
mod remove_platforms;
pub mod repair;
pub mod rootfs;
pub mod save;
pub mod search;
pub mod settings;
pub mod store;
pub mod usage;
pub mod uses;
pub mod why;

mod contents;
mod leads;
mod marks;
mod partials;
mod settle;
mod stream;
mod trash;

pub use check::{CheckReport, CheckRequest, Finding, Outcome, Part};
pub use error::{ImageError, Result};
pub use inspect::{HistoryStep, ImageView};
pub use layers::{Change, ChangeKind};
pub use load::LoadedImage;
pub use login::{LogInRequest, LoggedIn};
pub use manifests::{ManifestKind, ManifestView};
pub use progress::{Progress, ProgressSink};
pub use pull::{PullRequest, Pulled};
pub use push::{Instead, PushRequest, Pushed};
pub use query::{ImageFilters, ImageSummary, ListRequest};
pub use registry::{Credentials, Referrer, Referrers};
pub use remote::{ListPush, RemoteManifest, RemotePlatform, RemoteRequest, SourceManifest};
pub use remove::{ImageUse, Removal, RemoveRequest};
pub use repair::KnownCredentials;
pub use rootfs::rootfs_file;
pub use search::{SearchFound, SearchRequest};
pub use settings::{RegistrySettings, Settings};
pub use store::{Image, ImageId, ImageStore};
pub use stream::digest_of;
pub use usage::{ImageUsage, Meter, StoreUsage};
pub use uses::ImageLease;
