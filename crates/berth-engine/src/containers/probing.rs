//! Running health probes: an exec on a timer.
//!
//! Owns the rhythm. What a result means is decided by the lifecycle; a paused or ended container has no task
//! here.

use std::sync::Arc;

use berth_types::Signal;
use tokio::io::AsyncReadExt as _;
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;

use super::health::ProbeResult;
use super::lifecycle::Event;
use super::owner::{Environment, Message};
use super::spec::{HealthSettings, HealthTest};
use super::view::ContainerView;
use crate::clock;
use crate::execs::{ExecRequest, run_captured};
use crate::limits;

/// Starts probing; the task ends when it is aborted or the owner is gone.
pub(super) fn start(
    environment: Environment,
    view: watch::Receiver<Arc<ContainerView>>,
    messages: mpsc::Sender<Message>,
) -> AbortHandle {
    tokio::spawn(probe_on(environment, view, messages)).abort_handle()
}

async fn probe_on(
    environment: Environment,
    mut view: watch::Receiver<Arc<ContainerView>>,
    messages: mpsc::Sender<Message>,
) {
    loop {
        let now = Arc::clone(&view.borrow_and_update());
        let (Some(settings), Some(health)) = (&now.spec.config.healthcheck, &now.health) else {
            return;
        };
        let pause = health.pause(settings, now.last.started_at, clock::now());
        tokio::time::sleep(pause).await;
        let result = probe(&environment, &now, settings).await;
        if messages
            .send(Message::Event(Event::Probe(result)))
            .await
            .is_err()
        {
            return;
        }
        // The next pause depends on what the owner makes of the result.
        if view.changed().await.is_err() {
            return;
        }
    }
}

async fn probe(
    environment: &Environment,
    view: &ContainerView,
    settings: &HealthSettings,
) -> ProbeResult {
    let start = clock::now();
    let timeout = settings.effective_timeout();
    let request = ExecRequest {
        command: command(view, settings),
        attach_stdout: true,
        attach_stderr: true,
        ..ExecRequest::default()
    };
    let finish = |exit_code: i32, output: String| ProbeResult {
        start,
        end: clock::now(),
        exit_code,
        output,
    };
    let probe = match run_captured(environment, view, request).await {
        Ok(probe) => probe,
        Err(error) => {
            let code = match &error {
                crate::EngineError::Start { exit_code, .. } => *exit_code,
                _ => -1,
            };
            return finish(code, error.full_text());
        }
    };
    let id = probe.id.clone();
    let mut ended = probe.ended;
    let reading = read_output(probe.stream);
    let whole = async {
        let output = reading.await;
        let code = ended.wait_for(Option::is_some).await.ok().and_then(|c| *c);
        (output, code)
    };
    match tokio::time::timeout(timeout, whole).await {
        Ok((output, code)) => finish(code.unwrap_or(-1), output),
        Err(_) => {
            let _ = environment
                .launcher
                .signal_exec(&view.id, id.as_str(), Signal::KILL)
                .await;
            finish(
                -1,
                format!(
                    "Health check exceeded timeout ({})",
                    berth_types::duration::format(timeout)
                ),
            )
        }
    }
}

fn command(view: &ContainerView, settings: &HealthSettings) -> Vec<String> {
    match &settings.test {
        HealthTest::Command(command) => command.clone(),
        HealthTest::Shell(line) => {
            let mut command = view
                .spec
                .config
                .shell
                .clone()
                .filter(|shell| !shell.is_empty())
                .unwrap_or_else(|| vec!["/bin/sh".to_owned(), "-c".to_owned()]);
            command.push(line.clone());
            command
        }
        HealthTest::Inherit | HealthTest::Disabled => Vec::new(),
    }
}

/// What both outputs wrote, up to a bound; the rest is read and dropped, so that the probe can end.
async fn read_output(stream: Option<tokio::net::UnixStream>) -> String {
    let Some(mut stream) = stream else {
        return String::new();
    };
    let mut output = Vec::new();
    let mut buffer = vec![0_u8; limits::HEALTH_OUTPUT];
    let mut frames = crate::containers::stream::Frames::default();
    loop {
        match stream.read(&mut buffer).await {
            Ok(0) | Err(_) => break,
            Ok(count) => frames.feed(&buffer[..count], |bytes| {
                let room = (limits::HEALTH_OUTPUT + 1).saturating_sub(output.len());
                output.extend_from_slice(&bytes[..bytes.len().min(room)]);
            }),
        }
    }
    String::from_utf8_lossy(&output).into_owned()
}
