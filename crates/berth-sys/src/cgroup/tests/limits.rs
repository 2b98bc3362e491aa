//! Limits, device access and counters.

use super::*;

#[test]
fn limits_are_written_on_version_1() {
    let Some(own) = Own::v1_only() else { return };
    let mebibyte = 1 << 20;
    let resources = |limit: i64, swap: i64| Resources {
        memory: Memory {
            limit: Some(limit * mebibyte),
            swap: Some(swap * mebibyte),
            reservation: Some(16 * mebibyte),
            swappiness: Some(10),
            disable_oom_killer: Some(false),
            ..Memory::default()
        },
        cpu: Cpu {
            shares: Some(512),
            quota: Some(50_000),
            period: Some(100_000),
            burst: Some(10_000),
            cpus: Some("0".to_owned()),
            mems: Some("0".to_owned()),
            ..Cpu::default()
        },
        pids_limit: Some(77),
        ..Resources::default()
    };
    // Rising and falling limits, each beyond the other's old value.
    for (limit, swap) in [(64, 128), (256, 512), (32, 48), (48, 48), (64, 64)] {
        let notes = own.group.apply(&resources(limit, swap)).unwrap();
        assert_eq!(
            own.v1_file("memory", "memory.limit_in_bytes"),
            (limit * mebibyte).to_string()
        );
        if own
            .group
            .v1("memory")
            .unwrap()
            .has("memory.memsw.limit_in_bytes")
        {
            assert_eq!(
                own.v1_file("memory", "memory.memsw.limit_in_bytes"),
                (swap * mebibyte).to_string()
            );
            assert!(notes.is_empty(), "{notes:?}");
        } else {
            assert_eq!(notes.len(), 1, "{notes:?}");
        }
    }
    assert_eq!(own.v1_file("memory", "memory.swappiness"), "10");
    assert_eq!(own.v1_file("cpu", "cpu.shares"), "512");
    assert_eq!(own.v1_file("cpu", "cpu.cfs_quota_us"), "50000");
    assert_eq!(own.v1_file("cpu", "cpu.cfs_burst_us"), "10000");
    assert_eq!(own.v1_file("cpuset", "cpuset.cpus"), "0");
    assert_eq!(own.v1_file("pids", "pids.max"), "77");
    let lifted = Resources {
        memory: Memory {
            limit: Some(-1),
            ..Memory::default()
        },
        cpu: Cpu {
            quota: Some(-1),
            ..Cpu::default()
        },
        pids_limit: Some(-1),
        ..Resources::default()
    };
    own.group.apply(&lifted).unwrap();
    let stats = own.group.stats().unwrap();
    let memory = stats.memory.unwrap();
    assert_eq!((memory.limit, memory.swap_limit), (None, None));
    assert_eq!(stats.pids.unwrap().limit, None);
    assert_eq!(own.v1_file("cpu", "cpu.cfs_quota_us"), "-1");
    // A period shorter than the burst and quota in force allow, with a quota that fits.
    let short = Resources {
        cpu: Cpu {
            quota: Some(2000),
            period: Some(10_000),
            burst: Some(0),
            ..Cpu::default()
        },
        ..Resources::default()
    };
    own.group.apply(&short).unwrap();
    assert_eq!(own.v1_file("cpu", "cpu.cfs_period_us"), "10000");
}

#[test]
fn what_the_kernel_lacks_is_told_or_refused_on_version_1() {
    let Some(own) = Own::v1_only() else { return };
    let block_io = BlockIo {
        weight: Some(500),
        leaf_weight: Some(100),
        ..BlockIo::default()
    };
    let memory = Memory {
        kernel: Some(1 << 30),
        ..Memory::default()
    };
    let notes = own
        .group
        .apply(&Resources {
            block_io,
            memory,
            ..Resources::default()
        })
        .unwrap();
    assert!(
        notes.iter().any(|note| note.contains("kernel memory")),
        "{notes:?}"
    );
    assert!(
        notes.iter().any(|note| note.contains("leaf weight")),
        "{notes:?}"
    );
    if own.group.v1("net_cls").is_none() {
        let network = NetworkClass {
            class_id: Some(1),
            ..NetworkClass::default()
        };
        let error = own
            .group
            .apply(&Resources {
                network,
                ..Resources::default()
            })
            .unwrap_err();
        assert_eq!(
            error.kind(),
            berth_types::ErrorKind::NotImplemented,
            "{error}"
        );
    }
    let unified = [("memory.high".to_owned(), "1".to_owned())].into();
    assert!(
        own.group
            .apply(&Resources {
                unified,
                ..Resources::default()
            })
            .is_err()
    );
    let memory = Memory {
        swappiness: Some(101),
        ..Memory::default()
    };
    let error = own
        .group
        .apply(&Resources {
            memory,
            ..Resources::default()
        })
        .unwrap_err();
    assert_eq!(error.kind(), berth_types::ErrorKind::InvalidArgument);
}

