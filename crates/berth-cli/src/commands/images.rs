//! `images`: the list of images.

use std::collections::BTreeMap;

use berth_api::{ImageListOptions, ImageSummary};
use berth_types::size;
use berth_types::timestamp::Timestamp;

use super::{Arity, Spec, images_tree};
use crate::failure::Failure;
use crate::flags::{Flag, Operands, Parsed};
use crate::options::filter;
use crate::output::list::{Columns, Format, Row};
use crate::output::text;
use crate::session::{self, Session};

pub(crate) const SPEC: Spec = Spec {
    group: "image",
    names: &["ls", "list"],
    top: &["images"],
    usage: "[OPTIONS] [REPOSITORY[:TAG]]",
    about: "List images",
    flags: || {
        vec![
            Flag::switch("all", "Show intermediate images too").short('a'),
            Flag::switch("digests", "Show digests"),
            filter::flag("Show only what matches (\"name=value\")").short('f'),
            Flag::text(
                "format",
                "Format lines with 'table', 'table TEMPLATE', 'json', 'raw' or a Go template",
            ),
            Flag::switch("no-trunc", "Do not shorten anything"),
            Flag::switch("quiet", "Show ids only").short('q'),
            Flag::switch("tree", "Show images with several platforms as a tree"),
        ]
    },
    operands: Operands::Mixed,
    arity: Arity::AtMost(1),
    run,
};

const COLUMNS: Columns = Columns {
    headers: &[
        ("ID", "IMAGE ID"),
        ("Repository", "REPOSITORY"),
        ("Tag", "TAG"),
        ("Digest", "DIGEST"),
        ("CreatedSince", "CREATED"),
        ("CreatedAt", "CREATED AT"),
        ("Size", "SIZE"),
        ("Containers", "CONTAINERS"),
        ("VirtualSize", "SIZE"),
        ("SharedSize", "SHARED SIZE"),
        ("UniqueSize", "UNIQUE SIZE"),
    ],
    type_name: "*formatter.imageContext",
    labels: false,
};

const TABLE: &str = "{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}";
const TABLE_DIGESTS: &str =
    "{{.Repository}}\t{{.Tag}}\t{{.Digest}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}";
const RAW: &str = "repository: {{.Repository}}\ntag: {{.Tag}}\nimage_id: {{.ID}}\ncreated_at: {{.CreatedAt}}\nvirtual_size: {{.Size}}\n";
const RAW_DIGESTS: &str = "repository: {{.Repository}}\ntag: {{.Tag}}\ndigest: {{.Digest}}\nimage_id: {{.ID}}\ncreated_at: {{.CreatedAt}}\nvirtual_size: {{.Size}}\n";
const NONE: &str = "<none>";

fn run(session: &Session, parsed: &Parsed) -> Result<(), Failure> {
    if parsed.switch("tree") {
        return tree(session, parsed);
    }
    let (quiet, digests) = (parsed.switch("quiet"), parsed.switch("digests"));
    let configured = &session.config()?.images_format;
    let wanted = match parsed.text("format") {
        "" if quiet => "{{.ID}}",
        "" if !configured.is_empty() => configured,
        "" => "table",
        "table" if quiet => "{{.ID}}",
        "raw" if quiet => "image_id: {{.ID}}",
        given => given,
    };
    let format = match digests {
        true => Format::parse(wanted, TABLE_DIGESTS, Some(RAW_DIGESTS))?,
        false => Format::parse(wanted, TABLE, Some(RAW))?,
    };
    let mut filters = filter::all(&parsed.list("filter"));
    if let Some(name) = parsed.operands.first() {
        filters.add("reference", name.as_str());
    }
    let options = ImageListOptions {
        all: parsed.switch("all"),
        shared_size: false,
        manifests: false,
        filters,
    };
    session.block_on(async {
        let client = session.client()?;
        let images = client
            .image_list(&options)
            .await
            .map_err(|error| session.failure(error))?;
        let whole = parsed.switch("no-trunc");
        let with_digests = digests || format.mentions("Digest");
        let rows = images
            .iter()
            .flat_map(|image| rows(image, whole, with_digests))
            .collect();
        session::print(&format.render(&COLUMNS, rows)?)
    })
}

/// Images with the manifests behind their names below them.
fn tree(session: &Session, parsed: &Parsed) -> Result<(), Failure> {
    for (flag, given) in [
        ("--quiet", parsed.switch("quiet")),
        ("--digests", parsed.switch("digests")),
        ("--no-trunc", parsed.switch("no-trunc")),
        ("--format", !parsed.text("format").is_empty()),
    ] {
        if given {
            return Err(Failure::new(format!("{flag} is not supported with --tree")));
        }
    }
    let mut filters = filter::all(&parsed.list("filter"));
    if let Some(name) = parsed.operands.first() {
        filters.add("reference", name.as_str());
    }
    let options = ImageListOptions {
        all: parsed.switch("all"),
        shared_size: false,
        manifests: true,
        filters,
    };
    session.block_on(async {
        let client = session.client()?;
        let images = client
            .image_list(&options)
            .await
            .map_err(|error| session.failure(error))?;
        session::print(&images_tree::render(&images))
    })
}

