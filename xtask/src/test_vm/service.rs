//! The systemd unit: containers outlive restarts of the daemon, and policies are kept over boots.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use berth_testkit::{images, wait};

use super::machine::Machine;

/// Deadline of what takes seconds on a real machine.
const PATIENCE: Duration = Duration::from_secs(180);

/// Writes a line each second, and ends when asked to as well-behaved programs do.
const PROGRAM: &str =
    r#"sh -c 'trap "exit 0" TERM; i=0; while :; do i=$((i+1)); echo line $i; sleep 1; done'"#;

/// Installs the unit and goes through restart, kill, reboot and power cut.
pub(super) fn run(machine: &Machine) -> Result<()> {
    let unit = images::workspace().join("packaging/berth.service");
    let image = images::archive_file(&images::busybox()?)?;
    machine.push(&unit, "/etc/systemd/system/berth.service")?;
    machine.push(&image, "/opt/busybox.tar")?;
    machine.inside("chmod 644 /etc/systemd/system/berth.service")?;
    machine.inside("systemd-analyze verify berth.service")?;
    machine.inside("systemctl daemon-reload && systemctl enable --now berth")?;
    machine.inside("systemctl is-active berth && berth load -q -i /opt/busybox.tar")?;
    is_equal(
        machine,
        "systemctl show -P StatusText berth",
        "Containers are taken over; the API answers.",
    )?;

    for (name, policy) in [
        ("always", "always"),
        ("unless", "unless-stopped"),
        ("stopped", "unless-stopped"),
        ("plain", "no"),
    ] {
        machine.inside(&format!(
            "berth run -d --network none --name {name} --restart {policy} busybox {PROGRAM}"
        ))?;
    }
    machine.inside("berth stop stopped")?;
    limits(machine)?;
    outlives(machine, "systemctl restart berth")?;
    outlives(
        machine,
        "systemctl kill --kill-who=main --signal=KILL berth",
    )?;
    outlives(
        machine,
        "systemctl stop berth && sleep 2 && systemctl start berth",
    )?;
    outlives(machine, "systemctl daemon-reload")?;

    machine.call(&["stop"])?;
    machine.call(&["start"])?;
    after_boot(machine).context("after a reboot")?;
    machine.inside("sync")?;
    machine.call(&["powercut"])?;
    machine.call(&["start"])?;
    after_boot(machine).context("after a power cut")?;

    machine.inside("berth rm -f $(berth ps -aq)")?;
    no_group(machine)?;
    machine.inside("systemctl disable --now berth && ! pidof berth")?;
    machine.inside("! grep berth /proc/self/mountinfo")
}

/// Of control groups only the daemon's own is there, above those of containers.
pub(super) fn no_group(machine: &Machine) -> Result<()> {
    let groups = "find /sys/fs/cgroup/berth -mindepth 2 -type d";
    let gone = wait::within(PATIENCE, || {
        machine
            .output(groups)
            .is_ok_and(|text| text.is_empty())
            .then_some(())
    });
    if gone.is_none() {
        bail!("control groups are left: {}", machine.output(groups)?);
    }
    Ok(())
}

/// What the unit sets for the daemon is not what containers get.
fn limits(machine: &Machine) -> Result<()> {
    is_equal(
        machine,
        "cat /proc/$(systemctl show -P MainPID berth)/oom_score_adj",
        "-500",
    )?;
    is_equal(
        machine,
        "berth exec always cat /proc/self/oom_score_adj",
        "0",
    )?;
    is_equal(
        machine,
        "cat /proc/$(berth inspect -f '{{.State.Pid}}' always)/oom_score_adj",
        "0",
    )?;
    is_equal(machine, "berth exec always sh -c 'ulimit -n'", "65536")
}

/// The containers that run are the same processes after the command, and the daemon governs them.
fn outlives(machine: &Machine, command: &str) -> Result<()> {
    let pids = "berth inspect -f '{{.State.Pid}} {{.RestartCount}}' always unless plain";
    let before = machine.output(pids)?;
    let lines = count(machine)?;
    machine.inside(command)?;
    until_active(machine)?;
    let after = machine.output(pids)?;
    if before != after {
        bail!("`{command}`: containers were {before:?} and are {after:?}");
    }
    is_equal(machine, "berth exec always echo inside", "inside")?;
    let grows = wait::within(PATIENCE, || {
        count(machine)
            .is_ok_and(|now| now > lines + 1)
            .then_some(())
    });
    grows.with_context(|| format!("`{command}`: no more output"))?;
    // Not one line is missing or doubled.
    machine.inside("berth logs always | awk '$2 != NR { exit 1 }'")
}

fn after_boot(machine: &Machine) -> Result<()> {
    until_active(machine)?;
    for (name, status) in [
        ("always", "running"),
        ("unless", "running"),
        ("stopped", "exited"),
        ("plain", "exited"),
    ] {
        let line = format!("berth inspect -f '{{{{.State.Status}}}}' {name}");
        let found = wait::within(PATIENCE, || {
            machine
                .output(&line)
                .is_ok_and(|text| text.trim() == status)
                .then_some(())
        });
        if found.is_none() {
            bail!(
                "{name} is {} and not {status}",
                machine.output(&line)?.trim()
            );
        }
    }
    is_equal(machine, "berth exec always echo inside", "inside")
}

fn until_active(machine: &Machine) -> Result<()> {
    let active = wait::within(PATIENCE, || {
        machine
            .output("systemctl is-active berth && berth version > /dev/null")
            .is_ok()
            .then_some(())
    });
    if active.is_none() {
        machine.inside(
            "systemctl status --no-pager --full berth; journalctl --no-pager -u berth | tail -n 50",
        )?;
        bail!("the service does not become active");
    }
    Ok(())
}

fn count(machine: &Machine) -> Result<usize> {
    let text = machine.output("berth logs always | wc -l")?;
    text.trim().parse().context("count lines")
}

fn is_equal(machine: &Machine, line: &str, expected: &str) -> Result<()> {
    let text = machine.output(line)?;
    if text.trim() != expected {
        bail!("`{line}` says {:?} and not {expected:?}", text.trim());
    }
    Ok(())
}
