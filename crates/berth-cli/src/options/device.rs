//! `--device`, `--device-cgroup-rule` and the per-device limits of block I/O.

use berth_api::{DeviceMapping, ThrottleDevice, WeightDevice};

use super::scalar;

/// A device as asked for.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Device {
    /// A node of the host.
    Node(DeviceMapping),
    /// A name of the Container Device Interface: `vendor/class=name`.
    Cdi(String),
}

/// Reads `host[:container[:rwm]]` or a CDI name.
pub(crate) fn parse(text: &str) -> Result<Device, String> {
    if is_cdi_name(text) {
        return Ok(Device::Cdi(text.to_owned()));
    }
    let parts: Vec<&str> = text.split(':').collect();
    if parts.len() > 3 || parts[0].is_empty() {
        return Err(format!("bad format for path: {text}"));
    }
    let (container, permissions) = match parts[..] {
        [host] => (host, "rwm"),
        [host, mode] if is_mode(mode) => (host, mode),
        [_, container] => (container, "rwm"),
        [_, container, mode] if is_mode(mode) => (container, mode),
        [_, _, mode] => return Err(format!("bad mode specified: {mode}")),
        _ => return Err(format!("bad format for path: {text}")),
    };
    if !container.starts_with('/') {
        return Err(format!("{container} is not an absolute path"));
    }
    let (host, container) = match parts.len() {
        // A path that stands for both sides is written in its shortest form.
        1 => (clean(parts[0]), clean(parts[0])),
        2 if is_mode(parts[1]) => (clean(parts[0]), clean(parts[0])),
        2 => (parts[0].to_owned(), clean(container)),
        _ => (parts[0].to_owned(), container.to_owned()),
    };
    Ok(Device::Node(DeviceMapping {
        path_on_host: host,
        path_in_container: container,
        cgroup_permissions: permissions.to_owned(),
    }))
}

/// Some of `r`, `w` and `m`, each at most once.
fn is_mode(text: &str) -> bool {
    !text.is_empty()
        && text.chars().enumerate().all(|(at, letter)| {
            "rwm".contains(letter) && !text.chars().take(at).any(|earlier| earlier == letter)
        })
}

/// `vendor.com/class=name`, in the characters the interface allows.
fn is_cdi_name(text: &str) -> bool {
    let Some((kind, name)) = text.split_once('=') else {
        return false;
    };
    let Some((vendor, class)) = kind.split_once('/') else {
        return false;
    };
    let word = |text: &str, inner: &str| {
        text.starts_with(|c: char| c.is_ascii_alphabetic())
            && text.ends_with(|c: char| c.is_ascii_alphanumeric())
            && text
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || inner.contains(c))
    };
    word(vendor, "_-.")
        && word(class, "_-")
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.ends_with(|c: char| c.is_ascii_alphanumeric())
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "_-.:".contains(c))
}

/// The shortest path with the same meaning, by its text alone.
pub(crate) fn clean(path: &str) -> String {
    let absolute = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => {
                parts.pop();
            }
            ".." if absolute => {}
            part => parts.push(part),
        }
    }
    let joined = parts.join("/");
    match (absolute, joined.is_empty()) {
        (true, _) => format!("/{joined}"),
        (false, true) => ".".to_owned(),
        (false, false) => joined,
    }
}

/// `type major:minor mode`, for example `c 42:* rmw`.
pub(crate) fn check_cgroup_rule(text: &str) -> Result<(), String> {
    let number = |part: &str| {
        part == "*" || (!part.is_empty() && part.bytes().all(|digit| digit.is_ascii_digit()))
    };
    let valid = match text.split(' ').collect::<Vec<_>>()[..] {
        [kind, numbers, mode] => {
            matches!(kind, "a" | "b" | "c")
                && numbers
                    .split_once(':')
                    .is_some_and(|(major, minor)| number(major) && number(minor))
                && (1..=3).contains(&mode.len())
                && mode.chars().all(|letter| "rwm".contains(letter))
        }
        _ => false,
    };
    if valid {
        Ok(())
    } else {
        Err(format!("invalid device cgroup format '{text}'"))
    }
}

fn path_and_value(text: &str) -> Result<(&str, &str), String> {
    let (path, value) = text
        .split_once(':')
        .filter(|(path, _)| !path.is_empty())
        .ok_or_else(|| format!("bad format: {text}"))?;
    if !path.starts_with("/dev/") {
        return Err(format!("bad format for device path: {text}"));
    }
    Ok((path, value))
}

