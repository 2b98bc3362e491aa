//! Measures launches, execs and idle memory: `cargo run --release -p berth-monitor --example measure [ROUNDS]`, as root, with
//! busybox-static installed. Prints medians.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use berth_monitor::log::LogSettings;
use berth_monitor::{ExecRequest, LaunchRequest, MonitorHandle, RuntimeChoice, Streams};
use berth_sys::mount::overlay::Overlay;
use serde_json::json;
use tokio::io::AsyncReadExt;

const OUTPUT: Streams = Streams {
    stdin: false,
    stdout: true,
    stderr: true,
};

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    if arguments.get(1).is_some_and(|word| word == "monitor") {
        return berth_monitor::main(&arguments[2..]);
    }
    let rounds = arguments
        .get(1)
        .and_then(|word| word.to_str()?.parse().ok())
        .unwrap_or(200);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(measure(rounds));
    ExitCode::SUCCESS
}

#[allow(clippy::print_stdout)]
async fn measure(rounds: usize) {
    let directory = tempfile::tempdir().expect("a directory");
    let root = make_root(directory.path());
    let executable =
        berth_sys::executable::SealedExecutable::of_self().expect("a sealed executable");
    let path = executable.path();
    let (mut launches, mut starts, mut ends, mut wholes) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for number in 0..rounds {
        let request = prepare(
            directory.path(),
            &root,
            &format!("m{number}"),
            &["/bin/true"],
        );
        let begin = Instant::now();
        let (handle, _) = berth_monitor::launch(&path, &request)
            .await
            .expect("launch");
        let launched = Instant::now();
        let mut events = handle.events().expect("events");
        let mut stream = handle.attach(OUTPUT).await.expect("attach");
        handle.start().await.expect("start");
        let started = Instant::now();
        stream.read_to_end(&mut Vec::new()).await.expect("read");
        while let Some(event) = events.recv().await {
            if matches!(event, berth_monitor::MonitorEvent::Exited(_)) {
                break;
            }
        }
        let ended = Instant::now();
        handle.gone().await;
        launches.push(launched - begin);
        starts.push(started - launched);
        ends.push(ended - started);
        wholes.push(begin.elapsed());
    }
    println!(
        "processor time of the monitor    {:7.3} ms per container",
        children_time() / rounds as f64
    );
    println!("launch (daemon → created)       {}", median(launches));
    println!("attach and start                {}", median(starts));
    println!("start → exit told               {}", median(ends));
    println!("whole, with clean-up            {}", median(wholes));

    let (mut handles, mut guards) = (Vec::new(), Vec::new());
    for number in 0..20 {
        let request = prepare(
            directory.path(),
            &root,
            &format!("i{number}"),
            &["/bin/sleep", "100000"],
        );
        let (handle, created) = berth_monitor::launch(&path, &request)
            .await
            .expect("launch");
        guards.push(Ended(created.pid));
        handle.start().await.expect("start");
        handles.push(handle);
    }
    let mut execs = Vec::new();
    for number in 0..rounds {
        let begin = Instant::now();
        run(&handles[0], &format!("e{number}")).await;
        execs.push(begin.elapsed());
    }
    println!("exec of true, to end of stream  {}", median(execs));
    tokio::time::sleep(Duration::from_secs(3)).await;
    for field in [
        "Rss:",
        "Pss:",
        "Pss_Dirty:",
        "Private_Dirty:",
        "Private_Clean:",
        "Shared_Clean:",
    ] {
        let sizes: Vec<usize> = handles.iter().map(|handle| memory(handle, field)).collect();
        println!(
            "idle monitor {field:<15} {:>6} kB mean, {:>6} kB after {rounds} execs",
            sizes.iter().sum::<usize>() / sizes.len(),
            sizes[0]
        );
    }
    drop(guards);
    for handle in &handles {
        handle.gone().await;
    }
    let group = format!("berth-measure-{}", std::process::id());
    for entry in std::fs::read_dir("/sys/fs/cgroup")
        .into_iter()
        .flatten()
        .flatten()
    {
        let _ = std::fs::remove_dir(entry.path().join(&group));
    }
}

/// Ends a container whatever happens to the measurement.
struct Ended(i32);

impl Drop for Ended {
    fn drop(&mut self) {
        if let Some(pid) = rustix::process::Pid::from_raw(self.0) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    }
}

