//! Whole runs of the client against an engine that plays a container.

// A test that cannot go on has failed.
#![allow(clippy::unwrap_used)]

mod support;

use std::io::{Read, Write};
use std::process::Stdio;
use std::sync::mpsc::channel;
use std::sync::{Arc, Condvar, Mutex};

use support::{Answer, FakeEngine, Request, Told, clean, client, frame};

const ID: &str = "4d3c2b1a4d3c2b1a4d3c2b1a4d3c2b1a4d3c2b1a4d3c2b1a4d3c2b1a4d3c2b1a";

/// Something that happens once and can be waited for.
#[derive(Clone, Default)]
struct Moment(Arc<(Mutex<bool>, Condvar)>);

impl Moment {
    fn comes(&self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_all();
    }

    fn wait(&self) {
        let mut come = self.0.0.lock().unwrap();
        while !*come {
            come = self.0.1.wait(come).unwrap();
        }
    }
}

fn created() -> Answer {
    Answer {
        status: "201 Created",
        ..Answer::ok(format!("{{\"Id\":\"{ID}\",\"Warnings\":[]}}"))
    }
}

fn action(request: &Request) -> (&str, &str) {
    let path = request.path.split('?').next().unwrap();
    (request.method.as_str(), path.rsplit('/').next().unwrap())
}

/// A container that echoes its input in upper case on standard output, tells its length on standard
/// error, and exits with 3.
fn echoing() -> FakeEngine {
    let (started, ended) = (Moment::default(), Moment::default());
    FakeEngine::new(move |request| match action(request) {
        ("POST", "create") => created(),
        ("POST", "attach") => {
            let (started, ended) = (started.clone(), ended.clone());
            Answer::upgrade(move |mut input, mut output| {
                started.wait();
                let mut text = String::new();
                input.read_to_string(&mut text).unwrap();
                output.write_all(&frame(1, &text.to_uppercase())).unwrap();
                output
                    .write_all(&frame(2, &text.len().to_string()))
                    .unwrap();
                ended.comes();
            })
        }
        ("POST", "wait") => {
            let ended = ended.clone();
            Answer::ok("{\"StatusCode\":3}").after(move || ended.wait())
        }
        ("POST", "start") => {
            started.comes();
            Answer::done()
        }
        _ => Answer::error("404 Not Found", "page not found"),
    })
}

fn run_with_input(engine: &FakeEngine, words: &[&str], input: &str) -> Told {
    let mut child = clean(&client(), engine.home())
        .env("DOCKER_HOST", engine.host())
        .args(words)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(input.as_bytes())
        .unwrap();
    child.wait_with_output().unwrap().into()
}

#[test]
fn run_joins_the_streams_and_hands_the_exit_code_on() {
    let engine = echoing();
    let told = run_with_input(&engine, &["run", "-i", "--rm", "img"], "hello\n");
    assert_eq!(
        told,
        Told {
            status: 3,
            stdout: "HELLO\n".into(),
            stderr: "6".into()
        }
    );
    let requests = engine.take();
    let mut paths: Vec<String> = requests
        .iter()
        .map(|request| format!("{} {}", request.method, request.path))
        .collect();
    // Attach and wait go out side by side; both are before the start.
    paths[1..3].sort();
    assert_eq!(
        paths,
        [
            "POST /containers/create".to_owned(),
            format!("POST /containers/{ID}/attach?stream=1&stdin=1&stdout=1&stderr=1"),
            format!("POST /containers/{ID}/wait?condition=removed"),
            format!("POST /containers/{ID}/start"),
        ]
    );
}

#[test]
fn run_with_much_output_loses_nothing() {
    let started = Moment::default();
    let engine = FakeEngine::new(move |request| match action(request) {
        ("POST", "create") => created(),
        ("POST", "attach") => {
            let started = started.clone();
            Answer::upgrade(move |_, mut output| {
                started.wait();
                for number in 0..2000 {
                    output
                        .write_all(&frame(1, &format!("{number:0>1000}\n")))
                        .unwrap();
                }
            })
        }
        ("POST", "wait") => Answer::ok("{\"StatusCode\":0}"),
        ("POST", "start") => {
            started.comes();
            Answer::done()
        }
        _ => Answer::error("404 Not Found", "page not found"),
    });
    let told = engine.run(&client(), &["run", "img"]);
    assert_eq!((told.status, told.stderr.as_str()), (0, ""));
    assert_eq!(told.stdout.len(), 2000 * 1001);
    assert!(told.stdout.ends_with("1999\n"));
}

#[test]
fn a_missing_image_is_pulled_before_the_second_try() {
    let pulled = Moment::default();
    let engine = FakeEngine::new(
        move |request| match request.path.split('?').next().unwrap() {
            "/containers/create" if !*pulled.0.0.lock().unwrap() => {
                Answer::error("404 Not Found", "No such image: img:latest")
            }
            "/containers/create" => created(),
            "/images/create" => {
                pulled.comes();
                Answer::ok(
                    "{\"status\":\"Pulling from library/img\",\"id\":\"latest\"}\r\n\
                 {\"status\":\"Downloading\",\"progressDetail\":{\"current\":1,\"total\":2},\"id\":\"abc\"}\r\n\
                 {\"status\":\"Pull complete\",\"id\":\"abc\"}\r\n",
                )
            }
            _ => Answer::done(),
        },
    );
    let told = engine.run(&client(), &["run", "-d", "img"]);
    assert_eq!(
        told,
        Told {
            status: 0,
            stdout: format!("{ID}\n"),
            stderr: "Unable to find image 'img:latest' locally\nlatest: Pulling from library/img\nabc: Pull complete\n"
                .into(),
        }
    );
    let paths: Vec<String> = engine
        .take()
        .into_iter()
        .map(|request| request.path)
        .collect();
    assert_eq!(
        paths,
        [
            "/containers/create".to_owned(),
            "/images/create?fromImage=img&tag=latest".to_owned(),
            "/containers/create".to_owned(),
            format!("/containers/{ID}/start"),
        ]
    );
}

