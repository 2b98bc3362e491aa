//! `run`: create, attach, start, and stay until the end.

use berth_api::{
    AttachOptions, Client, ClientError, ContainerCreateBody, ContainerRemoveOptions,
    ContainerWaiting, Hijacked, WaitCondition,
};

use super::create::{self, CreateError};
use super::{Arity, Spec, container_flags};
use crate::failure::{Failure, STATUS_REFUSED, status_of_start_error};
use crate::flags::{Flag, Operands, Parsed};
use crate::interactive::{self, Caught, Ended, Joined, Target};
use crate::session::{self, Session};
use crate::terminal;

pub(crate) const SPEC: Spec = Spec {
    group: "container",
    names: &["run"],
    top: &["run"],
    usage: "[OPTIONS] IMAGE [COMMAND] [ARG...]",
    about: "Make and start a new container",
    flags,
    operands: Operands::EndFlags,
    arity: Arity::AtLeast(1),
    run,
};

fn flags() -> Vec<Flag> {
    let mut flags = container_flags::shared();
    flags.extend([
        Flag::switch(
            "detach",
            "Leave the container in the background and print its id",
        )
        .short('d'),
        Flag::text("detach-keys", "Keys that leave the container running"),
        Flag::switch("sig-proxy", "Pass signals on to the container").on(),
    ]);
    flags
}

/// The failure of a container that did not start: the status tells why.
fn start_failure(session: &Session, error: &ClientError) -> Failure {
    let text = session.explain(error);
    Failure {
        status: status_of_start_error(&text),
        message: create::with_pointer(session, "run", &text),
    }
}

fn run(session: &Session, parsed: &Parsed) -> Result<(), Failure> {
    let mut body = create::request(session, parsed, "run")?;
    let config = &mut body.config;
    let detach = parsed.switch("detach");
    if detach {
        if !parsed.list("attach").is_empty() {
            return Err(Failure::new(
                "conflicting options: cannot specify both --attach and --detach",
            ));
        }
        (
            config.attach_stdin,
            config.attach_stdout,
            config.attach_stderr,
        ) = (false, false, false);
        config.stdin_once = false;
    } else {
        terminal::check_input(config.attach_stdin, config.tty)?;
    }
    let (keys, detach_keys) = session.detach_keys(parsed)?;
    let joined = Joined {
        stdin: config.attach_stdin,
        stdout: config.attach_stdout,
        stderr: config.attach_stderr,
        tty: config.tty,
        detach_keys,
    };
    session.block_on(async {
        let client = session.client().map_err(|failure| Failure {
            status: STATUS_REFUSED,
            ..failure
        })?;
        let asked = Asked {
            session,
            client: &client,
            parsed,
            joined: &joined,
            keys: &keys,
        };
        match once(&asked, &body).await {
            Err(Stopped::Start { failure, container }) if needs_no_network(parsed) => {
                session.warn(&format!(
                    "{}\n{HELLO} needs no network and is tried again without one.",
                    failure.message
                ));
                // With --rm it is gone already; else it would keep its name.
                let options = ContainerRemoveOptions::default();
                let _ = client.container_remove(&container, &options).await;
                if let Some(host) = &mut body.host_config {
                    "none".clone_into(&mut host.network_mode);
                }
                body.networking_config = None;
                once(&asked, &body).await.map_err(Stopped::into_failure)
            }
            outcome => outcome.map_err(Stopped::into_failure),
        }
    })
}

/// The image that is built into the program, to show that containers run.
const HELLO: &str = "berth/hello";

/// Whether the container may be run without a network where it cannot be started with one: only the built-in image, and
/// only when nothing was asked about networks. Any other program would fail later, and with less to tell.
fn needs_no_network(parsed: &Parsed) -> bool {
    let image = parsed.operands.first().map_or("", String::as_str);
    let asked = [
        "network",
        "publish",
        "publish-all",
        "link",
        "ip",
        "ip6",
        "mac-address",
        "network-alias",
        "cidfile",
    ];
    matches!(image.strip_prefix(HELLO), Some("" | ":latest"))
        && !asked.iter().any(|flag| parsed.given(flag))
}

