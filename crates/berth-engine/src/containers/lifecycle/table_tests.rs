//! Every phase with every event, as one table.

use berth_types::{ErrorKind, Signal};

use super::*;
use crate::containers::phase::AfterStop;
use crate::containers::record::ContainerRecord;
use crate::containers::requests::{RemoveOptions, StopOptions, UpdateRequest};
use crate::containers::spec::{Resources, RestartPolicy};
use crate::containers::test_support::{at, record};

fn phases() -> Vec<Phase> {
    let (pid, since) = (42, at(10));
    let stopping = |pid, killed, then| Phase::Stopping {
        pid,
        since,
        signal: if killed { Signal::KILL } else { Signal::TERM },
        deadline: Some(at(20)),
        killed,
        then,
    };
    vec![
        Phase::Created,
        Phase::Starting {
            since,
            cause: StartCause::User,
        },
        Phase::Running { pid, since },
        Phase::Paused { pid, since },
        stopping(None, false, AfterStop::Stay),
        stopping(Some(pid), false, AfterStop::Stay),
        stopping(Some(pid), false, AfterStop::Start),
        stopping(Some(pid), true, AfterStop::Remove { volumes: false }),
        Phase::Exited,
        Phase::Backoff { due: at(20) },
        Phase::Removing {
            volumes: false,
            unseen: false,
        },
        Phase::Removing {
            volumes: true,
            unseen: true,
        },
        Phase::Dead {
            volumes: false,
            reason: "busy".to_owned(),
        },
    ]
}

fn exit(code: i32) -> ExitFact {
    ExitFact {
        code,
        out_of_memory: false,
        at: at(30),
    }
}

pub(crate) fn events() -> Vec<(&'static str, Event)> {
    let request = Event::Request;
    let outcome = Event::Outcome;
    let message = || "why".to_owned();
    vec![
        ("start", request(Request::Start)),
        ("stop", request(Request::Stop(StopOptions::default()))),
        ("restart", request(Request::Restart(StopOptions::default()))),
        ("kill", request(Request::Kill(Signal::KILL))),
        (
            "kill HUP",
            request(Request::Kill(Signal::from_number(1).expect("SIGHUP"))),
        ),
        ("pause", request(Request::Pause)),
        ("hold still", request(Request::HoldStill)),
        ("unpause", request(Request::Unpause)),
        ("rename", request(Request::Rename("other".to_owned()))),
        (
            "update",
            request(Request::Update(Box::new(UpdateRequest {
                resources: Resources {
                    memory: Some(64 << 20),
                    ..Resources::default()
                },
                restart: None,
            }))),
        ),
        ("remove", request(Request::Remove(RemoveOptions::default()))),
        (
            "remove -f",
            request(Request::Remove(RemoveOptions {
                force: true,
                volumes: false,
            })),
        ),
        (
            "ready",
            outcome(Outcome::Ready {
                pid: 42,
                at: at(11),
            }),
        ),
        (
            "start failed",
            outcome(Outcome::StartFailed {
                exit_code: 127,
                message: message(),
                kind: ErrorKind::InvalidArgument,
            }),
        ),
        (
            "signal sent",
            outcome(Outcome::SignalSent {
                signal: Signal::TERM,
            }),
        ),
        (
            "signal failed",
            outcome(Outcome::SignalFailed {
                kind: ErrorKind::Internal,
                signal: Signal::TERM,
                message: message(),
            }),
        ),
        ("frozen", outcome(Outcome::Frozen)),
        ("thawed", outcome(Outcome::Thawed)),
        ("limits applied", outcome(Outcome::LimitsApplied)),
        ("removed", outcome(Outcome::Removed)),
        (
            "removal failed",
            outcome(Outcome::RemovalFailed { reason: message() }),
        ),
        ("exited 0", Event::Fact(Fact::Exited(exit(0)))),
        ("out of memory", Event::Fact(Fact::OutOfMemory)),
        ("monitor lost", Event::Fact(Fact::MonitorLost)),
        ("grace over", Event::Timer(Timer::Grace)),
        ("backoff over", Event::Timer(Timer::Backoff)),
        ("removal due", Event::Timer(Timer::Removal)),
        (
            "seen running",
            Event::Observed(Observation::Running {
                pid: 42,
                paused: false,
            }),
        ),
        (
            "seen paused",
            Event::Observed(Observation::Running {
                pid: 42,
                paused: true,
            }),
        ),
        ("seen prepared", Event::Observed(Observation::Prepared)),
        ("seen exited", Event::Observed(Observation::Exited(exit(3)))),
        ("seen nothing", Event::Observed(Observation::Nothing)),
        ("daemon started", Event::DaemonStarted),
    ]
}

fn short(phase: &Phase) -> String {
    match phase {
        Phase::Stopping {
            pid, killed, then, ..
        } => format!(
            "stopping({}{}{})",
            if pid.is_some() { "" } else { "no process, " },
            if *killed { "killed, " } else { "" },
            match then {
                AfterStop::Stay => "stay",
                AfterStop::Start => "start",
                AfterStop::Remove { .. } => "remove",
            }
        ),
        Phase::Starting { cause, .. } => format!("starting({cause:?})"),
        other => other.name().to_owned(),
    }
}

fn words<T: std::fmt::Debug>(list: &[T]) -> String {
    list.iter()
        .map(|item| {
            let text = format!("{item:?}");
            let end = text.find([' ', '(', '{']).unwrap_or(text.len());
            text[..end].to_owned()
        })
        .collect::<Vec<_>>()
        .join(" ")
}