fn null_device_rules(null: bool) -> Vec<DeviceRule> {
    let mut rules = vec![DeviceRule::DENY_ALL];
    let device = |major, minor| DeviceRule {
        allow: true,
        kind: DeviceKind::Character,
        major: Some(major),
        minor: Some(minor),
        access: DeviceAccess::ALL,
    };
    rules.push(device(1, 5));
    if null {
        rules.push(device(1, 3));
    }
    rules
}

/// Opens /dev/null and /dev/zero over and over, as told on standard input, and tells what it could open.
const OPENER: &str = "while read _; do \
    if true </dev/null; then n=null; else n=-; fi; if true </dev/zero; then z=zero; else z=-; fi; echo $n $z; done 2>&-";

fn devices_follow_the_rules(own: &Own) {
    use std::io::Write;
    let apply = |rules: Vec<DeviceRule>| {
        own.group
            .apply(&Resources {
                devices: Some(rules),
                ..Resources::default()
            })
            .unwrap();
    };
    apply(null_device_rules(true));
    let mut inside = Inside::run(own, OPENER);
    let mut ask = || {
        inside.0.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
        inside.line()
    };
    assert_eq!(ask(), "null zero");
    apply(null_device_rules(false));
    assert_eq!(ask(), "- zero");
    apply(vec![DeviceRule::DENY_ALL]);
    assert_eq!(ask(), "- -");
    apply(null_device_rules(true));
    assert_eq!(ask(), "null zero");
    let mut without_zero = vec![DeviceRule::ALLOW_ALL, null_device_rules(false)[1]];
    without_zero[1].allow = false;
    apply(without_zero);
    assert_eq!(ask(), "null -");
    apply(vec![DeviceRule::ALLOW_ALL]);
    assert_eq!(ask(), "null zero");
}

#[test]
fn devices_follow_the_rules_on_version_1() {
    if let Some(own) = Own::v1_only() {
        devices_follow_the_rules(&own);
    }
}

#[test]
fn devices_follow_the_rules_on_version_2() {
    if let Some(own) = Own::unified_only() {
        devices_follow_the_rules(&own);
    }
}

#[test]
fn running_out_of_memory_is_counted_and_told() {
    let own = Own::whole();
    let limited = Memory {
        limit: Some(16 << 20),
        swap: Some(16 << 20),
        ..Memory::default()
    };
    let notes = own
        .group
        .apply(&Resources {
            memory: limited,
            ..Resources::default()
        })
        .unwrap();
    if !notes.is_empty() {
        return;
    }
    let mut events = own.group.oom_events().unwrap().unwrap();
    assert_eq!(events.take().unwrap(), 0);
    assert_eq!(own.group.oom_count().unwrap(), 0);
    let mut inside = Inside::run(&own, "head -c 200M /dev/zero | tail -c 200M");
    drop(inside.0.stdout.take());
    // On version 2 hitting the limit is an event as well, before the kill.
    let mut told = 0;
    while told == 0 {
        let mut polled = [rustix::event::PollFd::from_borrowed_fd(
            events.fd(),
            rustix::event::PollFlags::IN,
        )];
        let long = rustix::event::Timespec {
            tv_sec: 20,
            tv_nsec: 0,
        };
        assert_eq!(
            rustix::event::poll(&mut polled, Some(&long)).unwrap(),
            1,
            "no event"
        );
        told = events.take().unwrap();
    }
    inside.0.wait().unwrap();
    until("the kill is counted", || {
        own.group.oom_count().unwrap() >= 1
    });
    let memory = own.group.stats().unwrap().memory.unwrap();
    assert_eq!(memory.limit, Some(16 << 20));
    assert!(
        memory.max_usage.is_some_and(|most| most > 8 << 20),
        "{memory:?}"
    );
}

#[test]
fn usage_is_counted() {
    let own = Own::whole();
    let mut inside = Inside::run(
        &own,
        "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; echo done; read x",
    );
    assert_eq!(inside.line(), "done");
    let stats = own.group.stats().unwrap();
    assert!(stats.cpu.total > 1_000_000, "{:?}", stats.cpu);
    assert!(stats.cpu.user + stats.cpu.kernel > 0);
    assert_eq!(stats.pids.unwrap().current, 1);
    if own.group.v1("cpuacct").is_some() {
        assert!(!stats.cpu.per_cpu.is_empty());
    }
    let memory = stats.memory.unwrap();
    assert!(memory.usage > 0 && memory.details.len() > 10);
}

