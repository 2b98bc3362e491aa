//! Checking the store: does everything that records promise exist, and is it what its digest says?
//!
//! Owns: the survey, which reads and never changes anything. What is wrong can then be mended
//! ([`crate::repair`]). The engine stays in use meanwhile: content and layers are leased one at a time while they are
//! looked at, what goes away in between is no finding, reading is done by one thread that the disk serves last.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::io::Read;

use berth_sys::fs;
use berth_types::{Digest, ErrorKind, ImageDocument};
use rustix::io::Errno;
use tokio_util::sync::CancellationToken;

use crate::documents::{Document, chain_ids, parse_json};
use crate::error::{Attempt, ImageError, Result};
use crate::layers::LayerRecord;
use crate::limits;
use crate::progress::{Pace, Progress, ProgressSink};
use crate::records::{ImageRecord, ReferenceRecord};
use crate::store::ImageStore;
use crate::stream::Hasher;

/// What a check is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CheckRequest {
    /// Also compare each unpacked layer with its archive.
    pub deep: bool,
    /// Mend what can be mended: fetch content again, unpack layers again.
    pub repair: bool,
    /// Remove images that cannot be mended, with their names.
    pub remove: bool,
}

/// What sort of thing something is wrong with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Part {
    /// A file of the content store.
    Content,
    /// An unpacked layer.
    Layer,
    /// An image's record or documents.
    Image,
    /// A name.
    Name,
    /// A container's files.
    Container,
    /// A volume's files.
    Volume,
}

impl Part {
    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Content => "content",
            Self::Layer => "layer",
            Self::Image => "image",
            Self::Name => "name",
            Self::Container => "container",
            Self::Volume => "volume",
        }
    }
}

/// What came of something wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It was found, and nothing else was asked.
    Found,
    /// It is mended; how.
    Repaired(String),
    /// It could not be mended; why.
    Unrepaired(String),
    /// What needed it was removed.
    Removed,
}

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What sort of thing.
    pub part: Part,
    /// Which one: a digest, a name, an id.
    pub object: String,
    /// What is wrong with it.
    pub problem: String,
    /// Images that need it, by name where they have one.
    pub images: Vec<String>,
    /// What came of it.
    pub outcome: Outcome,
}

/// What a check looked at, and what it found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CheckReport {
    /// Pieces of content that were read.
    pub contents: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Layers that were looked at.
    pub layers: u64,
    /// Layers that were compared with their archive.
    pub compared: u64,
    /// Images.
    pub images: u64,
    /// Names.
    pub names: u64,
    /// Containers.
    pub containers: u64,
    /// Volumes.
    pub volumes: u64,
    /// What is wrong.
    pub findings: Vec<Finding>,
}

impl CheckReport {
    /// Whether nothing is wrong, or nothing any more.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.findings
            .iter()
            .all(|finding| matches!(finding.outcome, Outcome::Repaired(_) | Outcome::Removed))
    }
}

/// What can be mended, by the place of its finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Damage {
    Content(Digest),
    Layer(Digest),
    Image(Digest),
}

/// What a survey gives.
#[derive(Debug, Default)]
pub(crate) struct Survey {
    pub(crate) report: CheckReport,
    /// One for each finding.
    pub(crate) damages: Vec<Damage>,
}

/// The records at the beginning of a survey.
pub(crate) struct Snapshot {
    pub(crate) images: HashMap<Digest, ImageRecord>,
    pub(crate) references: Vec<(berth_types::Reference, ReferenceRecord)>,
    pub(crate) layers: HashMap<Digest, LayerRecord>,
}

impl Snapshot {
    /// What images are called, for people.
    pub(crate) fn name_of(&self, image: &Digest) -> String {
        let mut names = self
            .references
            .iter()
            .filter(|(_, record)| record.image == *image)
            .map(|(name, _)| name);
        let name = names
            .clone()
            .find(|name| name.tag().is_some())
            .or_else(|| names.next());
        name.map_or_else(|| image.short(), berth_types::Reference::familiar)
    }

