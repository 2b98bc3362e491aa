//! `inspect`: everything the engine knows of something.

use berth_api::{Client, ClientError};
use berth_types::platform::Platform;
use serde_json::Value;

use super::{Arity, Spec};
use crate::failure::Failure;
use crate::flags::{Flag, Operands, Parsed};
use crate::options::platform;
use crate::output::object::ObjectFormat;
use crate::session::{self, Session};

pub(crate) const ANY: Spec = Spec {
    group: "",
    names: &["inspect"],
    top: &[],
    usage: "[OPTIONS] NAME|ID [NAME|ID...]",
    about: "Show everything known of containers, images, networks and volumes",
    flags: || {
        vec![
            format_flag(),
            Flag::switch("size", "Show sizes on disk, if it is a container").short('s'),
            Flag::text(
                "type",
                "Look only for this type: container, image, network or volume",
            ),
        ]
    },
    operands: Operands::Mixed,
    arity: Arity::AtLeast(1),
    run: any,
};

pub(crate) const CONTAINER: Spec = Spec {
    group: "container",
    names: &["inspect"],
    usage: "[OPTIONS] CONTAINER [CONTAINER...]",
    about: "Show everything known of containers",
    flags: || {
        vec![
            format_flag(),
            Flag::switch("size", "Show sizes on disk").short('s'),
        ]
    },
    run: container,
    ..ANY
};

pub(crate) const IMAGE: Spec = Spec {
    group: "image",
    names: &["inspect"],
    usage: "[OPTIONS] IMAGE [IMAGE...]",
    about: "Show everything known of images",
    flags: || {
        vec![
            format_flag(),
            Flag::text("platform", "Show this platform of the image"),
        ]
    },
    run: image,
    ..ANY
};

pub(crate) const NETWORK: Spec = Spec {
    group: "network",
    names: &["inspect"],
    usage: "[OPTIONS] NETWORK [NETWORK...]",
    about: "Show everything known of networks",
    flags: || {
        vec![
            format_flag(),
            Flag::switch("verbose", "Show services and tasks of a cluster too").short('v'),
        ]
    },
    run: network,
    ..ANY
};

pub(crate) const VOLUME: Spec = Spec {
    group: "volume",
    names: &["inspect"],
    usage: "[OPTIONS] VOLUME [VOLUME...]",
    about: "Show everything known of volumes",
    flags: || vec![format_flag()],
    run: |session, parsed| show(session, parsed, &[Kind::Volume], &Wanted::default()),
    ..ANY
};

fn format_flag() -> Flag {
    Flag::text("format", "Format with 'json' or a Go template").short('f')
}

/// What may be looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Container,
    Image,
    Network,
    Volume,
}

fn container(session: &Session, parsed: &Parsed) -> Result<(), Failure> {
    show(session, parsed, &[Kind::Container], &Wanted::of(parsed))
}

fn image(session: &Session, parsed: &Parsed) -> Result<(), Failure> {
    let wanted = Wanted {
        platform: platform::one(parsed)?,
        ..Wanted::default()
    };
    show(session, parsed, &[Kind::Image], &wanted)
}

fn any(session: &Session, parsed: &Parsed) -> Result<(), Failure> {
    let kinds: &[Kind] = match parsed.text("type") {
        "" if !parsed.given("type") => &[Kind::Container, Kind::Image, Kind::Network, Kind::Volume],
        "container" => &[Kind::Container],
        "image" => &[Kind::Image],
        "network" => &[Kind::Network],
        "volume" => &[Kind::Volume],
        "" => {
            return Err(Failure::new(
                "type is empty: must be one of \"container\", \"image\", \"network\" or \"volume\"",
            ));
        }
        other => {
            return Err(Failure::new(format!(
                "unknown type: \"{other}\": must be one of \"container\", \"image\", \"network\" or \"volume\""
            )));
        }
    };
    show(session, parsed, kinds, &Wanted::of(parsed))
}

/// What is asked beside the name.
#[derive(Debug, Clone, Default)]
struct Wanted {
    /// Sizes of containers.
    size: bool,
    /// One platform of images.
    platform: Option<Platform>,
    /// Services and tasks of networks.
    verbose: bool,
}

impl Wanted {
    fn of(parsed: &Parsed) -> Wanted {
        Wanted {
            size: parsed.switch("size"),
            ..Wanted::default()
        }
    }
}

async fn find(
    client: &Client,
    kind: Kind,
    name: &str,
    wanted: &Wanted,
) -> Result<Value, ClientError> {
    match kind {
        Kind::Container => client.container_inspect_raw(name, wanted.size).await,
        Kind::Image => {
            let platform = wanted.platform.as_ref();
            client.image_inspect_raw(name, platform).await
        }
        Kind::Network => client.network_inspect_raw(name, wanted.verbose).await,
        Kind::Volume => client.volume_inspect_raw(name).await,
    }
}

fn network(session: &Session, parsed: &Parsed) -> Result<(), Failure> {
    let wanted = Wanted {
        verbose: parsed.switch("verbose"),
        ..Wanted::default()
    };
    show(session, parsed, &[Kind::Network], &wanted)
}

fn show(
    session: &Session,
    parsed: &Parsed,
    kinds: &[Kind],
    wanted: &Wanted,
) -> Result<(), Failure> {
    let format = parsed.text("format");
    let template = match format {
        "" | "json" => None,
        template => Some(ObjectFormat::parse(template)?),
    };
    session.block_on(async {
        let client = session.client()?;
        let mut failures: Vec<String> = Vec::new();
        let mut found = Vec::new();
        let mut text = String::new();
        'names: for name in &parsed.operands {
            for kind in kinds {
                match find(&client, *kind, name, wanted).await {
                    Ok(value) => {
                        match &template {
                            None => found.push(value),
                            Some(template) => match template.show(&value) {
                                Ok(line) => text.push_str(&format!("{line}\n")),
                                Err(failure) => {
                                    text.push('\n');
                                    session::print(&text)?;
                                    return Err(failure);
                                }
                            },
                        }
                        continue 'names;
                    }
                    // 501: an engine that does not have this kind of thing.
                    Err(error) if kinds.len() > 1 && matches!(error.status(), Some(404 | 501)) => {}
                    Err(error) => {
                        let fatal = error.status().is_none();
                        failures.push(session.explain(&error));
                        if fatal {
                            break 'names;
                        }
                        continue 'names;
                    }
                }
            }
            failures.push(format!("Error: No such object: {name}"));
        }
        if template.is_none() {
            text = match format {
                "json" => format!("{}\n", Value::Array(found)),
                _ => format!("{}\n", indented(&Value::Array(found))),
            };
        }
        if text.is_empty() {
            text.push('\n');
        }
        session::print(&text)?;
        if failures.is_empty() {
            Ok(())
        } else {
            Err(Failure::new(failures.join("\n")))
        }
    })
}

/// JSON with four spaces for each level.
pub(crate) fn indented(value: &Value) -> String {
    let mut bytes = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, formatter);
    match serde::Serialize::serialize(value, &mut serializer) {
        Ok(()) => String::from_utf8(bytes).unwrap_or_default(),
        // A value that was read from JSON can be written as JSON.
        Err(_) => value.to_string(),
    }
}
