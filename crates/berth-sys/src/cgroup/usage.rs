//! Reading what a group has used.

use super::directory::Directory;
use super::stats::{
    BlockIoEntry, BlockIoStats, CpuStats, HugePageStats, MemoryStats, PidsStats, Stats,
};
use super::{Cgroup, CgroupError};

/// Version 1 tells "no limit" as the greatest multiple of the page size; every limit from here on means none.
const NO_LIMIT_V1: u64 = 1 << 62;

/// Nanoseconds in a microsecond.
const MICROSECOND: u64 = 1000;

impl Cgroup {
    /// What the group has used.
    ///
    /// # Errors
    /// When a file cannot be read or understood.
    pub fn stats(&self) -> Result<Stats, CgroupError> {
        let mut stats = Stats::default();
        if let Some(directory) = &self.unified {
            if self.v1("cpuacct").is_none() {
                stats.cpu = cpu_v2(directory)?;
            }
            if self.v1("memory").is_none() {
                stats.memory = memory_v2(directory)?;
            }
            if self.v1("blkio").is_none() {
                stats.block_io = block_io_v2(directory)?;
            }
            if self.v1("hugetlb").is_none() {
                huge_pages(directory, "current", &mut stats)?;
            }
        }
        if let Some(directory) = self.v1("cpuacct") {
            stats.cpu = cpu_v1(directory)?;
        }
        if let Some(directory) = self.v1("cpu") {
            throttling(directory, "throttled_time", 1, &mut stats.cpu)?;
        }
        if let Some(directory) = self.v1("memory") {
            stats.memory = memory_v1(directory)?;
        }
        if let Some(directory) = self.v1("blkio") {
            stats.block_io = block_io_v1(directory)?;
        }
        if let Some(directory) = self.v1("hugetlb") {
            huge_pages(directory, "usage_in_bytes", &mut stats)?;
        }
        if let Some(directory) = self.v1("pids").or(self.unified.as_ref())
            && let Some(current) = directory.read_number("pids.current")?
        {
            let limit = directory.read_limit("pids.max")?.flatten();
            stats.pids = Some(PidsStats { current, limit });
        }
        Ok(stats)
    }
}

fn cpu_v1(directory: &Directory) -> Result<CpuStats, CgroupError> {
    let per_cpu = directory
        .read("cpuacct.usage_percpu")?
        .unwrap_or_default()
        .split_whitespace()
        .filter_map(|number| number.parse().ok())
        .collect();
    Ok(CpuStats {
        total: directory.read_number("cpuacct.usage")?.unwrap_or(0),
        user: directory.read_number("cpuacct.usage_user")?.unwrap_or(0),
        kernel: directory.read_number("cpuacct.usage_sys")?.unwrap_or(0),
        per_cpu,
        ..CpuStats::default()
    })
}

fn throttling(
    directory: &Directory,
    time_key: &str,
    unit: u64,
    cpu: &mut CpuStats,
) -> Result<(), CgroupError> {
    for (key, value) in directory.read_table("cpu.stat")? {
        match key.as_str() {
            "nr_periods" => cpu.periods = value,
            "nr_throttled" => cpu.throttled_periods = value,
            other if other == time_key => cpu.throttled_time = value.saturating_mul(unit),
            _ => {}
        }
    }
    Ok(())
}

fn cpu_v2(directory: &Directory) -> Result<CpuStats, CgroupError> {
    let mut cpu = CpuStats::default();
    for (key, value) in directory.read_table("cpu.stat")? {
        let nanoseconds = value.saturating_mul(MICROSECOND);
        match key.as_str() {
            "usage_usec" => cpu.total = nanoseconds,
            "user_usec" => cpu.user = nanoseconds,
            "system_usec" => cpu.kernel = nanoseconds,
            "nr_periods" => cpu.periods = value,
            "nr_throttled" => cpu.throttled_periods = value,
            "throttled_usec" => cpu.throttled_time = nanoseconds,
            _ => {}
        }
    }
    Ok(cpu)
}

fn memory_v1(directory: &Directory) -> Result<Option<MemoryStats>, CgroupError> {
    let Some(usage) = directory.read_number("memory.usage_in_bytes")? else {
        return Ok(None);
    };
    let limited = |limit: Option<u64>| limit.filter(|limit| *limit < NO_LIMIT_V1);
    let limit = limited(directory.read_number("memory.limit_in_bytes")?);
    let both_limit = limited(directory.read_number("memory.memsw.limit_in_bytes")?);
    Ok(Some(MemoryStats {
        usage,
        max_usage: directory.read_number("memory.max_usage_in_bytes")?,
        limit,
        failures: directory.read_number("memory.failcnt")?.unwrap_or(0),
        swap_usage: directory
            .read_number("memory.memsw.usage_in_bytes")?
            .map(|both| both.saturating_sub(usage)),
        swap_limit: both_limit.map(|both| both.saturating_sub(limit.unwrap_or(0))),
        details: directory.read_table("memory.stat")?.into_iter().collect(),
    }))
}

