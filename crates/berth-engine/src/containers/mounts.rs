//! The mounts of a new container: taken over from others, `-v`, `--mount`, `--tmpfs`, and what the image declares.
//!
//! Pure but for whether the source of a `--mount` is there. Sentences are Docker's.

use indexmap::{IndexMap, IndexSet};

use super::spec::{
    Bind, HostSettings, MountKind, MountPoint, MountRequest, Propagation, VolumeMount, clean_path,
};
use crate::error::EngineError;
use crate::volumes::{VolumeCreateRequest, Wanted};

/// The mounts of a container.
#[derive(Debug, Default)]
pub(super) struct Mounts {
    /// All of them; those of volumes do not say yet where these are.
    pub(super) points: Vec<MountPoint>,
    /// The volumes, by place in `points`.
    pub(super) volumes: Vec<(usize, Wanted)>,
}

type Mount = (MountPoint, Option<Wanted>);

/// Which mounts a container gets. What is asked for replaces what is taken over (`inherited`); what the image and
/// `-v /path` declare comes where nothing else is.
///
/// # Errors
/// For what makes no sense.
pub(super) fn resolve(
    host: &HostSettings,
    declared: &IndexSet<String>,
    inherited: Vec<MountPoint>,
) -> Result<Mounts, EngineError> {
    let mut list: Vec<Mount> = inherited.into_iter().map(take_over).collect();
    let mut asked: IndexSet<String> = IndexSet::new();
    let mut add = |list: &mut Vec<Mount>, mount: Mount| {
        let target = mount.0.target.clone();
        if !asked.insert(target.clone()) {
            return Err(EngineError::Invalid(format!(
                "Duplicate mount point: {target}"
            )));
        }
        list.retain(|(point, _)| point.target != target);
        list.push(mount);
        Ok(())
    };
    for text in &host.binds {
        add(&mut list, of_bind(text, &host.volume_driver)?)?;
    }
    for request in &host.mounts {
        add(&mut list, of_request(request)?)?;
    }
    for (path, options) in &host.tmpfs {
        let point = MountPoint {
            kind: MountKind::Tmpfs,
            target: tmpfs_target(path)?,
            mode: options.clone(),
            writable: !options.split(',').any(|o| o == "ro"),
            tmpfs_options: tmpfs_options(options.split(',').filter(|o| !o.is_empty()))?,
            ..MountPoint::default()
        };
        add(&mut list, (point, None))?;
    }
    for path in declared {
        let target = declared_target(path)?;
        if list.iter().any(|(point, _)| point.target == target) {
            continue;
        }
        let volume = VolumeCreateRequest {
            driver: host.volume_driver.clone(),
            ..VolumeCreateRequest::default()
        };
        let wanted = Wanted {
            volume,
            target: target.clone(),
            copy: true,
            existing: false,
            over_directory: true,
        };
        list.push((of_volume(target, true, String::new()), Some(wanted)));
    }
    let mut mounts = Mounts::default();
    for (point, wanted) in list {
        if let Some(wanted) = wanted {
            mounts.volumes.push((mounts.points.len(), wanted));
        }
        mounts.points.push(point);
    }
    Ok(mounts)
}

/// The mounts of another container, as `--volumes-from` takes them over.
pub(super) fn inherited(points: &[MountPoint], writable: bool) -> Vec<MountPoint> {
    points
        .iter()
        // A tmpfs of another container is that container's alone.
        .filter(|point| matches!(point.kind, MountKind::Bind | MountKind::Volume))
        .map(|point| MountPoint {
            mode: String::new(),
            writable: point.writable && writable,
            ..point.clone()
        })
        .collect()
}

/// Reads `container[:mode]` of `--volumes-from`: the container, and whether its volumes can be written to.
///
/// # Errors
/// With Docker's sentence.
pub(super) fn parse_volumes_from(text: &str) -> Result<(&str, bool), EngineError> {
    let shown = |text: &str| text.chars().take(256).collect::<String>();
    if text.is_empty() {
        return Err(EngineError::Invalid(format!(
            "invalid volumes-from specification: {text}"
        )));
    }
    let (container, mode) = match text.split_once(':') {
        Some((container, mode)) => (container, mode),
        None => (text, "rw"),
    };
    let wrong = || EngineError::Invalid(format!("invalid mode: {}", shown(mode)));
    let mut writable = true;
    for word in mode.split(',') {
        match word {
            "rw" | "z" | "Z" | "consistent" | "cached" | "delegated" => {}
            "ro" => writable = false,
            _ => return Err(wrong()),
        }
    }
    Ok((container, writable))
}

