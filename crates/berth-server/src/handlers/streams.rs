//! Answers of containers that take their time: attach, logs, stats, wait.

use crate::convert;
use crate::detach_keys::DetachKeys;
use crate::failure::Failure;
use crate::hijack::{CopyEnd, HijackedClient};
use crate::limits::LOG_CHUNK;
use crate::reply::Reply;
use crate::request::{Request, cut};
use berth_api::framing;
use berth_api::{
    ContainerWaitExitError, ContainerWaitResponse, MEDIA_TYPE_MULTIPLEXED_STREAM,
    MEDIA_TYPE_RAW_STREAM,
};
use berth_engine::containers::logs::LogStream;
use berth_engine::containers::requests::{
    AttachOptions, LogEntry, LogOptions, OutputStream, WaitCondition,
};
use berth_engine::{Engine, EngineError, clock};
use berth_types::Timestamp;
use bytes::{BufMut, Bytes, BytesMut};
use futures_util::stream;
use http::StatusCode;
use std::sync::Arc;

type Answer = Result<Reply, Failure>;

/// The content type of a container's output.
pub(super) fn output_type(request: &Request, terminal: bool) -> &'static str {
    if !terminal && request.version.at_least(42) {
        MEDIA_TYPE_MULTIPLEXED_STREAM
    } else {
        MEDIA_TYPE_RAW_STREAM
    }
}

/// Reads detach keys; None without a terminal, where input is never searched.
pub(super) fn detach_keys(text: &str, terminal: bool) -> Result<Option<DetachKeys>, Failure> {
    let keys = DetachKeys::parse(text).map_err(|_| {
        Failure::bad_request(format!("Invalid detach keys ({}) provided", cut(text)))
    })?;
    Ok(terminal.then_some(keys))
}

pub(crate) async fn attach(engine: Arc<Engine>, request: Request) -> Answer {
    let keys_text = request.text("detachKeys");
    detach_keys(keys_text, true)?;
    let options = AttachOptions {
        stdin: request.flag("stdin"),
        stdout: request.flag("stdout"),
        stderr: request.flag("stderr"),
        logs: request.flag("logs"),
        stream: request.flag("stream"),
    };
    let mut attachment = engine.containers.attach(&request.name, options).await?;
    let keys = detach_keys(keys_text, attachment.terminal)?;
    let content_type = output_type(&request, attachment.terminal);
    let name = request.name;
    let takeover = move |mut client: HijackedClient| async move {
        if let Some(log) = attachment.replay.take()
            && replay(log, &mut client).await.is_err()
        {
            return;
        }
        let container = tokio::select! {
            container = attachment.connect() => container,
            () = client.hung_up() => return,
        };
        if let Some(container) = container
            && client.copy(container, options.stdin, keys).await == CopyEnd::Detached
        {
            engine.containers.announce_detach(&name);
        }
        client.finish().await;
    };
    Ok(Reply::Hijack {
        content_type,
        takeover: Box::new(|client| Box::pin(takeover(client))),
    })
}

/// Sends what was logged before.
async fn replay(mut log: LogStream, client: &mut HijackedClient) -> std::io::Result<()> {
    let mut out = BytesMut::new();
    while let Some(entry) = log.next().await {
        out.clear();
        put_entry(
            &mut out,
            entry,
            LogFormat {
                framed: !log.terminal,
                ..LogFormat::default()
            },
        );
        client.send(&out).await?;
    }
    Ok(())
}

#[derive(Debug, Clone, Copy, Default)]
struct LogFormat {
    framed: bool,
    timestamps: bool,
    details: bool,
}

/// Appends a log line as a client reads it. An error in the middle of a log becomes a line of its own.
fn put_entry(out: &mut BytesMut, entry: Result<LogEntry, EngineError>, format: LogFormat) {
    let put = |out: &mut BytesMut, stream, line: &[u8]| {
        if format.framed {
            framing::encode(stream, line, out);
        } else {
            out.put_slice(line);
        }
    };
    let entry = match entry {
        Ok(entry) => entry,
        Err(error) => {
            let line = format!("Error grabbing logs: {}\n", error.full_text());
            return put(out, framing::Stream::SystemError, line.as_bytes());
        }
    };
    let stream = match entry.stream {
        OutputStream::Stdout => framing::Stream::Stdout,
        OutputStream::Stderr => framing::Stream::Stderr,
    };
    if !format.timestamps && !format.details {
        return put(out, stream, &entry.line);
    }
    let mut line = Vec::with_capacity(entry.line.len() + 64);
    if format.timestamps {
        line.extend_from_slice(convert::fixed_nanoseconds(entry.at).as_bytes());
        line.push(b' ');
    }
    if format.details {
        let mut attributes = berth_api::Query::new();
        for (name, value) in &entry.attributes {
            attributes.add(name, value.as_str());
        }
        let text = attributes.to_suffix().replace('&', ",");
        line.extend_from_slice(text.trim_start_matches('?').as_bytes());
        line.push(b' ');
    }
    line.extend_from_slice(&entry.line);
    put(out, stream, &line);
}

