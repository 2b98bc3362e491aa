//! Every bound of the engine: queues, pools, sizes and waits, each with its reason.

use std::time::Duration;

/// Requests that may wait for one container's owner.
pub const OWNER_QUEUE: usize = 64;
/// Results of effects and messages of the monitor that may wait for one owner.
pub const OWNER_SIGNALS: usize = 256;
/// Events kept for `since` (Docker keeps 256 too).
pub const EVENTS_KEPT: usize = 256;
/// Events that may wait for one slow listener; it is told how many it missed.
pub const EVENTS_QUEUE: usize = 1024;
/// Record changes that may wait for the writer; beyond that, savers wait.
pub const RECORDS_QUEUE: usize = 1024;
/// Record changes put in one transaction.
pub const RECORDS_BATCH: usize = 256;
/// Bytes reserved for the growth of the file of records.
pub const RECORDS_RESERVE: u64 = 4 * 1024 * 1024;
/// Bytes the disk must have left for a new record.
pub const DISK_MIN: u64 = 8 * 1024 * 1024;
/// Time between two looks at the disk budget, and between two notes of when images were used.
pub const HOUSEKEEPING_INTERVAL: Duration = Duration::from_secs(300);
/// Launches at once: they contend for the kernel's mount and cgroup locks.
pub const LAUNCHES_AT_ONCE: usize = 8;
/// Blocking file and kernel calls at once, beyond launches.
pub const BLOCKING_AT_ONCE: usize = 16;
/// Containers that are recovered at once when the daemon starts.
pub const RECOVERIES_AT_ONCE: usize = 32;
/// Exec sessions remembered per container, running and ended.
pub const EXECS_PER_CONTAINER: usize = 1024;
/// Time an ended or never started exec session is remembered.
pub const EXEC_KEPT: Duration = Duration::from_secs(300);
/// Clients that may wait to be attached to a container that has not started.
pub const ATTACHES_PENDING: usize = 64;
/// Waiters of one container.
pub const WAITERS: usize = 4096;
/// Attempts to find a random name before the id is used instead.
pub const NAME_ATTEMPTS: usize = 6;
/// Longest name of a container.
pub const NAME_LENGTH_MAX: usize = 255;
/// Longest host name, sethostname(2).
pub const HOSTNAME_LENGTH_MAX: usize = 64;
/// Least memory limit Docker accepts.
pub const MEMORY_MIN: i64 = 6 * 1024 * 1024;
/// Least weight of CPUs the kernel accepts.
pub const CPU_SHARES_MIN: i64 = 2;
/// Greatest weight of CPUs the kernel accepts.
pub const CPU_SHARES_MAX: i64 = 262_144;
/// Size of /dev/shm when nothing is asked.
pub const SHM_SIZE_DEFAULT: i64 = 64 * 1024 * 1024;
/// Size of the tmpfs on /dev.
pub const DEV_SIZE: &str = "65536k";
/// Seconds between the stop signal and SIGKILL.
pub const STOP_TIMEOUT_DEFAULT: i64 = 10;
/// Time after SIGKILL in which the kernel has to end a process before we say it did not.
pub const KILL_WAIT: Duration = Duration::from_secs(10);
/// How long a monitor whose run has ended may take to clean up before it is asked what keeps it.
pub const MONITOR_GOES: Duration = Duration::from_millis(100);
/// How long whoever wants what a run that is over still has in networks waits for it.
pub const NETWORKS_LEFT: Duration = Duration::from_secs(10);
/// How long the lock of a daemon that was killed may live on in a program that was about to be executed.
pub const LOCK_LEFT: Duration = Duration::from_secs(10);
/// How often it is looked for meanwhile.
pub const LOCK_LOOK: Duration = Duration::from_millis(10);
/// How long the end of a process that was found to be gone may take to be told by its monitor.
pub const END_KNOWN: Duration = Duration::from_secs(10);
/// First pause before a restart.
pub const RESTART_DELAY_FIRST: Duration = Duration::from_millis(100);
/// Longest pause before a restart.
pub const RESTART_DELAY_MAX: Duration = Duration::from_secs(60);
/// A run this long forgets earlier failures.
pub const RESTART_RESET_AFTER: Duration = Duration::from_secs(10);
/// Pause before another attempt at a removal that failed.
pub const REMOVAL_RETRY: Duration = Duration::from_secs(60);
/// Time between two health probes.
pub const HEALTH_INTERVAL_DEFAULT: Duration = Duration::from_secs(30);
/// Time one health probe may take.
pub const HEALTH_TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);
/// Time between two health probes in the start period.
pub const HEALTH_START_INTERVAL_DEFAULT: Duration = Duration::from_secs(5);
/// Failed health probes in a row that count.
pub const HEALTH_RETRIES_DEFAULT: u32 = 3;
/// Results of health probes kept.
pub const HEALTH_LOG_ENTRIES: usize = 5;
/// Bytes of a probe's output kept.
pub const HEALTH_OUTPUT: usize = 4096;
/// Time between two samples of a stream of statistics.
pub const STATS_INTERVAL: Duration = Duration::from_secs(1);
/// Output of `ps` that is read.
pub const PS_OUTPUT: u64 = 4 * 1024 * 1024;
/// Bytes of /etc/passwd or /etc/group of an image that are read.
pub const ACCOUNT_FILE: u64 = 1024 * 1024;
/// Bytes of a stored record that are read.
pub const RECORD_SIZE: usize = 16 * 1024 * 1024;
/// Bytes of a seccomp profile.
pub const SECCOMP_PROFILE: usize = 1024 * 1024;
/// Log entries read ahead of a slow client.
pub const LOG_QUEUE: usize = 64;
/// Variables, arguments, labels, mounts, … of one request: any list longer than this is refused.
pub const REQUEST_LIST: usize = 65_536;

/// Bytes in a network's name.
pub const NETWORK_NAME_MAX: usize = 128;
/// Subnets of one network.
pub const NETWORK_SUBNETS_MAX: usize = 64;
/// Networks of one engine.
pub const NETWORKS_MAX: usize = 8192;
/// Networks one container is configured for.
pub const CONTAINER_NETWORKS_MAX: usize = 128;
/// Published ports of one container.
pub const PUBLISHED_PORTS_MAX: usize = 8192;
/// Calls of the kernel about networks that may block, at once. They take turns on the kernel's own lock (RTNL).
pub const NETWORK_CALLS_AT_ONCE: usize = 4;
/// Ports of a range that are tried, and found to be another program's, before a start is refused.
pub const PORT_ATTEMPTS: usize = 64;
/// Bytes of the file that says what a run has in networks.
pub const RUN_NETWORK: u64 = 4 * 1024 * 1024;

/// Bytes in a volume's name: what a file's name may have (255), less the prefix of one that is made or removed.
pub const VOLUME_NAME_MAX: usize = 240;
/// Volumes of one engine.
pub const VOLUMES_MAX: usize = 65_536;
/// Mounts that may lie over each other on one volume before unmounting it is given up.
pub const STACKED_MOUNTS: usize = 64;
/// Work on volumes that blocks, at once.
pub const VOLUME_CALLS_AT_ONCE: usize = 8;
/// Work on volumes that have to be mounted, at once. A server that does not answer holds its place until the kernel
/// gives up.
pub const VOLUME_MOUNTS_AT_ONCE: usize = 8;