fn take_over(point: MountPoint) -> Mount {
    let wanted = point.volume.as_ref().map(|volume| Wanted {
        volume: VolumeCreateRequest {
            name: volume.name.clone(),
            ..VolumeCreateRequest::default()
        },
        target: point.target.clone(),
        copy: false,
        existing: true,
        over_directory: false,
    });
    (point, wanted)
}

fn of_volume(target: String, own: bool, mode: String) -> MountPoint {
    MountPoint {
        kind: MountKind::Volume,
        target,
        mode,
        writable: true,
        volume: Some(VolumeMount {
            own,
            ..VolumeMount::default()
        }),
        ..MountPoint::default()
    }
}

fn declared_target(path: &str) -> Result<String, EngineError> {
    let shown: String = path.chars().take(256).collect();
    if !path.starts_with('/') {
        return Err(EngineError::Invalid(format!(
            "invalid volume specification: '{shown}': invalid mount path: '{shown}' mount path must be absolute"
        )));
    }
    let target = clean_path(path);
    if target == "/" {
        return Err(EngineError::Invalid(format!(
            "invalid volume specification: '{shown}': invalid specification: destination can't be '/'"
        )));
    }
    Ok(target)
}

fn of_bind(text: &str, driver: &str) -> Result<Mount, EngineError> {
    let bind = Bind::parse(text).map_err(|e| EngineError::Invalid(e.to_string()))?;
    let extra = |kind: &str, field: &str| {
        let shown: String = text.chars().take(256).collect();
        Err(EngineError::Invalid(format!(
            "invalid volume specification: '{shown}': invalid mount config for type \"{kind}\": field {field} must not be specified"
        )))
    };
    if bind.is_path() {
        if bind.no_copy {
            return extra("bind", "VolumeOptions");
        }
        let point = MountPoint {
            kind: MountKind::Bind,
            source: bind.source.unwrap_or_default(),
            target: bind.target,
            mode: bind.mode,
            writable: bind.writable,
            propagation: Some(bind.propagation.unwrap_or(Propagation::RPrivate)),
            recursive_read_only: true,
            create_source: true,
            ..MountPoint::default()
        };
        return Ok((point, None));
    }
    if bind.propagation.is_some() {
        return extra("volume", "BindOptions");
    }
    let name = bind.source.unwrap_or_default();
    let local = driver.is_empty() || driver == crate::volumes::LOCAL;
    let mode = if bind.mode.is_empty() && local {
        "z".to_owned()
    } else {
        bind.mode
    };
    let wanted = Wanted {
        volume: VolumeCreateRequest {
            name: name.clone(),
            driver: driver.to_owned(),
            ..VolumeCreateRequest::default()
        },
        target: bind.target.clone(),
        copy: !bind.no_copy,
        existing: false,
        over_directory: false,
    };
    let point = MountPoint {
        writable: bind.writable,
        ..of_volume(bind.target, name.is_empty(), mode)
    };
    Ok((point, Some(wanted)))
}

fn tmpfs_target(path: &str) -> Result<String, EngineError> {
    if !path.starts_with('/') {
        return Err(EngineError::Invalid(format!(
            "invalid mount path: '{path}' mount path must be absolute"
        )));
    }
    let target = clean_path(path);
    if target == "/" {
        return Err(EngineError::Invalid(
            "invalid specification: destination can't be '/'".to_owned(),
        ));
    }
    Ok(target)
}

