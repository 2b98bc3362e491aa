//! Runs as the only program of the image `berth/hello` and tells what a container sees.

use std::fs;

/// Inode numbers of the namespaces that the kernel starts with (include/linux/proc_ns.h); the others have none
/// that are known beforehand.
const INITIAL: [(&str, u64); 6] = [
    ("pid", 4_026_531_836),
    ("ipc", 4_026_531_839),
    ("uts", 4_026_531_838),
    ("cgroup", 4_026_531_835),
    ("user", 4_026_531_837),
    ("time", 4_026_531_834),
];

fn main() {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let field = |name: &str| {
        status
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
            .map(str::trim)
            .unwrap_or("unknown")
    };
    let id = |name: &str| field(name).split_whitespace().next().unwrap_or("unknown").to_owned();

    println!("Hello from Berth!");
    println!();
    println!("This is a program in a container. To show it to you, Berth took the image berth/hello from its");
    println!("store, stacked its layers, and started /hello in surroundings of its own. From here it looks so:");
    println!();
    line("host name", &read("/proc/sys/kernel/hostname"));
    line("process", &format!("{} of user {}, group {}", std::process::id(), id("Uid"), id("Gid")));
    line("root directory", &names("/"));
    line("namespaces", &namespaces());
    line("network", &interfaces());
    line("capabilities", &capabilities(field("CapEff")));
    line("system calls", match field("Seccomp") {
        "0" => "not filtered",
        "2" => "filtered",
        _ => "unknown",
    });
    line("new privileges", if field("NoNewPrivs") == "1" { "never" } else { "by set-id programs" });
    line("control group", &control_group());
    line("mounts", &read("/proc/self/mountinfo").lines().count().to_string());
    line("kernel", &read("/proc/sys/kernel/osrelease"));
    println!();
    println!("To look around in a whole system:");
    println!("  berth run -it debian:bookworm-slim bash");
}

fn line(name: &str, value: &str) {
    println!("  {name:<15} {value}");
}

fn read(path: &str) -> String {
    fs::read_to_string(path).map_or_else(|_| "unknown".into(), |text| text.trim().to_owned())
}

fn names(path: &str) -> String {
    let Ok(entries) = fs::read_dir(path) else {
        return "unknown".into();
    };
    let mut names: Vec<String> = entries
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names.join(" ")
}

fn namespaces() -> String {
    let (mut own, mut shared) = (vec!["mnt"], Vec::new());
    for (name, initial) in INITIAL {
        let Ok(link) = fs::read_link(format!("/proc/self/ns/{name}")) else {
            continue;
        };
        let is_initial = link.to_string_lossy().contains(&format!("[{initial}]"));
        if is_initial { shared.push(name) } else { own.push(name) }
    }
    let mut text = format!("own {}", own.join(" "));
    if !shared.is_empty() {
        text.push_str(&format!("; of the machine {}", shared.join(" ")));
    }
    text
}

fn interfaces() -> String {
    let table = read("/proc/self/net/dev");
    let names: Vec<&str> = table
        .lines()
        .filter_map(|line| line.split_once(':').map(|(name, _)| name.trim()))
        .collect();
    if names.is_empty() { "no interface".into() } else { names.join(" ") }
}

fn capabilities(mask: &str) -> String {
    let Ok(mask) = u64::from_str_radix(mask, 16) else {
        return "unknown".into();
    };
    let last: u32 = read("/proc/sys/kernel/cap_last_cap").parse().unwrap_or(40);
    format!("{} of {}", mask.count_ones(), last + 1)
}

fn control_group() -> String {
    let text = read("/proc/self/cgroup");
    let mut paths: Vec<&str> = text
        .lines()
        .filter_map(|line| line.splitn(3, ':').nth(2))
        .collect();
    paths.sort_unstable();
    paths.dedup();
    paths.join(" ")
}