/// What stays the same when a container is run anew.
struct Asked<'a> {
    session: &'a Session,
    client: &'a Client,
    parsed: &'a Parsed,
    joined: &'a Joined,
    keys: &'a str,
}

/// Why a run came to nothing.
enum Stopped {
    /// The container was made and did not start.
    Start { failure: Failure, container: String },
    /// Anything else, also after the start.
    Other(Failure),
}

impl Stopped {
    fn into_failure(self) -> Failure {
        match self {
            Self::Start { failure, .. } | Self::Other(failure) => failure,
        }
    }
}

/// Creates, attaches, starts, and stays.
async fn once(asked: &Asked<'_>, body: &ContainerCreateBody) -> Result<(), Stopped> {
    let Asked {
        session,
        client,
        parsed,
        joined,
        keys,
    } = *asked;
    let attached = joined.stdin || joined.stdout || joined.stderr;
    let caught = Caught::new(parsed.switch("sig-proxy") && attached);
    let created = create::create(session, client, parsed, body)
        .await
        .map_err(|error| match error {
            CreateError::Engine(error) => start_failure(session, &error),
            CreateError::Own(failure) => Failure {
                status: STATUS_REFUSED,
                message: create::with_pointer(session, "run", &failure.message),
            },
        })
        .map_err(Stopped::Other)?;
    let id = created.id.as_str();
    let stopped = |error: &ClientError| Stopped::Start {
        failure: start_failure(session, error),
        container: id.to_owned(),
    };
    if !attached {
        client
            .container_start(id, keys)
            .await
            .map_err(|error| stopped(&error))?;
        return session::print(&format!("{id}\n")).map_err(Stopped::Other);
    }
    let options = AttachOptions {
        stream: true,
        stdin: joined.stdin,
        stdout: joined.stdout,
        stderr: joined.stderr,
        detach_keys: keys.to_owned(),
        ..AttachOptions::default()
    };
    let condition = if parsed.switch("rm") {
        WaitCondition::Removed
    } else {
        WaitCondition::NextExit
    };
    // Both are with the engine before the container is started, so that neither a byte nor the
    // exit is missed.
    let (stream, waiting) = tokio::try_join!(
        client.container_attach(id, &options),
        client.container_wait(id, condition)
    )
    .map_err(|error| Stopped::Other(start_failure(session, &error)))?;
    let stay = async {
        client
            .container_start(id, "")
            .await
            .map_err(|error| stopped(&error))?;
        stay_joined(session, client, id, stream, waiting, joined)
            .await
            .map_err(Stopped::Other)
    };
    tokio::select! {
        result = stay => result,
        never = caught.forward(client, id) => match never {},
    }
}

/// Joins a started container until it ends or the user detaches; its exit code becomes ours.
pub(crate) async fn stay_joined(
    session: &Session,
    client: &Client,
    id: &str,
    stream: Hijacked,
    waiting: ContainerWaiting,
    joined: &Joined,
) -> Result<(), Failure> {
    let target = Target::Container(id.to_owned());
    let resize = async {
        if joined.tty && terminal::output_is_terminal() {
            interactive::follow_size(client, &target).await
        } else {
            interactive::never().await
        }
    };
    let ended = tokio::select! {
        ended = interactive::join(stream, joined, |error| session.explain(error)) => ended?,
        never = resize => match never {},
    };
    if ended == Ended::Detached {
        return Ok(());
    }
    exit_status(session, waiting).await
}

/// Waits for the end and hands the exit code on.
pub(crate) async fn exit_status(
    session: &Session,
    waiting: ContainerWaiting,
) -> Result<(), Failure> {
    match waiting.exit().await {
        Ok(exit) => match exit.error {
            Some(error) if !error.message.is_empty() => Err(Failure::refused(format!(
                "Error waiting for container: {}",
                error.message
            ))),
            _ if exit.status_code == 0 => Ok(()),
            // A status of a process has eight bits.
            _ => Err(Failure::status((exit.status_code & 0xff) as u8)),
        },
        Err(error) => Err(Failure::refused(format!(
            "error waiting for container: {}",
            session.explain(&error)
        ))),
    }
}