    /// Which images need which content, and which layers.
    pub(crate) fn needs(
        &self,
    ) -> (
        BTreeMap<Digest, BTreeSet<Digest>>,
        BTreeMap<Digest, BTreeSet<Digest>>,
    ) {
        let mut blobs: BTreeMap<Digest, BTreeSet<Digest>> = BTreeMap::new();
        let mut chains: BTreeMap<Digest, BTreeSet<Digest>> = BTreeMap::new();
        for (id, image) in &self.images {
            for blob in [image.manifest.digest, image.config.digest] {
                blobs.entry(blob).or_default().insert(*id);
            }
            for chain in chain_ids(&image.diff_ids) {
                chains.entry(chain).or_default().insert(*id);
                if let Some(blob) = self.layers.get(&chain).and_then(|layer| layer.blob) {
                    blobs.entry(blob).or_default().insert(*id);
                }
            }
        }
        for (_, reference) in &self.references {
            for blob in std::iter::once(&reference.target.digest).chain(&reference.keeps) {
                blobs.entry(*blob).or_default().insert(reference.image);
            }
        }
        (blobs, chains)
    }
}

impl ImageStore {
    /// Looks at everything and changes nothing. Blocks for as long as reading it all takes.
    pub(crate) fn survey(
        &self,
        deep: bool,
        progress: &ProgressSink,
        cancelled: &CancellationToken,
    ) -> Result<Survey> {
        // Only a hint: not every scheduler of disks knows classes.
        let _ = berth_sys::process::set_io_priority(3, 7);
        let outcome = self.survey_now(deep, progress, cancelled);
        // The thread goes back to others.
        let _ = berth_sys::process::set_io_priority(0, 0);
        outcome
    }

    fn survey_now(
        &self,
        deep: bool,
        progress: &ProgressSink,
        cancelled: &CancellationToken,
    ) -> Result<Survey> {
        let snapshot = self.snapshot()?;
        let (blobs, chains) = snapshot.needs();
        let mut surveyor = Surveyor {
            store: self,
            snapshot: &snapshot,
            progress,
            cancelled,
            survey: Survey::default(),
            unsound: HashSet::new(),
            unsound_layers: HashSet::new(),
        };
        surveyor.contents(&blobs)?;
        surveyor.layers(&chains, deep)?;
        surveyor.images()?;
        surveyor.names()?;
        Ok(surveyor.survey)
    }

    pub(crate) fn snapshot(&self) -> Result<Snapshot> {
        // What is committed together is seen together.
        let _gate = self.inner.gate();
        let records = &self.inner.records;
        Ok(Snapshot {
            images: records
                .images()?
                .into_iter()
                .map(|image| (image.id(), image))
                .collect(),
            references: records.references()?,
            layers: records.layers()?.into_iter().collect(),
        })
    }
}

struct Surveyor<'a> {
    store: &'a ImageStore,
    snapshot: &'a Snapshot,
    progress: &'a ProgressSink,
    cancelled: &'a CancellationToken,
    survey: Survey,
    /// Content that is missing or damaged.
    unsound: HashSet<Digest>,
    /// Layers that something is wrong with.
    unsound_layers: HashSet<Digest>,
}

