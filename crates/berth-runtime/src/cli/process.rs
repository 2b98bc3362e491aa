//! `exec` and `ps`.

use std::path::Path;

use berth_sys::cgroup::SubGroups;
use berth_sys::terminal::window_size;
use oci_spec::runtime::{BoxBuilder, Capability, LinuxCapabilities, Process, User};

use super::flags::{Flag, switch, value};
use super::foreground::{self, Foreground};
use super::lifecycle::{check_console, hand_over, load_lenient};
use super::{Call, Failure, print};
use crate::{ExecRequest, StdioRequest};

pub(super) const EXEC_FLAGS: &[Flag] = &[
    value(
        &["console-socket"],
        "socket that gets the terminal's master",
    ),
    value(
        &["pidfd-socket"],
        "socket that gets the pidfd of the process",
    ),
    value(&["cwd"], "working directory"),
    value(&["env", "e"], "KEY=VALUE to add to the environment"),
    switch(&["tty", "t"], "give it a terminal"),
    value(&["user", "u"], "UID[:GID]"),
    value(&["additional-gids", "g"], "supplementary group"),
    value(&["process", "p"], "file with the whole process as JSON"),
    switch(&["detach", "d"], "do not wait for it"),
    value(&["pid-file"], "file that gets its id"),
    value(&["process-label"], "SELinux label"),
    value(&["apparmor"], "AppArmor profile"),
    switch(&["no-new-privs"], "its programs cannot gain rights"),
    value(&["cap", "c"], "capability to add"),
    value(
        &["preserve-fds"],
        "how many descriptors after 0 to 2 are inherited",
    ),
    switch(&["ignore-paused"], "also in a paused container"),
    value(
        &["cgroup"],
        "group beneath the container's to join, as PATH or CONTROLLER[,CONTROLLER...]:PATH",
    ),
    switch(&["no-subreaper"], "ignored"),
];

pub(super) const FORMAT_FLAGS: &[Flag] = &[value(&["format", "f"], "table or json")];

pub(super) fn exec(call: &Call<'_>) -> Result<u8, Failure> {
    let process = wanted_process(call)?;
    let detached = call.flags.has("detach");
    let terminal = process.terminal().unwrap_or(false);
    check_console(call, terminal, detached)?;
    if !detached {
        Foreground::hold_signals()?;
    }
    let running = crate::exec(ExecRequest {
        state_root: call.global.root.clone(),
        id: call.id()?.to_owned(),
        process,
        stdio: if terminal {
            StdioRequest::Terminal
        } else {
            StdioRequest::Inherit
        },
        preserve_descriptors: call.flags.number("preserve-fds")?.unwrap_or(0),
        ignore_paused: call.flags.has("ignore-paused"),
        groups: groups(call.flags.all("cgroup"))?,
    })?;
    call.note(&running.notes);
    let pid = running.pid;
    use std::os::fd::AsFd;
    let handed = hand_over(
        call,
        pid,
        running.console.as_ref(),
        Some(running.pidfd.as_fd()),
    );
    if let Err(failure) = handed {
        berth_sys::process::send_signal(&running.pidfd, 9)?;
        foreground::reap(pid)?;
        return Err(failure);
    }
    if detached {
        return Ok(0);
    }
    let status = Foreground::enter(running.console)?.attend(pid, running.pidfd.as_fd())?;
    Ok(foreground::exit_code(status))
}

/// The groups of `--cgroup`: one path for all hierarchies, or one for each controller of version 1.
fn groups(words: &[String]) -> Result<Option<SubGroups>, Failure> {
    if words.is_empty() {
        return Ok(None);
    }
    let mut groups = SubGroups::default();
    let wrong = |word: &str, why: &str| {
        Failure::Usage(format!("invalid --cgroup argument: {word} ({why})"))
    };
    for word in words {
        let Some((controllers, path)) = word.split_once(':') else {
            if words.len() > 1 {
                return Err(wrong(word, "missing <controller>: prefix"));
            }
            groups.every = word.into();
            continue;
        };
        for controller in controllers.split(',') {
            if controller.is_empty() {
                return Err(wrong(word, "empty <controller> prefix"));
            }
            if groups.of.iter().any(|(known, _)| known == controller) {
                return Err(wrong(word, "a controller is specified multiple times"));
            }
            groups.of.push((controller.to_owned(), path.into()));
        }
    }
    Ok(Some(groups))
}

