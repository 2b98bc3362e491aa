//! Looking up what a start needs of the host and the image: accounts, devices, namespaces, files.
//!
//! Everything here blocks (files, stat) and runs on a blocking thread. The result is plain data for
//! [`oci`](super::oci).

use std::collections::{HashMap, HashSet};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use berth_image::rootfs::rootfs_file;
use berth_sys::mount::overlay::Overlay;
use berth_types::{ContainerId, Digest, ErrorKind, Platform};
use oci_spec::runtime::LinuxSeccomp;
use rustix::fs::FileType;

use super::accounts::{Account, AccountFiles};
use super::etc;
use super::index::Index;
use super::launcher::LaunchError;
use super::networking::Places;
use super::oci::{self, DeviceNode, SeccompChoice, SecurityOptions, Surroundings};
use super::record::ContainerRecord;
use super::seccomp_profile::{Conditions, SeccompProfile};
use super::spec::{IpcMode, MountKind, NetworkMode, PidMode, Resources};
use super::view::ContainerView;
use crate::error::{EngineError, chain};
use crate::host::Host;
use crate::limits;

/// What is looked up once and kept.
#[derive(Debug, Default)]
pub struct Lookups {
    accounts: Mutex<HashMap<Digest, Arc<AccountFiles>>>,
    built_in: Mutex<Option<Arc<SeccompProfile>>>,
}

/// Images whose account files are kept.
const ACCOUNTS_KEPT: usize = 64;

pub(super) fn failed(
    attempt: impl std::fmt::Display,
    kind: ErrorKind,
    error: &(dyn std::error::Error + 'static),
) -> LaunchError {
    LaunchError::new(format!("{attempt}: {}", chain(error)), kind)
}

impl From<EngineError> for LaunchError {
    fn from(error: EngineError) -> Self {
        let exit_code = match &error {
            EngineError::Start { exit_code, .. } => *exit_code,
            _ => 128,
        };
        Self {
            message: error.full_text(),
            kind: error.kind(),
            exit_code,
        }
    }
}

impl Lookups {
    /// The account files of a container that does not run. Those of an image are kept, and used as long as the
    /// container has changed nothing in /etc.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn account_files(
        &self,
        image: &Digest,
        rootfs: &Overlay,
    ) -> Result<Arc<AccountFiles>, LaunchError> {
        let pristine = rootfs.upper.as_ref().is_none_or(|upper| {
            berth_sys::fs::symlink_metadata(&upper.join("etc")).is_err_and(|e| e.is_not_found())
        });
        if pristine
            && let Some(files) = self
                .accounts
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .get(image)
        {
            return Ok(Arc::clone(files));
        }
        let read = |path: &str| {
            rootfs_file(rootfs, path, limits::ACCOUNT_FILE)
                .map(Option::unwrap_or_default)
                .map_err(|e| failed(format!("read {path} of the image"), e.kind(), &e))
        };
        let files = Arc::new(AccountFiles {
            passwd: read("/etc/passwd")?,
            group: read("/etc/group")?,
        });
        if pristine {
            let mut kept = self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
            if kept.len() >= ACCOUNTS_KEPT {
                kept.clear();
            }
            kept.insert(*image, Arc::clone(&files));
        }
        Ok(files)
    }

    fn built_in(&self) -> Result<Arc<SeccompProfile>, LaunchError> {
        let mut kept = self.built_in.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(profile) = &*kept {
            return Ok(Arc::clone(profile));
        }
        let profile = SeccompProfile::built_in()
            .map_err(|e| failed("read the built-in seccomp profile", ErrorKind::Internal, &e))?;
        let profile = Arc::new(profile);
        *kept = Some(Arc::clone(&profile));
        Ok(profile)
    }

    fn seccomp(
        &self,
        host: &Host,
        record: &ContainerRecord,
        options: &SecurityOptions,
    ) -> Result<Option<LinuxSeccomp>, LaunchError> {
        let settings = &record.spec.host;
        if !host.features.seccomp || settings.privileged {
            return Ok(None);
        }
        let config = host.config();
        let profile = match &options.seccomp {
            SeccompChoice::Unconfined => return Ok(None),
            SeccompChoice::Builtin => self.built_in()?,
            SeccompChoice::Profile(text) => Arc::new(parse_profile(text)?),
            SeccompChoice::Default => match config.seccomp_profile.as_str() {
                "" | "builtin" => self.built_in()?,
                "unconfined" => return Ok(None),
                path => {
                    let bytes = berth_sys::fs::read_bounded(
                        Path::new(path),
                        limits::SECCOMP_PROFILE as u64,
                    )
                    .map_err(|e| failed("read the default seccomp profile", e.kind(), &e))?;
                    Arc::new(parse_profile(&String::from_utf8_lossy(&bytes))?)
                }
            },
        };
        let names =
            oci::resolve_capabilities(&settings.cap_add, &settings.cap_drop, false, &host.features)
                .map_err(|e| failed("resolve capabilities", ErrorKind::InvalidArgument, &e))?;
        let capabilities: HashSet<String> = names.into_iter().map(str::to_owned).collect();
        let (major, minor) = host.features.kernel;
        profile
            .resolve(&Conditions {
                capabilities: &capabilities,
                architecture: &Platform::host().architecture,
                kernel: (u64::from(major), u64::from(minor)),
            })
            .map_err(|e| {
                failed(
                    "resolve the seccomp profile",
                    ErrorKind::InvalidArgument,
                    &e,
                )
            })
    }
}