/// An image has a line for each of its names, or one without a name.
fn rows(image: &ImageSummary, whole: bool, with_digests: bool) -> Vec<Row> {
    named(image, with_digests)
        .into_iter()
        .map(|(repository, tag, digest)| row(image, whole, &repository, &tag, &digest))
        .collect()
}

/// Repository, tag and digest of each line.
fn named(image: &ImageSummary, with_digests: bool) -> Vec<(String, String, String)> {
    let mut repositories: BTreeMap<&str, (Vec<&str>, Vec<&str>)> = BTreeMap::new();
    for tag in image.repo_tags.iter().filter(|tag| *tag != "<none>:<none>") {
        if let Some((repository, tag)) = tag.rsplit_once(':') {
            repositories.entry(repository).or_default().0.push(tag);
        }
    }
    for digest in image
        .repo_digests
        .iter()
        .filter(|digest| *digest != "<none>@<none>")
    {
        if let Some((repository, digest)) = digest.split_once('@') {
            repositories.entry(repository).or_default().1.push(digest);
        }
    }
    let mut lines = Vec::new();
    for (repository, (tags, digests)) in repositories {
        let tags = if tags.is_empty() { vec![NONE] } else { tags };
        let digests = if digests.is_empty() || !with_digests {
            vec![NONE]
        } else {
            digests
        };
        for tag in tags {
            for digest in &digests {
                lines.push((repository.to_owned(), tag.to_owned(), (*digest).to_owned()));
            }
        }
    }
    if lines.is_empty() {
        lines.push((NONE.to_owned(), NONE.to_owned(), NONE.to_owned()));
    }
    lines
}

/// One line.
pub(crate) fn row(
    image: &ImageSummary,
    whole: bool,
    repository: &str,
    tag: &str,
    digest: &str,
) -> Row {
    let bytes = |bytes: i64| match u64::try_from(bytes) {
        Ok(bytes) => size::format_decimal_short(bytes),
        Err(_) => "N/A".to_owned(),
    };
    let unique = match (image.size, image.shared_size) {
        (whole, shared) if whole >= 0 && shared >= 0 => bytes(whole - shared),
        _ => "N/A".to_owned(),
    };
    let containers = match image.containers {
        -1 => "N/A".to_owned(),
        count => count.to_string(),
    };
    let created = Timestamp::from_unix_seconds(image.created);
    Row::new()
        .with(
            "ID",
            if whole {
                &image.id
            } else {
                text::short_id(&image.id)
            },
        )
        .with("Repository", repository)
        .with("Tag", tag)
        .with("Digest", digest)
        .with(
            "CreatedSince",
            if image.created > 0 {
                text::ago(created)
            } else {
                "N/A".to_owned()
            },
        )
        .with("CreatedAt", text::local_time(image.created))
        .with("Size", bytes(image.size))
        .with(
            "VirtualSize",
            size::format_decimal(u64::try_from(image.size).unwrap_or_default()),
        )
        .with("Containers", containers)
        .with("SharedSize", bytes(image.shared_size))
        .with("UniqueSize", unique)
}

/// The line of an image under its first name.
pub(crate) fn first_row(image: &ImageSummary, whole: bool) -> Row {
    let (repository, tag, digest) =
        named(image, false)
            .into_iter()
            .next()
            .unwrap_or((NONE.into(), NONE.into(), NONE.into()));
    row(image, whole, &repository, &tag, &digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(tags: &[&str], digests: &[&str]) -> ImageSummary {
        ImageSummary {
            id: "sha256:0123456789abcdef".into(),
            repo_tags: tags.iter().map(ToString::to_string).collect(),
            repo_digests: digests.iter().map(ToString::to_string).collect(),
            size: 4_261_574,
            containers: -1,
            shared_size: -1,
            ..ImageSummary::default()
        }
    }

    fn show(image: &ImageSummary, with_digests: bool) -> String {
        let format = Format::parse(
            "{{.Repository}}|{{.Tag}}|{{.Digest}}|{{.ID}}|{{.Size}}|{{.SharedSize}}",
            TABLE,
            None,
        )
        .expect("parses");
        format
            .render(&COLUMNS, rows(image, false, with_digests))
            .expect("renders")
    }

    #[test]
    fn each_name_has_a_line() {
        let rest = "0123456789ab|4.26MB|N/A\n";
        assert_eq!(
            show(
                &image(&["localhost:5000/a:1", "b:latest"], &["b@sha256:aa"]),
                false
            ),
            format!("b|latest|<none>|{rest}localhost:5000/a|1|<none>|{rest}")
        );
        assert_eq!(
            show(&image(&["b:1"], &["b@sha256:aa"]), true),
            format!("b|1|sha256:aa|{rest}")
        );
        assert_eq!(
            show(&image(&[], &["b@sha256:aa"]), false),
            format!("b|<none>|<none>|{rest}")
        );
        assert_eq!(
            show(&image(&[], &[]), false),
            format!("<none>|<none>|<none>|{rest}")
        );
    }
}