impl Surveyor<'_> {
    fn find(&mut self, damage: Damage, object: String, problem: String, images: &BTreeSet<Digest>) {
        let part = match damage {
            Damage::Content(_) => Part::Content,
            Damage::Layer(_) => Part::Layer,
            Damage::Image(_) => Part::Image,
        };
        self.survey.damages.push(damage);
        self.survey.report.findings.push(Finding {
            part,
            object,
            problem,
            images: images.iter().map(|id| self.snapshot.name_of(id)).collect(),
            outcome: Outcome::Found,
        });
    }

    fn go_on(&self) -> Result<()> {
        if self.cancelled.is_cancelled() {
            return Err(ImageError::Cancelled {
                attempt: "check the store".into(),
            });
        }
        Ok(())
    }

    /// Reads every file of the content store, and asks for those that are not there.
    fn contents(&mut self, needed: &BTreeMap<Digest, BTreeSet<Digest>>) -> Result<()> {
        let nobody = BTreeSet::new();
        let blobs = &self.store.inner.blobs;
        let present: BTreeSet<Digest> = blobs.list()?.into_iter().collect();
        let all: BTreeSet<Digest> = present.iter().chain(needed.keys()).copied().collect();
        let total = present.iter().filter_map(|digest| blobs.size(digest)).sum();
        let mut counted = Counted {
            pace: Pace::new(),
            current: 0,
            total,
        };
        for digest in all {
            self.go_on()?;
            // It stays while it is read; a removal that comes meanwhile leaves it to the end of the lease.
            let mut holds = crate::store::Holds::default();
            holds.blob(&self.store.inner, digest);
            let images = needed.get(&digest).unwrap_or(&nobody);
            let outcome = self.content(&digest, &mut counted);
            let problem = match outcome {
                Ok(None) => None,
                Ok(Some(problem)) => Some(problem),
                Err(error) if says_nothing(&error) => return Err(error),
                Err(error) => Some(crate::error::chain(&error)),
            };
            let still_needed = self.store.inner.records.marks().needs_blob(&digest);
            self.store.release(holds)?;
            let Some(problem) = problem else { continue };
            let gone = !self.store.inner.blobs.contains(&digest);
            if gone && !still_needed {
                continue;
            }
            self.unsound.insert(digest);
            self.find(Damage::Content(digest), digest.to_string(), problem, images);
        }
        Ok(())
    }

    fn content(&mut self, digest: &Digest, counted: &mut Counted) -> Result<Option<String>> {
        let Some(mut file) = self.store.inner.blobs.reader(digest)? else {
            return Ok(Some("it is missing".into()));
        };
        let attempt = || format!("read content {digest}");
        let mut hasher = Hasher::default();
        let mut piece = vec![0; limits::PIPE_CHUNK_BYTES];
        loop {
            self.go_on()?;
            let count = file.read(&mut piece).attempt(attempt)?;
            if count == 0 {
                break;
            }
            hasher.update(&piece[..count]);
            counted.current += count as u64;
            self.survey.report.bytes += count as u64;
            if counted.pace.due(false) {
                (self.progress)(Progress::Checking {
                    current: counted.current,
                    total: counted.total.max(counted.current),
                });
            }
        }
        self.survey.report.contents += 1;
        // What was read for this only leaves room for what is in use.
        let _ = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed);
        let actual = hasher.finish();
        Ok((actual != *digest).then(|| format!("it is damaged: its digest is {actual}")))
    }

    fn layers(&mut self, needed: &BTreeMap<Digest, BTreeSet<Digest>>, deep: bool) -> Result<()> {
        // The lowest first: what is above one that is not sound cannot be fitted to it, and is not compared.
        let mut order = Vec::new();
        for chain in needed.keys() {
            order.push((below(&self.snapshot.layers, chain)?.len(), chain));
        }
        order.sort_unstable();
        for (_, chain) in order {
            let images = &needed[chain];
            self.go_on()?;
            let mut holds = crate::store::Holds::default();
            holds.layer(&self.store.inner, *chain);
            let problem = self.layer(chain, deep);
            let still_needed = self.store.inner.records.marks().needs_chain(chain);
            self.store.release(holds)?;
            let problem = match problem {
                Ok(problem) => problem,
                Err(error) if says_nothing(&error) => return Err(error),
                Err(error) => Some(crate::error::chain(&error)),
            };
            if let Some(problem) = problem
                && still_needed
            {
                self.unsound_layers.insert(*chain);
                self.find(Damage::Layer(*chain), chain.to_string(), problem, images);
            }
        }
        Ok(())
    }

    fn layer(&mut self, chain: &Digest, deep: bool) -> Result<Option<String>> {
        self.survey.report.layers += 1;
        let layers = &self.store.inner.layers;
        let (Some(recorded), Some(live)) = (self.snapshot.layers.get(chain), layers.get(chain))
        else {
            return Ok(Some("it has no record".into()));
        };
        let below = self.below(chain)?;
        let expected = match &recorded.parent {
            None => recorded.diff_id,
            Some(parent) => {
                crate::stream::digest_of(format!("{parent} {}", recorded.diff_id).as_bytes())
            }
        };
        if expected != *chain {
            return Ok(Some("its record names another layer".into()));
        }
        let path = layers.directory().join(&live.directory);
        match fs::symlink_metadata(&path) {
            Ok(metadata) if metadata.is_dir() => {}
            Ok(_) => return Ok(Some(format!("{} is no directory", path.display()))),
            Err(error) if error.is_not_found() => {
                return Ok(Some(format!("its directory {} is missing", path.display())));
            }
            Err(error) => return Err(error.into()),
        }
        let comparable = deep
            && below
                .iter()
                .all(|lower| !self.unsound_layers.contains(lower));
        let Some(blob) = live
            .blob
            .filter(|blob| comparable && !self.unsound.contains(blob))
        else {
            return Ok(None);
        };
        let Some(file) = self.store.inner.blobs.reader(&blob)? else {
            return Ok(None);
        };
        (self.progress)(Progress::Status(format!(
            "Comparing layer {}",
            blob.short()
        )));
        let object = format!("layer {}", blob.short());
        let staged = layers.unpack(file, &object).map_err(|error| match error {
            ImageError::Io { attempt, source } => ImageError::Io {
                attempt: format!("compare {object} with its archive: {attempt}"),
                source,
            },
            other => other,
        })?;
        if staged.diff_id != recorded.diff_id {
            return Ok(Some(format!(
                "its archive {blob} unpacks to {}, not to {}",
                staged.diff_id, recorded.diff_id
            )));
        }
        self.survey.report.compared += 1;
        layers.compare(&staged, chain, &below)
    }

    /// The layers under one, lowest first.
    fn below(&self, chain: &Digest) -> Result<Vec<Digest>> {
        below(&self.snapshot.layers, chain)
    }

    fn images(&mut self) -> Result<()> {
        for (id, image) in &self.snapshot.images {
            self.go_on()?;
            self.survey.report.images += 1;
            let Some(problem) = self.image(id, image)? else {
                continue;
            };
            if self.store.inner.records.image(id)?.is_some() {
                self.find(
                    Damage::Image(*id),
                    id.to_string(),
                    problem,
                    &BTreeSet::from([*id]),
                );
            }
        }
        Ok(())
    }

    /// Whether the documents agree with the record; content that is not sound was told before.
    fn image(&self, id: &Digest, image: &ImageRecord) -> Result<Option<String>> {
        let blobs = &self.store.inner.blobs;
        let documents = [image.config.digest, image.manifest.digest];
        if documents.iter().any(|digest| self.unsound.contains(digest)) {
            return Ok(None);
        }
        let (Some(config), Some(manifest)) = (
            blobs.read(&image.config.digest, limits::CONFIG_BYTES_MAX)?,
            blobs.read(&image.manifest.digest, limits::MANIFEST_BYTES_MAX)?,
        ) else {
            return Ok(None);
        };
        let object = format!("configuration of image {}", id.short());
        let document: ImageDocument = match parse_json(&config, &object) {
            Ok(document) => document,
            Err(error) => return Ok(Some(crate::error::chain(&error))),
        };
        if document.rootfs.diff_ids != image.diff_ids {
            return Ok(Some(
                "its configuration names other layers than its record".into(),
            ));
        }
        Ok(
            match Document::parse(
                &manifest,
                None,
                &format!("manifest of image {}", id.short()),
            ) {
                Ok(Document::Manifest(manifest)) if manifest.config.digest == *id => None,
                Ok(_) => Some("its manifest is that of another image".into()),
                Err(error) => Some(crate::error::chain(&error)),
            },
        )
    }

    fn names(&mut self) -> Result<()> {
        for (name, reference) in &self.snapshot.references {
            self.survey.report.names += 1;
            let known = self.snapshot.images.get(&reference.image);
            if known.is_none_or(|image| image.retired)
                && self.store.inner.records.reference(name)?.as_ref() == Some(reference)
            {
                self.survey.damages.push(Damage::Image(reference.image));
                self.survey.report.findings.push(Finding {
                    part: Part::Name,
                    object: name.familiar(),
                    problem: format!(
                        "it stands for image {}, which is not here",
                        reference.image.short()
                    ),
                    images: Vec::new(),
                    outcome: Outcome::Found,
                });
            }
        }
        Ok(())
    }
}

