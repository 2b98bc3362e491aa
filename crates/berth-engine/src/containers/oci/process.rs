//! The program of a container, and further ones.

use std::collections::HashSet;

use oci_spec::runtime::{
    Capability, LinuxCapabilities, LinuxCapabilitiesBuilder, PosixRlimit, PosixRlimitBuilder,
    PosixRlimitType, Process, ProcessBuilder, User, UserBuilder,
};

use super::{INIT_PATH, SecurityOptions, Surroundings, capabilities, invalid};
use crate::containers::accounts::Account;
use crate::containers::merge::merge_env;
use crate::containers::record::ContainerRecord;
use crate::containers::spec::{ContainerSpec, Ulimit};
use crate::error::EngineError;
use crate::execs::ExecRequest;
use crate::system::HostFeatures;

const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Variables of a program: Docker's own, under those of the container.
#[must_use]
pub fn environment(
    spec: &ContainerSpec,
    linked: &[String],
    terminal: bool,
    over: &[String],
    home: &str,
) -> Vec<String> {
    let mut own = vec![
        DEFAULT_PATH.to_owned(),
        format!("HOSTNAME={}", spec.config.hostname),
    ];
    if terminal {
        own.push("TERM=xterm".to_owned());
    }
    own.extend_from_slice(linked);
    let mut all = merge_env(&merge_env(&own, &spec.config.env), over);
    if !all.iter().any(|e| e.starts_with("HOME=")) {
        all.push(format!("HOME={home}"));
    }
    all
}

fn user(account: &Account) -> Result<User, EngineError> {
    UserBuilder::default()
        .uid(account.uid)
        .gid(account.gid)
        .additional_gids(account.groups.clone())
        .build()
        .map_err(invalid)
}

