//! Flags of `run` and `create`: everything that can be said about a new container.

use crate::flags::Flag;
use crate::options::{device, environment, gpus, mount, name_resolution, network, scalar, ulimit};

/// Flags that `run` and `create` share.
pub(crate) fn shared() -> Vec<Flag> {
    let mut flags = general();
    flags.extend(limits());
    flags.extend(resources());
    flags.extend(networking());
    flags.extend(storage_and_logs());
    flags.extend(health());
    flags
}

fn general() -> Vec<Flag> {
    vec![
        Flag::list("annotation", "Hand an annotation on to the runtime"),
        Flag::many(
            "attach",
            "list",
            name_resolution::check_stream,
            "Attach to STDIN, STDOUT or STDERR",
        )
        .short('a'),
        Flag::list("cap-add", "Add a capability"),
        Flag::list("cap-drop", "Take a capability away"),
        Flag::text(
            "cgroup-parent",
            "Control group the container's own is placed in",
        ),
        Flag::text("cgroupns", "Control group namespace: host or private"),
        Flag::text("cidfile", "Write the container's id to this file"),
        Flag::list("device", "Share a device of the host"),
        Flag::many(
            "device-cgroup-rule",
            "list",
            device::check_cgroup_rule,
            "Allow devices by a rule: 'type major:minor mode'",
        ),
        Flag::text("domainname", "NIS domain name"),
        Flag::text("entrypoint", "Program to run instead of the image's"),
        Flag::many(
            "env",
            "list",
            environment::check_variable,
            "Set an environment variable",
        )
        .short('e'),
        Flag::list("env-file", "Read environment variables from a file"),
        Flag::many(
            "gpus",
            "gpu-request",
            gpus::check,
            "Share GPUs ('all' for every one)",
        ),
        Flag::list("group-add", "Join a further group"),
        Flag::text("hostname", "Host name").short('h'),
        Flag::switch(
            "init",
            "Run an init process that passes signals on and reaps processes",
        ),
        Flag::switch("interactive", "Keep standard input open").short('i'),
        Flag::text("ipc", "IPC namespace to use"),
        Flag::text("isolation", "Isolation technology"),
        Flag::many("label", "list", environment::check_label, "Set a label").short('l'),
        Flag::list("label-file", "Read labels from a file"),
        Flag::text("name", "Give the container a name"),
        Flag::text("pid", "PID namespace to use"),
        Flag::text("platform", "Platform of the image, if it has several"),
        Flag::switch("privileged", "Give the container all rights of the host"),
        Flag::text("pull", "Pull the image first: always, missing or never").or("missing"),
        Flag::switch("quiet", "Show nothing of the pull").short('q'),
        Flag::switch("read-only", "Make the root file system read-only"),
        Flag::text("restart", "When to restart the container after it ended").or("no"),
        Flag::switch(
            "rm",
            "Remove the container and its anonymous volumes when it ends",
        ),
        Flag::text("runtime", "OCI runtime to use"),
        Flag::list("security-opt", "Set a security option"),
        Flag::text("stop-signal", "Signal that stops the container"),
        Flag::one(
            "stop-timeout",
            "int",
            scalar::check_int,
            "Seconds to wait for a stop before killing",
        ),
        Flag::many(
            "sysctl",
            "map",
            name_resolution::check_sysctl,
            "Set a kernel parameter",
        ),
        Flag::switch("tty", "Give the container a terminal").short('t'),
        Flag::many(
            "ulimit",
            "ulimit",
            ulimit::check,
            "Set a resource limit: name=soft[:hard]",
        ),
        Flag::switch(
            "use-api-socket",
            "Mount the engine's socket into the container",
        ),
        Flag::text("user", "User (and group) to run as: name|uid[:group|gid]").short('u'),
        Flag::text("userns", "User namespace to use"),
        Flag::text("uts", "UTS namespace to use"),
        Flag::text("workdir", "Directory to start in").short('w'),
        Flag::switch("disable-content-trust", "Skip image verification")
            .on()
            .deprecated("image signatures are not checked here"),
    ]
}

/// Limits that can be changed later too (`update`).
pub(crate) fn limits() -> Vec<Flag> {
    vec![
        Flag::one(
            "blkio-weight",
            "uint16",
            scalar::check_uint16,
            "Share of block I/O, 10 to 1000, or 0 for the default",
        ),
        Flag::one(
            "cpu-period",
            "int64",
            scalar::check_int,
            "Period of the processor quota in microseconds",
        ),
        Flag::one(
            "cpu-quota",
            "int64",
            scalar::check_int,
            "Processor time per period in microseconds",
        ),
        Flag::one(
            "cpu-rt-period",
            "int64",
            scalar::check_int,
            "Period of the real-time quota in microseconds",
        ),
        Flag::one(
            "cpu-rt-runtime",
            "int64",
            scalar::check_int,
            "Real-time processor time per period in microseconds",
        ),
        Flag::one(
            "cpu-shares",
            "int64",
            scalar::check_int,
            "Share of processor time",
        )
        .short('c'),
        Flag::one(
            "cpus",
            "decimal",
            scalar::check_nano_cpus,
            "Number of processors",
        ),
        Flag::text("cpuset-cpus", "Processors to run on (0-3, 0,1)"),
        Flag::text("cpuset-mems", "Memory nodes to use (0-3, 0,1)"),
        Flag::one(
            "kernel-memory",
            "bytes",
            scalar::check_bytes,
            "Kernel memory limit",
        )
        .deprecated("and no longer supported by the kernel"),
        Flag::one("memory", "bytes", scalar::check_bytes, "Memory limit").short('m'),
        Flag::one(
            "memory-reservation",
            "bytes",
            scalar::check_bytes,
            "Memory to keep when the host runs short",
        ),
        Flag::one(
            "memory-swap",
            "bytes",
            scalar::check_bytes_or_unlimited,
            "Limit of memory and swap together; -1 for unlimited swap",
        ),
        Flag::one(
            "pids-limit",
            "int64",
            scalar::check_int,
            "Most processes and threads; -1 for unlimited",
        ),
    ]
}

