//! `manifest`: lists of images for several platforms, made here and put into a registry.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use berth_api::{Client, ManifestListPush, ManifestSource, OciPlatform, RemoteManifest};
use berth_types::reference::Reference;
use serde::Serialize;
use serde_json::{Value, json};

use super::manifest_store::{Entry, ManifestStore};
use super::{Arity, Spec};
use crate::failure::Failure;
use crate::flags::{Flag, Operands, Parsed};
use crate::session::{self, Session};

const fn insecure() -> Flag {
    Flag::switch("insecure", "Do without TLS and a certificate that verifies")
}

const fn spec(
    name: &'static [&'static str],
    usage: &'static str,
    about: &'static str,
    flags: fn() -> Vec<Flag>,
    arity: Arity,
    run: fn(&Session, &Parsed) -> Result<(), Failure>,
) -> Spec {
    Spec {
        group: "manifest",
        names: name,
        top: &[],
        usage,
        about,
        flags,
        operands: Operands::Mixed,
        arity,
        run,
    }
}

pub(crate) const ANNOTATE: Spec = spec(
    &["annotate"],
    "[OPTIONS] MANIFEST_LIST MANIFEST",
    "Say for which platform an image of a local list is",
    || {
        vec![
            Flag::text("arch", "Architecture"),
            Flag::text("os", "Operating system"),
            Flag::list("os-features", "Features of the operating system"),
            Flag::text("os-version", "Version of the operating system"),
            Flag::text("variant", "Variant of the architecture"),
        ]
    },
    Arity::Exactly(2),
    annotate,
);

pub(crate) const CREATE: Spec = spec(
    &["create"],
    "MANIFEST_LIST MANIFEST [MANIFEST...]",
    "Begin a local list of images for several platforms",
    || {
        vec![
            Flag::switch("amend", "Add to a list that is there").short('a'),
            insecure(),
        ]
    },
    Arity::AtLeast(2),
    create,
);

pub(crate) const INSPECT: Spec = spec(
    &["inspect"],
    "[OPTIONS] [MANIFEST_LIST] MANIFEST",
    "Show a list or the manifest of an image",
    || {
        vec![
            insecure(),
            Flag::switch("verbose", "Show what is known beside it, too").short('v'),
        ]
    },
    Arity::Between(1, 2),
    inspect,
);

pub(crate) const PUSH: Spec = spec(
    &["push"],
    "[OPTIONS] MANIFEST_LIST",
    "Put a local list into its registry",
    || {
        vec![
            insecure(),
            Flag::switch("purge", "Forget the local list afterwards").short('p'),
        ]
    },
    Arity::Exactly(1),
    push,
);

pub(crate) const RM: Spec = spec(
    &["rm"],
    "MANIFEST_LIST [MANIFEST_LIST...]",
    "Forget local lists",
    Vec::new,
    Arity::AtLeast(1),
    remove,
);

const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";

/// What Go calls the systems and architectures it builds for.
const PLATFORMS: &[(&str, &[&str])] = &[
    ("aix", &["ppc64"]),
    ("android", &["386", "amd64", "arm", "arm64"]),
    ("darwin", &["386", "amd64", "arm", "arm64"]),
    ("dragonfly", &["amd64"]),
    ("freebsd", &["386", "amd64", "arm", "arm64", "riscv64"]),
    ("illumos", &["amd64"]),
    ("ios", &["amd64", "arm64"]),
    ("js", &["wasm"]),
    (
        "linux",
        &[
            "386", "amd64", "arm", "arm64", "loong64", "mips", "mipsle", "mips64", "mips64le",
            "ppc64", "ppc64le", "riscv64", "s390x",
        ],
    ),
    ("netbsd", &["386", "amd64", "arm", "arm64"]),
    (
        "openbsd",
        &["386", "amd64", "arm", "arm64", "mips64", "ppc64", "riscv64"],
    ),
    ("plan9", &["386", "amd64", "arm"]),
    ("solaris", &["amd64"]),
    ("wasip1", &["wasm"]),
    ("windows", &["386", "amd64", "arm", "arm64"]),
];

fn is_known(platform: &OciPlatform) -> bool {
    PLATFORMS.iter().any(|(os, architectures)| {
        *os == platform.os && architectures.contains(&platform.architecture.as_str())
    })
}

pub(super) fn parse(text: &str) -> Result<Reference, Failure> {
    Reference::parse(text)
        .map(Reference::with_default_tag)
        .map_err(|error| Failure::new(error.to_string()))
}

fn store(session: &Session) -> ManifestStore {
    ManifestStore::new(&session.config_directory())
}

