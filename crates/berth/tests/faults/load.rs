//! A worker that leads containers through their life while the daemon is shot under it, and knows
//! what was acknowledged.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Result;
use berth_testkit::daemon::API;
use berth_testkit::random::Random;
use berth_testkit::{http, wait};
use serde_json::{Value, json};

/// Exit code of the commands that end by themselves.
pub(crate) const CODE: i64 = 3;

/// What all workers know together.
#[derive(Default)]
pub(crate) struct Ledger {
    /// Set when the shooting is over: lives that have begun are led to their end.
    pub(crate) over: AtomicBool,
    /// Ids whose removal was acknowledged.
    pub(crate) removed: Mutex<Vec<String>>,
    /// Broken promises, one line each.
    pub(crate) broken: Mutex<Vec<String>>,
    /// Lives led to their end.
    pub(crate) lives: Mutex<u64>,
}

impl Ledger {
    fn complain(&self, text: String) {
        self.broken.lock().expect("the ledger").push(text);
    }
}

/// An answer, and whether an earlier attempt may have done it already.
struct Answer {
    status: u16,
    body: Value,
    repeated: bool,
}

pub(crate) struct Worker<'a> {
    pub(crate) number: usize,
    pub(crate) socket: PathBuf,
    pub(crate) random: Random,
    pub(crate) ledger: &'a Ledger,
}

