//! Random requests to real owners in a simulated world, with the engine dying anywhere.
//!
//! Invariants, once all is quiet: a container that was acknowledged is there; one whose removal was
//! acknowledged is not; whatever says it runs has exactly one process; whatever does not has none; what is
//! gone has left nothing; whoever asked this engine anything has an answer.

use std::collections::HashSet;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use berth_types::{ContainerId, Signal};
use proptest::prelude::*;
use tokio::sync::oneshot;

use super::index::{ContainerHandle, Index};
use super::lifecycle::{Event, Request, step};
use super::owner::{self, Ask, Environment, Message};
use super::phase::Phase;
use super::requests::{RemoveOptions, StopOptions, UpdateRequest};
use super::simulated::{Simulated, World};
use super::spec::{Resources, RestartPolicy};
use super::test_support::record;
use super::view::ContainerPaths;
use crate::config::Config;
use crate::error::EngineError;
use crate::events::Events;
use crate::execs::Sessions;
use crate::host::Host;
use crate::networks::Networks;
use crate::records::Records;
use crate::system::HostFeatures;

#[derive(Debug, Clone, Copy)]
enum Act {
    Create { policy: u8, auto_remove: bool },
    Start,
    Stop,
    Kill,
    HangUp,
    Restart,
    Pause,
    HoldStill,
    Unpause,
    Update { memory: i64 },
    Connect,
    Disconnect,
    Remove { force: bool },
    ProgramEnds { code: i32 },
    Wait,
    Crash,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        2 => (0..4_u8, any::<bool>()).prop_map(|(policy, auto_remove)| Act::Create { policy, auto_remove }),
        6 => Just(Act::Start),
        3 => Just(Act::Stop),
        1 => Just(Act::Kill),
        1 => Just(Act::HangUp),
        3 => Just(Act::Restart),
        1 => Just(Act::Pause),
        1 => Just(Act::HoldStill),
        1 => Just(Act::Unpause),
        1 => (1..3_i64).prop_map(|memory| Act::Update { memory }),
        1 => Just(Act::Connect),
        1 => Just(Act::Disconnect),
        2 => any::<bool>().prop_map(|force| Act::Remove { force }),
        3 => (0..2_i32).prop_map(|code| Act::ProgramEnds { code }),
        3 => Just(Act::Wait),
        2 => Just(Act::Crash),
    ]
}

