//! Requests about programs run in running containers.

use super::containers::terminal_size;
use super::streams::{detach_keys, output_type};
use crate::convert;
use crate::failure::Failure;
use crate::hijack::{CopyEnd, HijackedClient};
use crate::limits::{EXEC_END, EXEC_END_CHECK};
use crate::reply::Reply;
use crate::request::{Request, cut};
use berth_api::framing;
use berth_api::{ExecConfig, ExecStartConfig, IdResponse};
use berth_engine::execs::{ExecRequest, ExecStartOptions};
use berth_engine::{Engine, EngineError};
use bytes::BytesMut;
use http::StatusCode;
use std::sync::Arc;

type Answer = Result<Reply, Failure>;

pub(crate) async fn create(engine: Arc<Engine>, mut request: Request) -> Answer {
    let config: ExecConfig = request.json().await?.unwrap_or_default();
    let command = config.cmd.map(|words| words.0).unwrap_or_default();
    if command.is_empty() {
        return Err(Failure::bad_request("No exec command specified"));
    }
    detach_keys(&config.detach_keys, true)?;
    let console_size = config.console_size.filter(|_| request.version.at_least(42));
    let exec = ExecRequest {
        command,
        user: config.user,
        working_dir: config.working_dir,
        env: config.env.unwrap_or_default(),
        privileged: config.privileged,
        terminal: config.tty,
        attach_stdin: config.attach_stdin,
        attach_stdout: config.attach_stdout,
        attach_stderr: config.attach_stderr,
        detach_keys: config.detach_keys,
        console_size: console_size.and_then(convert::terminal_size),
    };
    let id = engine.execs.create(&request.name, exec).await?;
    Ok(Reply::json(
        StatusCode::CREATED,
        &IdResponse { id: id.to_string() },
    ))
}

pub(crate) async fn start(engine: Arc<Engine>, mut request: Request) -> Answer {
    let config: ExecStartConfig = request.json().await?.unwrap_or_default();
    let view = engine.execs.inspect(&request.name)?;
    let terminal = view.request.terminal;
    let console_size = config
        .console_size
        .filter(|_| terminal && request.version.at_least(42));
    let options = ExecStartOptions {
        detach: config.detach,
        terminal,
        console_size: console_size.and_then(convert::terminal_size),
    };
    let keys = detach_keys(&view.request.detach_keys, terminal)?;
    let stdin = view.request.attach_stdin;
    let content_type = output_type(&request, terminal);
    let started = match engine.execs.start(&request.name, options).await {
        Ok(started) => started,
        // Docker's clients look for the reason in the stream, and for the exit code in the inspection.
        Err(error @ EngineError::Start { .. }) if !config.detach => {
            return Ok(stream_of_failure(content_type, terminal, &error));
        }
        Err(error) => return Err(error.into()),
    };
    if config.detach {
        return Ok(Reply::empty(StatusCode::OK));
    }
    let Some(stream) = started.stream else {
        let message = format!("exec session {} has no streams", cut(&request.name));
        return Err(EngineError::Internal(message).into());
    };
    let id = request.name;
    let takeover = move |mut client: HijackedClient| async move {
        match client.copy(stream, stdin, keys).await {
            CopyEnd::Detached => engine.execs.announce_detach(&id),
            CopyEnd::Container => ended(&engine, &id).await,
            CopyEnd::Client => {}
        }
        client.finish().await;
    };
    Ok(Reply::Hijack {
        content_type,
        takeover: Box::new(|client| Box::pin(takeover(client))),
    })
}

/// Waits until the session's end is known: clients ask for the exit code as soon as their stream ends. A
/// program that closed its output and runs on is not waited for.
async fn ended(engine: &Engine, id: &str) {
    let known = async {
        while engine.execs.inspect(id).is_ok_and(|view| view.running) {
            tokio::time::sleep(EXEC_END_CHECK).await;
        }
    };
    let _ = tokio::time::timeout(EXEC_END, known).await;
}

/// A stream that says why there is no program, and ends.
fn stream_of_failure(content_type: &'static str, terminal: bool, error: &EngineError) -> Reply {
    let line = format!("{}\r\n", error.full_text());
    let mut out = BytesMut::new();
    if terminal {
        out.extend_from_slice(line.as_bytes());
    } else {
        framing::encode(framing::Stream::Stdout, line.as_bytes(), &mut out);
    }
    let takeover = move |mut client: HijackedClient| async move {
        // A client that is gone needs no reason.
        let _ = client.send(&out).await;
        client.finish().await;
    };
    Reply::Hijack {
        content_type,
        takeover: Box::new(|client| Box::pin(takeover(client))),
    }
}

pub(crate) async fn resize(engine: Arc<Engine>, request: Request) -> Answer {
    let size = terminal_size(&request)?;
    engine.execs.resize(&request.name, size).await?;
    Ok(Reply::empty(StatusCode::OK))
}

pub(crate) async fn inspect(engine: Arc<Engine>, request: Request) -> Answer {
    let view = engine.execs.inspect(&request.name)?;
    Ok(Reply::json(StatusCode::OK, &convert::exec(&view)))
}