/// The layers under one, lowest first, by what records say.
pub(crate) fn below(layers: &HashMap<Digest, LayerRecord>, chain: &Digest) -> Result<Vec<Digest>> {
    let mut found = Vec::new();
    let mut current = layers.get(chain).and_then(|layer| layer.parent);
    while let Some(parent) = current {
        if found.len() >= limits::LAYERS_MAX {
            return Err(ImageError::Limit {
                object: format!("the stack under layer {}", chain.short()),
                limit: limits::LAYERS_MAX as u64,
                unit: "layers",
            });
        }
        found.push(parent);
        current = layers.get(&parent).and_then(|layer| layer.parent);
    }
    found.reverse();
    Ok(found)
}

/// Whether an error tells of this machine (a full disk, too many open files) or of the caller, and not of what was
/// being looked at: that may be as sound as ever, and must not be taken for damage.
fn says_nothing(error: &ImageError) -> bool {
    match error {
        ImageError::Cancelled { .. } => true,
        ImageError::Io { source, .. } => {
            let errno = Errno::from_io_error(source);
            ErrorKind::from_io(source) == ErrorKind::ResourceExhausted
                || matches!(errno, Some(Errno::MFILE | Errno::NFILE))
        }
        _ => false,
    }
}

struct Counted {
    pace: Pace,
    current: u64,
    total: u64,
}