/// A manifest or index as its registry has it.
async fn fetch(
    session: &Session,
    client: &Client,
    reference: &Reference,
    insecure: bool,
) -> Result<RemoteManifest, Failure> {
    let auth = session.credentials(reference.registry())?;
    client
        .manifest_inspect(&reference.to_string(), insecure, auth.as_ref())
        .await
        .map_err(|error| session.failure_at(reference.registry(), error))
}

fn is_list(manifest: &RemoteManifest) -> bool {
    matches!(
        manifest.descriptor.media_type.as_str(),
        OCI_INDEX | DOCKER_LIST
    )
}

fn create(session: &Session, parsed: &Parsed) -> Result<(), Failure> {
    let list = parse(&parsed.operands[0])?;
    let store = store(session);
    if store.list(&list)?.is_some() && !parsed.switch("amend") {
        return Err(Failure::new(
            "refusing to amend an existing manifest list with no --amend flag",
        ));
    }
    session.block_on(async {
        let client = session.client()?;
        for text in &parsed.operands[1..] {
            let reference = parse(text)?;
            if store.get(&list, &reference)?.is_some() {
                continue;
            }
            let manifest = fetch(session, &client, &reference, parsed.switch("insecure")).await?;
            if is_list(&manifest) {
                return Err(Failure::new(format!("{reference} is a manifest list")));
            }
            store.save(&list, &reference, &Entry::of(&reference, manifest)?)?;
        }
        session::print(&format!("Created manifest list {list}\n"))
    })
}

fn annotate(session: &Session, parsed: &Parsed) -> Result<(), Failure> {
    let named = |text: &str, what: &str| {
        parse(text).map_err(|failure| {
            Failure::new(format!(
                "annotate: error parsing name for {what} {text}: {}",
                failure.message
            ))
        })
    };
    let (list_text, text) = (&parsed.operands[0], &parsed.operands[1]);
    let list = named(list_text, "manifest list")?;
    let reference = named(text, "manifest")?;
    let store = store(session);
    let mut entry = store.get(&list, &reference)?.ok_or_else(|| {
        Failure::new(format!(
            "manifest for image {text} does not exist in {list_text}"
        ))
    })?;
    let platform = entry.descriptor.platform.get_or_insert_default();
    for (flag, field) in [
        ("os", &mut platform.os),
        ("arch", &mut platform.architecture),
        ("variant", &mut platform.variant),
        ("os-version", &mut platform.os_version),
    ] {
        if !parsed.text(flag).is_empty() {
            parsed.text(flag).clone_into(field);
        }
    }
    for feature in parsed
        .list("os-features")
        .iter()
        .flat_map(|text| text.split(','))
    {
        if !platform.os_features.iter().any(|known| known == feature) {
            platform.os_features.push(feature.to_owned());
        }
    }
    if !is_known(platform) {
        return Err(Failure::new(format!(
            "manifest entry for image has unsupported os/arch combination: {}/{}",
            platform.os, platform.architecture
        )));
    }
    store.save(&list, &reference, &entry)
}

/// JSON with an indentation.
fn indented(value: &impl Serialize, indentation: &[u8]) -> Result<String, Failure> {
    let mut text = Vec::new();
    let format = serde_json::ser::PrettyFormatter::with_indent(indentation);
    value
        .serialize(&mut serde_json::Serializer::with_formatter(
            &mut text, format,
        ))
        .map_err(|error| Failure::new(format!("write a manifest: {error}")))?;
    text.push(b'\n');
    String::from_utf8(text).map_err(|error| Failure::new(format!("write a manifest: {error}")))
}

fn document(bytes: &[u8], reference: &Reference) -> Result<Value, Failure> {
    serde_json::from_slice(bytes)
        .map_err(|error| Failure::new(format!("read the manifest of {reference}: {error}")))
}

fn inspect(session: &Session, parsed: &Parsed) -> Result<(), Failure> {
    let verbose = parsed.switch("verbose");
    let store = store(session);
    let show_one = |entry: &Entry, reference: &Reference| -> Result<(), Failure> {
        let text = match verbose {
            true => indented(entry, b"\t")?,
            false => indented(&document(&entry.bytes()?, reference)?, b"\t")?,
        };
        session::print(&text)
    };
    if let [list, text] = &parsed.operands[..] {
        let (list, reference) = (parse(list)?, parse(text)?);
        let entry = store
            .get(&list, &reference)?
            .ok_or_else(|| Failure::new(format!("No such manifest: {reference}")))?;
        return show_one(&entry, &reference);
    }
    let reference = parse(&parsed.operands[0])?;
    if let Some(entries) = store.list(&reference)? {
        return session::print(&match verbose {
            true => indented(&entries, b"\t")?,
            false => indented(&list_of(&entries).1, b"   ")?,
        });
    }
    session.block_on(async {
        let client = session.client()?;
        let insecure = parsed.switch("insecure");
        let manifest = fetch(session, &client, &reference, insecure).await?;
        if !is_list(&manifest) {
            return show_one(&Entry::of(&reference, manifest)?, &reference);
        }
        let bytes = STANDARD
            .decode(&manifest.document)
            .map_err(|error| Failure::new(format!("read the manifest of {reference}: {error}")))?;
        let list = document(&bytes, &reference)?;
        if !verbose {
            return session::print(&indented(&list, b"   ")?);
        }
        let mut entries = Vec::new();
        for descriptor in list["manifests"].as_array().into_iter().flatten() {
            let digest = descriptor["digest"].as_str().unwrap_or_default();
            let digest = digest.parse().map_err(|_| {
                Failure::new(format!(
                    "read the manifest of {reference}: {digest:?} is no digest"
                ))
            })?;
            let one = reference.with_digest(digest);
            let mut entry = Entry::of(&one, fetch(session, &client, &one, insecure).await?)?;
            if let Ok(platform) = serde_json::from_value(descriptor["platform"].clone()) {
                entry.descriptor.platform = Some(platform);
            }
            entries.push(entry);
        }
        session::print(&indented(&entries, b"\t")?)
    })
}

