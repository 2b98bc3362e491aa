//! Images: thin over `berth-image`, with what the engine knows (which container holds which image) and
//! events. The store's own types are used as they are.

use std::io::Read;

use berth_image::assemble::ImportRequest;
use berth_image::{ImageStore, ImageUse};
use berth_types::{Platform, Reference};
use indexmap::IndexMap;

use crate::containers::index::Index;
use crate::containers::phase::Phase;
use crate::containers::requests::Pruned;
use crate::error::EngineError;
use crate::events::{EventKind, Events};
use crate::filters::Filters;
use crate::system::Growth;

pub use berth_image::save::Save;
pub use berth_image::why::{Cost, Why};
pub use berth_image::{
    Change, ChangeKind, Credentials, HistoryStep, ImageError, ImageFilters, ImageSummary,
    ImageView, Instead, ListPush, ListRequest, LoadedImage, LogInRequest, LoggedIn, ManifestKind,
    ManifestView, Progress, ProgressSink, PullRequest, Pulled, PushRequest, Pushed, Referrer,
    Referrers, RemoteManifest, RemotePlatform, RemoteRequest, Removal, RemoveRequest, SearchFound,
    SearchRequest, SourceManifest,
};

/// What is asked of an import.
#[derive(Debug, Clone, Default)]
pub struct ImportImage {
    /// Instructions that make the configuration.
    pub changes: Vec<String>,
    /// Remark in its history.
    pub message: String,
    /// What it is for; the host's platform when `None`.
    pub platform: Option<Platform>,
    /// The name it gets.
    pub name: Option<Reference>,
}

/// The service. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Images {
    store: ImageStore,
    index: Index,
    events: Events,
    growth: Growth,
}

/// Which container holds which image.
pub(crate) fn uses(index: &Index) -> Vec<ImageUse> {
    index
        .all()
        .iter()
        .map(|handle| {
            let view = handle.view();
            ImageUse {
                container: view.id.as_str().to_owned(),
                image: view.spec.image_id,
                running: view.is_running() || matches!(view.phase, Phase::Starting { .. }),
            }
        })
        .collect()
}

/// Tells what a removal did.
pub(crate) fn announce_removals(events: &Events, removals: &[Removal]) {
    for removal in removals {
        let (action, id) = match removal {
            Removal::Untagged { image, .. } => ("untag", image.to_string()),
            Removal::Image(image) => ("delete", image.to_string()),
            Removal::Manifest { .. } | Removal::Layer { .. } => continue,
        };
        let attributes = IndexMap::from([("name".to_owned(), id.clone())]);
        events.publish(EventKind::Image, action, id, attributes);
    }
}

/// What the store is asked for an import, and the name to tell of.
fn import_request(request: ImportImage) -> Result<(ImportRequest, Option<String>), EngineError> {
    let mut config = berth_types::ImageConfig::default();
    crate::instructions::apply(&mut config, &request.changes)?;
    let shown = request.name.as_ref().map(Reference::familiar);
    let request = ImportRequest {
        config,
        message: request.message,
        platform: request.platform,
        name: request.name,
    };
    Ok((request, shown))
}

impl From<ImageError> for EngineError {
    fn from(error: ImageError) -> Self {
        Self::Image(std::sync::Arc::new(error))
    }
}

impl Images {
    pub(crate) fn new(store: ImageStore, index: Index, events: Events, growth: Growth) -> Self {
        Self {
            store,
            index,
            events,
            growth,
        }
    }

