//! `--mount`: `type=bind,source=/a,target=/b,readonly` and its kind.

use std::path::Path;

use berth_api::{BindOptions, ImageOptions, Mount, MountDriver, TmpfsOptions, VolumeOptions};

use super::{csv, scalar, volume};
use crate::quote::go_quote;

/// Reads one mount; a source that starts with a dot is made absolute beneath `directory`.
pub(crate) fn parse(text: &str, directory: &Path) -> Result<Mount, String> {
    let text = text.trim();
    if text.is_empty() {
        return Err("value is empty".to_owned());
    }
    let mut mount = Mount {
        kind: "volume".to_owned(),
        ..Mount::default()
    };
    for field in csv::fields(text)? {
        let (key, value) = match field.split_once('=') {
            Some((key, value)) => (key, Some(value)),
            None => (field.as_str(), None),
        };
        if key.trim() != key {
            return Err(format!(
                "invalid option '{}' in '{field}': option should not have whitespace",
                key.trim()
            ));
        }
        let key = key.to_ascii_lowercase();
        match value {
            Some(value) if value.trim().is_empty() => {
                return Err(format!("invalid value for '{key}': value is empty"));
            }
            Some(value) if value.trim() != value => {
                return Err(format!(
                    "invalid value for '{key}' in '{field}': value should not have whitespace"
                ));
            }
            None if !SWITCHES.contains(&key.as_str()) => {
                return Err(format!("invalid field '{field}' must be a key=value pair"));
            }
            _ => {}
        }
        set(&mut mount, &key, value, &field, directory)?;
    }
    validate(&mount)?;
    Ok(mount)
}

/// Keys that may stand without a value.
const SWITCHES: &[&str] = &[
    "readonly",
    "ro",
    "volume-nocopy",
    "bind-nonrecursive",
    "bind-create-src",
];

fn set(
    mount: &mut Mount,
    key: &str,
    given: Option<&str>,
    field: &str,
    directory: &Path,
) -> Result<(), String> {
    let value = given.unwrap_or_default();
    match key {
        "type" => mount.kind = value.to_ascii_lowercase(),
        "source" | "src" if value.starts_with('.') => {
            mount.source = volume::absolute(value, directory)
        }
        "source" | "src" => mount.source = value.to_owned(),
        "target" | "dst" | "destination" => mount.target = value.to_owned(),
        "readonly" | "ro" => mount.read_only = switch(key, given)?,
        "consistency" => mount.consistency = value.to_ascii_lowercase(),
        "bind-propagation" => bind(mount).propagation = value.to_ascii_lowercase(),
        "bind-nonrecursive" => bind(mount).non_recursive = switch(key, given)?,
        "bind-recursive" => match value {
            // Read-only mounts are recursively read-only where the kernel can do that.
            "enabled" => {}
            "disabled" => bind(mount).non_recursive = true,
            "writable" => bind(mount).read_only_non_recursive = true,
            "readonly" => bind(mount).read_only_force_recursive = true,
            _ => {
                return Err(format!(
                    "invalid value for {key}: {value} (must be \"enabled\", \"disabled\", \"writable\", or \"readonly\")"
                ));
            }
        },
        "owner" => bind(mount).owner = owner(value)?,
        "bind-create-src" => bind(mount).create_mountpoint = switch(key, given)?,
        "volume-subpath" => volume_options(mount).subpath = value.to_owned(),
        "volume-nocopy" => volume_options(mount).no_copy = switch(key, given)?,
        "volume-label" => {
            let (name, label) = value.split_once('=').unwrap_or((value, ""));
            if !name.is_empty() {
                volume_options(mount)
                    .labels
                    .insert(name.to_owned(), label.to_owned());
            } else {
                volume_options(mount);
            }
        }
        "volume-driver" => driver(mount).name = value.to_owned(),
        "volume-opt" => {
            let (name, option) = value.split_once('=').unwrap_or((value, ""));
            if !name.is_empty() {
                driver(mount)
                    .options
                    .insert(name.to_owned(), option.to_owned());
            } else {
                driver(mount);
            }
        }
        "image-subpath" => {
            mount
                .image_options
                .get_or_insert_with(ImageOptions::default)
                .subpath = value.to_owned();
        }
        "tmpfs-size" => {
            let size =
                scalar::bytes(value).map_err(|_| format!("invalid value for {key}: {value}"))?;
            mount
                .tmpfs_options
                .get_or_insert_with(TmpfsOptions::default)
                .size_bytes = size;
        }
        "tmpfs-mode" => {
            let mode = u32::from_str_radix(value, 8)
                .map_err(|_| format!("invalid value for {key}: {value}"))?;
            mount
                .tmpfs_options
                .get_or_insert_with(TmpfsOptions::default)
                .mode = mode;
        }
        _ => return Err(format!("unknown option '{key}' in '{field}'")),
    }
    Ok(())
}

/// Who owns on the host what the container's user writes: `caller`, or `uid:gid`.
pub(crate) fn owner(value: &str) -> Result<String, String> {
    let numbers = value.split_once(':').is_some_and(|(uid, gid)| {
        [uid, gid]
            .iter()
            .all(|id| id.parse::<u32>().is_ok_and(|id| id != u32::MAX))
    });
    if value == CALLER || numbers {
        return Ok(value.to_owned());
    }
    Err(format!(
        "invalid value for owner: {value} (must be \"caller\" or uid:gid)"
    ))
}

/// Stands for whoever calls the client, until the request is sent.
pub(crate) const CALLER: &str = "caller";

fn bind(mount: &mut Mount) -> &mut BindOptions {
    mount.bind_options.get_or_insert_with(BindOptions::default)
}

fn volume_options(mount: &mut Mount) -> &mut VolumeOptions {
    mount
        .volume_options
        .get_or_insert_with(VolumeOptions::default)
}

