//! `start`: containers that were created or have ended.

use berth_api::{AttachOptions, WaitCondition};

use super::{Arity, Spec, run as run_command};
use crate::failure::Failure;
use crate::flags::{Flag, Operands, Parsed};
use crate::interactive::{Caught, Joined};
use crate::session::{self, Session};
use crate::terminal;

pub(crate) const SPEC: Spec = Spec {
    group: "container",
    names: &["start"],
    top: &["start"],
    usage: "[OPTIONS] CONTAINER [CONTAINER...]",
    about: "Start stopped containers",
    flags: || {
        vec![
            Flag::switch("attach", "Attach to output and pass signals on").short('a'),
            Flag::text("checkpoint", "Start from this checkpoint"),
            Flag::text("checkpoint-dir", "Directory of the checkpoint"),
            Flag::text("detach-keys", "Keys that leave the container running"),
            Flag::switch("interactive", "Attach to standard input").short('i'),
        ]
    },
    operands: Operands::Mixed,
    arity: Arity::AtLeast(1),
    run,
};

fn run(session: &Session, parsed: &Parsed) -> Result<(), Failure> {
    let attach = parsed.switch("attach") || parsed.switch("interactive");
    if attach && parsed.operands.len() > 1 {
        return Err(Failure::new(
            "you cannot start and attach multiple containers at once",
        ));
    }
    if parsed.given("checkpoint") || parsed.given("checkpoint-dir") {
        return Err(Failure::new(
            "start from a checkpoint: checkpoints are not available in this version",
        ));
    }
    let (keys, detach_keys) = session.detach_keys(parsed)?;
    session.block_on(async {
        let client = session.client()?;
        if !attach {
            let mut failed = Vec::new();
            for name in &parsed.operands {
                match client.container_start(name, &keys).await {
                    Ok(_) => session::print(&format!("{name}\n"))?,
                    Err(error) => {
                        session.warn(&session.explain(&error));
                        failed.push(name.as_str());
                    }
                }
            }
            return if failed.is_empty() {
                Ok(())
            } else {
                Err(Failure::new(format!(
                    "Error: failed to start containers: {}",
                    failed.join(", ")
                )))
            };
        }
        let name = &parsed.operands[0];
        let found = client
            .container_inspect(name, false)
            .await
            .map_err(|error| session.failure(error))?;
        let id = found.id.as_str();
        let joined = Joined {
            stdin: parsed.switch("interactive") && found.config.open_stdin,
            stdout: true,
            stderr: true,
            tty: found.config.tty,
            detach_keys,
        };
        terminal::check_input(joined.stdin, joined.tty)?;
        let caught = Caught::new(!joined.tty);
        let options = AttachOptions {
            stream: true,
            stdin: joined.stdin,
            stdout: true,
            stderr: true,
            detach_keys: keys.clone(),
            ..AttachOptions::default()
        };
        let condition = match &found.host_config.auto_remove {
            true => WaitCondition::Removed,
            false => WaitCondition::NextExit,
        };
        let (stream, waiting) = tokio::try_join!(
            client.container_attach(id, &options),
            client.container_wait(id, condition)
        )
        .map_err(|error| session.failure(error))?;
        let stay = async {
            client
                .container_start(id, "")
                .await
                .map_err(|error| session.failure(error))?;
            run_command::stay_joined(session, &client, id, stream, waiting, &joined).await
        };
        tokio::select! {
            result = stay => result,
            never = caught.forward(&client, id) => match never {},
        }
    })
}
