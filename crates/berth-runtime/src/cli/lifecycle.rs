//! `create start run state kill delete pause resume list`.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use berth_sys::fs::Durability;
use berth_sys::{fs, process, socket};
use berth_types::Signal;
use oci_spec::runtime::{Capability, Spec};
use serde::Deserialize;
use serde_json::Value;

use super::flags::{Flag, switch, value};
use super::foreground::{self, Foreground};
use super::{Call, Failure, print};
use crate::error::RuntimeError;
use crate::state::{OCI_VERSION, Status, load_json};
use crate::{Container, CreateRequest, StdioRequest};

pub(super) const CREATE_FLAGS: &[Flag] = &[
    value(
        &["bundle", "b"],
        "directory of the bundle, by default the present one",
    ),
    value(
        &["console-socket"],
        "socket that gets the terminal's master",
    ),
    value(
        &["pidfd-socket"],
        "socket that gets the pidfd of the first process",
    ),
    value(&["pid-file"], "file that gets the id of the first process"),
    switch(&["no-pivot"], "change the root without pivot_root"),
    switch(&["no-new-keyring"], "stay in the session keyring"),
    value(
        &["preserve-fds"],
        "how many descriptors after 0 to 2 are inherited",
    ),
];

pub(super) const RUN_FLAGS: &[Flag] = &[
    switch(&["detach", "d"], "do not wait for the program"),
    switch(
        &["keep"],
        "do not delete the container when its program has ended",
    ),
    switch(
        &["no-subreaper"],
        "do not become the reaper of the container's orphans",
    ),
];

pub(super) const KILL_FLAGS: &[Flag] = &[switch(&["all", "a"], "to every process")];

pub(super) const DELETE_FLAGS: &[Flag] = &[switch(&["force", "f"], "kill it first if it runs")];

pub(super) const LIST_FLAGS: &[Flag] = &[switch(&["quiet", "q"], "ids only")];

/// A configuration, by path of its bundle, and what is worth telling of it.
pub(super) fn load_spec(bundle: &Path) -> Result<(Spec, Vec<String>), Failure> {
    let path = bundle.join("config.json");
    load_lenient(&path, "/process")?.ok_or_else(|| {
        Failure::Usage(format!(
            "JSON specification file {} not found",
            path.display()
        ))
    })
}

/// Reads a document with a process at `place` in it. Capabilities that are not known are left out and told, since one of
/// a newer kernel is no reason to fail (config.md, "process.capabilities").
pub(super) fn load_lenient<T: serde::de::DeserializeOwned>(
    path: &Path,
    place: &str,
) -> Result<Option<(T, Vec<String>)>, Failure> {
    let error = match load_json(path) {
        Ok(document) => return Ok(document.map(|document| (document, Vec::new()))),
        Err(error @ RuntimeError::Parse { .. }) => error,
        Err(error) => return Err(error.into()),
    };
    let mut notes = Vec::new();
    if let Ok(Some(mut document)) = load_json::<Value>(path)
        && let Some(sets) = document
            .pointer_mut(&format!("{place}/capabilities"))
            .and_then(Value::as_object_mut)
    {
        for names in sets.values_mut().filter_map(Value::as_array_mut) {
            names.retain(|name| {
                let known = Capability::deserialize(name).is_ok();
                let note =
                    format!("The capability {name} is left out, since it is not known here.");
                if !known && !notes.contains(&note) {
                    notes.push(note);
                }
                known
            });
        }
        if !notes.is_empty()
            && let Ok(document) = serde_json::from_value(document)
        {
            return Ok(Some((document, notes)));
        }
    }
    Err(error.into())
}

/// Descriptors that the environment of a socket-activated caller adds to those of `--preserve-fds`.
fn activation_descriptors() -> u32 {
    std::env::var("LISTEN_FDS")
        .ok()
        .and_then(|count| count.parse().ok())
        .unwrap_or(0)
}

fn make(call: &Call<'_>, stdio: impl FnOnce(bool) -> StdioRequest) -> Result<Container, Failure> {
    let bundle = fs::canonicalize(Path::new(call.flags.get("bundle").unwrap_or(".")))?;
    let (mut spec, notes) = load_spec(&bundle)?;
    call.note(&notes);
    let terminal = spec
        .process()
        .as_ref()
        .is_some_and(|process| process.terminal().unwrap_or(false));
    let activation = activation_descriptors();
    if activation > 0
        && let Some(process) = spec.process_mut()
    {
        let mut environment = process.env().clone().unwrap_or_default();
        environment.push(format!("LISTEN_FDS={activation}"));
        environment.push("LISTEN_PID=1".to_owned());
        process.set_env(Some(environment));
    }
    let mut request = CreateRequest::new(call.id()?, bundle, spec, call.global.root.clone());
    request.stdio = stdio(terminal);
    request.preserve_descriptors = call.flags.number("preserve-fds")?.unwrap_or(0) + activation;
    request.systemd_cgroup = call.global.systemd_cgroup;
    request.no_pivot = call.flags.has("no-pivot");
    request.no_new_keyring = call.flags.has("no-new-keyring");
    let container = crate::create(request)?;
    call.note(&container.notes);
    Ok(container)
}

