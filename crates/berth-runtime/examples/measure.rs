//! How long each step takes when the runtime is called as a library, as the monitor does: medians in microseconds.
//!
//! Usage: measure BUNDLE [COUNT]. The bundle's program should end at once.
#![allow(clippy::print_stdout)]

use std::path::PathBuf;
use std::time::{Duration, Instant};

use berth_runtime::{CreateRequest, RuntimeError, create};
use berth_sys::process::{ReapTarget, reap};

fn main() -> Result<(), RuntimeError> {
    let mut words = std::env::args().skip(1);
    let bundle = PathBuf::from(words.next().unwrap_or_else(|| ".".to_owned()));
    let count: usize = words
        .next()
        .and_then(|word| word.parse().ok())
        .unwrap_or(100);
    let text = berth_sys::fs::read(&bundle.join("config.json"))?;
    let state_root = PathBuf::from("/run/berth-measure");
    let mut times: [Vec<Duration>; 5] = Default::default();
    for number in 0..count {
        let begin = Instant::now();
        let spec = serde_json::from_slice(&text).map_err(|source| RuntimeError::Parse {
            path: bundle.clone(),
            source,
        })?;
        let request = CreateRequest::new(
            format!("measure-{number}"),
            bundle.clone(),
            spec,
            state_root.clone(),
        );
        let mut container = create(request)?;
        let created = Instant::now();
        container.start()?;
        let started = Instant::now();
        reap(ReapTarget::Pid(container.pid()), false)?;
        let ended = Instant::now();
        container.delete(false)?;
        let deleted = Instant::now();
        for (list, time) in times.iter_mut().zip([
            created - begin,
            started - created,
            ended - started,
            deleted - ended,
            deleted - begin,
        ]) {
            list.push(time);
        }
    }
    for (name, list) in ["create", "start", "wait", "delete", "all"]
        .iter()
        .zip(&mut times)
    {
        list.sort();
        println!(
            "{name:7} median {:6} least {:6} greatest {:6}",
            list[list.len() / 2].as_micros(),
            list[0].as_micros(),
            list[list.len() - 1].as_micros()
        );
    }
    berth_sys::fs::remove_dir(&state_root)?;
    Ok(())
}
