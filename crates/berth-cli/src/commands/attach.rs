//! `attach`: a terminal for a container that runs already.

use berth_api::{AttachOptions, WaitCondition};

use super::{Arity, Spec, run as run_command};
use crate::failure::Failure;
use crate::flags::{Flag, Operands, Parsed};
use crate::interactive::{self, Caught, Ended, Joined, Target};
use crate::session::Session;
use crate::terminal;

pub(crate) const SPEC: Spec = Spec {
    group: "container",
    names: &["attach"],
    top: &["attach"],
    usage: "[OPTIONS] CONTAINER",
    about: "Join a running container's input and output with this terminal's",
    flags: || {
        vec![
            Flag::text("detach-keys", "Keys that leave the container running"),
            Flag::switch("no-stdin", "Do not attach standard input"),
            Flag::switch("sig-proxy", "Pass signals on to the container").on(),
        ]
    },
    operands: Operands::Mixed,
    arity: Arity::Exactly(1),
    run,
};

fn run(session: &Session, parsed: &Parsed) -> Result<(), Failure> {
    let (keys, detach_keys) = session.detach_keys(parsed)?;
    session.block_on(async {
        let client = session.client()?;
        let name = &parsed.operands[0];
        let found = client
            .container_inspect(name, false)
            .await
            .map_err(|error| session.failure(error))?;
        let state = &found.state;
        if !state.running {
            return Err(Failure::new(
                "You cannot attach to a stopped container, start it first",
            ));
        }
        if state.paused {
            return Err(Failure::new(
                "You cannot attach to a paused container, unpause it first",
            ));
        }
        if state.restarting {
            return Err(Failure::new(
                "You cannot attach to a restarting container, wait until it is running",
            ));
        }
        let with_stdin = !parsed.switch("no-stdin");
        terminal::check_input(with_stdin, found.config.tty)?;
        let id = found.id.as_str();
        let joined = Joined {
            stdin: with_stdin && found.config.open_stdin,
            stdout: true,
            stderr: true,
            tty: found.config.tty,
            detach_keys,
        };
        let caught = Caught::new(parsed.switch("sig-proxy") && !joined.tty);
        let options = AttachOptions {
            stream: true,
            stdin: joined.stdin,
            stdout: true,
            stderr: true,
            detach_keys: keys.clone(),
            ..AttachOptions::default()
        };
        let (stream, waiting) = tokio::try_join!(
            client.container_attach(id, &options),
            client.container_wait(id, WaitCondition::NotRunning)
        )
        .map_err(|error| session.failure(error))?;
        let target = Target::Container(id.to_owned());
        let resize = async {
            if !joined.tty || !terminal::output_is_terminal() {
                return interactive::never().await;
            }
            // A program redraws its screen only when the size changes, so it is changed and back.
            let (height, width) = terminal::output_size();
            let _ = client.container_resize(id, height + 1, width + 1).await;
            interactive::follow_size(&client, &target).await
        };
        let ended = tokio::select! {
            ended = interactive::join(stream, &joined, |error| session.explain(error)) => ended?,
            never = resize => match never {},
            never = caught.forward(&client, id) => match never {},
        };
        match ended {
            Ended::Detached => Err(Failure::new("read escape sequence")),
            Ended::Output => run_command::exit_status(session, waiting).await,
        }
    })
}