fn driver(mount: &mut Mount) -> &mut MountDriver {
    volume_options(mount)
        .driver_config
        .get_or_insert_with(MountDriver::default)
}

fn switch(key: &str, value: Option<&str>) -> Result<bool, String> {
    match value {
        None | Some("1" | "true") => Ok(true),
        Some("0" | "false") => Ok(false),
        Some(value) => Err(format!(
            "invalid value for '{key}': invalid boolean value ({}): must be one of \"true\", \"1\", \"false\", or \"0\" (default \"true\")",
            go_quote(value)
        )),
    }
}

fn validate(mount: &Mount) -> Result<(), String> {
    if mount.kind.is_empty() {
        return Err("type is required".to_owned());
    }
    if mount.target.is_empty() {
        return Err("target is required".to_owned());
    }
    for (given, family, kind) in [
        (mount.bind_options.is_some(), "bind", "bind"),
        (mount.volume_options.is_some(), "volume", "volume"),
        (mount.image_options.is_some(), "image", "image"),
        (mount.tmpfs_options.is_some(), "tmpfs", "tmpfs"),
    ] {
        if given && mount.kind != kind {
            return Err(format!(
                "cannot mix '{family}-*' options with mount type '{}'",
                mount.kind
            ));
        }
    }
    let Some(bind) = &mount.bind_options else {
        return Ok(());
    };
    if bind.read_only_non_recursive && !mount.read_only {
        return Err(
            "option 'bind-recursive=writable' requires 'readonly' to be specified in conjunction"
                .to_owned(),
        );
    }
    if bind.read_only_force_recursive {
        if !mount.read_only {
            return Err("option 'bind-recursive=readonly' requires 'readonly' to be specified in conjunction".to_owned());
        }
        if bind.propagation != "rprivate" {
            return Err("option 'bind-recursive=readonly' requires 'bind-propagation=rprivate' to be specified in conjunction".to_owned());
        }
    }
    Ok(())
}

/// Whether the text is a mount.
pub(crate) fn check(text: &str) -> Result<(), String> {
    parse(text, Path::new("/")).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(text: &str) -> String {
        match parse(text, Path::new("/work")) {
            Ok(mount) => serde_json::to_string(&mount).expect("serialises"),
            Err(error) => error,
        }
    }

    #[test]
    fn mounts_are_read() {
        for (text, wanted) in [
            (
                "type=bind,src=/a,dst=/b,ro",
                r#"{"Type":"bind","Source":"/a","Target":"/b","ReadOnly":true}"#,
            ),
            (
                "type=bind,source=./x,target=/b,readonly,bind-recursive=readonly,bind-propagation=rprivate",
                r#"{"Type":"bind","Source":"/work/x","Target":"/b","ReadOnly":true,"BindOptions":{"Propagation":"rprivate","ReadOnlyForceRecursive":true}}"#,
            ),
            ("dst=/b", r#"{"Type":"volume","Target":"/b"}"#),
            (
                "type=volume,src=v,dst=/b,volume-nocopy,volume-label=a=b,volume-driver=local,\"volume-opt=o=uid=1,gid=2\"",
                r#"{"Type":"volume","Source":"v","Target":"/b","VolumeOptions":{"NoCopy":true,"Labels":{"a":"b"},"DriverConfig":{"Name":"local","Options":{"o":"uid=1,gid=2"}}}}"#,
            ),
            (
                "type=tmpfs,dst=/t,tmpfs-size=1m,tmpfs-mode=1777",
                r#"{"Type":"tmpfs","Target":"/t","TmpfsOptions":{"SizeBytes":1048576,"Mode":1023}}"#,
            ),
            (
                "type=image,src=i,dst=/t,image-subpath=x",
                r#"{"Type":"image","Source":"i","Target":"/t","ImageOptions":{"Subpath":"x"}}"#,
            ),
            (
                "type=bind,src=/a,dst=/b,owner=caller",
                r#"{"Type":"bind","Source":"/a","Target":"/b","BindOptions":{"Owner":"caller"}}"#,
            ),
            (
                "type=bind,src=/a,dst=/b,owner=me",
                "invalid value for owner: me (must be \"caller\" or uid:gid)",
            ),
            (
                "src=a,dst=/b,owner=1:2",
                "cannot mix 'bind-*' options with mount type 'volume'",
            ),
            ("type=bind", "target is required"),
            ("", "value is empty"),
            (
                "type=bind,src=/a,dst=/b,foo",
                "invalid field 'foo' must be a key=value pair",
            ),
            ("foo=bar", "unknown option 'foo' in 'foo=bar'"),
            (
                "type=tmpfs,dst=/b,bind-propagation=shared",
                "cannot mix 'bind-*' options with mount type 'tmpfs'",
            ),
            (
                "type=tmpfs,dst=/b,tmpfs-size=x",
                "invalid value for tmpfs-size: x",
            ),
            (
                "type=tmpfs,dst=/b,tmpfs-mode=9",
                "invalid value for tmpfs-mode: 9",
            ),
            (
                "src=/a,dst=/b,ro=x",
                "invalid value for 'ro': invalid boolean value (\"x\"): must be one of \"true\", \"1\", \"false\", or \"0\" (default \"true\")",
            ),
            (
                "src= a,dst=/b",
                "invalid value for 'src' in 'src= a': value should not have whitespace",
            ),
            ("dst=", "invalid value for 'dst': value is empty"),
            (
                "type=bind,src=/a,dst=/b,bind-recursive=writable",
                "option 'bind-recursive=writable' requires 'readonly' to be specified in conjunction",
            ),
        ] {
            assert_eq!(json(text), wanted, "{text}");
        }
    }
}