    /// Runs a call of the store on a thread that may block.
    async fn block<T: Send + 'static>(
        &self,
        work: impl FnOnce(&ImageStore) -> berth_image::Result<T> + Send + 'static,
    ) -> Result<T, EngineError> {
        let store = self.store.clone();
        tokio::task::spawn_blocking(move || work(&store))
            .await
            .map_err(|e| EngineError::Internal(format!("a defect in the engine: {e}")))?
            .map_err(EngineError::from)
    }

    fn announce(&self, action: &str, actor: &str, name: &str) {
        let mut attributes = IndexMap::new();
        attributes.insert("name".to_owned(), name.to_owned());
        self.events
            .publish(EventKind::Image, action, actor, attributes);
    }

    /// How many containers hold each image that any holds.
    #[must_use]
    pub fn holders(&self) -> IndexMap<berth_types::Digest, usize> {
        let mut holders = IndexMap::new();
        for used in uses(&self.index) {
            *holders.entry(used.image).or_insert(0) += 1;
        }
        holders
    }

    /// The image that a name stands for now; `None` when it stands for none.
    #[must_use]
    pub fn current_id(&self, reference: &str) -> Option<berth_types::Digest> {
        self.store.resolve(reference).ok().map(|image| image.id)
    }

    /// Lists images.
    ///
    /// # Errors
    /// When a filter names an image that is not there, or the store cannot be read.
    pub async fn list(&self, request: ListRequest) -> Result<Vec<ImageSummary>, EngineError> {
        self.block(move |store| store.list(&request)).await
    }

    /// One image.
    ///
    /// # Errors
    /// When it is not there.
    pub async fn inspect(&self, reference: &str) -> Result<ImageView, EngineError> {
        let reference = reference.to_owned();
        self.block(move |store| store.inspect(&reference)).await
    }

    /// The manifests behind a name: platforms, attestations.
    ///
    /// # Errors
    /// When it is not there.
    pub async fn manifests(&self, reference: &str) -> Result<Vec<ManifestView>, EngineError> {
        let reference = reference.to_owned();
        self.block(move |store| store.manifests(&reference)).await
    }

    /// The containers that hold an image.
    #[must_use]
    pub fn containers_of(&self, image: &berth_types::Digest) -> Vec<String> {
        uses(&self.index)
            .into_iter()
            .filter(|used| used.image == *image)
            .map(|used| used.container)
            .collect()
    }

    /// How an image was made.
    ///
    /// # Errors
    /// When it is not there.
    pub async fn history(&self, reference: &str) -> Result<Vec<HistoryStep>, EngineError> {
        let reference = reference.to_owned();
        self.block(move |store| store.history(&reference)).await
    }

    /// What an image's bytes are, and what in it deserves a look.
    ///
    /// # Errors
    /// When it is not there.
    pub async fn why(&self, reference: &str) -> Result<Why, EngineError> {
        let reference = reference.to_owned();
        self.block(move |store| store.why(&reference)).await
    }

    /// Removes a name or an image.
    ///
    /// # Errors
    /// When it is not there, or held.
    pub async fn remove(
        &self,
        reference: &str,
        request: RemoveRequest,
    ) -> Result<Vec<Removal>, EngineError> {
        let (text, index) = (reference.to_owned(), self.index.clone());
        let removals = self
            .block(move |store| store.remove_unused(&text, request, || uses(&index)))
            .await?;
        announce_removals(&self.events, &removals);
        Ok(removals)
    }

    /// Removes the images for some platforms, from all names that share them.
    ///
    /// # Errors
    /// When there is no such image, it is not for one of the platforms, or a container needs it.
    pub async fn remove_platforms(
        &self,
        reference: &str,
        platforms: Vec<Platform>,
    ) -> Result<Vec<Removal>, EngineError> {
        let (text, index) = (reference.to_owned(), self.index.clone());
        let removals = self
            .block(move |store| store.remove_platforms(&text, &platforms, || uses(&index)))
            .await?;
        announce_removals(&self.events, &removals);
        Ok(removals)
    }

    /// Removes images without a name (`dangling=false`: all) that no container holds.
    ///
    /// # Errors
    /// When a filter makes no sense, or the store cannot be read.
    pub async fn prune(&self, filters: &Filters) -> Result<(Vec<Removal>, Pruned), EngineError> {
        filters.validate(&["dangling", "label", "label!", "until"])?;
        let dangling = filters.truth("dangling")?.unwrap_or(true);
        let values = |name: &str| filters.get(name).map(str::to_owned).collect();
        let request = ListRequest {
            all: true,
            filters: ImageFilters {
                dangling: dangling.then_some(true),
                labels: values("label"),
                until: values("until"),
                ..ImageFilters::default()
            },
            shared_size: false,
        };
        let holders = self.holders();
        let (mut all, mut pruned) = (Vec::new(), Pruned::default());
        for image in self.list(request).await? {
            let unwanted = filters.contains("label!") && filters.labels("label!", &image.labels);
            if holders.contains_key(&image.id) || unwanted {
                continue;
            }
            // Held since, or gone since: what others do meanwhile is no failure of the prune.
            if let Ok(removals) = self
                .remove(
                    &image.id.to_string(),
                    RemoveRequest {
                        force: true,
                        no_prune: false,
                    },
                )
                .await
            {
                for removal in &removals {
                    match removal {
                        Removal::Layer { freed, .. } => pruned.reclaimed += freed,
                        Removal::Image(id) => pruned.removed.push(id.to_string()),
                        Removal::Untagged { .. } | Removal::Manifest { .. } => {}
                    }
                }
                all.extend(removals);
            }
        }
        self.events.publish(
            EventKind::Image,
            "prune",
            "",
            IndexMap::from([("reclaimed".to_owned(), pruned.reclaimed.to_string())]),
        );
        Ok((all, pruned))
    }

    /// Gives an image a further name.
    ///
    /// # Errors
    /// When it is not there, or the name makes no sense.
    pub async fn tag(&self, image: &str, name: &str) -> Result<(), EngineError> {
        let (image, name) = (image.to_owned(), name.to_owned());
        let id = self.inspect(&image).await?.id;
        let reference = self.block(move |store| store.tag(&image, &name)).await?;
        self.announce("tag", &id.to_string(), &reference.familiar());
        Ok(())
    }

    /// Fetches an image from its registry. Dropping the future ends the pull.
    ///
    /// # Errors
    /// When it cannot be fetched or stored.
    pub async fn pull(
        &self,
        request: PullRequest,
        progress: ProgressSink,
    ) -> Result<Pulled, EngineError> {
        let name = request.reference.familiar();
        let pulled = self
            .store
            .pull(request, progress)
            .await
            .map_err(EngineError::from)?;
        self.announce("pull", &name, &name);
        self.growth.happened();
        Ok(pulled)
    }

    /// Fetches every tag of a repository, one after the other. The first failure ends it; what came before stays.
    ///
    /// # Errors
    /// When the tags cannot be listed, there are none, or one cannot be fetched.
    pub async fn pull_tags(
        &self,
        request: PullRequest,
        progress: ProgressSink,
    ) -> Result<Vec<Pulled>, EngineError> {
        let tags = self
            .store
            .remote_tags(&request.reference, request.credentials.as_ref())
            .await?;
        if tags.is_empty() {
            return Err(EngineError::Image(std::sync::Arc::new(
                ImageError::NoSuchImage {
                    reference: format!("{} has no tag", request.reference.familiar_name()),
                },
            )));
        }
        let mut pulled = Vec::with_capacity(tags.len());
        for tag in tags {
            // What a registry lists is no promise that it is a tag.
            let reference = request.reference.clone().with_tag(&tag).map_err(|source| {
                ImageError::Reference {
                    text: tag.chars().take(128).collect(),
                    source,
                }
            })?;
            let one = PullRequest {
                reference,
                ..request.clone()
            };
            pulled.push(self.pull(one, progress.clone()).await?);
        }
        Ok(pulled)
    }

    /// Pushes an image, or every tag of a repository, to its registry. Dropping the future ends the push.
    ///
    /// # Errors
    /// When nothing is known by the name, or the registry does not take it.
    pub async fn push(
        &self,
        request: PushRequest,
        progress: ProgressSink,
    ) -> Result<Vec<Pushed>, EngineError> {
        let name = request.reference.clone();
        let pushed = self.store.push(request, progress).await?;
        for one in &pushed {
            let name = name
                .with_tag(&one.tag)
                .map_or_else(|_| name.familiar(), |name| name.familiar());
            self.announce("push", &name, &name);
        }
        Ok(pushed)
    }

    /// Asks a registry whether it takes credentials.
    ///
    /// # Errors
    /// When it does not, or cannot be reached.
    pub async fn log_in(&self, request: LogInRequest) -> Result<LoggedIn, EngineError> {
        Ok(self.store.log_in(&request).await?)
    }

    /// Searches a registry.
    ///
    /// # Errors
    /// When a filter makes no sense, or the registry cannot be searched.
    pub async fn search(
        &self,
        request: SearchRequest,
        filters: &Filters,
    ) -> Result<Vec<SearchFound>, EngineError> {
        filters.validate(&["is-automated", "is-official", "stars"])?;
        let automated = filters.truth("is-automated")?.unwrap_or(false);
        let official = filters.truth("is-official")?;
        let mut stars = 0;
        for text in filters.get("stars") {
            let number: i64 = text.parse().map_err(|_| {
                EngineError::Invalid(format!(
                    "invalid filter 'stars={}'",
                    text.chars().take(64).collect::<String>()
                ))
            })?;
            stars = stars.max(number);
        }
        // No repository is built by Docker Hub any more.
        if automated {
            return Ok(Vec::new());
        }
        let mut found = self.store.search(&request).await?;
        found.retain(|one| {
            official.is_none_or(|official| one.is_official == official) && one.star_count >= stars
        });
        Ok(found)
    }

    /// Looks at a manifest or index where it is.
    ///
    /// # Errors
    /// When it is not there, or the registry does not let us look.
    pub async fn remote_manifest(
        &self,
        request: RemoteRequest,
    ) -> Result<RemoteManifest, EngineError> {
        Ok(self.store.remote_manifest(&request).await?)
    }

    /// What refers to a manifest where it is; of an index, with `platform`, to the manifest of that platform.
    ///
    /// # Errors
    /// When it is not there, or the registry does not let us look.
    pub async fn referrers(
        &self,
        request: RemoteRequest,
        platform: Option<Platform>,
    ) -> Result<Referrers, EngineError> {
        Ok(self.store.referrers(&request, platform.as_ref()).await?)
    }

    /// Puts a list of manifests into a registry. Gives its digest, and the names of the manifests that were
    /// brought over from other repositories for it.
    ///
    /// # Errors
    /// When the registry does not take it.
    pub async fn push_list(
        &self,
        request: ListPush,
    ) -> Result<(berth_types::Digest, Vec<Reference>), EngineError> {
        Ok(self.store.push_list(&request).await?)
    }

    /// Loads the images of an archive; with `platforms`, only those for them.
    ///
    /// # Errors
    /// When the archive is damaged, or cannot be stored. Nothing of it stays then.
    pub async fn load(
        &self,
        archive: impl Read + Send + 'static,
        platforms: Vec<Platform>,
        progress: ProgressSink,
    ) -> Result<Vec<LoadedImage>, EngineError> {
        let loaded = self
            .block(move |store| store.load(archive, &platforms, &progress))
            .await?;
        for image in &loaded {
            let id = image.id.to_string();
            let name = image
                .names
                .first()
                .map_or_else(|| id.clone(), Reference::familiar);
            self.announce("load", &id, &name);
        }
        self.growth.happened();
        Ok(loaded)
    }

    /// Looks up images to be written as one archive; their content stays for as long as the answer lives.
    ///
    /// # Errors
    /// When one is not there, or not for one of the platforms.
    pub async fn save(
        &self,
        names: Vec<String>,
        platforms: Vec<Platform>,
    ) -> Result<Save, EngineError> {
        let save = self
            .block(move |store| store.save(&names, &platforms))
            .await?;
        for image in save.images() {
            let id = image.to_string();
            self.announce("save", &id, &id);
        }
        Ok(save)
    }

    /// Makes an image of an archive of a root file system, which may be compressed.
    ///
    /// # Errors
    /// When an instruction cannot be understood, the archive is damaged, or it cannot be stored.
    pub async fn import(
        &self,
        archive: impl Read + Send + 'static,
        request: ImportImage,
        progress: ProgressSink,
    ) -> Result<berth_types::Digest, EngineError> {
        let (request, shown) = import_request(request)?;
        let id = self
            .block(move |store| store.import(archive, request, &progress))
            .await?;
        self.imported(id, shown);
        Ok(id)
    }

    /// As [`Self::import`], of an archive at an `http` or `https` address. Dropping the future ends the transfer.
    ///
    /// # Errors
    /// When it cannot be fetched, and as [`Self::import`].
    pub async fn import_from(
        &self,
        address: &str,
        request: ImportImage,
        progress: ProgressSink,
    ) -> Result<berth_types::Digest, EngineError> {
        let (request, shown) = import_request(request)?;
        let id = self.store.import_from(address, request, progress).await?;
        self.imported(id, shown);
        Ok(id)
    }

    fn imported(&self, id: berth_types::Digest, shown: Option<String>) {
        let text = id.to_string();
        self.announce("import", &text, shown.as_deref().unwrap_or(&text));
        self.growth.happened();
    }

    /// Loads the image that is part of the program, unless it is here.
    ///
    /// # Errors
    /// When it cannot be stored.
    pub async fn ensure_builtin(&self) -> Result<berth_types::Digest, EngineError> {
        self.block(ImageStore::ensure_builtin).await
    }
}
