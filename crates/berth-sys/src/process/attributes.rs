//! Properties a process sets on itself before its program: priorities, limits, processors, memory, personality.

use crate::error::{Attempt, Error, Result};

/// personality(2): the execution domain and its flags.
pub fn set_personality(persona: u64) -> Result<()> {
    // SAFETY: personality(2) passes no memory.
    if unsafe { libc::personality(persona as libc::c_ulong) } < 0 {
        return Err(Error::new(
            format!("set the personality {persona:#x}"),
            std::io::Error::last_os_error(),
        ));
    }
    Ok(())
}

/// Gives back and requests I/O priority: `class` 1 real-time, 2 best-effort, 3 idle; `level` 0 (first) to 7.
pub fn set_io_priority(class: u16, level: u16) -> Result<()> {
    const IOPRIO_WHO_PROCESS: libc::c_int = 1;
    const CLASS_SHIFT: u32 = 13;
    let value = (libc::c_int::from(class) << CLASS_SHIFT) | libc::c_int::from(level);
    // SAFETY: ioprio_set(2) passes no memory.
    if unsafe { libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, value) } != 0 {
        return Err(Error::new(
            format!("set I/O priority class {class} level {level}"),
            std::io::Error::last_os_error(),
        ));
    }
    Ok(())
}

/// `struct sched_attr` of sched_setattr(2).
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct SchedulerAttributes {
    size: u32,
    /// `SCHED_*`.
    pub policy: u32,
    /// `SCHED_FLAG_*`.
    pub flags: u64,
    /// For `SCHED_OTHER` and `SCHED_BATCH`.
    pub nice: i32,
    /// For `SCHED_FIFO` and `SCHED_RR`.
    pub priority: u32,
    /// For `SCHED_DEADLINE`, nanoseconds.
    pub runtime: u64,
    /// For `SCHED_DEADLINE`, nanoseconds.
    pub deadline: u64,
    /// For `SCHED_DEADLINE`, nanoseconds.
    pub period: u64,
}

/// Sets the scheduler of this process.
pub fn set_scheduler(attributes: &SchedulerAttributes) -> Result<()> {
    let attributes = SchedulerAttributes {
        size: size_of::<SchedulerAttributes>() as u32,
        ..*attributes
    };
    // SAFETY: the attributes are valid during the call and tell their own size.
    if unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) } != 0 {
        return Err(Error::new(
            format!("set scheduler policy {}", attributes.policy),
            std::io::Error::last_os_error(),
        ));
    }
    Ok(())
}

/// Sets one resource limit of this process; `resource` is an `RLIMIT_*` number.
pub fn set_resource_limit(resource: u32, soft: u64, hard: u64) -> Result<()> {
    let limit = libc::rlimit {
        rlim_cur: soft,
        rlim_max: hard,
    };
    // SAFETY: the limit is valid during the call.
    if unsafe { libc::setrlimit(resource, &raw const limit) } != 0 {
        return Err(Error::new(
            format!("set resource limit {resource} to {soft}:{hard}"),
            std::io::Error::last_os_error(),
        ));
    }
    Ok(())
}

/// Soft and hard value of one resource limit of this process.
pub fn resource_limit(resource: u32) -> Result<(u64, u64)> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the limit is valid for writing during the call.
    if unsafe { libc::getrlimit(resource, &raw mut limit) } != 0 {
        return Err(Error::new(
            format!("read resource limit {resource}"),
            std::io::Error::last_os_error(),
        ));
    }
    Ok((limit.rlim_cur, limit.rlim_max))
}

/// Sets the NUMA memory policy of this process: `mode` with its flags (`MPOL_*`), and the nodes.
pub fn set_memory_policy(mode: u32, nodes: &[usize]) -> Result<()> {
    /// Nodes a mask has room for, as many as the kernel can be built for.
    const NODES: usize = 1024;
    const WORD: usize = libc::c_ulong::BITS as usize;
    let mut mask: [libc::c_ulong; NODES / WORD] = [0; NODES / WORD];
    for node in nodes.iter().filter(|node| **node < NODES) {
        mask[node / WORD] |= 1 << (node % WORD);
    }
    // set_mempolicy(2) wants one more than the number of bits, and no mask at all for an empty one.
    let (pointer, bits) = if nodes.is_empty() {
        (std::ptr::null(), 0)
    } else {
        (mask.as_ptr(), NODES + 1)
    };
    // SAFETY: the mask is valid during the call and its size is told.
    if unsafe { libc::syscall(libc::SYS_set_mempolicy, mode, pointer, bits) } != 0 {
        return Err(Error::new(
            format!("set memory policy {mode:#x}"),
            std::io::Error::last_os_error(),
        ));
    }
    Ok(())
}

/// Limits this process to the given CPUs.
pub fn set_affinity(cpus: &[usize]) -> Result<()> {
    let mut set = rustix::thread::CpuSet::new();
    for cpu in cpus
        .iter()
        .filter(|cpu| **cpu < rustix::thread::CpuSet::MAX_CPU)
    {
        set.set(*cpu);
    }
    rustix::thread::sched_setaffinity(None, &set).attempt(|| "set the CPUs of a process")
}