/// `since` and `until`: Unix seconds with a fraction, or any other form a person may send.
pub(super) fn moment(request: &Request, name: &str) -> Result<Option<Timestamp>, Failure> {
    let text = request.text(name);
    if text.is_empty() {
        return Ok(None);
    }
    Timestamp::parse_relative(text, clock::now())
        .map(Some)
        .map_err(|_| {
            Failure::bad_request(format!(
                "invalid value for {name:?}: failed to parse value as time or duration: {:?}",
                cut(text)
            ))
        })
}

pub(crate) async fn logs(engine: Arc<Engine>, request: Request) -> Answer {
    let (stdout, stderr) = (request.flag("stdout"), request.flag("stderr"));
    if !stdout && !stderr {
        return Err(Failure::bad_request(
            "Bad parameters: you must choose at least one stream",
        ));
    }
    let is_zero = |moment: &Timestamp| moment.unix_nanoseconds() == 0;
    let options = LogOptions {
        stdout,
        stderr,
        follow: request.flag("follow"),
        since: moment(&request, "since")?.filter(|moment| !is_zero(moment)),
        until: moment(&request, "until")?.filter(|moment| !is_zero(moment)),
        // Docker takes everything that is not a number for "all".
        tail: request.text("tail").parse().ok(),
        details: request.flag("details"),
    };
    let log = engine.containers.logs(&request.name, options).await?;
    let content_type = output_type(&request, log.terminal);
    let format = LogFormat {
        framed: !log.terminal,
        timestamps: request.flag("timestamps"),
        details: request.flag("details"),
    };
    let chunks = stream::unfold(log, move |mut log| async move {
        let mut out = BytesMut::new();
        put_entry(&mut out, log.next().await?, format);
        // Lines that are there already go out together.
        while out.len() < LOG_CHUNK {
            let next = log.next();
            let Some(entry) = futures_util::FutureExt::now_or_never(next).flatten() else {
                break;
            };
            put_entry(&mut out, entry, format);
        }
        Some((out.freeze(), log))
    });
    Ok(Reply::stream(content_type, chunks))
}

pub(crate) async fn stats(engine: Arc<Engine>, request: Request) -> Answer {
    let stream = request.flag_or("stream", true);
    let one_shot = request.version.at_least(41) && request.flag("one-shot");
    if stream && one_shot {
        return Err(Failure::bad_request(
            "cannot have stream=true and one-shot=true",
        ));
    }
    let mut samples = engine
        .containers
        .stats(&request.name, stream, one_shot)
        .await?;
    if !stream {
        let Some(sample) = samples.next().await else {
            return Err(EngineError::Unavailable(format!(
                "no usage of container {} was read",
                cut(&request.name)
            ))
            .into());
        };
        return Ok(Reply::json(
            StatusCode::OK,
            &convert::stats::sample(sample?),
        ));
    }
    let chunks = stream::unfold(samples, |mut samples| async move {
        // A container that cannot be read any more ends the stream; the status was sent long ago.
        let sample = samples.next().await?.ok()?;
        Some((json_line(&convert::stats::sample(sample)), samples))
    });
    Ok(Reply::stream("application/json", chunks))
}

/// One JSON value and a newline.
pub(super) fn json_line(value: &impl serde::Serialize) -> Bytes {
    let mut bytes = serde_json::to_vec(value).expect("wire types always serialise");
    bytes.push(b'\n');
    bytes.into()
}

pub(crate) async fn wait(engine: Arc<Engine>, request: Request) -> Answer {
    let condition = match request.text("condition") {
        _ if !request.version.at_least(30) => WaitCondition::NotRunning,
        "" | "not-running" => WaitCondition::NotRunning,
        "next-exit" => WaitCondition::NextExit,
        "removed" => WaitCondition::Removed,
        other => {
            return Err(Failure::bad_request(format!(
                "invalid condition: {:?}",
                cut(other)
            )));
        }
    };
    let waiting = engine.containers.wait(&request.name, condition).await?;
    // The head goes out at once: it tells the client that its wait is registered.
    let chunks = stream::once(async move {
        let outcome = waiting.outcome().await;
        json_line(&ContainerWaitResponse {
            error: outcome
                .error
                .map(|message| ContainerWaitExitError { message }),
            status_code: outcome.code,
        })
    });
    Ok(Reply::stream("application/json", chunks))
}