fn parse_profile(text: &str) -> Result<SeccompProfile, LaunchError> {
    SeccompProfile::parse(text)
        .map_err(|e| failed("decode seccomp profile", ErrorKind::InvalidArgument, &e))
}

/// Everything a start needs that is not in the record.
///
/// # Errors
/// When something asked for is not there.
pub fn look_up(
    record: &ContainerRecord,
    host: &Host,
    index: &Index,
    lookups: &Lookups,
    rootfs: &Overlay,
    places: &Places,
) -> Result<Surroundings, LaunchError> {
    let spec = &record.spec;
    let settings = &spec.host;
    let options = SecurityOptions::parse(&settings.security_opt)?;
    let accounts = lookups.account_files(&spec.image_id, rootfs)?;
    let account = accounts
        .resolve(&spec.config.user, &settings.group_add)
        .map_err(|e| LaunchError::new(e.to_string(), ErrorKind::InvalidArgument))?;
    ensure_sources(record)?;
    let data = host.container_data(&record.id);
    let config = host.config();
    let mut surroundings = Surroundings {
        account,
        cgroup: host.cgroup(&record.resources.cgroup_parent, &record.id),
        block_devices: block_devices(&record.resources)?,
        devices: devices(record)?,
        seccomp: lookups.seccomp(host, record, &options)?,
        variables: places
            .linked
            .iter()
            .flat_map(|linked| linked.variables.clone())
            .collect(),
        ..Surroundings::default()
    };
    match &settings.network_mode {
        NetworkMode::Container(other) => {
            let view = running(index, other, "network")?;
            surroundings.network = Some(namespace_of(&view, "net"));
            surroundings.etc = [
                (&view.paths.resolv_conf, "/etc/resolv.conf"),
                (&view.paths.hostname, "/etc/hostname"),
                (&view.paths.hosts, "/etc/hosts"),
            ]
            .into_iter()
            .filter(|(path, _)| !path.as_os_str().is_empty())
            .map(|(path, target)| (path.clone(), target))
            .collect();
        }
        _ => surroundings.etc = etc::ensure(record, &config, &data, places)?,
    }
    match &settings.ipc {
        IpcMode::Container(other) => {
            let view = running(index, other, "IPC")?;
            if !matches!(view.spec.host.ipc, IpcMode::Shareable | IpcMode::Host) {
                return Err(LaunchError::new(
                    format!(
                        "cannot join IPC of a container {other}: non-shareable IPC (hint: use IpcMode:shareable for the donor container)"
                    ),
                    ErrorKind::Conflict,
                ));
            }
            surroundings.ipc = Some(namespace_of(&view, "ipc"));
            surroundings.shm = Some(match view.spec.host.ipc {
                IpcMode::Host => PathBuf::from("/dev/shm"),
                _ => shm_directory(host, &view.id),
            });
        }
        IpcMode::Host => surroundings.shm = Some(PathBuf::from("/dev/shm")),
        IpcMode::Shareable => surroundings.shm = Some(ensure_shm(record, host)?),
        _ => {}
    }
    if let PidMode::Container(other) = &settings.pid {
        let view = running(index, other, "PID")?;
        surroundings.pid = Some(namespace_of(&view, "pid"));
    }
    let init = settings.init.unwrap_or(config.init) && settings.pid == PidMode::Private;
    if init {
        let program = berth_sys::fs::canonicalize(&config.executable)
            .map_err(|e| failed("find the init program", e.kind(), &e))?;
        surroundings.init = Some(program);
    }
    Ok(surroundings)
}

fn running(index: &Index, other: &str, what: &str) -> Result<Arc<ContainerView>, LaunchError> {
    let view = index.find(other)?.view();
    if !view.is_running() {
        return Err(LaunchError::new(
            format!(
                "cannot join {what} namespace of a non running container: {}",
                view.id
            ),
            ErrorKind::Conflict,
        ));
    }
    Ok(view)
}