/// `--blkio-weight-device`: `path:weight`.
pub(crate) fn weight(text: &str) -> Result<WeightDevice, String> {
    let (path, value) = path_and_value(text)?;
    let weight: u16 = value
        .parse()
        .ok()
        .filter(|weight| *weight == 0 || (10..=1000).contains(weight))
        .ok_or_else(|| format!("invalid weight for device: {text}"))?;
    Ok(WeightDevice {
        path: path.to_owned(),
        weight,
    })
}

/// `--device-read-bps` and `--device-write-bps`: `path:size`.
pub(crate) fn byte_rate(text: &str) -> Result<ThrottleDevice, String> {
    let (path, value) = path_and_value(text)?;
    let rate = scalar::bytes(value).ok().and_then(|rate| u64::try_from(rate).ok()).ok_or_else(|| {
        format!(
            "invalid rate for device: {text}. The correct format is <device-path>:<number>[<unit>]. Number must be a positive integer. Unit is optional and can be kb, mb, or gb"
        )
    })?;
    Ok(ThrottleDevice {
        path: path.to_owned(),
        rate,
    })
}

/// `--device-read-iops` and `--device-write-iops`: `path:number`.
pub(crate) fn operation_rate(text: &str) -> Result<ThrottleDevice, String> {
    let (path, value) = path_and_value(text)?;
    let rate = value.parse().map_err(|_| {
        format!(
            "invalid rate for device: {text}. The correct format is <device-path>:<number>. Number must be a positive integer"
        )
    })?;
    Ok(ThrottleDevice {
        path: path.to_owned(),
        rate,
    })
}

/// Whether the text is a weight of a device.
pub(crate) fn check_weight(text: &str) -> Result<(), String> {
    weight(text).map(|_| ())
}

/// Whether the text is a rate in bytes.
pub(crate) fn check_byte_rate(text: &str) -> Result<(), String> {
    byte_rate(text).map(|_| ())
}

/// Whether the text is a rate in operations.
pub(crate) fn check_operation_rate(text: &str) -> Result<(), String> {
    operation_rate(text).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_read() {
        let node = |host: &str, container: &str, mode: &str| {
            Ok(Device::Node(DeviceMapping {
                path_on_host: host.into(),
                path_in_container: container.into(),
                cgroup_permissions: mode.into(),
            }))
        };
        for (text, wanted) in [
            ("/dev/fuse", node("/dev/fuse", "/dev/fuse", "rwm")),
            ("/dev//a/../fuse:r", node("/dev/fuse", "/dev/fuse", "r")),
            ("/dev/a:/dev/b", node("/dev/a", "/dev/b", "rwm")),
            ("/dev/a:/dev/b:rw", node("/dev/a", "/dev/b", "rw")),
            (
                "nvidia.com/gpu=all",
                Ok(Device::Cdi("nvidia.com/gpu=all".into())),
            ),
            (":", Err("bad format for path: :".into())),
            ("a", Err("a is not an absolute path".into())),
            ("/dev/a:/dev/b:x", Err("bad mode specified: x".into())),
            ("/dev/a:/dev/b:rr", Err("bad mode specified: rr".into())),
            ("/a:b:c:d", Err("bad format for path: /a:b:c:d".into())),
        ] {
            assert_eq!(parse(text), wanted, "{text}");
        }
    }

    #[test]
    fn rules_and_rates_are_checked() {
        for good in ["c 42:* rmw", "a *:* m", "b 8:0 r"] {
            assert_eq!(check_cgroup_rule(good), Ok(()));
        }
        for bad in ["", "x", "c 42 r", "c 1:2 x", "d 1:2 r", "c 1:2  r"] {
            assert!(check_cgroup_rule(bad).is_err(), "{bad}");
        }
        assert_eq!(
            byte_rate("/dev/sda:1mb").map(|device| device.rate),
            Ok(1 << 20)
        );
        assert_eq!(
            operation_rate("/dev/sda:100").map(|device| device.rate),
            Ok(100)
        );
        assert!(operation_rate("/dev/sda:-1").is_err());
        assert_eq!(
            weight("/dev/sda:x").expect_err("no number"),
            "invalid weight for device: /dev/sda:x"
        );
        assert_eq!(
            weight("a:10").expect_err("no path"),
            "bad format for device path: a:10"
        );
        assert_eq!(weight("x").expect_err("no colon"), "bad format: x");
    }
}
