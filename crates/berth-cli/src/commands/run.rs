//! `run`: create, attach, start, and stay until the end.

use berth_api::{AttachOptions, Client, ClientError, ContainerWaiting, Hijacked, WaitCondition};

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
    let attached = joined.stdin || joined.stdout || joined.stderr;
    session.block_on(async {
        let client = session.client().map_err(|failure| Failure {
            status: STATUS_REFUSED,
            ..failure
        })?;
        let caught = Caught::new(parsed.switch("sig-proxy") && attached);
        let created = create::create(session, &client, parsed, &body)
            .await
            .map_err(|error| match error {
                CreateError::Engine(error) => start_failure(session, &error),
                CreateError::Own(failure) => Failure {
                    status: STATUS_REFUSED,
                    message: create::with_pointer(session, "run", &failure.message),
                },
            })?;
        let id = created.id.as_str();
        if !attached {
            client
                .container_start(id, &keys)
                .await
                .map_err(|error| start_failure(session, &error))?;
            return session::print(&format!("{id}\n"));
        }
        let options = AttachOptions {
            stream: true,
            stdin: joined.stdin,
            stdout: joined.stdout,
            stderr: joined.stderr,
            detach_keys: keys.clone(),
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
        .map_err(|error| start_failure(session, &error))?;
        tokio::select! {
            result = stay(session, &client, id, stream, waiting, &joined) => result,
            never = caught.forward(&client, id) => match never {},
        }
    })
}

/// Starts the container and stays until it ends or the user detaches.
async fn stay(
    session: &Session,
    client: &Client,
    id: &str,
    stream: Hijacked,
    waiting: ContainerWaiting,
    joined: &Joined,
) -> Result<(), Failure> {
    client
        .container_start(id, "")
        .await
        .map_err(|error| start_failure(session, &error))?;
    stay_joined(session, client, id, stream, waiting, joined).await
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