/// The list of these manifests, with its media type.
fn list_of(entries: &[Entry]) -> (&'static str, Value) {
    let oci = entries
        .first()
        .is_some_and(|entry| entry.descriptor.media_type == OCI_MANIFEST);
    let media_type = if oci { OCI_INDEX } else { DOCKER_LIST };
    let manifests: Vec<Value> = entries
        .iter()
        .map(|entry| {
            let descriptor = &entry.descriptor;
            let mut listed = json!({
                "mediaType": descriptor.media_type,
                "size": descriptor.size,
                "digest": descriptor.digest,
            });
            if let Some(platform) = &descriptor.platform {
                listed["platform"] = json!(platform);
            }
            listed
        })
        .collect();
    let list = json!({"schemaVersion": 2, "mediaType": media_type, "manifests": manifests});
    (media_type, list)
}

fn push(session: &Session, parsed: &Parsed) -> Result<(), Failure> {
    let reference = parse(&parsed.operands[0])?;
    let store = store(session);
    let entries = store
        .list(&reference)?
        .filter(|entries| !entries.is_empty())
        .ok_or_else(|| Failure::new(format!("No such manifest: {reference}")))?;
    let mut manifests = Vec::with_capacity(entries.len());
    for entry in &entries {
        let named =
            entry.descriptor.platform.as_ref().is_some_and(|platform| {
                !platform.os.is_empty() && !platform.architecture.is_empty()
            });
        if !named {
            return Err(Failure::new(format!(
                "manifest {} must have an OS and Architecture to be pushed to a registry",
                entry.reference
            )));
        }
        manifests.push(ManifestSource {
            reference: entry.reference.clone(),
            media_type: entry.descriptor.media_type.clone(),
            document: STANDARD.encode(entry.bytes()?),
        });
    }
    let (media_type, list) = list_of(&entries);
    let text = indented(&list, b"   ")?;
    let request = ManifestListPush {
        media_type: media_type.to_owned(),
        document: STANDARD.encode(text.trim_end()),
        manifests,
        insecure: parsed.switch("insecure"),
    };
    session.block_on(async {
        let client = session.client()?;
        let auth = session.credentials(reference.registry())?;
        let pushed = client
            .manifest_push(&reference.to_string(), &request, auth.as_ref())
            .await
            .map_err(|error| session.failure_at(reference.registry(), error))?;
        for brought in &pushed.brought {
            let digest = brought.rsplit_once('@').map_or("", |(_, digest)| digest);
            session::print(&format!("Pushed ref {brought} with digest: {digest}\n"))?;
        }
        if parsed.switch("purge") {
            store.remove(&reference)?;
        }
        session::print(&format!("{}\n", pushed.digest))
    })
}

fn remove(session: &Session, parsed: &Parsed) -> Result<(), Failure> {
    let store = store(session);
    let mut failures = Vec::new();
    for text in &parsed.operands {
        let outcome = parse(text).and_then(|list| match store.list(&list)? {
            Some(_) => store.remove(&list),
            None => Err(Failure::new(format!("No such manifest: {list}"))),
        });
        failures.extend(outcome.err().map(|failure| failure.message));
    }
    match failures.is_empty() {
        true => Ok(()),
        false => Err(Failure::new(failures.join("\n"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn platforms_are_those_that_programs_are_built_for() {
        let platform = |os: &str, architecture: &str| OciPlatform {
            os: os.into(),
            architecture: architecture.into(),
            ..OciPlatform::default()
        };
        assert!(is_known(&platform("linux", "riscv64")));
        assert!(!is_known(&platform("linux", "x86_64")));
        assert!(!is_known(&platform("", "")));
    }
}
