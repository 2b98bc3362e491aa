//! From a request to a spec: image and request merged, defaults of the daemon filled in, mounts resolved.
//!
//! Pure but for the image's document, which the caller reads.

use berth_types::image_config::ImageConfig;
use berth_types::{ContainerId, Digest, Platform};
use indexmap::IndexMap;

use super::merge;
use super::spec::{
    Bind, ContainerSpec, CreateRequest, IpcMode, MountKind, MountPoint, MountRequest, NetworkMode,
    Propagation, UtsMode, clean_path,
};
use super::verify;
use crate::config::Config;
use crate::error::EngineError;
use crate::limits;
use crate::system::HostFeatures;

/// What a container is made from.
#[derive(Debug)]
pub struct Source {
    /// The image.
    pub image: Digest,
    /// Its platform.
    pub platform: Platform,
    /// What it says about running it.
    pub config: ImageConfig,
}

/// The spec of a new container, and what was not done as asked.
///
/// # Errors
/// When the request makes no sense, or asks for what is not there yet.
pub fn plan(
    id: &ContainerId,
    request: CreateRequest,
    source: Source,
    config: &Config,
    features: &HostFeatures,
) -> Result<(ContainerSpec, Vec<String>), EngineError> {
    let CreateRequest {
        config: asked,
        mut host,
        endpoints,
        ..
    } = request;
    let explicit_volumes = asked.volumes.clone();
    let mut merged = merge::merge(asked, &source.config)?;
    verify::config(&mut merged)?;
    let mut warnings = verify::host(&mut host, features)?;
    if config.runtime(&host.runtime).is_none() {
        return Err(EngineError::Invalid(format!(
            "unknown or invalid runtime name: {}",
            host.runtime
        )));
    }
    if host.runtime.is_empty() {
        host.runtime.clone_from(&config.default_runtime);
    }
    let own_name = host.uts == UtsMode::Default && host.network_mode != NetworkMode::Host;
    if merged.hostname.is_empty() && own_name {
        id.short().clone_into(&mut merged.hostname);
    }
    if host.uts == UtsMode::Host && !merged.hostname.is_empty() {
        return Err(EngineError::Invalid(
            "conflicting options: hostname and the UTS mode".to_owned(),
        ));
    }
    if merged.hostname.is_empty() {
        merged.hostname = rustix::system::uname()
            .nodename()
            .to_string_lossy()
            .into_owned();
    }
    if host.shm_size.is_none_or(|s| s == 0) {
        host.shm_size = Some(config.shm_size.unwrap_or(limits::SHM_SIZE_DEFAULT));
    }
    if host.ipc == IpcMode::Default {
        host.ipc = IpcMode::Private;
    }
    if host.oom_score_adj == 0 {
        host.oom_score_adj = config.oom_score_adjust;
    }
    fill_log(&mut host.log, config);
    for ulimit in &config.ulimits {
        if !host.resources.ulimits.iter().any(|u| u.name == ulimit.name) {
            host.resources.ulimits.push(ulimit.clone());
        }
    }
    let mounts = mounts(&host, &explicit_volumes)?;
    if merged
        .volumes
        .iter()
        .any(|path| !mounts.iter().any(|m| m.target == clean_path(path)))
    {
        warnings.push(
            "Volumes are not available yet. What the image declares as volumes stays in the container's own layer."
                .to_owned(),
        );
    }
    if !host.storage_opt.is_empty() {
        return Err(EngineError::Invalid(
            "--storage-opt is not supported by the overlay driver".to_owned(),
        ));
    }
    let (path, args) = merge::command(&merged);
    let spec = ContainerSpec {
        config: merged,
        host,
        endpoints,
        image_id: source.image,
        platform: source.platform,
        path,
        args,
        mounts,
    };
    Ok((spec, warnings))
}

/// The daemon's log driver where none was asked, with its options where the driver is the same.
fn fill_log(log: &mut super::spec::LogSettings, config: &Config) {
    if log.driver.is_empty() {
        log.driver.clone_from(&config.log.driver);
    }
    if log.driver == config.log.driver {
        let mut options: IndexMap<String, String> = config.log.options.clone();
        options.extend(std::mem::take(&mut log.options));
        log.options = options;
    }
}

fn volumes_later(what: &str) -> EngineError {
    EngineError::NotImplemented(format!("volumes are not available yet: {what}"))
}

fn mounts(
    host: &super::spec::HostSettings,
    volumes: &indexmap::IndexSet<String>,
) -> Result<Vec<MountPoint>, EngineError> {
    let mut list: Vec<MountPoint> = Vec::new();
    let mut add = |point: MountPoint| {
        if list.iter().any(|m| m.target == point.target) {
            return Err(EngineError::Invalid(format!(
                "Duplicate mount point: {}",
                point.target
            )));
        }
        list.push(point);
        Ok(())
    };
    if let Some(other) = host.volumes_from.first() {
        return Err(volumes_later(&format!("--volumes-from {other}")));
    }
    for text in &host.binds {
        let bind = Bind::parse(text).map_err(|e| EngineError::Invalid(e.to_string()))?;
        if !bind.is_path() {
            return Err(volumes_later(&format!("-v {text}")));
        }
        add(MountPoint {
            kind: MountKind::Bind,
            source: bind.source.unwrap_or_default(),
            target: bind.target,
            mode: bind.mode,
            writable: bind.writable,
            propagation: Some(bind.propagation.unwrap_or(Propagation::RPrivate)),
            non_recursive: false,
            recursive_read_only: true,
            force_recursive_read_only: false,
            create_source: true,
            tmpfs_options: Vec::new(),
        })?;
    }
    for request in &host.mounts {
        add(of_request(request)?)?;
    }
    for (path, options) in &host.tmpfs {
        let target = tmpfs_target(path)?;
        add(MountPoint {
            kind: MountKind::Tmpfs,
            source: String::new(),
            target,
            mode: options.clone(),
            writable: !options.split(',').any(|o| o == "ro"),
            propagation: None,
            non_recursive: false,
            recursive_read_only: false,
            force_recursive_read_only: false,
            create_source: false,
            tmpfs_options: tmpfs_options(options.split(',').filter(|o| !o.is_empty()))?,
        })?;
    }
    if let Some(path) = volumes
        .iter()
        .find(|path| !list.iter().any(|m| m.target == clean_path(path)))
    {
        return Err(volumes_later(&format!("-v {path}")));
    }
    Ok(list)
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

fn of_request(request: &MountRequest) -> Result<MountPoint, EngineError> {
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
        source: String::new(),
        target,
        mode: String::new(),
        writable: !request.read_only,
        propagation: None,
        non_recursive: false,
        recursive_read_only: false,
        force_recursive_read_only: false,
        create_source: false,
        tmpfs_options: Vec::new(),
    };
    match request.kind {
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
            Ok(MountPoint {
                source,
                propagation: Some(request.propagation.unwrap_or(Propagation::RPrivate)),
                non_recursive: request.non_recursive,
                recursive_read_only: !request.read_only_non_recursive,
                force_recursive_read_only: request.read_only_force_recursive,
                create_source: request.create_mountpoint,
                ..base
            })
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
            Ok(MountPoint {
                tmpfs_options: tmpfs_options(asked.iter().map(String::as_str))?,
                ..base
            })
        }
        MountKind::Volume => Err(volumes_later(&format!(
            "--mount type=volume,target={}",
            request.target
        ))),
        MountKind::Image => Err(EngineError::NotImplemented(
            "mounts of images are not available yet".to_owned(),
        )),
        MountKind::Other => Err(wrong("mount type unknown")),
    }
}