fn table(prepare: impl Fn(&mut ContainerRecord)) -> String {
    let mut lines = String::new();
    for phase in phases() {
        lines.push_str(&format!("{}\n", short(&phase)));
        for (name, event) in events() {
            let mut record = record(1, "web");
            record.phase = phase.clone();
            record.was_started = phase != Phase::Created;
            record.last.started_at = at(10);
            prepare(&mut record);
            let line = match step(&record, &event, at(40)) {
                Err(Refusal::Stale) => continue,
                Err(refusal) => format!("{refusal:?}"),
                Ok(step) => {
                    assert!(
                        step.record.is_some() || matches!(phase, Phase::Removing { .. }),
                        "only what is being removed goes"
                    );
                    let next = step
                        .record
                        .as_ref()
                        .map_or("gone".to_owned(), |r| short(&r.phase));
                    format!(
                        "{next} | {} | {} | {:?}",
                        words(&step.effects),
                        words(&step.news),
                        step.durability
                    )
                }
            };
            lines.push_str(&format!("    {name:<15} {line}\n"));
        }
    }
    lines
}

#[test]
fn every_phase_with_every_event() {
    insta::assert_snapshot!("plain", table(|_| {}));
}

#[test]
fn every_phase_with_every_event_when_always_restarted() {
    insta::assert_snapshot!("always", table(|r| r.restart = RestartPolicy::Always));
}

#[test]
fn every_phase_with_every_event_when_removed_at_the_end() {
    insta::assert_snapshot!(
        "auto_remove",
        table(|r| std::sync::Arc::make_mut(&mut r.spec).host.auto_remove = true)
    );
}

#[test]
fn pauses_before_restarts_double_up_to_a_minute_and_begin_again_after_a_long_run() {
    let mut pauses = Vec::new();
    let mut last = 0;
    for _ in 0..12 {
        let pause = restart_delay(last, std::time::Duration::from_secs(1));
        last = u64::try_from(pause.as_millis()).expect("small");
        pauses.push(last);
    }
    assert_eq!(
        pauses,
        [
            100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600, 51200, 60000, 60000
        ]
    );
    assert_eq!(
        restart_delay(60_000, std::time::Duration::from_secs(10)),
        crate::limits::RESTART_DELAY_FIRST
    );
}

#[test]
fn a_manual_stop_is_remembered_over_a_restart_of_the_daemon() {
    for (policy, starts) in [
        (RestartPolicy::No, false),
        (RestartPolicy::Always, true),
        (RestartPolicy::UnlessStopped, false),
        (RestartPolicy::OnFailure { retries: 0 }, true),
    ] {
        let mut running = record(1, "web");
        running.restart = policy;
        running.phase = Phase::Running {
            pid: 1,
            since: at(0),
        };
        let stopped = step(
            &running,
            &Event::Request(Request::Stop(StopOptions::default())),
            at(1),
        )
        .expect("stops")
        .record
        .expect("is there");
        let ended = step(&stopped, &Event::Fact(Fact::Exited(exit(143))), at(2))
            .expect("ends")
            .record
            .expect("is there");
        assert_eq!(ended.phase, Phase::Exited, "{policy:?}");
        let again = step(&ended, &Event::DaemonStarted, at(3));
        assert_eq!(again.is_ok(), starts, "{policy:?}");
    }
}

#[test]
fn on_failure_gives_up_after_its_retries() {
    let mut container = record(1, "web");
    container.restart = RestartPolicy::OnFailure { retries: 2 };
    let mut runs = 0;
    container.phase = Phase::Starting {
        since: at(0),
        cause: StartCause::User,
    };
    loop {
        let mut run = |event: Event, now| {
            container = step(&container, &event, at(now))
                .expect("a step")
                .record
                .expect("is there");
            container.phase.clone()
        };
        runs += 1;
        run(Event::Outcome(Outcome::Ready { pid: 1, at: at(0) }), 0);
        match run(Event::Fact(Fact::Exited(exit(1))), 1) {
            Phase::Backoff { .. } => run(Event::Timer(Timer::Backoff), 100),
            phase => {
                assert_eq!(phase, Phase::Exited);
                break;
            }
        };
    }
    assert_eq!((runs, container.restart_count), (3, 2));
}

#[test]
fn health_follows_dockers_arithmetic() {
    use crate::containers::health::{Health, HealthStatus, ProbeResult};
    use crate::containers::spec::{HealthSettings, HealthTest};
    let settings = HealthSettings {
        test: HealthTest::Shell("true".to_owned()),
        start_period: std::time::Duration::from_secs(10),
        retries: 2,
        ..HealthSettings::default()
    };
    let mut health = Health::starting();
    let mut probe = |seconds: i64, exit_code: i32| {
        let result = ProbeResult {
            start: at(seconds),
            end: at(seconds),
            exit_code,
            output: "x".repeat(5000),
        };
        (
            health.record(&settings, at(0), result),
            health.failing_streak,
            health.log.len(),
        )
    };
    // Failures within the start period are not counted before the first success.
    assert_eq!(probe(1, 1), (None, 0, 1));
    assert_eq!(probe(11, 1), (None, 1, 2));
    assert_eq!(probe(12, 1), (Some(HealthStatus::Unhealthy), 2, 3));
    assert_eq!(probe(13, 0), (Some(HealthStatus::Healthy), 0, 4));
    assert_eq!(probe(14, 3), (None, 1, 5));
    assert_eq!(probe(15, 0), (None, 0, 5));
    assert!(health.log.iter().all(|r| r.output.len() == 4096));
}