fn terminal_or_inherit(terminal: bool) -> StdioRequest {
    if terminal {
        StdioRequest::Terminal
    } else {
        StdioRequest::Inherit
    }
}

/// Gives away what the caller asked for of a new process; on failure the caller takes the container back.
pub(super) fn hand_over(
    call: &Call<'_>,
    pid: i32,
    console: Option<&OwnedFd>,
    pidfd: Option<std::os::fd::BorrowedFd<'_>>,
) -> Result<(), Failure> {
    if let Some(path) = call.flags.get("console-socket") {
        let master = console.ok_or_else(|| {
            Failure::Usage(
                "cannot use console socket if runc will not detach or allocate tty".to_owned(),
            )
        })?;
        send_descriptor(Path::new(path), b"/dev/ptmx", master.as_fd())?;
    }
    if let (Some(path), Some(pidfd)) = (call.flags.get("pidfd-socket"), pidfd) {
        send_descriptor(Path::new(path), b"pidfd", pidfd)?;
    }
    if let Some(path) = call.flags.get("pid-file") {
        fs::replace(
            Path::new(path),
            pid.to_string().as_bytes(),
            0o644,
            Durability::Unsynced,
        )?;
    }
    Ok(())
}

fn send_descriptor(
    path: &Path,
    name: &[u8],
    descriptor: std::os::fd::BorrowedFd<'_>,
) -> Result<(), Failure> {
    let receiver = socket::connect(path)?;
    Ok(socket::send(&receiver, name, &[descriptor])?)
}

/// A terminal needs a receiver when nobody stays to copy its bytes.
pub(super) fn check_console(
    call: &Call<'_>,
    terminal: bool,
    detached: bool,
) -> Result<(), Failure> {
    let socket = call.flags.get("console-socket").is_some();
    if terminal && detached && !socket {
        return Err(Failure::Usage(
            "cannot allocate tty if runc will detach without setting console socket".to_owned(),
        ));
    }
    if socket && !(terminal && detached) {
        return Err(Failure::Usage(
            "cannot use console socket if runc will not detach or allocate tty".to_owned(),
        ));
    }
    Ok(())
}

fn wants_terminal(call: &Call<'_>) -> Result<bool, Failure> {
    let bundle = PathBuf::from(call.flags.get("bundle").unwrap_or("."));
    Ok(load_spec(&bundle)?
        .0
        .process()
        .as_ref()
        .is_some_and(|process| process.terminal().unwrap_or(false)))
}

pub(super) fn create(call: &Call<'_>) -> Result<u8, Failure> {
    check_console(call, wants_terminal(call)?, true)?;
    let container = make(call, terminal_or_inherit)?;
    let handed = hand_over(
        call,
        container.pid(),
        container.console.as_ref(),
        container.pidfd(),
    );
    if let Err(failure) = handed {
        call.note(&container.delete(true)?);
        return Err(failure);
    }
    Ok(0)
}

pub(super) fn start(call: &Call<'_>) -> Result<u8, Failure> {
    let mut container = call.container()?;
    match container.start() {
        Err(RuntimeError::WrongStatus { status, .. }) => Err(Failure::Usage(match status {
            Status::Stopped => "cannot start a container that has stopped".to_owned(),
            Status::Running => "cannot start an already running container".to_owned(),
            other => format!("cannot start a container in the {other} state"),
        })),
        // runtime.md, "Lifecycle", 7 and 9: after a failed hook it goes on where a container is deleted.
        Err(error @ RuntimeError::Hook { .. }) => {
            call.note(&container.delete(true)?);
            Err(error.into())
        }
        other => {
            other?;
            Ok(0)
        }
    }
}