fn namespace_of(view: &ContainerView, file: &str) -> PathBuf {
    PathBuf::from(format!("/proc/{}/ns/{file}", view.pid()))
}

/// Where the shared memory of a container that shares it is mounted on the host.
pub(super) fn shm_directory(host: &Host, id: &berth_types::ContainerId) -> PathBuf {
    host.container_run(id).join("shm")
}

/// Shared memory that other containers can have too has to be mounted where they find it. Undone by the
/// release of the run; idempotent.
fn ensure_shm(record: &ContainerRecord, host: &Host) -> Result<PathBuf, LaunchError> {
    let path = shm_directory(host, &record.id);
    let attempt = || format!("prepare the shared memory of container {}", record.id);
    let fail = |e: berth_sys::Error| failed(attempt(), e.kind(), &e);
    if release_shm(&path).is_err() {
        return Ok(path);
    }
    berth_sys::fs::create_dir_all_mode(&path, 0o700).map_err(fail)?;
    let size = record
        .spec
        .host
        .shm_size
        .unwrap_or(limits::SHM_SIZE_DEFAULT);
    let parameters = [
        ("mode".to_owned(), Some("1777".to_owned())),
        ("size".to_owned(), Some(size.to_string())),
    ];
    let attributes = berth_sys::mount::attribute::NO_SUID
        | berth_sys::mount::attribute::NO_DEV
        | berth_sys::mount::attribute::NO_EXEC;
    let mount = berth_sys::mount::new_file_system("tmpfs", Some("shm"), &parameters, attributes)
        .map_err(fail)?;
    berth_sys::mount::attach_at(mount, &path).map_err(fail)?;
    Ok(path)
}

/// Unmounts shared memory where there is any.
pub(super) fn release_shm(path: &Path) -> Result<(), berth_sys::Error> {
    if !berth_sys::fs::exists(path) {
        return Ok(());
    }
    match berth_sys::mount::detach(path) {
        // Not a mount point: there is nothing to undo.
        Err(error) if error.errno() == Some(rustix::io::Errno::INVAL) => Ok(()),
        other => other,
    }
}

/// Makes missing sources of `-v`, and refuses missing ones of `--mount`.
fn ensure_sources(record: &ContainerRecord) -> Result<(), LaunchError> {
    for point in &record.spec.mounts {
        if point.kind != MountKind::Bind {
            continue;
        }
        let source = Path::new(&point.source);
        if berth_sys::fs::symlink_metadata(source).is_ok() {
            continue;
        }
        if !point.create_source {
            return Err(LaunchError::new(
                format!(
                    "invalid mount config for type \"bind\": bind source path does not exist: {}",
                    point.source
                ),
                ErrorKind::InvalidArgument,
            ));
        }
        berth_sys::fs::create_dir_all_mode(source, 0o755).map_err(|e| {
            failed(
                format!("error while creating mount source path '{}'", point.source),
                e.kind(),
                &e,
            )
        })?;
    }
    Ok(())
}

/// Numbers of the block devices that limits name.
///
/// # Errors
/// When one is not there or no device.
pub(super) fn block_devices(
    resources: &Resources,
) -> Result<HashMap<String, (i64, i64)>, LaunchError> {
    oci::needed_devices(resources)
        .map(|path| {
            let stat = rustix::fs::stat(path).map_err(|e| {
                LaunchError::new(
                    format!("no such file or directory or no device: {path}: {e}"),
                    ErrorKind::InvalidArgument,
                )
            })?;
            if FileType::from_raw_mode(stat.st_mode) != FileType::BlockDevice {
                return Err(LaunchError::new(
                    format!("{path} is not a block device"),
                    ErrorKind::InvalidArgument,
                ));
            }
            let numbers = (
                i64::from(rustix::fs::major(stat.st_rdev)),
                i64::from(rustix::fs::minor(stat.st_rdev)),
            );
            Ok((path.to_owned(), numbers))
        })
        .collect()
}

fn node(path: &Path, shown: PathBuf, access: &str) -> Option<DeviceNode> {
    let stat = rustix::fs::stat(path).ok()?;
    let block = match FileType::from_raw_mode(stat.st_mode) {
        FileType::BlockDevice => true,
        FileType::CharacterDevice => false,
        _ => return None,
    };
    Some(DeviceNode {
        path: shown,
        block,
        major: i64::from(rustix::fs::major(stat.st_rdev)),
        minor: i64::from(rustix::fs::minor(stat.st_rdev)),
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        access: access.to_owned(),
    })
}