impl Worker<'_> {
    /// Leads containers through their lives, one after the other.
    pub(crate) fn work(&mut self) {
        let mut life = 0;
        while !self.ledger.over.load(Ordering::Relaxed) {
            life += 1;
            let name = format!("w{}-{life}", self.number);
            if let Err(text) = self.lead(&name) {
                self.ledger.complain(format!("{name}: {text}"));
            }
            *self.ledger.lives.lock().expect("the ledger") += 1;
        }
    }

    fn lead(&mut self, name: &str) -> Result<(), String> {
        let brief = self.random.below(3) == 0;
        let script = if brief {
            format!("exit {CODE}")
        } else {
            "exec sleep 100000".to_owned()
        };
        let body = json!({
            "Image": "busybox",
            "Cmd": ["sh", "-c", script],
            "HostConfig": {"NetworkMode": "none"},
        });
        let created = self.ask(
            "POST",
            &format!("/containers/create?name={name}"),
            Some(&body),
        );
        let id = match created.status {
            201 => created.body["Id"].as_str().unwrap_or_default().to_owned(),
            // Made by an attempt whose answer was lost.
            409 if created.repeated => self.inspect(name)?["Id"]
                .as_str()
                .unwrap_or_default()
                .to_owned(),
            _ => return Err(unexpected("create", &created)),
        };
        let started = self.ask("POST", &format!("/containers/{id}/start"), None);
        match started.status {
            204 | 304 => {}
            _ => return Err(unexpected("start", &started)),
        }
        if brief {
            self.until_exited(&id, CODE)?;
        } else {
            self.check_running(&id)?;
            if self.random.below(2) == 0 {
                self.exec(&id)?;
            }
            let stopped = self.ask("POST", &format!("/containers/{id}/stop?t=0"), None);
            match stopped.status {
                204 | 304 => {}
                _ => return Err(unexpected("stop", &stopped)),
            }
            self.until_exited(&id, 137)?;
        }
        let removed = self.ask("DELETE", &format!("/containers/{id}"), None);
        match removed.status {
            204 => {}
            404 if removed.repeated => {}
            // The removal an earlier attempt began is still under way.
            409 if removed.repeated => self.until_gone(&id)?,
            _ => return Err(unexpected("remove", &removed)),
        }
        self.ledger.removed.lock().expect("the ledger").push(id);
        Ok(())
    }

    fn check_running(&self, id: &str) -> Result<(), String> {
        let state = self.inspect(id)?["State"].clone();
        if state["Status"] == "running" && state["Pid"].as_i64().unwrap_or(0) > 0 {
            return Ok(());
        }
        Err(format!("started and not running: {state}"))
    }

    fn until_exited(&self, id: &str, code: i64) -> Result<(), String> {
        let mut last = Value::Null;
        let ended = wait::within(wait::PATIENCE, || {
            last = match self.inspect(id) {
                Ok(view) => view["State"].clone(),
                Err(text) => return Some(Err(text)),
            };
            (last["Status"] == "exited").then_some(Ok(()))
        });
        ended.ok_or_else(|| format!("does not end: {last}"))??;
        if last["ExitCode"] != code {
            return Err(format!("expected exit code {code}: {last}"));
        }
        Ok(())
    }

    fn until_gone(&self, id: &str) -> Result<(), String> {
        let target = format!("/containers/{id}/json");
        wait::within(wait::PATIENCE, || {
            (self.ask("GET", &target, None).status == 404).then_some(())
        })
        .ok_or_else(|| "its removal does not end".to_owned())
    }

    /// Runs a command beside the first process; when the daemon lived through it, the output and
    /// the exit code have to be there.
    fn exec(&mut self, id: &str) -> Result<(), String> {
        let script = format!("echo beside; exit {CODE}");
        let body = json!({"Cmd": ["sh", "-c", script], "AttachStdout": true});
        let made = self.ask("POST", &format!("/containers/{id}/exec"), Some(&body));
        if made.status != 201 {
            return Err(unexpected("exec", &made));
        }
        let exec = made.body["Id"].as_str().unwrap_or_default().to_owned();
        let Ok((status, output)) = stream(&self.socket, &exec) else {
            return Ok(());
        };
        // An exec is not kept over the daemon's death.
        if status == 404 {
            return Ok(());
        }
        if status >= 400 {
            return Err(format!("exec start: {status}: {output}"));
        }
        let Ok(seen) = call(&self.socket, "GET", &format!("/exec/{exec}/json"), None) else {
            return Ok(());
        };
        if seen.0 == 200 && seen.1["Running"] == false && seen.1["ExitCode"].is_i64() {
            let whole = output.contains("beside") && seen.1["ExitCode"] == CODE;
            if !whole {
                return Err(format!("exec gave {output:?} and {}", seen.1));
            }
        }
        Ok(())
    }

    fn inspect(&self, container: &str) -> Result<Value, String> {
        let answer = self.ask("GET", &format!("/containers/{container}/json"), None);
        match answer.status {
            200 => Ok(answer.body),
            _ => Err(unexpected("inspect", &answer)),
        }
    }

    /// Asks until there is an answer; an attempt without one may have had its effect.
    fn ask(&self, method: &str, target: &str, body: Option<&Value>) -> Answer {
        let mut repeated = false;
        let answer = wait::within(Duration::from_secs(120), || {
            match call(&self.socket, method, target, body) {
                Ok((status, body)) => Some(Answer {
                    status,
                    body,
                    repeated,
                }),
                Err(_) => {
                    repeated = true;
                    None
                }
            }
        });
        answer.unwrap_or(Answer {
            status: 0,
            body: Value::Null,
            repeated,
        })
    }
}

fn unexpected(what: &str, answer: &Answer) -> String {
    format!(
        "{what}: {} {} (repeated: {})",
        answer.status, answer.body, answer.repeated
    )
}

/// One request; an error means that no whole answer came.
pub(crate) fn call(
    socket: &Path,
    method: &str,
    target: &str,
    body: Option<&Value>,
) -> Result<(u16, Value)> {
    let bytes = body
        .map(|value| value.to_string().into_bytes())
        .unwrap_or_default();
    let kind = [("Content-Type", "application/json")];
    let answer = http::request(
        http::unix(socket)?,
        method,
        &format!("{API}{target}"),
        &kind,
        &bytes,
    )?;
    let value = serde_json::from_slice(&answer.body).unwrap_or(Value::Null);
    Ok((answer.status, value))
}

fn stream(socket: &Path, exec: &str) -> Result<(u16, String)> {
    let target = format!("{API}/exec/{exec}/start");
    let (head, mut reader) = http::upgrade(
        http::unix(socket)?,
        &target,
        br#"{"Detach":false,"Tty":false}"#,
    )?;
    let mut bytes = head.body.clone();
    reader.read_to_end(&mut bytes)?;
    Ok((head.status, String::from_utf8_lossy(&bytes).into_owned()))
}