/// Docker's options of a tmpfs with those asked for over them: of each family the last one counts.
fn tmpfs_options<'a>(asked: impl Iterator<Item = &'a str>) -> Result<Vec<String>, EngineError> {
    fn family(option: &str) -> Option<&str> {
        let name = option.split_once('=').map_or(option, |(n, _)| n);
        Some(match name {
            "exec" | "noexec" => "exec",
            "suid" | "nosuid" => "suid",
            "dev" | "nodev" => "dev",
            "ro" | "rw" => "rw",
            "sync" | "async" => "sync",
            "atime" | "noatime" => "atime",
            "diratime" | "nodiratime" => "diratime",
            "relatime" | "norelatime" => "relatime",
            "strictatime" | "nostrictatime" => "strictatime",
            "private" | "rprivate" | "shared" | "rshared" | "slave" | "rslave" | "unbindable"
            | "runbindable" => "propagation",
            "mode" | "uid" | "gid" | "size" | "nr_inodes" | "nr_blocks" | "mpol" | "huge"
            | "noswap" => name,
            "defaults" | "dirsync" | "mand" | "nomand" | "bind" | "rbind" | "remount" => name,
            _ => return None,
        })
    }
    let mut chosen: IndexMap<String, String> = IndexMap::new();
    for option in ["noexec", "nosuid", "nodev", "rprivate"]
        .into_iter()
        .chain(asked)
    {
        let Some(family) = family(option) else {
            return Err(EngineError::Invalid(format!(
                "invalid tmpfs option [\"{}\"]",
                option.chars().take(64).collect::<String>()
            )));
        };
        if family == "defaults" {
            continue;
        }
        // Taken out first, so that the order is that of the last mention.
        chosen.shift_remove(family);
        chosen.insert(family.to_owned(), option.to_owned());
    }
    Ok(chosen.into_values().collect())
}

fn of_request(request: &MountRequest) -> Result<Mount, EngineError> {
    let wrong = |why: &str| {
        EngineError::Invalid(format!(
            "invalid mount config for type \"{}\": {why}",
            request.kind_text
        ))
    };
    if request.target.is_empty() {
        return Err(wrong("field Target must not be empty"));
    }
    if clean_path(&request.target) == "/" {
        return Err(wrong("invalid specification: destination can't be '/'"));
    }
    if !request.target.starts_with('/') {
        return Err(wrong(&format!(
            "invalid mount path: '{}' mount path must be absolute",
            request.target
        )));
    }
    let target = clean_path(&request.target);
    let base = MountPoint {
        kind: request.kind,
        target,
        writable: !request.read_only,
        ..MountPoint::default()
    };
    let point = match request.kind {
        MountKind::Bind => {
            if request.source.is_empty() {
                return Err(wrong("field Source must not be empty"));
            }
            if !request.source.starts_with('/') {
                return Err(wrong(&format!(
                    "invalid mount path: '{}' mount path must be absolute",
                    request.source
                )));
            }
            if request.tmpfs.is_some() {
                return Err(wrong("field TmpfsOptions must not be specified"));
            }
            let source = clean_path(&request.source);
            if !request.create_mountpoint
                && berth_sys::fs::symlink_metadata(std::path::Path::new(&source)).is_err()
            {
                return Err(wrong(&format!("bind source path does not exist: {source}")));
            }
            if request.read_only_non_recursive && request.read_only_force_recursive {
                return Err(wrong(
                    "mount options conflict: ReadOnlyNonRecursive && ReadOnlyForceRecursive",
                ));
            }
            MountPoint {
                source,
                propagation: Some(request.propagation.unwrap_or(Propagation::RPrivate)),
                non_recursive: request.non_recursive,
                recursive_read_only: !request.read_only_non_recursive,
                force_recursive_read_only: request.read_only_force_recursive,
                create_source: request.create_mountpoint,
                owner: request.owner,
                ..base
            }
        }
        MountKind::Tmpfs => {
            if !request.source.is_empty() {
                return Err(wrong("field Source must not be specified"));
            }
            let options = request.tmpfs.clone().unwrap_or_default();
            let mut asked: Vec<String> = Vec::new();
            if request.read_only {
                asked.push("ro".to_owned());
            }
            if options.mode != 0 {
                asked.push(format!("mode={:o}", options.mode));
            }
            if options.size < 0 {
                return Err(wrong("the size of a tmpfs cannot be negative"));
            }
            if options.size > 0 {
                asked.push(format!("size={}", options.size));
            }
            asked.extend(options.options.iter().map(|words| words.join("=")));
            MountPoint {
                tmpfs_options: tmpfs_options(asked.iter().map(String::as_str))?,
                ..base
            }
        }
        MountKind::Volume => return of_volume_request(request, base, wrong),
        MountKind::Image => {
            return Err(EngineError::NotImplemented(
                "mounts of images are not available yet".to_owned(),
            ));
        }
        MountKind::Other => return Err(wrong("mount type unknown")),
    };
    Ok((point, None))
}