#[test]
fn why_a_container_does_not_start_decides_the_status() {
    for (message, status) in [
        ("exec: \"nosuch\": executable file not found in $PATH", 127),
        ("exec: \"/etc/passwd\": permission denied", 126),
        ("something else", 125),
    ] {
        let engine = FakeEngine::new(move |request| match action(request) {
            ("POST", "create") => created(),
            ("POST", "attach") => Answer::upgrade(|_, _| ()),
            ("POST", "wait") => Answer::ok("{\"StatusCode\":0}"),
            _ => Answer::error("400 Bad Request", message),
        });
        let told = engine.run(&client(), &["run", "img", "nosuch"]);
        assert_eq!(told.status, status);
        assert_eq!(
            told.stderr,
            format!(
                "docker: Error response from daemon: {message}\n\nRun 'docker run --help' for more information\n"
            )
        );
    }
}

#[test]
fn signals_reach_the_container() {
    let (killed, started) = (Moment::default(), Moment::default());
    let (tell, told) = channel();
    let tell = Mutex::new(tell);
    let engine = FakeEngine::new(move |request| match action(request) {
        ("POST", "create") => created(),
        ("POST", "attach") => {
            let killed = killed.clone();
            Answer::upgrade(move |_, _| killed.wait())
        }
        ("POST", "wait") => {
            let killed = killed.clone();
            Answer::ok("{\"StatusCode\":143}").after(move || killed.wait())
        }
        ("POST", "start") => {
            started.comes();
            tell.lock().unwrap().send(()).unwrap();
            Answer::done()
        }
        ("POST", "kill") => {
            assert!(request.path.ends_with("signal=15"), "{}", request.path);
            killed.comes();
            Answer::done()
        }
        _ => Answer::error("404 Not Found", "page not found"),
    });
    let mut child = clean(&client(), engine.home())
        .env("DOCKER_HOST", engine.host())
        .args(["run", "img"])
        .spawn()
        .unwrap();
    told.recv().unwrap();
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(143));
}

#[test]
fn exec_takes_three_requests() {
    let engine = FakeEngine::new(|request| match action(request) {
        ("POST", "exec") => Answer {
            status: "201 Created",
            ..Answer::ok("{\"Id\":\"e1\"}")
        },
        ("POST", "start") => Answer::upgrade(|_, mut output| {
            output.write_all(&frame(1, "out\n")).unwrap();
        }),
        ("GET", "json") => Answer::ok("{\"ID\":\"e1\",\"ExitCode\":7,\"Running\":false}"),
        _ => Answer::error("404 Not Found", "page not found"),
    });
    let told = engine.run(
        &client(),
        &["exec", "-e", "A=1", "-w", "/tmp", "box", "ls", "-l"],
    );
    assert_eq!(
        told,
        Told {
            status: 7,
            stdout: "out\n".into(),
            stderr: String::new()
        }
    );
    let requests = engine.take();
    let paths: Vec<&str> = requests
        .iter()
        .map(|request| request.path.as_str())
        .collect();
    assert_eq!(
        paths,
        ["/containers/box/exec", "/exec/e1/start", "/exec/e1/json"]
    );
    let body: serde_json::Value = serde_json::from_slice(&requests[0].body).unwrap();
    assert_eq!(body["Cmd"], serde_json::json!(["ls", "-l"]));
    assert_eq!(body["Env"], serde_json::json!(["A=1"]));
}

#[test]
fn the_id_file_is_written_or_taken_away_again() {
    let engine = FakeEngine::new(|request| match action(request) {
        ("POST", "create") if request.path.contains("name=bad") => {
            Answer::error("409 Conflict", "in use")
        }
        ("POST", "create") => created(),
        _ => Answer::done(),
    });
    let path = engine.home().join("id");
    let file = path.display().to_string();
    assert_eq!(
        engine
            .run(
                &client(),
                &["create", "--name", "bad", "--cidfile", &file, "img"]
            )
            .status,
        1
    );
    assert!(!path.exists());
    assert_eq!(
        engine
            .run(&client(), &["create", "--cidfile", &file, "img"])
            .status,
        0
    );
    assert_eq!(std::fs::read_to_string(&path).unwrap(), ID);
    let told = engine.run(&client(), &["create", "--cidfile", &file, "img"]);
    assert!(
        told.stderr.starts_with("container ID file found"),
        "{told:?}"
    );
}

#[test]
fn a_socket_that_is_not_there_is_named() {
    let home = tempfile::tempdir().unwrap();
    for (words, status) in [
        (vec!["ps"], 1),
        (vec!["run", "img"], 125),
        (vec!["exec", "a", "b"], 1),
    ] {
        let output = clean(&client(), home.path())
            .env("BERTH_HOST", "unix:///nonexistent/engine.sock")
            .args(&words)
            .output()
            .unwrap();
        let told = Told::from(output);
        assert_eq!(told.status, status, "{told:?}");
        assert!(
            told.stderr.contains("unix:///nonexistent/engine.sock"),
            "{told:?}"
        );
        assert!(
            told.stderr.contains("Cannot connect to the Docker daemon"),
            "{told:?}"
        );
    }
}
