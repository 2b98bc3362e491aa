//! From the `process` of a configuration (or of an exec) to what its new process does to itself. Pure.

use std::ffi::CString;
use std::path::PathBuf;

use berth_sys::capability::{Capability, CapabilitySet};
use berth_sys::process::SchedulerAttributes;
use berth_sys::terminal::WindowSize;
use oci_spec::runtime::{
    Capabilities, IOPriorityClass, LinuxSchedulerFlag, LinuxSchedulerPolicy, PosixRlimitType,
    Process, Scheduler,
};

use crate::error::RuntimeError;

/// What a process shall become.
#[derive(Debug, Clone, PartialEq)]
pub struct ProcessPlan {
    /// Arguments, the program first.
    pub arguments: Vec<CString>,
    /// Environment, `KEY=value`; later entries have replaced earlier ones.
    pub environment: Vec<CString>,
    /// Working directory inside the root.
    pub working_directory: PathBuf,
    /// User id.
    pub user: u32,
    /// Group id.
    pub group: u32,
    /// Supplementary group ids.
    pub groups: Vec<u32>,
    /// File creation mask.
    pub umask: Option<u32>,
    /// Whether it gets a terminal.
    pub terminal: bool,
    /// The terminal's size.
    pub window_size: Option<WindowSize>,
    /// Its capabilities; `None` means none at all.
    pub capabilities: CapabilityPlan,
    /// Resource limits.
    pub limits: Vec<LimitPlan>,
    /// Its place on the kernel's list of victims.
    pub oom_score_adjustment: Option<i32>,
    /// Executed programs cannot gain rights.
    pub no_new_privileges: bool,
    /// Its scheduler.
    pub scheduler: Option<SchedulerPlan>,
    /// I/O priority: class and level of ioprio_set(2).
    pub io_priority: Option<(u16, u16)>,
    /// AppArmor profile.
    pub apparmor_profile: Option<String>,
    /// SELinux label.
    pub selinux_label: Option<String>,
    /// CPUs to run on before it joins the control group (exec only).
    pub initial_cpus: Option<Vec<usize>>,
    /// CPUs to run on after it has joined the control group (exec only).
    pub final_cpus: Option<Vec<usize>>,
}

/// The five capability sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CapabilityPlan {
    /// Bound of all that can be gained.
    pub bounding: CapabilitySet,
    /// Checked by the kernel.
    pub effective: CapabilitySet,
    /// Bound of the effective set.
    pub permitted: CapabilitySet,
    /// Kept over execve(2) where the file allows it.
    pub inheritable: CapabilitySet,
    /// Kept over execve(2) of any program.
    pub ambient: CapabilitySet,
}

/// One resource limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitPlan {
    /// Its name, `RLIMIT_*`.
    pub name: String,
    /// Its number.
    pub resource: u32,
    /// Soft value.
    pub soft: u64,
    /// Hard value.
    pub hard: u64,
}

/// Scheduler settings, in the kernel's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SchedulerPlan {
    /// `SCHED_*`.
    pub policy: u32,
    /// `SCHED_FLAG_*`.
    pub flags: u64,
    /// Nice value.
    pub nice: i32,
    /// Static priority.
    pub priority: u32,
    /// Deadline scheduler: runtime, deadline, period in nanoseconds.
    pub deadline: (u64, u64, u64),
}

impl SchedulerPlan {
    /// In the form sched_setattr(2) takes.
    pub fn attributes(self) -> SchedulerAttributes {
        let mut attributes = SchedulerAttributes::default();
        attributes.policy = self.policy;
        attributes.flags = self.flags;
        attributes.nice = self.nice;
        attributes.priority = self.priority;
        (attributes.runtime, attributes.deadline, attributes.period) = self.deadline;
        attributes
    }
}

