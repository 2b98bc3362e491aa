//! Lists of images with their filters. Reads records only.

use std::collections::HashMap;

use berth_types::{Digest, Reference, Timestamp};
use indexmap::IndexMap;

use crate::documents::chain_ids;
use crate::error::{ImageError, Result};
use crate::records::ImageRecord;
use crate::store::ImageStore;

/// Which images a list shows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImageFilters {
    /// Only images without a tag, or only images with a name.
    pub dangling: Option<bool>,
    /// `key` or `key=value`; all must hold.
    pub labels: Vec<String>,
    /// Made before each of these images.
    pub before: Vec<String>,
    /// Made after each of these images.
    pub since: Vec<String>,
    /// Patterns of names, one of which must fit.
    pub references: Vec<String>,
    /// Made before these moments.
    pub until: Vec<String>,
}

impl ImageFilters {
    /// Reads the filters of a request: name to values.
    ///
    /// # Errors
    /// When a filter does not exist, or a value of `dangling` is no truth value.
    pub fn parse<'a>(filters: impl IntoIterator<Item = (&'a str, Vec<String>)>) -> Result<Self> {
        let mut parsed = Self::default();
        for (name, values) in filters {
            match name {
                "dangling" => {
                    for value in values {
                        let truth = match value.to_ascii_lowercase().as_str() {
                            "1" | "true" => true,
                            "0" | "false" => false,
                            _ => {
                                return Err(ImageError::Filter {
                                    name: "dangling".into(),
                                    reason: format!("{value:?} is neither true nor false"),
                                });
                            }
                        };
                        if parsed
                            .dangling
                            .replace(truth)
                            .is_some_and(|old| old != truth)
                        {
                            return Err(ImageError::Filter {
                                name: "dangling".into(),
                                reason: "it is given as true and as false".into(),
                            });
                        }
                    }
                }
                "label" => parsed.labels.extend(values),
                "before" => parsed.before.extend(values),
                "since" => parsed.since.extend(values),
                "reference" => parsed.references.extend(values),
                "until" => parsed.until.extend(values),
                other => {
                    return Err(ImageError::Filter {
                        name: other.chars().take(64).collect(),
                        reason: "there is no such filter for images".into(),
                    });
                }
            }
        }
        Ok(parsed)
    }
}

/// What a list is asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListRequest {
    /// Also images without a name that others are built upon.
    pub all: bool,
    /// Which images.
    pub filters: ImageFilters,
    /// Count what images share.
    pub shared_size: bool,
}

/// One image of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageSummary {
    /// The image's id.
    pub id: Digest,
    /// The image it was built upon.
    pub parent: Option<Digest>,
    /// Names with tags, as people write them.
    pub repo_tags: Vec<String>,
    /// Names with digests, as people write them.
    pub repo_digests: Vec<String>,
    /// When it was made.
    pub created: Option<Timestamp>,
    /// Bytes of its layers.
    pub size: u64,
    /// Bytes of the layers that other images have too; when asked for.
    pub shared_size: Option<u64>,
    /// Its labels.
    pub labels: IndexMap<String, String>,
    /// The manifest it came with.
    pub manifest: crate::documents::Descriptor,
}

/// The moments between which an image must have been made.
struct Window {
    before: Option<Timestamp>,
    after: Option<Timestamp>,
}

impl Window {
    fn holds(&self, created: Option<Timestamp>) -> bool {
        let before = self
            .before
            .is_none_or(|limit| created.is_some_and(|created| created < limit));
        let after = self
            .after
            .is_none_or(|limit| created.is_some_and(|created| created > limit));
        before && after
    }
}

impl ImageStore {
    /// The images, newest first.
    ///
    /// # Errors
    /// When a filter names an image that is not there or has a bad value, or the records cannot be read.
    pub fn list(&self, request: &ListRequest) -> Result<Vec<ImageSummary>> {
        let filters = &request.filters;
        let window = self.window(filters)?;
        for pattern in &filters.references {
            check_pattern(pattern)?;
        }
        let mut images = self.inner.records.images()?;
        images.retain(|image| !image.retired);
        let mut names: HashMap<Digest, Vec<Reference>> = HashMap::new();
        for (name, record) in self.inner.records.references()? {
            names.entry(record.image).or_default().push(name);
        }
        let mut uses: HashMap<Digest, u32> = HashMap::new();
        if request.shared_size {
            for chain in images.iter().flat_map(|image| chain_ids(&image.diff_ids)) {
                *uses.entry(chain).or_default() += 1;
            }
        }
        let mut found = Vec::new();
        for image in &images {
            if !window.holds(image.created) || !has_labels(&image.labels, &filters.labels) {
                continue;
            }
            let all = names
                .get(&image.id())
                .map(Vec::as_slice)
                .unwrap_or_default();
            let shown: Vec<&Reference> = all
                .iter()
                .filter(|name| {
                    filters.references.is_empty()
                        || filters
                            .references
                            .iter()
                            .any(|pattern| name_fits(pattern, name))
                })
                .collect();
            let has_tag = shown.iter().any(|name| name.tag().is_some());
            if shown.is_empty() {
                let is_parent = images.iter().any(|other| other.parent == Some(image.id()));
                if (is_parent && !request.all)
                    || filters.dangling == Some(false)
                    || !filters.references.is_empty()
                {
                    continue;
                }
            } else if filters.dangling == Some(true) && has_tag {
                continue;
            }
            found.push(self.summary(image, &shown, request.shared_size.then_some(&uses)));
        }
        found.sort_by(|a, b| b.created.cmp(&a.created).then_with(|| a.id.cmp(&b.id)));
        Ok(found)
    }

