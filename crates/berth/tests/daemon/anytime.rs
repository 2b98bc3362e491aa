//! Requests that come at any moment of a container's life, while others start, stop, rename and remove it: each has an
//! answer, in time, that makes sense to whoever asked.

use std::collections::BTreeMap;
use std::panic::resume_unwind;
use std::path::Path;
use std::thread;

use berth_testkit::archive::Layer;
use berth_testkit::daemon::{API, Engine, Settings};
use berth_testkit::random::Random;
use berth_testkit::{Daemon, http};
use serde_json::{Value, json};

/// Few enough that requests meet.
const NAMES: [&str; 3] = ["one", "two", "three"];

/// Who asks at the same time, and how often each.
const ASKERS: u64 = 4;
const REQUESTS: u64 = 400;

/// A request about a container: how often it is made, its method, and its target behind the container's name.
const REQUESTS_OF_A_CONTAINER: [(u64, &str, &str); 25] = [
    (9, "POST", "start"),
    (2, "POST", "stop?t=1"),
    (2, "POST", "stop?t=0"),
    (2, "POST", "kill"),
    (2, "POST", "kill?signal=TERM"),
    (2, "POST", "kill?signal=HUP"),
    (2, "POST", "restart?t=0"),
    (1, "POST", "pause"),
    (4, "POST", "unpause"),
    (1, "POST", "rename?name=other"),
    (1, "POST", "resize?h=20&w=80"),
    (2, "GET", "json?size=1"),
    (2, "GET", "top"),
    (2, "GET", "stats?stream=0&one-shot=1"),
    (2, "GET", "logs?stdout=1&tail=3"),
    (2, "GET", "archive?path=/etc"),
    (2, "HEAD", "archive?path=/etc/passwd"),
    (2, "PUT", "archive?path=/tmp"),
    (2, "GET", "changes"),
    (1, "GET", "export"),
    (1, "DELETE", "?force=1"),
    (1, "DELETE", ""),
    (2, "POST", "update"),
    (4, "POST", "exec"),
    (5, "POST", "create"),
];

/// Requests about more than one container.
const OTHER_REQUESTS: [(&str, &str); 5] = [
    ("GET", "/containers/json?all=1&size=1"),
    ("GET", "/system/df"),
    ("POST", "/networks/net/connect"),
    ("POST", "/networks/net/disconnect"),
    ("POST", "/commit"),
];

struct Asker<'a> {
    socket: &'a Path,
    archive: &'a [u8],
    random: Random,
    /// How often there was which status.
    answers: BTreeMap<u16, usize>,
}

impl Asker<'_> {
    fn send(&mut self, method: &str, target: &str, body: &[u8]) -> http::Response {
        let kind = [("Content-Type", "application/json")];
        let answer = http::unix(self.socket)
            .and_then(|c| http::request(c, method, &format!("{API}{target}"), &kind, body));
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => panic!("{method} {target}: {error:#}"),
        };
        assert!(
            answer.status < 500,
            "{method} {target}: {} {}",
            answer.status,
            answer.text()
        );
        *self.answers.entry(answer.status).or_default() += 1;
        answer
    }

    fn ask(&mut self, method: &str, target: &str, body: &Value) -> http::Response {
        self.send(method, target, body.to_string().as_bytes())
    }

    fn create(&mut self, name: &str) {
        let network = ["none", "bridge", "net"][self.random.below(3) as usize];
        let body = json!({
            "Image": "busybox",
            "Cmd": ["sh", "-c", "trap 'exit 3' TERM; while :; do echo said; sleep 0.1; done"],
            "HostConfig": {"NetworkMode": network},
        });
        self.ask("POST", &format!("/containers/create?name={name}"), &body);
    }

    fn execute(&mut self, name: &str) {
        let body = json!({"Cmd": ["echo", "said"], "AttachStdout": true});
        let made = self.ask("POST", &format!("/containers/{name}/exec"), &body);
        if made.status != 201 {
            return;
        }
        let id = made.json()["Id"].as_str().expect("an id").to_owned();
        let body = json!({"Detach": self.random.below(2) == 0});
        self.ask("POST", &format!("/exec/{id}/start"), &body);
        self.ask("GET", &format!("/exec/{id}/json"), &json!({}));
    }

    fn about_a_container(&mut self, name: &str) {
        let all: u64 = REQUESTS_OF_A_CONTAINER
            .iter()
            .map(|(often, ..)| often)
            .sum();
        let mut chosen = self.random.below(all);
        for (often, method, rest) in REQUESTS_OF_A_CONTAINER {
            if chosen >= often {
                chosen -= often;
                continue;
            }
            let target = match rest {
                "" | "?force=1" => format!("/containers/{name}{rest}"),
                _ => format!("/containers/{name}/{rest}"),
            };
            match rest {
                "create" => self.create(name),
                "exec" => self.execute(name),
                "update" => {
                    let body = json!({"Memory": 64 << 20, "MemorySwap": 128 << 20});
                    self.ask(method, &target, &body);
                }
                _ if method == "PUT" => {
                    let archive = self.archive;
                    self.send(method, &target, archive);
                }
                _ => {
                    self.send(method, &target, &[]);
                }
            }
            return;
        }
    }

    fn run(mut self) -> BTreeMap<u16, usize> {
        for _ in 0..REQUESTS {
            let name = NAMES[self.random.below(NAMES.len() as u64) as usize];
            if self.random.below(10) > 0 {
                self.about_a_container(name);
                continue;
            }
            let (method, target) =
                OTHER_REQUESTS[self.random.below(OTHER_REQUESTS.len() as u64) as usize];
            match target {
                "/commit" => {
                    self.send(
                        method,
                        &format!("/commit?container={name}&repo=made&tag={name}"),
                        &[],
                    );
                }
                _ => {
                    self.ask(method, target, &json!({"Container": name}));
                }
            }
        }
        self.answers
    }
}

#[test]
fn every_request_has_an_answer_that_makes_sense() {
    let (mut random, seed) = Random::from_environment();
    let daemon = Daemon::with(
        Engine::Berth,
        Settings {
            network: true,
            ..Settings::default()
        },
    );
    daemon.berth("network create net").ok();
    let archive = Layer::new().file("put", 0o644, "put").finish();
    let socket = daemon.socket();
    let answers: Vec<BTreeMap<u16, usize>> = thread::scope(|scope| {
        let askers: Vec<_> = (0..ASKERS)
            .map(|_| {
                let asker = Asker {
                    socket: &socket,
                    archive: &archive,
                    random: Random::new(random.next_u64()),
                    answers: BTreeMap::new(),
                };
                scope.spawn(move || asker.run())
            })
            .collect();
        askers
            .into_iter()
            .map(|asker| asker.join().unwrap_or_else(|panic| resume_unwind(panic)))
            .collect()
    });
    // They were not all refused.
    let well: usize = answers
        .iter()
        .flat_map(|a| a.range(200..400).map(|(_, count)| count))
        .sum();
    let most = (ASKERS * REQUESTS) as usize;
    assert!(well > most / 4, "{well} of {most} went well, seed {seed}");
    daemon.remove_all();
    daemon.berth("network rm net").ok();
    daemon.assert_clean();
}