fn of_volume_request(
    request: &MountRequest,
    base: MountPoint,
    wrong: impl Fn(&str) -> EngineError,
) -> Result<Mount, EngineError> {
    let anonymous = request.source.is_empty();
    if anonymous && request.read_only {
        return Err(wrong(
            "must not set ReadOnly mode when using anonymous volumes",
        ));
    }
    if !request.subpath.is_empty() {
        if anonymous {
            return Err(wrong("must not set Subpath when using anonymous volumes"));
        }
        if !is_local(&request.subpath) {
            return Err(wrong("subpath must be a relative path within the volume"));
        }
    }
    let local = request.driver.is_empty() || request.driver == crate::volumes::LOCAL;
    let wanted = Wanted {
        volume: VolumeCreateRequest {
            name: request.source.clone(),
            driver: request.driver.clone(),
            options: request.driver_options.clone(),
            labels: request.labels.clone(),
        },
        target: base.target.clone(),
        // What the image has belongs at the volume's root, not at a part of it.
        copy: !request.no_copy && request.subpath.is_empty(),
        existing: false,
        over_directory: false,
    };
    let point = MountPoint {
        mode: if local { "z" } else { "" }.to_owned(),
        volume: Some(VolumeMount {
            own: anonymous,
            subpath: request.subpath.clone(),
            ..VolumeMount::default()
        }),
        ..base
    };
    Ok((point, Some(wanted)))
}

/// Whether a path stays where it starts, by its words alone.
fn is_local(path: &str) -> bool {
    let mut depth = 0_i64;
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => depth -= 1,
            _ => depth += 1,
        }
        if depth < 0 {
            return false;
        }
    }
    !path.starts_with('/') && !path.contains('\0')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(binds: &[&str]) -> HostSettings {
        HostSettings {
            binds: binds.iter().map(|b| (*b).to_owned()).collect(),
            ..HostSettings::default()
        }
    }

    fn declared(paths: &[&str]) -> IndexSet<String> {
        paths.iter().map(|p| (*p).to_owned()).collect()
    }

    #[test]
    fn what_is_asked_for_wins_over_what_is_taken_over_and_declared() {
        let other = resolve(&host(&["one:/a", "two:/b"]), &declared(&["/c"]), Vec::new())
            .expect("resolved");
        let taken = inherited(&other.points, false);
        let mounts =
            resolve(&host(&["three:/b"]), &declared(&["/a", "/d"]), taken).expect("resolved");
        let shown: Vec<(&str, bool, bool)> = mounts
            .points
            .iter()
            .zip(&mounts.volumes)
            .map(|(point, (_, wanted))| (point.target.as_str(), point.writable, wanted.existing))
            .collect();
        assert_eq!(
            shown,
            [
                ("/a", false, true),
                ("/c", false, true),
                ("/b", true, false),
                ("/d", true, false)
            ]
        );
    }

    #[test]
    fn mistakes_are_told_as_docker_tells_them() {
        for (binds, paths, words) in [
            (&["a:/x", "b:/x"][..], &[][..], "Duplicate mount point: /x"),
            (&["aa:/x:rshared"], &[], "field BindOptions must not"),
            (&["/s:/x:nocopy"], &[], "field VolumeOptions must not"),
            (&[], &["x"], "mount path must be absolute"),
            (&[], &["/a/.."], "destination can't be '/'"),
        ] {
            let error = resolve(&host(binds), &declared(paths), Vec::new()).expect_err("refused");
            assert!(error.to_string().contains(words), "{error}");
        }
    }

    #[test]
    fn volumes_of_others_are_named_with_a_mode() {
        assert_eq!(parse_volumes_from("x").expect("read"), ("x", true));
        assert_eq!(parse_volumes_from("x:ro").expect("read"), ("x", false));
        for bad in ["", "x:rslave", "x:nocopy", "x:"] {
            assert!(parse_volumes_from(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn parts_of_volumes_stay_in_them() {
        for good in ["a", "a/b", "a/../b", "./a"] {
            assert!(is_local(good), "{good}");
        }
        for bad in ["/a", "..", "a/../..", "../a"] {
            assert!(!is_local(bad), "{bad}");
        }
    }
}