    fn summary(
        &self,
        image: &ImageRecord,
        names: &[&Reference],
        uses: Option<&HashMap<Digest, u32>>,
    ) -> ImageSummary {
        let (digests, tags): (Vec<&&Reference>, Vec<&&Reference>) =
            names.iter().partition(|name| name.digest().is_some());
        let shared_size = uses.map(|uses| {
            chain_ids(&image.diff_ids)
                .iter()
                .filter(|chain| uses.get(chain).is_some_and(|count| *count > 1))
                .filter_map(|chain| self.inner.layers.get(chain))
                .map(|layer| layer.size)
                .sum()
        });
        ImageSummary {
            id: image.id(),
            parent: image.parent,
            repo_tags: tags.iter().map(|name| name.familiar()).collect(),
            repo_digests: digests.iter().map(|name| name.familiar()).collect(),
            created: image.created,
            size: image.size,
            shared_size,
            labels: image.labels.clone(),
            manifest: image.manifest.clone(),
        }
    }

    fn window(&self, filters: &ImageFilters) -> Result<Window> {
        let mut window = Window {
            before: None,
            after: None,
        };
        let mut limit_before = |moment: Timestamp| {
            window.before = Some(window.before.map_or(moment, |old| old.min(moment)));
        };
        for text in &filters.before {
            if let Some(created) = self.resolve(text)?.record.created {
                limit_before(created);
            }
        }
        let now = std::time::SystemTime::now().into();
        for text in &filters.until {
            let moment =
                Timestamp::parse_relative(text, now).map_err(|error| ImageError::Filter {
                    name: "until".into(),
                    reason: error.to_string(),
                })?;
            limit_before(moment);
        }
        for text in &filters.since {
            if let Some(created) = self.resolve(text)?.record.created {
                window.after = Some(window.after.map_or(created, |old| old.max(created)));
            }
        }
        Ok(window)
    }
}

fn has_labels(labels: &IndexMap<String, String>, wanted: &[String]) -> bool {
    wanted.iter().all(|wanted| match wanted.split_once('=') {
        Some((key, value)) => labels.get(key).is_some_and(|have| have == value),
        None => labels.contains_key(wanted),
    })
}

fn name_fits(pattern: &str, name: &Reference) -> bool {
    [
        name.familiar(),
        name.familiar_name(),
        name.to_string(),
        name.name(),
    ]
    .iter()
    .any(|text| fits(pattern.as_bytes(), text.as_bytes()))
}

fn check_pattern(pattern: &str) -> Result<()> {
    let mut bytes = pattern.bytes();
    let mut open = false;
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' if bytes.next().is_none() => open = true,
            b'[' if !open => open = true,
            b']' => open = false,
            _ => {}
        }
    }
    if open || pattern.len() > 1024 {
        return Err(ImageError::Filter {
            name: "reference".into(),
            reason: format!("syntax error in pattern {pattern:?}"),
        });
    }
    Ok(())
}

/// Whether a pattern of `*`, `?`, `[…]` and `\x` fits the whole text; none of them fits a slash, as in Go's
/// `path.Match`, which is what users' patterns were written for.
fn fits(pattern: &[u8], text: &[u8]) -> bool {
    // Where to go back to: the pattern after the last star, and the text it was tried at.
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    loop {
        if pattern.get(p) == Some(&b'*') {
            star = Some((p + 1, t));
            p += 1;
            continue;
        }
        if t == text.len() && p == pattern.len() {
            return true;
        }
        if let Some(length) = text.get(t).and_then(|byte| fits_one(&pattern[p..], *byte)) {
            p += length;
            t += 1;
            continue;
        }
        match star {
            Some((after, at)) if at < text.len() && text[at] != b'/' => {
                star = Some((after, at + 1));
                p = after;
                t = at + 1;
            }
            _ => return false,
        }
    }
}

/// Whether the first element of the pattern fits one byte, and how long that element is.
fn fits_one(pattern: &[u8], byte: u8) -> Option<usize> {
    match pattern.first()? {
        b'?' => (byte != b'/').then_some(1),
        b'\\' => (pattern.get(1) == Some(&byte)).then_some(2),
        b'[' => {
            let close = pattern.iter().skip(2).position(|b| *b == b']')? + 2;
            let mut class = &pattern[1..close];
            let negated = class.first() == Some(&b'^');
            if negated {
                class = &class[1..];
            }
            let mut inside = false;
            while let Some(low) = class.first() {
                if class.len() >= 3 && class[1] == b'-' {
                    inside |= (*low..=class[2]).contains(&byte);
                    class = &class[3..];
                } else {
                    inside |= *low == byte;
                    class = &class[1..];
                }
            }
            (inside != negated && byte != b'/').then_some(close + 1)
        }
        literal => (*literal == byte).then_some(1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_fit_as_users_know_them() {
        for (pattern, text, expected) in [
            ("busybox", "busybox", true),
            ("busy*", "busybox:latest", true),
            ("*box", "busybox:latest", false),
            ("*:latest", "busybox:latest", true),
            ("*", "someone/app", false),
            ("*/*", "someone/app", true),
            ("b?sybox", "busybox", true),
            ("[a-c]usybox", "busybox", true),
            ("[^a-c]usybox", "busybox", false),
            ("a\\*", "a*", true),
            ("a**b", "aXYb", true),
            ("", "", true),
            ("*a*b*c", "xxaxxbxxc", true),
            ("*a*b*c", "xxaxxbxx", false),
        ] {
            assert_eq!(
                fits(pattern.as_bytes(), text.as_bytes()),
                expected,
                "{pattern} on {text}"
            );
        }
        assert!(check_pattern("[a").is_err());
    }
}