fn capability_sets(
    names: &[&'static str],
    effective: bool,
) -> Result<LinuxCapabilities, EngineError> {
    let set: HashSet<Capability> = names
        .iter()
        .map(|name| {
            serde_json::from_value(serde_json::Value::String((*name).to_owned())).map_err(invalid)
        })
        .collect::<Result<_, _>>()?;
    let acting = if effective {
        set.clone()
    } else {
        HashSet::new()
    };
    let mut sets = LinuxCapabilitiesBuilder::default()
        .bounding(set)
        .effective(acting.clone())
        .permitted(acting)
        .build()
        .map_err(invalid)?;
    sets.set_inheritable(None);
    sets.set_ambient(None);
    Ok(sets)
}

fn rlimit_kind(name: &str) -> Option<PosixRlimitType> {
    Some(match name {
        "core" => PosixRlimitType::RlimitCore,
        "cpu" => PosixRlimitType::RlimitCpu,
        "data" => PosixRlimitType::RlimitData,
        "fsize" => PosixRlimitType::RlimitFsize,
        "locks" => PosixRlimitType::RlimitLocks,
        "memlock" => PosixRlimitType::RlimitMemlock,
        "msgqueue" => PosixRlimitType::RlimitMsgqueue,
        "nice" => PosixRlimitType::RlimitNice,
        "nofile" => PosixRlimitType::RlimitNofile,
        "nproc" => PosixRlimitType::RlimitNproc,
        "rss" => PosixRlimitType::RlimitRss,
        "rtprio" => PosixRlimitType::RlimitRtprio,
        "rttime" => PosixRlimitType::RlimitRttime,
        "sigpending" => PosixRlimitType::RlimitSigpending,
        "stack" => PosixRlimitType::RlimitStack,
        _ => return None,
    })
}

fn rlimits(ulimits: &[Ulimit]) -> Result<Vec<PosixRlimit>, EngineError> {
    // -1 is "no limit", which the kernel writes as the greatest number.
    let value = |n: i64| u64::try_from(n).unwrap_or(u64::MAX);
    ulimits
        .iter()
        .map(|limit| {
            let kind = rlimit_kind(&limit.name).ok_or_else(|| {
                EngineError::Invalid(format!("invalid ulimit type: {}", limit.name))
            })?;
            PosixRlimitBuilder::default()
                .typ(kind)
                .soft(value(limit.soft))
                .hard(value(limit.hard))
                .build()
                .map_err(invalid)
        })
        .collect()
}

/// Whether a ulimit of this name exists.
pub(in crate::containers) fn is_ulimit(name: &str) -> bool {
    rlimit_kind(name).is_some()
}

fn base(
    record: &ContainerRecord,
    features: &HostFeatures,
    options: &SecurityOptions,
    account: &Account,
    privileged: bool,
) -> Result<ProcessBuilder, EngineError> {
    let host = &record.spec.host;
    let names = capabilities::resolve(&host.cap_add, &host.cap_drop, privileged, features)
        .map_err(|error| EngineError::Invalid(format!("invalid capabilities: {error}")))?;
    let mut builder = ProcessBuilder::default()
        .user(user(account)?)
        // A program that does not run as root has none of them in force, only as its bound.
        .capabilities(capability_sets(&names, account.uid == 0)?)
        .rlimits(rlimits(&record.resources.ulimits)?)
        .no_new_privileges(
            options
                .no_new_privileges
                .unwrap_or(features.no_new_privileges),
        );
    if features.apparmor
        && let Some(profile) = &options.apparmor
    {
        builder = builder.apparmor_profile(profile.clone());
    }
    Ok(builder)
}

pub(super) fn main_process(
    record: &ContainerRecord,
    features: &HostFeatures,
    surroundings: &Surroundings,
    options: &SecurityOptions,
) -> Result<Process, EngineError> {
    let spec = &record.spec;
    let terminal = spec.config.tty;
    let mut args = spec.argv();
    if surroundings.init.is_some() {
        args.splice(0..0, [INIT_PATH.to_owned(), "--".to_owned()]);
    }
    let account = &surroundings.account;
    let cwd = if spec.config.working_dir.is_empty() {
        "/"
    } else {
        &spec.config.working_dir
    };
    let mut process = base(record, features, options, account, spec.host.privileged)?
        .terminal(terminal)
        .args(args)
        .env(environment(
            spec,
            &surroundings.variables,
            terminal,
            &[],
            &account.home,
        ))
        .cwd(cwd)
        .oom_score_adj(features.clamp_oom_score(spec.host.oom_score_adj))
        .build()
        .map_err(invalid)?;
    process.set_console_size(None);
    if terminal && let Some((height, width)) = spec.host.console_size {
        process.set_console_size(Some(
            oci_spec::runtime::BoxBuilder::default()
                .height(u64::from(height))
                .width(u64::from(width))
                .build()
                .map_err(invalid)?,
        ));
    }
    Ok(process)
}

/// A further program in a running container: the container's own settings, with what the session says.
///
/// # Errors
/// When something cannot be expressed.
pub fn exec_process(
    record: &ContainerRecord,
    features: &HostFeatures,
    request: &ExecRequest,
    account: &Account,
) -> Result<Process, EngineError> {
    let spec = &record.spec;
    let options = SecurityOptions::parse(&spec.host.security_opt)?;
    let cwd = [&request.working_dir, &spec.config.working_dir]
        .into_iter()
        .find(|d| !d.is_empty())
        .map_or("/", String::as_str);
    let privileged = request.privileged || spec.host.privileged;
    let mut process = base(record, features, &options, account, privileged)?
        .terminal(request.terminal)
        .args(request.command.clone())
        .env(environment(
            spec,
            &[],
            request.terminal,
            &request.env,
            &account.home,
        ))
        .cwd(cwd)
        .oom_score_adj(features.clamp_oom_score(spec.host.oom_score_adj))
        .build()
        .map_err(invalid)?;
    process.set_console_size(None);
    if request.terminal
        && let Some(size) = request.console_size
    {
        process.set_console_size(Some(
            oci_spec::runtime::BoxBuilder::default()
                .height(u64::from(size.height))
                .width(u64::from(size.width))
                .build()
                .map_err(invalid)?,
        ));
    }
    Ok(process)
}
