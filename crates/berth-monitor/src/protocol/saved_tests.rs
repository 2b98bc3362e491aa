//! Messages as releases have written them, understood by today's code. A file of a release is never changed: a monitor of it
//! may live for years, and speaks so.

use std::collections::BTreeSet;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{FromDaemon, FromMonitor, MonitorEvent, Reply, frame};

const REQUESTS: &str = include_str!("saved/1.jsonl");
const ANSWERS: &str = include_str!("saved/1.answers.jsonl");

/// Every saved line, framed as it travels, taken off the wire and understood.
fn understood<T: DeserializeOwned + Serialize>(lines: &str) -> Vec<T> {
    let mut wire = Vec::new();
    for line in lines.lines() {
        wire.extend_from_slice(&(line.len() as u32).to_be_bytes());
        wire.extend_from_slice(&[0, 0, 0, 0]);
        wire.extend_from_slice(line.as_bytes());
    }
    lines
        .lines()
        .map(|line| {
            let (body, descriptors) = frame::take(&mut wire).unwrap().unwrap();
            assert_eq!((body.as_slice(), descriptors), (line.as_bytes(), 0));
            let message: T = frame::decode(&body).unwrap_or_else(|error| panic!("{line}: {error}"));
            // Nothing of it was passed over; members that came later may be there too.
            let saved = serde_json::from_str(line).unwrap();
            let today = serde_json::to_value(&message).unwrap();
            assert!(holds(&today, &saved), "{saved}\nbecame\n{today}");
            message
        })
        .collect()
}

/// Whether `today` says all that `saved` says.
fn holds(today: &Value, saved: &Value) -> bool {
    match (today, saved) {
        (Value::Object(today), Value::Object(saved)) => saved.iter().all(|(key, value)| {
            today
                .get(key)
                .map_or(value.is_null(), |present| holds(present, value))
        }),
        (Value::Array(today), Value::Array(saved)) => {
            today.len() == saved.len()
                && today
                    .iter()
                    .zip(saved)
                    .all(|(one, other)| holds(one, other))
        }
        (today, saved) => today == saved,
    }
}

#[test]
fn requests_of_earlier_daemons_are_understood() {
    let names: BTreeSet<&str> = understood::<FromDaemon>(REQUESTS)
        .iter()
        .map(|message| match message {
            FromDaemon::Hello { .. } => "hello",
            FromDaemon::Launch { .. } => "launch",
            FromDaemon::Request { request, .. } => request.name(),
        })
        .collect();
    let all = [
        "attach",
        "exec",
        "exec_kill",
        "hello",
        "kill",
        "launch",
        "network",
        "pause",
        "processes",
        "resize",
        "resume",
        "start",
        "status",
        "update",
    ];
    assert_eq!(names.into_iter().collect::<Vec<_>>(), all);
}

#[test]
fn answers_of_earlier_monitors_are_understood() {
    let names: BTreeSet<&str> = understood::<FromMonitor>(ANSWERS)
        .iter()
        .map(|message| match message {
            FromMonitor::Hello { .. } => "hello",
            FromMonitor::LaunchFailed(_) => "launch failed",
            FromMonitor::Answer { result: Err(_), .. } => "refused",
            FromMonitor::Answer {
                result: Ok(reply), ..
            } => match reply {
                Reply::Done => "done",
                Reply::Updated { .. } => "updated",
                Reply::ExecStarted { .. } => "exec started",
                Reply::Processes { .. } => "processes",
                Reply::Status(_) => "status",
            },
            FromMonitor::Event(event) => match event {
                MonitorEvent::Exited(_) => "exited",
                MonitorEvent::ExecExited { .. } => "exec exited",
                MonitorEvent::Oom { .. } => "oom",
                MonitorEvent::LeftBehind { .. } => "left behind",
            },
        })
        .collect();
    let all = [
        "done",
        "exec exited",
        "exec started",
        "exited",
        "hello",
        "launch failed",
        "left behind",
        "oom",
        "processes",
        "refused",
        "status",
        "updated",
    ];
    assert_eq!(names.into_iter().collect::<Vec<_>>(), all);
}