/// Limits that stay as they are.
fn resources() -> Vec<Flag> {
    vec![
        Flag::many(
            "blkio-weight-device",
            "list",
            device::check_weight,
            "Share of block I/O of one device",
        ),
        Flag::one(
            "cpu-count",
            "int64",
            scalar::check_int,
            "Number of processors (Windows only)",
        ),
        Flag::one(
            "cpu-percent",
            "int64",
            scalar::check_int,
            "Percentage of the processors (Windows only)",
        ),
        Flag::many(
            "device-read-bps",
            "list",
            device::check_byte_rate,
            "Bytes per second read from a device",
        ),
        Flag::many(
            "device-read-iops",
            "list",
            device::check_operation_rate,
            "Reads per second from a device",
        ),
        Flag::many(
            "device-write-bps",
            "list",
            device::check_byte_rate,
            "Bytes per second written to a device",
        ),
        Flag::many(
            "device-write-iops",
            "list",
            device::check_operation_rate,
            "Writes per second to a device",
        ),
        Flag::one(
            "io-maxbandwidth",
            "bytes",
            scalar::check_bytes,
            "Bandwidth of the system drive (Windows only)",
        ),
        Flag::one(
            "io-maxiops",
            "uint64",
            scalar::check_uint64,
            "Operations per second of the system drive (Windows only)",
        ),
        Flag::one(
            "memory-swappiness",
            "int64",
            scalar::check_int,
            "Inclination to swap, 0 to 100",
        )
        .or("-1"),
        Flag::switch(
            "oom-kill-disable",
            "Do not kill the container when it is out of memory",
        ),
        Flag::one(
            "oom-score-adj",
            "int",
            scalar::check_int,
            "Preference for being killed when memory is short, -1000 to 1000",
        ),
        Flag::one("shm-size", "bytes", scalar::check_bytes, "Size of /dev/shm"),
    ]
}

fn networking() -> Vec<Flag> {
    vec![
        Flag::many(
            "add-host",
            "list",
            name_resolution::check_extra_host,
            "Add a host name and its address (host:ip)",
        ),
        Flag::many(
            "dns",
            "list",
            name_resolution::check_address,
            "Use this DNS server",
        ),
        Flag::list("dns-opt", "Set a resolver option").spelling_of("dns-option"),
        Flag::list("dns-option", "Set a resolver option"),
        Flag::many(
            "dns-search",
            "list",
            name_resolution::check_domain,
            "Search this domain",
        ),
        Flag::list("expose", "Expose a port or a range of ports"),
        Flag::text("ip", "IPv4 address (172.30.100.104)"),
        Flag::text("ip6", "IPv6 address (2001:db8::33)"),
        Flag::many(
            "link",
            "list",
            name_resolution::check_link,
            "Link to another container",
        ),
        Flag::list("link-local-ip", "Link-local address"),
        Flag::text("mac-address", "Hardware address (92:d0:c6:0a:29:33)"),
        Flag::many("net", "network", network::check, "Join a network").spelling_of("network"),
        Flag::list("net-alias", "Add a name in the network").spelling_of("network-alias"),
        Flag::many("network", "network", network::check, "Join a network"),
        Flag::list("network-alias", "Add a name in the network"),
        Flag::list("publish", "Publish a port on the host").short('p'),
        Flag::switch(
            "publish-all",
            "Publish every exposed port on a free port of the host",
        )
        .short('P'),
    ]
}

fn storage_and_logs() -> Vec<Flag> {
    vec![
        Flag::text("log-driver", "Log driver"),
        Flag::list("log-opt", "Set an option of the log driver"),
        Flag::many("mount", "mount", mount::check, "Mount a file system"),
        Flag::list("storage-opt", "Set an option of the storage driver"),
        Flag::list("tmpfs", "Mount an empty file system in memory"),
        Flag::list("volume", "Mount a directory of the host or a volume").short('v'),
        Flag::text("volume-driver", "Driver of volumes made for the container"),
        Flag::list("volumes-from", "Mount the volumes of another container"),
    ]
}

fn health() -> Vec<Flag> {
    vec![
        Flag::text("health-cmd", "Command that checks health"),
        Flag::one(
            "health-interval",
            "duration",
            scalar::check_duration,
            "Time between checks (ms|s|m|h)",
        ),
        Flag::one(
            "health-retries",
            "int",
            scalar::check_int,
            "Failures in a row that make the container unhealthy",
        ),
        Flag::one(
            "health-start-interval",
            "duration",
            scalar::check_duration,
            "Time between checks during the start period (ms|s|m|h)",
        ),
        Flag::one(
            "health-start-period",
            "duration",
            scalar::check_duration,
            "Time to start up before failures count (ms|s|m|h)",
        ),
        Flag::one(
            "health-timeout",
            "duration",
            scalar::check_duration,
            "Longest time a check may take (ms|s|m|h)",
        ),
        Flag::switch("no-healthcheck", "Ignore the image's health check"),
    ]
}