/// The process of `--process`, or the container's own with what the flags change.
fn wanted_process(call: &Call<'_>) -> Result<Process, Failure> {
    if let Some(path) = call.flags.get("process") {
        let (process, notes) = load_lenient(Path::new(path), "")?
            .ok_or_else(|| Failure::Usage(format!("open {path}: no such file or directory")))?;
        call.note(&notes);
        return Ok(process);
    }
    let words = call.flags.words.get(1..).unwrap_or_default();
    if words.is_empty() {
        return Err(Failure::Usage("process args cannot be empty".to_owned()));
    }
    let spec = call.container()?.spec()?;
    let mut process = spec
        .process()
        .clone()
        .ok_or_else(|| Failure::Usage("the container has no process".to_owned()))?;
    process.set_args(Some(words.to_vec()));
    if let Some(directory) = call.flags.get("cwd") {
        process.set_cwd(directory.into());
    }
    if let Some(profile) = call.flags.get("apparmor") {
        process.set_apparmor_profile(Some(profile.to_owned()));
    }
    if let Some(label) = call.flags.get("process-label") {
        process.set_selinux_label(Some(label.to_owned()));
    }
    if call.flags.has("no-new-privs") {
        process.set_no_new_privileges(Some(true));
    }
    let terminal = call.flags.has("tty");
    process.set_terminal(Some(terminal));
    process.set_console_size(None);
    if terminal && let Ok(size) = window_size(rustix::stdio::stdin()) {
        process.set_console_size(
            BoxBuilder::default()
                .height(size.rows)
                .width(size.columns)
                .build()
                .ok(),
        );
    }
    let mut environment = process.env().clone().unwrap_or_default();
    environment.extend_from_slice(call.flags.all("env"));
    process.set_env(Some(environment));
    if let Some(text) = call.flags.get("user") {
        process.set_user(user(text)?);
    }
    let groups: Vec<u32> = call
        .flags
        .all("additional-gids")
        .iter()
        .map(|text| {
            text.parse()
                .map_err(|_| Failure::Usage(format!("bad group {text:?}")))
        })
        .collect::<Result<_, _>>()?;
    if !groups.is_empty() {
        let mut user = process.user().clone();
        let mut all = user.additional_gids().clone().unwrap_or_default();
        all.extend(groups);
        user.set_additional_gids(Some(all));
        process.set_user(user);
    }
    add_capabilities(&mut process, call.flags.all("cap"))?;
    Ok(process)
}

fn user(text: &str) -> Result<User, Failure> {
    let (uid, gid) = text.split_once(':').unwrap_or((text, "0"));
    let number = |text: &str| {
        text.parse::<u32>()
            .map_err(|_| Failure::Usage(format!("parsing {text} as int for user failed")))
    };
    let mut user = User::default();
    user.set_uid(number(uid)?);
    user.set_gid(number(gid)?);
    Ok(user)
}

/// Adds to every set but the ambient one.
fn add_capabilities(process: &mut Process, names: &[String]) -> Result<(), Failure> {
    if names.is_empty() {
        return Ok(());
    }
    let mut sets = process.capabilities().clone().unwrap_or_else(|| {
        let mut none = LinuxCapabilities::default();
        none.set_bounding(None);
        none.set_effective(None);
        none.set_inheritable(None);
        none.set_permitted(None);
        none.set_ambient(None);
        none
    });
    for name in names {
        let capability: Capability = serde_json::from_value(name.as_str().into())
            .map_err(|_| Failure::Usage(format!("unknown capability {name:?}")))?;
        let added = |set: &Option<std::collections::HashSet<Capability>>| {
            let mut set = set.clone().unwrap_or_default();
            set.insert(capability);
            Some(set)
        };
        let (bounding, effective, permitted) = (
            added(sets.bounding()),
            added(sets.effective()),
            added(sets.permitted()),
        );
        sets.set_bounding(bounding);
        sets.set_effective(effective);
        sets.set_permitted(permitted);
    }
    process.set_capabilities(Some(sets));
    Ok(())
}

pub(super) fn ps(call: &Call<'_>) -> Result<u8, Failure> {
    let mut processes = call.container()?.processes()?;
    processes.sort_unstable();
    match call.flags.get("format").unwrap_or("table") {
        "json" => print(&format!("{}\n", serde_json::Value::from(processes))),
        "table" => {
            let options = call.flags.words.get(1..).unwrap_or_default();
            let options = if options.is_empty() {
                &["-ef".to_owned()][..]
            } else {
                options
            };
            let shown = std::process::Command::new("ps")
                .args(options)
                .output()
                .map_err(|cause| Failure::Usage(format!("run ps: {cause}")))?;
            if !shown.status.success() {
                return Err(Failure::Usage(format!(
                    "ps: {}",
                    String::from_utf8_lossy(&shown.stderr).trim()
                )));
            }
            print(&only(&String::from_utf8_lossy(&shown.stdout), &processes)?);
        }
        other => return Err(Failure::Usage(format!("invalid format option {other:?}"))),
    }
    Ok(0)
}

/// The title line and the lines of these processes.
fn only(shown: &str, processes: &[i32]) -> Result<String, Failure> {
    let title = shown.lines().next().unwrap_or_default();
    let column = title
        .split_whitespace()
        .position(|name| name == "PID")
        .ok_or_else(|| Failure::Usage("couldn't find PID field in ps output".to_owned()))?;
    let mut text = format!("{title}\n");
    for line in shown.lines().skip(1) {
        let pid = line
            .split_whitespace()
            .nth(column)
            .and_then(|word| word.parse().ok());
        if pid.is_some_and(|pid| processes.contains(&pid)) {
            text.push_str(line);
            text.push('\n');
        }
    }
    Ok(text)
}