fn devices(record: &ContainerRecord) -> Result<Vec<DeviceNode>, LaunchError> {
    let mut nodes = Vec::new();
    let privileged = record.spec.host.privileged;
    if privileged {
        collect(Path::new("/dev"), Path::new("/dev"), "rwm", 0, &mut nodes);
    }
    for mapping in &record.resources.devices {
        let shown = if mapping.container.is_empty() {
            &mapping.host
        } else {
            &mapping.container
        };
        if privileged && *shown == mapping.host {
            continue;
        }
        let access = if mapping.permissions.is_empty() || privileged {
            "rwm"
        } else {
            &mapping.permissions
        };
        let missing = |why: &str| {
            LaunchError::new(
                format!(
                    "error gathering device information while adding custom device \"{}\": {why}",
                    mapping.host
                ),
                ErrorKind::InvalidArgument,
            )
        };
        let path = Path::new(&mapping.host);
        let Ok(real) = berth_sys::fs::canonicalize(path) else {
            return Err(missing("no such file or directory"));
        };
        if berth_sys::fs::metadata(&real).is_ok_and(|m| m.is_dir()) {
            let before = nodes.len();
            collect(&real, Path::new(shown), access, 0, &mut nodes);
            if nodes.len() == before {
                return Err(missing("not a device node"));
            }
            continue;
        }
        match node(&real, PathBuf::from(shown), access) {
            Some(node) => nodes.push(node),
            None => return Err(missing("not a device node")),
        }
    }
    Ok(nodes)
}

/// Device directories are not deeper than this.
const DEVICE_DEPTH: usize = 8;
/// Devices of one container.
const DEVICES_MAX: usize = 8192;

fn collect(
    directory: &Path,
    shown: &Path,
    access: &str,
    depth: usize,
    nodes: &mut Vec<DeviceNode>,
) {
    let Ok(names) = berth_sys::fs::list(directory) else {
        return;
    };
    for name in names {
        if nodes.len() >= DEVICES_MAX {
            return;
        }
        let (path, shown) = (directory.join(&name), shown.join(&name));
        let Ok(facts) = berth_sys::fs::symlink_metadata(&path) else {
            continue;
        };
        if facts.is_dir() {
            let own = matches!(
                name.as_bytes(),
                b"pts" | b"shm" | b"fd" | b"mqueue" | b".lxc" | b".lxd-mounts" | b".udev"
            );
            if !own && depth < DEVICE_DEPTH {
                collect(&path, &shown, access, depth + 1, nodes);
            }
        } else if name.as_bytes() != b"console"
            && !facts.file_type().is_symlink()
            && let Some(node) = node(&path, shown, access)
        {
            nodes.push(node);
        }
    }
}

/// Who a further program in a running container runs as: by the files it has now.
///
/// # Errors
/// When there is no such user; `Conflict` when the container's process has ended.
pub fn running_account(
    container: &ContainerId,
    pid: u32,
    user: &str,
    further: &[String],
) -> Result<Account, EngineError> {
    let attempt = |what: &str| format!("read {what} of the container");
    let root = berth_sys::proc::open_link(
        Path::new(&format!("/proc/{pid}/root")),
        rustix::fs::OFlags::PATH | rustix::fs::OFlags::DIRECTORY,
    )
    .map(berth_sys::path::Root::from_descriptor)
    .map_err(|e| match e.is_not_found() {
        true => EngineError::Conflict(format!("container {container} is not running")),
        false => EngineError::failed(attempt("the root"), e.kind(), e),
    })?;
    let read = |path: &str| -> Result<Vec<u8>, EngineError> {
        // Never a fifo that blocks, nor a device that answers: only what is a regular file is read.
        let Ok(found) = root.resolve(Path::new(path)) else {
            return Ok(Vec::new());
        };
        if !berth_sys::path::file_type(&found).is_ok_and(|t| t == FileType::RegularFile) {
            return Ok(Vec::new());
        }
        let flags = rustix::fs::OFlags::RDONLY
            | rustix::fs::OFlags::NONBLOCK
            | rustix::fs::OFlags::NOCTTY
            | rustix::fs::OFlags::CLOEXEC;
        let fail = |e: berth_sys::Error| {
            let kind = e.kind();
            EngineError::failed(attempt(path), kind, e)
        };
        let file = root
            .open_at(Path::new(path), flags, rustix::fs::Mode::empty())
            .map_err(fail)?;
        berth_sys::fs::read_bounded_from(file, limits::ACCOUNT_FILE, path).map_err(fail)
    };
    let files = AccountFiles {
        passwd: read("/etc/passwd")?,
        group: read("/etc/group")?,
    };
    files
        .resolve(user, further)
        .map_err(|e| EngineError::Invalid(e.to_string()))
}