/// Plans a process. `field` is the path of the process in the document, for error texts.
pub fn plan(process: &Process, field: &str) -> Result<ProcessPlan, RuntimeError> {
    let at = |name: &str| format!("{field}.{name}");
    let arguments = process.args().as_deref().unwrap_or_default();
    if arguments.is_empty() || arguments[0].is_empty() {
        return Err(RuntimeError::invalid(
            at("args"),
            "must name a program, and its first entry must not be empty",
        ));
    }
    let working_directory = process.cwd().clone();
    if !working_directory.is_absolute() {
        return Err(RuntimeError::invalid(
            at("cwd"),
            format!("{} must be an absolute path", working_directory.display()),
        ));
    }
    let user = process.user();
    let terminal = process.terminal().unwrap_or(false);
    let window_size = process.console_size().map(|size| WindowSize {
        rows: size.height().min(u64::from(u16::MAX)) as u16,
        columns: size.width().min(u64::from(u16::MAX)) as u16,
    });
    if let Some(umask) = user.umask()
        && umask > 0o777
    {
        return Err(RuntimeError::invalid(
            at("user.umask"),
            format!("{umask:o} is not a file mode"),
        ));
    }
    let oom_score_adjustment = process.oom_score_adj();
    if let Some(score) = oom_score_adjustment
        && !(-1000..=1000).contains(&score)
    {
        return Err(RuntimeError::invalid(
            at("oomScoreAdj"),
            format!("{score} is not between -1000 and 1000"),
        ));
    }
    let text = |value: &Option<String>| value.clone().filter(|value| !value.is_empty());
    let (initial_cpus, final_cpus) = match process.exec_cpu_affinity() {
        Some(affinity) => (
            cpu_list(affinity.initial(), &at("execCPUAffinity.initial"))?,
            cpu_list(affinity.cpu_affinity_final(), &at("execCPUAffinity.final"))?,
        ),
        None => (None, None),
    };
    Ok(ProcessPlan {
        arguments: strings(arguments, &at("args"))?,
        environment: environment(process.env().as_deref().unwrap_or_default(), &at("env"))?,
        working_directory,
        user: user.uid(),
        group: user.gid(),
        groups: user.additional_gids().clone().unwrap_or_default(),
        umask: user.umask(),
        terminal,
        window_size,
        capabilities: capabilities(process),
        limits: limits(process, &at("rlimits"))?,
        oom_score_adjustment,
        no_new_privileges: process.no_new_privileges().unwrap_or(false),
        scheduler: process
            .scheduler()
            .as_ref()
            .map(|scheduler| plan_scheduler(scheduler, &at("scheduler")))
            .transpose()?,
        io_priority: io_priority(process, &at("ioPriority"))?,
        apparmor_profile: text(process.apparmor_profile()),
        selinux_label: text(process.selinux_label()),
        initial_cpus,
        final_cpus,
    })
}

fn strings(texts: &[String], field: &str) -> Result<Vec<CString>, RuntimeError> {
    texts
        .iter()
        .map(|text| {
            CString::new(text.as_str())
                .map_err(|_| RuntimeError::invalid(field, "an entry holds a zero byte"))
        })
        .collect()
}

/// Entries without "=" are kept as they are; of several with one key the last counts.
fn environment(entries: &[String], field: &str) -> Result<Vec<CString>, RuntimeError> {
    let key = |entry: &str| entry.split('=').next().unwrap_or_default().to_owned();
    let mut last: std::collections::HashMap<String, usize> = std::collections::HashMap::new();
    for (index, entry) in entries.iter().enumerate() {
        last.insert(key(entry), index);
    }
    let kept: Vec<String> = entries
        .iter()
        .enumerate()
        .filter(|(index, entry)| last.get(&key(entry)) == Some(index))
        .map(|(_, entry)| entry.clone())
        .collect();
    strings(&kept, field)
}

fn capabilities(process: &Process) -> CapabilityPlan {
    let Some(sets) = process.capabilities() else {
        return CapabilityPlan::default();
    };
    let set = |names: &Option<Capabilities>| -> CapabilitySet {
        names
            .iter()
            .flatten()
            .filter_map(|name| Capability::from_name(&name.to_string()))
            .collect()
    };
    CapabilityPlan {
        bounding: set(sets.bounding()),
        effective: set(sets.effective()),
        permitted: set(sets.permitted()),
        inheritable: set(sets.inheritable()),
        ambient: set(sets.ambient()),
    }
}

