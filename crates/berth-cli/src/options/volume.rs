//! `-v`: `[source:]target[:options]`.

use std::path::Path;

use berth_api::{BindOptions, Mount};

use super::mount;

/// What one `-v` means for the request.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Volume {
    /// An entry of the bind list: a host path or a named volume, its target and its options.
    Bind(String),
    /// A directory of the host whose files belong to somebody: an entry of the list of mounts.
    Owned(Box<Mount>),
    /// A place in the container that gets a volume of its own.
    Anonymous(String),
}

/// Reads one `-v`; a host path that starts with a dot is made absolute beneath `directory`.
pub(crate) fn parse(text: &str, directory: &Path) -> Result<Volume, String> {
    let sections = match text.chars().count() {
        0 => return Err("invalid empty volume spec".to_owned()),
        1 | 2 => return Ok(Volume::Anonymous(text.to_owned())),
        _ => sections(text),
    };
    if sections.iter().any(String::is_empty) {
        return Err(format!(
            "invalid spec: {text}: empty section between colons"
        ));
    }
    match sections.len() {
        1 => return Ok(Volume::Anonymous(text.to_owned())),
        2 | 3 => {}
        _ => return Err(format!("invalid spec: {text}: too many colons")),
    }
    if let Some(mount) = owned(text, &sections, directory)? {
        return Ok(Volume::Owned(Box::new(mount)));
    }
    let source = &sections[0];
    if source.starts_with('.')
        && let Some((_, rest)) = text.split_once(':')
    {
        return Ok(Volume::Bind(format!(
            "{}:{rest}",
            absolute(source, directory)
        )));
    }
    Ok(Volume::Bind(text.to_owned()))
}

/// The mount that `source:target:owner=caller` means; its other options are those of `-v`.
fn owned(text: &str, sections: &[String], directory: &Path) -> Result<Option<Mount>, String> {
    let [source, target, options] = sections else {
        return Ok(None);
    };
    let Some(owner) = options.split(',').find_map(|o| o.strip_prefix("owner=")) else {
        return Ok(None);
    };
    let wrong = |why: &str| format!("invalid spec: {text}: {why}");
    if owner != mount::CALLER {
        return Err(wrong("owner must be caller; --mount takes owner=uid:gid"));
    }
    if !(source.starts_with('/') || source.starts_with('.')) {
        return Err(wrong("owner is for directories of the host"));
    }
    let mut made = Mount {
        kind: "bind".to_owned(),
        source: absolute(source, directory),
        target: target.clone(),
        ..Mount::default()
    };
    let mut bind = BindOptions {
        owner: owner.to_owned(),
        // As with every -v, a source that is missing is made.
        create_mountpoint: true,
        ..BindOptions::default()
    };
    for option in options.split(',').filter(|o| !o.starts_with("owner=")) {
        match option {
            "ro" => made.read_only = true,
            "rw" | "consistent" | "cached" | "delegated" => {}
            "private" | "rprivate" | "shared" | "rshared" | "slave" | "rslave" => {
                option.clone_into(&mut bind.propagation);
            }
            other => return Err(wrong(&format!("invalid mode: {other}"))),
        }
    }
    made.bind_options = Some(bind);
    Ok(Some(made))
}

/// The parts between colons. A single letter before the first colon of a part belongs to what
/// follows, since names of volumes have two characters at least.
fn sections(text: &str) -> Vec<String> {
    let mut sections = vec![String::new()];
    for character in text.chars() {
        let current = sections.last().map(String::as_str).unwrap_or_default();
        let one_letter = current.chars().count() == 1 && current.chars().all(char::is_alphabetic);
        if character == ':' && !one_letter {
            sections.push(String::new());
        } else if let Some(current) = sections.last_mut() {
            current.push(character);
        }
    }
    sections
}

/// The path beneath `directory` if it is relative, in its shortest form.
pub(crate) fn absolute(path: &str, directory: &Path) -> String {
    if path.starts_with('/') {
        return super::device::clean(path);
    }
    super::device::clean(&format!("{}/{path}", directory.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_whose_files_belong_to_the_caller_are_mounts() {
        let Ok(Volume::Owned(mount)) = parse("./x:/b:ro,owner=caller", Path::new("/work")) else {
            panic!("a mount");
        };
        assert_eq!(
            serde_json::to_string(&mount).expect("serialises"),
            r#"{"Type":"bind","Source":"/work/x","Target":"/b","ReadOnly":true,"BindOptions":{"CreateMountpoint":true,"Owner":"caller"}}"#
        );
    }

    #[test]
    fn volumes_are_read() {
        let bind = |text: &str| Ok(Volume::Bind(text.into()));
        let anonymous = |text: &str| Ok(Volume::Anonymous(text.into()));
        for (text, wanted) in [
            ("/data", anonymous("/data")),
            ("/", anonymous("/")),
            ("a:b", anonymous("a:b")),
            (
                "name:/b:owner=caller",
                Err(
                    "invalid spec: name:/b:owner=caller: owner is for directories of the host"
                        .into(),
                ),
            ),
            ("name:/data", bind("name:/data")),
            ("/a:/b:ro,z", bind("/a:/b:ro,z")),
            (".:/b", bind("/work:/b")),
            ("./x/../y:/b:ro", bind("/work/y:/b:ro")),
            ("../x:/b", bind("/x:/b")),
            ("~/x:/b", bind("~/x:/b")),
            ("", Err("invalid empty volume spec".into())),
            (
                "/a::/b",
                Err("invalid spec: /a::/b: empty section between colons".into()),
            ),
            (
                "/a:/b:",
                Err("invalid spec: /a:/b:: empty section between colons".into()),
            ),
            (
                "/a:/b:ro:/d",
                Err("invalid spec: /a:/b:ro:/d: too many colons".into()),
            ),
        ] {
            assert_eq!(parse(text, Path::new("/work")), wanted, "{text}");
        }
    }
}