#[test]
fn throttling_is_counted() {
    let own = Own::whole();
    let cpu = Cpu {
        quota: Some(2000),
        period: Some(10_000),
        ..Cpu::default()
    };
    if !own
        .group
        .apply(&Resources {
            cpu,
            ..Resources::default()
        })
        .unwrap()
        .is_empty()
    {
        return;
    }
    let _inside = Inside::run(&own, "while :; do :; done");
    until("the group is held back", || {
        let cpu = own.group.stats().unwrap().cpu;
        cpu.throttled_periods > 2 && cpu.throttled_time > 0 && cpu.periods > 2
    });
}

#[test]
fn limits_are_written_on_version_2() {
    if Hierarchy::probe().unwrap().layout() != Layout::V2 {
        return;
    }
    let own = Own::whole();
    let directory = own.group.unified.as_ref().unwrap();
    let read = |file: &str| {
        directory
            .read(file)
            .unwrap()
            .unwrap_or_default()
            .trim()
            .to_owned()
    };
    for (limit, swap) in [(64_i64, 128_i64), (256, 512), (32, 48), (48, 48)] {
        let resources = Resources {
            memory: Memory {
                limit: Some(limit << 20),
                swap: Some(swap << 20),
                reservation: Some(16 << 20),
                ..Memory::default()
            },
            cpu: Cpu {
                shares: Some(1024),
                quota: Some(50_000),
                period: Some(100_000),
                cpus: Some("0".to_owned()),
                mems: Some("0".to_owned()),
                ..Cpu::default()
            },
            pids_limit: Some(77),
            unified: [("memory.high".to_owned(), "max".to_owned())].into(),
            ..Resources::default()
        };
        own.group.apply(&resources).unwrap();
        assert_eq!(read("memory.max"), (limit << 20).to_string());
        assert_eq!(read("memory.low"), (16 << 20).to_string());
        if directory.has("memory.swap.max") {
            assert_eq!(read("memory.swap.max"), ((swap - limit) << 20).to_string());
        }
    }
    assert_eq!(read("cpu.weight"), "100");
    assert_eq!(read("cpu.max"), "50000 100000");
    if directory.has("cpuset.cpus") {
        assert_eq!(read("cpuset.cpus"), "0");
    }
    assert_eq!(read("pids.max"), "77");
    // Half of the pair changes, the other half stays.
    let cpu = Cpu {
        quota: Some(20_000),
        ..Cpu::default()
    };
    own.group
        .apply(&Resources {
            cpu,
            ..Resources::default()
        })
        .unwrap();
    assert_eq!(read("cpu.max"), "20000 100000");
    let cpu = Cpu {
        quota: Some(-1),
        period: Some(50_000),
        ..Cpu::default()
    };
    own.group
        .apply(&Resources {
            cpu,
            ..Resources::default()
        })
        .unwrap();
    assert_eq!(read("cpu.max"), "max 50000");
    let stats = own.group.stats().unwrap();
    assert_eq!(stats.memory.unwrap().limit, Some(48 << 20));
    let unified = [("nothing.max".to_owned(), "1".to_owned())].into();
    assert!(
        own.group
            .apply(&Resources {
                unified,
                ..Resources::default()
            })
            .is_err()
    );
}

/// The promise is less than a millisecond for making a group with the usual limits; only told here, since a
/// busy machine would make a test of it fail at random. Run with `--no-capture` to see.
#[test]
#[expect(clippy::print_stderr, reason = "a measurement to be read")]
fn how_long_the_steps_take() {
    let resources = Resources {
        memory: Memory {
            limit: Some(256 << 20),
            ..Memory::default()
        },
        cpu: Cpu {
            shares: Some(512),
            quota: Some(50_000),
            period: Some(100_000),
            ..Cpu::default()
        },
        pids_limit: Some(100),
        devices: Some(null_device_rules(true)),
        ..Resources::default()
    };
    let outer = Own::whole();
    let mut times = [const { Vec::new() }; 4];
    for round in 0..20 {
        let mut location = outer.group.location().clone();
        for path in location
            .v1
            .iter_mut()
            .map(|(_, path)| path)
            .chain(&mut location.unified)
        {
            path.push(format!("round-{round}"));
        }
        let start = Instant::now();
        let group = Cgroup::create(&location).unwrap();
        times[0].push(start.elapsed());
        let start = Instant::now();
        group.apply(&resources).unwrap();
        times[1].push(start.elapsed());
        let start = Instant::now();
        group.stats().unwrap();
        times[2].push(start.elapsed());
        drop(group);
        let start = Instant::now();
        Cgroup::remove(&location).unwrap();
        times[3].push(start.elapsed());
    }
    for (what, times) in ["create", "apply", "stats", "remove"]
        .iter()
        .zip(&mut times)
    {
        times.sort();
        eprintln!(
            "{what}: median {:?}, worst {:?}",
            times[times.len() / 2],
            times[times.len() - 1]
        );
    }
}