/// The number of a limit (asm-generic/resource.h; equal on x86-64 and aarch64).
fn resource_number(kind: PosixRlimitType) -> u32 {
    match kind {
        PosixRlimitType::RlimitCpu => 0,
        PosixRlimitType::RlimitFsize => 1,
        PosixRlimitType::RlimitData => 2,
        PosixRlimitType::RlimitStack => 3,
        PosixRlimitType::RlimitCore => 4,
        PosixRlimitType::RlimitRss => 5,
        PosixRlimitType::RlimitNproc => 6,
        PosixRlimitType::RlimitNofile => 7,
        PosixRlimitType::RlimitMemlock => 8,
        PosixRlimitType::RlimitAs => 9,
        PosixRlimitType::RlimitLocks => 10,
        PosixRlimitType::RlimitSigpending => 11,
        PosixRlimitType::RlimitMsgqueue => 12,
        PosixRlimitType::RlimitNice => 13,
        PosixRlimitType::RlimitRtprio => 14,
        PosixRlimitType::RlimitRttime => 15,
    }
}

fn limits(process: &Process, field: &str) -> Result<Vec<LimitPlan>, RuntimeError> {
    let mut plans: Vec<LimitPlan> = Vec::new();
    for limit in process.rlimits().iter().flatten() {
        let name = limit.typ().to_string();
        if limit.soft() > limit.hard() {
            return Err(RuntimeError::invalid(
                field,
                format!("{name}: the soft limit is above the hard one"),
            ));
        }
        if plans.iter().any(|plan| plan.name == name) {
            return Err(RuntimeError::invalid(
                field,
                format!("{name} is there twice"),
            ));
        }
        plans.push(LimitPlan {
            resource: resource_number(limit.typ()),
            name,
            soft: limit.soft(),
            hard: limit.hard(),
        });
    }
    Ok(plans)
}

fn plan_scheduler(scheduler: &Scheduler, field: &str) -> Result<SchedulerPlan, RuntimeError> {
    let policy = match scheduler.policy() {
        LinuxSchedulerPolicy::SchedOther => 0,
        LinuxSchedulerPolicy::SchedFifo => 1,
        LinuxSchedulerPolicy::SchedRr => 2,
        LinuxSchedulerPolicy::SchedBatch => 3,
        LinuxSchedulerPolicy::SchedIso => 4,
        LinuxSchedulerPolicy::SchedIdle => 5,
        LinuxSchedulerPolicy::SchedDeadline => 6,
    };
    let flags = scheduler
        .flags()
        .iter()
        .flatten()
        .map(|flag| match flag {
            LinuxSchedulerFlag::SchedResetOnFork => 0x01,
            LinuxSchedulerFlag::SchedFlagReclaim => 0x02,
            LinuxSchedulerFlag::SchedFlagDLOverrun => 0x04,
            LinuxSchedulerFlag::SchedFlagKeepPolicy => 0x08,
            LinuxSchedulerFlag::SchedFlagKeepParams => 0x10,
            LinuxSchedulerFlag::SchedFlagUtilClampMin => 0x20,
            LinuxSchedulerFlag::SchedFlagUtilClampMax => 0x40,
        })
        .fold(0, |all, flag| all | flag);
    let deadline = (
        scheduler.runtime().unwrap_or(0),
        scheduler.deadline().unwrap_or(0),
        scheduler.period().unwrap_or(0),
    );
    if deadline != (0, 0, 0) && policy != 6 {
        return Err(RuntimeError::invalid(
            field,
            "runtime, deadline and period are for SCHED_DEADLINE only",
        ));
    }
    let priority = scheduler.priority().unwrap_or(0);
    if priority != 0 && !matches!(policy, 1 | 2) {
        return Err(RuntimeError::invalid(
            field,
            "a priority is for SCHED_FIFO and SCHED_RR only",
        ));
    }
    let nice = scheduler.nice().unwrap_or(0);
    if !(-20..=19).contains(&nice) {
        return Err(RuntimeError::invalid(
            field,
            format!("nice {nice} is not between -20 and 19"),
        ));
    }
    Ok(SchedulerPlan {
        policy,
        flags,
        nice,
        priority: u32::try_from(priority)
            .map_err(|_| RuntimeError::invalid(field, "the priority is negative"))?,
        deadline,
    })
}