pub(super) fn run(call: &Call<'_>) -> Result<u8, Failure> {
    let detached = call.flags.has("detach");
    let terminal = wants_terminal(call)?;
    check_console(call, terminal, detached)?;
    if !detached && !call.flags.has("no-subreaper") {
        process::set_child_subreaper(true)?;
    }
    let mut container = make(call, terminal_or_inherit)?;
    let foreground = if detached {
        None
    } else {
        Some(Foreground::enter(container.console.take())?)
    };
    let started = hand_over(
        call,
        container.pid(),
        container.console.as_ref(),
        container.pidfd(),
    )
    .and_then(|()| Ok(container.start()?));
    if let Err(failure) = started {
        drop(foreground);
        call.note(&container.delete(true)?);
        return Err(failure);
    }
    let Some(foreground) = foreground else {
        return Ok(0);
    };
    let pid = container.pid();
    let status = match container.pidfd() {
        Some(pidfd) => foreground.attend(pid, pidfd)?,
        None => foreground::reap(pid)?,
    };
    if !call.flags.has("keep") {
        call.note(&container.delete(true)?);
    }
    Ok(foreground::exit_code(status))
}

pub(super) fn state(call: &Call<'_>) -> Result<u8, Failure> {
    let container = call.container()?;
    let mut text = serde_json::to_string_pretty(&describe(&container)).unwrap_or_default();
    text.push('\n');
    print(&text);
    Ok(0)
}

/// The state as callers of runc know it.
fn describe(container: &Container) -> serde_json::Value {
    let record = container.record();
    let status = container.status();
    serde_json::json!({
        "ociVersion": OCI_VERSION,
        "id": record.id,
        "pid": if status == Status::Stopped { 0 } else { record.pid },
        "status": status,
        "bundle": record.bundle,
        "rootfs": record.rootfs,
        "created": record.created,
        "annotations": record.annotations,
        "owner": if record.owner == 0 { "root".to_owned() } else { record.owner.to_string() },
    })
}

pub(super) fn kill(call: &Call<'_>) -> Result<u8, Failure> {
    let container = call.container()?;
    let word = call.flags.words.get(1).map_or("TERM", String::as_str);
    let signal =
        Signal::parse(word).map_err(|_| Failure::Usage(format!("unknown signal {word:?}")))?;
    container.kill(signal.number(), call.flags.has("all"))?;
    Ok(0)
}

pub(super) fn delete(call: &Call<'_>) -> Result<u8, Failure> {
    let force = call.flags.has("force");
    let container = match Container::load(&call.global.root, call.id()?) {
        Err(RuntimeError::NotExist { .. }) if force => {
            crate::remove_abandoned(&call.global.root, call.id()?)?;
            return Ok(0);
        }
        other => other?,
    };
    match container.delete(force) {
        Err(RuntimeError::WrongStatus { id, status, .. }) => Err(Failure::Usage(format!(
            "cannot delete container {id} that is not stopped: {status}"
        ))),
        other => {
            call.note(&other?);
            Ok(0)
        }
    }
}

pub(super) fn pause(call: &Call<'_>) -> Result<u8, Failure> {
    call.container()?.pause()?;
    Ok(0)
}

pub(super) fn resume(call: &Call<'_>) -> Result<u8, Failure> {
    call.container()?.resume()?;
    Ok(0)
}

pub(super) fn list(call: &Call<'_>) -> Result<u8, Failure> {
    // One that is deleted meanwhile is left out.
    let containers: Vec<Container> = Container::list(&call.global.root)?
        .iter()
        .filter_map(|id| Container::load(&call.global.root, id).ok())
        .collect();
    if call.flags.has("quiet") {
        for container in &containers {
            print(&format!("{}\n", container.id()));
        }
        return Ok(0);
    }
    let described: Vec<_> = containers.iter().map(describe).collect();
    match call.flags.get("format").unwrap_or("table") {
        "json" => print(&format!("{}\n", serde_json::Value::from(described))),
        "table" => {
            let mut rows =
                vec![["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"].map(str::to_owned)];
            for one in &described {
                let text = |key: &str| match &one[key] {
                    serde_json::Value::String(text) => text.clone(),
                    other => other.to_string(),
                };
                rows.push(["id", "pid", "status", "bundle", "created", "owner"].map(text));
            }
            print(&table(&rows));
        }
        other => return Err(Failure::Usage(format!("invalid format option {other:?}"))),
    }
    Ok(0)
}

/// Columns as wide as their widest entry, two spaces and more between them.
pub(super) fn table<const N: usize>(rows: &[[String; N]]) -> String {
    let mut widths = [0; N];
    for row in rows {
        for (width, entry) in widths.iter_mut().zip(row) {
            *width = (*width).max(entry.len());
        }
    }
    rows.iter()
        .map(|row| {
            let line: String = row
                .iter()
                .zip(widths)
                .map(|(entry, width)| format!("{entry:<width$}   "))
                .collect();
            format!("{}\n", line.trim_end())
        })
        .collect()
}
