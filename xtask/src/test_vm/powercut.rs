//! Power cuts in the middle of creates: what was acknowledged is there after the boot.

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use berth_testkit::random::Random;
use berth_testkit::wait;

use super::machine::Machine;

/// Power cuts per run.
const CUTS: usize = 3;

/// A cut comes after this many acknowledged containers and a random number more.
const ACKNOWLEDGED: u64 = 5;

/// Creates containers, pulls the plug among them, and asks after the boot for each that was
/// acknowledged.
pub(super) fn run(machine: &Machine) -> Result<()> {
    let (mut random, _) = Random::from_environment();
    let mut acknowledged: Vec<String> = Vec::new();
    machine.inside("berth run --rm berth/hello > /dev/null")?;
    for cut in 1..=CUTS {
        let line = "while id=$(berth create --network none berth/hello); do echo $id; done";
        let mut child = machine
            .script(&["run", line])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("start vm.sh")?;
        let enough = ACKNOWLEDGED + random.below(10);
        let reader = BufReader::new(child.stdout.take().context("output of vm.sh")?);
        let mut count = 0;
        for line in reader.lines() {
            // What arrives after the cut had been sent before it: acknowledged all the same.
            acknowledged.push(line.context("read an id")?.trim().to_owned());
            count += 1;
            if count == enough {
                wait::within(Duration::from_millis(random.below(300)), || None::<()>);
                machine.call(&["powercut"])?;
            }
        }
        child.wait().context("wait for vm.sh")?;
        if count < enough {
            bail!("creating ended by itself after {count}");
        }
        machine.call(&["start"])?;
        machine.inside("berth run --rm berth/hello > /dev/null")?;
        let listed = machine.output("berth ps -aq --no-trunc")?;
        let lost: Vec<&String> = acknowledged
            .iter()
            .filter(|id| !listed.lines().any(|line| line == id.as_str()))
            .collect();
        if !lost.is_empty() {
            bail!("cut {cut}: acknowledged and lost: {lost:?}");
        }
        let last = acknowledged.last().context("an acknowledged container")?;
        machine.inside(&format!(
            "berth start -a {last} > /dev/null && berth inspect {last} > /dev/null"
        ))?;
        println!(
            "cut {cut}: {} acknowledged containers are there",
            acknowledged.len()
        );
    }
    machine.inside("berth rm -f $(berth ps -aq) > /dev/null && test -z \"$(berth ps -aq)\"")
}