fn io_priority(process: &Process, field: &str) -> Result<Option<(u16, u16)>, RuntimeError> {
    let Some(priority) = process.io_priority() else {
        return Ok(None);
    };
    let level = u16::try_from(priority.priority())
        .ok()
        .filter(|level| *level < 8)
        .ok_or_else(|| RuntimeError::invalid(field, "the priority is not between 0 and 7"))?;
    Ok(Some(match priority.class() {
        IOPriorityClass::IoprioClassRt => (1, level),
        IOPriorityClass::IoprioClassBe => (2, level),
        // The level says nothing there, and is what ioprio_get(2) tells all the same.
        IOPriorityClass::IoprioClassIdle => (3, level),
    }))
}

/// A list of small numbers as "0-3,7", for CPUs and memory nodes.
pub(super) fn cpu_list(
    text: &Option<String>,
    field: &str,
) -> Result<Option<Vec<usize>>, RuntimeError> {
    let Some(text) = text.as_deref().filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    let wrong = || RuntimeError::invalid(field, format!("{text:?} is not a list of numbers"));
    /// CPUs a mask of sched_setaffinity(2) has room for here.
    const CPUS: usize = 1024;
    let mut cpus = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let first: usize = first.trim().parse().map_err(|_| wrong())?;
        let last: usize = last.trim().parse().map_err(|_| wrong())?;
        if first > last || last >= CPUS {
            return Err(wrong());
        }
        cpus.extend(first..=last);
    }
    Ok(Some(cpus))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(json: &str) -> Result<ProcessPlan, RuntimeError> {
        plan(&serde_json::from_str(json).unwrap(), "process")
    }

    #[test]
    fn a_full_process_becomes_numbers() {
        let plan = process(
            r#"{"terminal":true,"consoleSize":{"height":25,"width":80},
            "user":{"uid":1,"gid":2,"umask":18,"additionalGids":[5,6]},
            "args":["sh","-c","true"],"env":["A=1","B=2","A=3"],"cwd":"/tmp",
            "capabilities":{"bounding":["CAP_KILL","CAP_SYS_ADMIN"],"effective":["CAP_KILL"],"permitted":["CAP_KILL"]},
            "rlimits":[{"type":"RLIMIT_NOFILE","hard":20,"soft":10}],
            "noNewPrivileges":true,"oomScoreAdj":100,
            "scheduler":{"policy":"SCHED_BATCH","nice":5},
            "ioPriority":{"class":"IOPRIO_CLASS_IDLE","priority":0},
            "execCPUAffinity":{"initial":"0-2,5","final":"1"}}"#,
        )
        .unwrap();
        insta::assert_debug_snapshot!(plan);
    }

    #[test]
    fn nonsense_is_refused_with_its_field() {
        for (json, field) in [
            (
                r#"{"user":{"uid":0,"gid":0},"args":[],"cwd":"/"}"#,
                "process.args",
            ),
            (
                r#"{"user":{"uid":0,"gid":0},"args":["a"],"cwd":"x"}"#,
                "process.cwd",
            ),
            (
                r#"{"user":{"uid":0,"gid":0},"args":["a"],"cwd":"/","oomScoreAdj":2000}"#,
                "process.oomScoreAdj",
            ),
            (
                r#"{"user":{"uid":0,"gid":0},"args":["a"],"cwd":"/","rlimits":[{"type":"RLIMIT_CPU","soft":2,"hard":1}]}"#,
                "process.rlimits",
            ),
            (
                r#"{"user":{"uid":0,"gid":0},"args":["a"],"cwd":"/","scheduler":{"policy":"SCHED_OTHER","priority":3}}"#,
                "process.scheduler",
            ),
        ] {
            match process(json) {
                Err(RuntimeError::Invalid { field: found, .. }) => assert_eq!(found, field),
                other => panic!("{json} gave {other:?}"),
            }
        }
    }
}