/// Longest wait for anything that takes a moment on a quiet machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// The writer of the life before may still be letting the file go.
async fn open(path: &Path) -> Records {
    let deadline = std::time::Instant::now() + PATIENCE;
    while std::time::Instant::now() < deadline {
        match Records::open(path) {
            Ok(records) => return records,
            Err(error) if error.full_text().contains("already open") => {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            Err(error) => panic!("{}", error.full_text()),
        }
    }
    panic!("the records stay open");
}

/// One engine's life.
struct Life {
    runtime: tokio::runtime::Runtime,
    environment: Environment,
    launcher: Simulated,
}

impl Life {
    fn begin(directory: &Path, world: &Arc<Mutex<World>>, seed: u32) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime");
        let (environment, launcher) = runtime.block_on(async {
            let records = open(&directory.join("state.db")).await;
            let (events, index) = (Events::new(), Index::default());
            let launcher = Simulated::new(Arc::clone(world), seed);
            let mut config = Config::with_roots(directory, directory);
            config.network.bridge = "none".to_owned();
            let host = Arc::new(Host::new(
                Arc::new(config),
                HostFeatures::default(),
                "id".to_owned(),
            ));
            let networks = Networks::open(records.clone(), events.clone(), Arc::clone(&host))
                .await
                .expect("networks");
            let environment = Environment {
                records: records.clone(),
                events: events.clone(),
                launcher: Arc::new(launcher.clone()),
                index: index.clone(),
                sessions: Sessions::new(events, index.clone()),
                host,
                networks,
            };
            let (found, damaged) = records.load().expect("loaded");
            assert!(damaged.is_empty(), "{damaged:?}");
            let mut handles = Vec::new();
            for record in found {
                let removing = matches!(record.phase, Phase::Removing { .. });
                if !removing {
                    index
                        .reserve(&record.name, &record.id)
                        .expect("names are unique")
                        .keep();
                }
                let handle =
                    owner::start(environment.clone(), record, ContainerPaths::default(), None);
                if removing {
                    index.insert_vanishing(handle.clone());
                } else {
                    index.insert(handle.clone());
                }
                handles.push(handle);
            }
            for handle in &handles {
                let (reply, done) = oneshot::channel();
                handle.asks.send(Ask::Recover(reply)).await.expect("asked");
                let _ = done.await;
            }
            for handle in &handles {
                let started = Message::Event(Event::DaemonStarted);
                // It may be gone already: a removal was under way.
                let _ = handle.messages.send(started).await;
            }
            (environment, launcher)
        });
        Self {
            runtime,
            environment,
            launcher,
        }
    }

    /// Dies in the middle of whatever is under way.
    fn crash(self) {
        let Self {
            runtime,
            environment,
            ..
        } = self;
        drop(environment);
        runtime.shutdown_timeout(Duration::from_secs(5));
    }

    fn ask(
        &self,
        handle: &ContainerHandle,
        request: Request,
    ) -> oneshot::Receiver<Result<(), EngineError>> {
        let (reply, answer) = oneshot::channel();
        let asks = handle.asks.clone();
        self.runtime.spawn(async move {
            let _ = asks.send(Ask::Request(request, reply)).await;
        });
        answer
    }

    /// Waits until no container is on its way to somewhere.
    fn settle(&self) {
        self.runtime.block_on(async {
            let deadline = std::time::Instant::now() + PATIENCE;
            while std::time::Instant::now() < deadline {
                let moving = self.environment.index.all().iter().any(|h| {
                    matches!(
                        h.view().phase,
                        Phase::Starting { .. }
                            | Phase::Stopping { .. }
                            | Phase::Removing { .. }
                            | Phase::Backoff { .. }
                    )
                });
                // What runs must have been told of an end, if there was one.
                let behind = self.environment.index.all().iter().any(|h| {
                    let ended = self
                        .launcher
                        .world
                        .lock()
                        .expect("world")
                        .runs
                        .get(&h.id)
                        .map(|p| p.ended.is_some());
                    match ended {
                        Some(ended) => h.view().is_running() == ended,
                        None => h.view().is_running(),
                    }
                });
                let index = &self.environment.index;
                let vanishing = index.ids().len() > index.len();
                if !moving && !behind && !vanishing {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            let stuck: Vec<_> = self
                .environment
                .index
                .all()
                .iter()
                .map(|h| h.view().phase.clone())
                .collect();
            let world = self.launcher.world.lock().expect("world");
            panic!("it never becomes quiet: {stuck:?} {:?}", world.runs);
        });
    }
}

/// A request that has been sent.
struct Asked {
    act: Act,
    id: ContainerId,
    answer: oneshot::Receiver<Result<(), EngineError>>,
}

fn policy(number: u8) -> RestartPolicy {
    match number {
        1 => RestartPolicy::UnlessStopped,
        2 => RestartPolicy::OnFailure { retries: 1 },
        _ => RestartPolicy::No,
    }
}

fn run(acts: &[Act], seed: u32) {
    let directory = tempfile::tempdir().expect("a directory");
    let world = Arc::new(Mutex::new(World::default()));
    let mut life = Life::begin(directory.path(), &world, seed);
    let mut acknowledged: HashSet<ContainerId> = HashSet::new();
    let mut may_go: HashSet<ContainerId> = HashSet::new();
    let mut removed: HashSet<ContainerId> = HashSet::new();
    let mut asked: Vec<Asked> = Vec::new();
    let mut number = 0_u8;
    for (place, act) in acts.iter().enumerate() {
        let handles = life.environment.index.all();
        let chosen = (!handles.is_empty()).then(|| handles[place % handles.len()].clone());
        match (act, chosen) {
            (
                Act::Create {
                    policy: p,
                    auto_remove,
                },
                _,
            ) if number < 4 => {
                number += 1;
                let mut record = record(number, &format!("box{number}"));
                record.restart = policy(*p);
                if *auto_remove && record.restart == RestartPolicy::No {
                    Arc::make_mut(&mut record.spec).host.auto_remove = true;
                    may_go.insert(record.id.clone());
                }
                Arc::make_mut(&mut record.spec).config.stop_timeout = Some(0);
                let environment = life.environment.clone();
                life.runtime.block_on(async {
                    let ticket = environment
                        .records
                        .insert(&record, &[])
                        .await
                        .expect("saved");
                    ticket.durable().await.expect("durable");
                    environment
                        .index
                        .reserve(&record.name, &record.id)
                        .expect("free")
                        .keep();
                    let handle = owner::start(
                        environment.clone(),
                        record.clone(),
                        ContainerPaths::default(),
                        None,
                    );
                    environment.index.insert(handle);
                });
                acknowledged.insert(record.id);
            }
            (Act::Crash, _) => {
                life.crash();
                asked.clear();
                life = Life::begin(directory.path(), &world, seed.wrapping_add(place as u32));
            }
            (Act::Wait, _) => {
                life.runtime
                    .block_on(async { tokio::time::sleep(Duration::from_millis(2)).await });
            }
            (Act::ProgramEnds { code }, Some(handle)) => life.launcher.end(&handle.id, *code),
            (act, Some(handle)) => {
                let request = match act {
                    Act::Start => Request::Start,
                    Act::Stop => Request::Stop(StopOptions::default()),
                    Act::Kill => Request::Kill(Signal::KILL),
                    Act::HangUp => Request::Kill(Signal::from_number(1).expect("SIGHUP")),
                    Act::Restart => Request::Restart(StopOptions::default()),
                    Act::Pause => Request::Pause,
                    Act::HoldStill => Request::HoldStill,
                    Act::Update { memory } => Request::Update(Box::new(UpdateRequest {
                        resources: Resources {
                            memory: Some(memory << 24),
                            ..Resources::default()
                        },
                        restart: None,
                    })),
                    Act::Connect => Request::Connect {
                        network: "net".to_owned(),
                        attachment: Box::default(),
                    },
                    Act::Disconnect => Request::Disconnect {
                        network: "net".to_owned(),
                    },
                    Act::Unpause => Request::Unpause,
                    Act::Remove { force } => {
                        may_go.insert(handle.id.clone());
                        Request::Remove(RemoveOptions {
                            force: *force,
                            volumes: false,
                        })
                    }
                    _ => continue,
                };
                let answer = life.ask(&handle, request);
                asked.push(Asked {
                    act: *act,
                    id: handle.id.clone(),
                    answer,
                });
            }
            _ => {}
        }
    }
    for Asked { act, id, answer } in asked {
        let answer = life
            .runtime
            .block_on(async { tokio::time::timeout(PATIENCE, answer).await })
            .unwrap_or_else(|_| panic!("{act:?} of {id} is never answered"));
        if matches!((act, answer), (Act::Remove { .. }, Ok(Ok(())))) {
            removed.insert(id);
        }
    }
    life.settle();
    check(&life, &world, &acknowledged, &may_go, &removed);
    // And once more, from the disk.
    life.crash();
    let life = Life::begin(directory.path(), &world, seed.wrapping_mul(3));
    life.settle();
    check(&life, &world, &acknowledged, &may_go, &removed);
    // In the end everything can be removed, and nothing is left.
    let deadline = std::time::Instant::now() + PATIENCE;
    while std::time::Instant::now() < deadline {
        let handles = life.environment.index.all();
        if handles.is_empty() {
            break;
        }
        for handle in handles {
            let answer = life.ask(
                &handle,
                Request::Remove(RemoveOptions {
                    force: true,
                    volumes: false,
                }),
            );
            let _ = life
                .runtime
                .block_on(async { tokio::time::timeout(Duration::from_secs(5), answer).await });
        }
    }
    assert!(
        life.environment.index.is_empty(),
        "everything can be removed"
    );
    life.runtime.block_on(async {
        life.environment.records.close().await;
    });
    let world = world.lock().expect("world");
    assert!(
        world.runs.is_empty(),
        "no process is left: {:?}",
        world.runs
    );
    assert!(world.files.is_empty(), "no file is left");
    assert!(world.doubled.is_empty(), "no container ran twice at once");
}

fn check(
    life: &Life,
    world: &Arc<Mutex<World>>,
    acknowledged: &HashSet<ContainerId>,
    may_go: &HashSet<ContainerId>,
    removed: &HashSet<ContainerId>,
) {
    let present: HashSet<ContainerId> = life
        .environment
        .index
        .all()
        .iter()
        .map(|h| h.id.clone())
        .collect();
    for id in acknowledged {
        assert!(
            present.contains(id) || may_go.contains(id),
            "container {id} is lost"
        );
    }
    for id in removed {
        assert!(!present.contains(id), "container {id} came back");
    }
    let world = world.lock().expect("world");
    for (id, process) in &world.runs {
        assert!(present.contains(id), "{id} runs without a record");
        assert!(process.started, "{id} was left half-made");
    }
    for id in world.files.keys() {
        assert!(present.contains(id), "{id} left files");
    }
    assert!(world.doubled.is_empty(), "a container ran twice at once");
}

/// Few in every run of the tests, many on demand.
fn cases() -> u32 {
    std::env::var("PROPTEST_CASES")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(24)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), max_shrink_iters: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_engine_may_die_anywhere(acts in prop::collection::vec(act(), 1..40), seed in any::<u32>()) {
        run(&acts, seed);
    }
}

proptest! {
    /// Any event in any order keeps the record sound, and what is stored reads back the same.
    #[test]
    fn records_stay_sound(numbers in prop::collection::vec(0..32_usize, 1..60), policy_number in 0..3_u8) {
        let events = super::lifecycle::table_events();
        let mut current = record(1, "web");
        current.restart = policy(policy_number);
        for number in numbers {
            let (_, event) = &events[number % events.len()];
            let now = super::test_support::at(40);
            let Ok(step) = step(&current, event, now) else { continue };
            let starts = step.effects.iter().filter(|e| matches!(e, super::lifecycle::Effect::Start)).count();
            prop_assert!(starts <= 1);
            let Some(next) = step.record else {
                let was_removed = matches!(current.phase, Phase::Removing { .. });
                prop_assert!(was_removed);
                break;
            };
            if starts == 1 {
                let is_starting = matches!(next.phase, Phase::Starting { .. });
                prop_assert!(is_starting);
            }
            if matches!(current.phase, Phase::Removing { .. }) {
                let stays = matches!(next.phase, Phase::Removing { .. } | Phase::Dead { .. });
                prop_assert!(stays);
            }
            let stored = serde_json::to_vec(&next).expect("stored");
            let read: super::record::ContainerRecord = serde_json::from_slice(&stored).expect("read");
            prop_assert_eq!(&read, &next);
            current = next;
        }
    }
}