async fn run(handle: &MonitorHandle, id: &str) {
    let process = json!({"user": {"uid": 0, "gid": 0}, "args": ["/bin/true"], "env": ["PATH=/bin"], "cwd": "/"});
    let process = serde_json::from_value(process).expect("a process");
    let started = handle
        .exec(ExecRequest {
            id: id.to_owned(),
            process,
            streams: OUTPUT,
        })
        .await
        .expect("exec");
    let mut stream = started.stream.expect("a stream");
    stream.read_to_end(&mut Vec::new()).await.expect("read");
}

fn memory(handle: &MonitorHandle, field: &str) -> usize {
    let path = format!("/proc/{}/smaps_rollup", handle.first_status().monitor_pid);
    let text = std::fs::read_to_string(path).expect("smaps_rollup");
    let line = text
        .lines()
        .find(|line| line.starts_with(field))
        .expect("the field");
    line.split_whitespace()
        .nth(1)
        .and_then(|number| number.parse().ok())
        .expect("a number")
}

/// Processor time of all children that have ended, in milliseconds: what does not depend on who else uses the machine.
fn children_time() -> f64 {
    let text = std::fs::read_to_string("/proc/self/stat").expect("stat");
    let fields: Vec<&str> = text
        .rsplit(") ")
        .next()
        .expect("fields")
        .split(' ')
        .collect();
    // cutime and cstime, in ticks of 10 ms.
    fields[13..15]
        .iter()
        .filter_map(|field| field.parse::<f64>().ok())
        .sum::<f64>()
        * 10.0
}

fn median(mut times: Vec<Duration>) -> String {
    times.sort();
    let at = |part: usize| times[(times.len() - 1) * part / 100].as_secs_f64() * 1000.0;
    format!(
        "median {:7.3} ms   10 % {:7.3}   90 % {:7.3}",
        at(50),
        at(10),
        at(90)
    )
}

fn make_root(path: &Path) -> PathBuf {
    let root = path.join("root");
    for name in ["bin", "proc", "sys", "dev", "tmp", "etc"] {
        std::fs::create_dir_all(root.join(name)).expect("a directory");
    }
    std::fs::copy("/usr/bin/busybox", root.join("bin/busybox")).expect("busybox-static");
    for name in ["sh", "true", "sleep"] {
        std::os::unix::fs::symlink("busybox", root.join("bin").join(name)).expect("a link");
    }
    root
}

fn prepare(path: &Path, root: &Path, id: &str, arguments: &[&str]) -> LaunchRequest {
    let base = path.join(id);
    for name in ["bundle", "upper", "work"] {
        std::fs::create_dir_all(base.join(name)).expect("a directory");
    }
    let namespaces: Vec<_> = ["pid", "mount", "ipc", "uts", "network", "cgroup"]
        .iter()
        .map(|kind| json!({"type": kind}))
        .collect();
    let config = json!({
        "ociVersion": "1.2.0",
        "root": {"path": "rootfs"},
        "process": {"user": {"uid": 0, "gid": 0}, "args": arguments, "env": ["PATH=/bin"], "cwd": "/", "noNewPrivileges": true},
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755", "size=65536k"]},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]},
            {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]},
            {"destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": ["nosuid", "noexec", "nodev", "size=65536k"]},
        ],
        "linux": {"cgroupsPath": format!("/berth-measure-{}/{id}", std::process::id()), "namespaces": namespaces},
    });
    std::fs::write(base.join("bundle/config.json"), config.to_string()).expect("config.json");
    let log = LogSettings::resolve(
        "json-file",
        &Default::default(),
        base.join("log"),
        Default::default(),
    );
    LaunchRequest {
        id: id.to_owned(),
        bundle: base.join("bundle"),
        mounted: false,
        overlay: Some(Overlay {
            lower: vec![root.to_owned()],
            upper: Some(base.join("upper")),
            work: Some(base.join("work")),
            ..Overlay::default()
        }),
        terminal: false,
        open_stdin: false,
        stdin_once: false,
        console_size: None,
        log: log.expect("log settings"),
        runtime: RuntimeChoice::Builtin,
        state_root: path.join("state"),
        seccomp_cache: None,
        start: false,
        network: None,
    }
}