fn memory_v2(directory: &Directory) -> Result<Option<MemoryStats>, CgroupError> {
    let Some(usage) = directory.read_number("memory.current")? else {
        return Ok(None);
    };
    Ok(Some(MemoryStats {
        usage,
        max_usage: directory.read_number("memory.peak")?,
        limit: directory.read_limit("memory.max")?.flatten(),
        failures: directory.read_key("memory.events", "max")?.unwrap_or(0),
        swap_usage: directory.read_number("memory.swap.current")?,
        swap_limit: directory.read_limit("memory.swap.max")?.flatten(),
        details: directory.read_table("memory.stat")?.into_iter().collect(),
    }))
}

fn block_io_v1(directory: &Directory) -> Result<BlockIoStats, CgroupError> {
    let mut stats = BlockIoStats::default();
    // Each scheduler counts for itself and those not in use count nothing. The throttling layer sees all traffic.
    for prefix in ["blkio.bfq.", "blkio.", "blkio.throttle."] {
        stats.service_bytes = entries(directory, &format!("{prefix}io_service_bytes_recursive"))?;
        stats.serviced = entries(directory, &format!("{prefix}io_serviced_recursive"))?;
        if !stats.serviced.is_empty() {
            break;
        }
    }
    Ok(stats)
}

/// Lines of the form `8:0 Read 4096`; a last line without a device is the sum and is left out.
fn entries(directory: &Directory, file: &str) -> Result<Vec<BlockIoEntry>, CgroupError> {
    let text = directory.read(file)?.unwrap_or_default();
    Ok(text
        .lines()
        .filter_map(|line| {
            let mut fields = line.split_whitespace();
            let (major, minor) = fields.next()?.split_once(':')?;
            Some(BlockIoEntry {
                major: major.parse().ok()?,
                minor: minor.parse().ok()?,
                operation: fields.next()?.to_ascii_lowercase(),
                value: fields.next()?.parse().ok()?,
            })
        })
        .collect())
}

/// Lines of the form `8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6` (cgroup-v2.rst, "io.stat").
fn block_io_v2(directory: &Directory) -> Result<BlockIoStats, CgroupError> {
    let text = directory.read("io.stat")?.unwrap_or_default();
    let mut stats = BlockIoStats::default();
    for line in text.lines() {
        let mut fields = line.split_whitespace();
        let Some((major, minor)) = fields.next().and_then(|device| device.split_once(':')) else {
            continue;
        };
        let (Ok(major), Ok(minor)) = (major.parse(), minor.parse()) else {
            continue;
        };
        for field in fields {
            let Some((key, value)) = field.split_once('=') else {
                continue;
            };
            let Ok(value) = value.parse() else { continue };
            let entry = |operation: &str| BlockIoEntry {
                major,
                minor,
                operation: operation.to_owned(),
                value,
            };
            match key {
                "rbytes" => stats.service_bytes.push(entry("read")),
                "wbytes" => stats.service_bytes.push(entry("write")),
                "dbytes" => stats.service_bytes.push(entry("discard")),
                "rios" => stats.serviced.push(entry("read")),
                "wios" => stats.serviced.push(entry("write")),
                "dios" => stats.serviced.push(entry("discard")),
                _ => {}
            }
        }
    }
    Ok(stats)
}

/// Sizes of huge pages the kernel knows, as `2MB`.
fn huge_page_sizes() -> Vec<String> {
    let Ok(entries) = std::fs::read_dir("/sys/kernel/mm/hugepages") else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| {
            let name = entry.ok()?.file_name().into_string().ok()?;
            let kibibytes: u64 = name
                .strip_prefix("hugepages-")?
                .strip_suffix("kB")?
                .parse()
                .ok()?;
            Some(match kibibytes {
                small if small < 1 << 10 => format!("{small}KB"),
                middle if middle < 1 << 20 => format!("{}MB", middle >> 10),
                large => format!("{}GB", large >> 20),
            })
        })
        .collect()
}

fn huge_pages(
    directory: &Directory,
    usage_file: &str,
    stats: &mut Stats,
) -> Result<(), CgroupError> {
    for size in huge_page_sizes() {
        let Some(usage) = directory.read_number(&format!("hugetlb.{size}.{usage_file}"))? else {
            continue;
        };
        let max_usage = directory
            .read_number(&format!("hugetlb.{size}.max_usage_in_bytes"))?
            .unwrap_or(0);
        let failures = match directory.read_number(&format!("hugetlb.{size}.failcnt"))? {
            Some(failures) => failures,
            None => directory
                .read_key(&format!("hugetlb.{size}.events"), "max")?
                .unwrap_or(0),
        };
        stats.huge_pages.insert(
            size,
            HugePageStats {
                usage,
                max_usage,
                failures,
            },
        );
    }
    Ok(())
}
