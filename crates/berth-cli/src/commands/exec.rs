//! `exec`: a further program in a running container.

use berth_api::{ExecConfig, ExecStartConfig, StrSlice};

use super::{Arity, Spec};
use crate::detach_keys;
use crate::failure::{Failure, STATUS_REFUSED, status_of_start_error};
use crate::flags::{Flag, Operands, Parsed};
use crate::interactive::{self, Ended, Joined, Target};
use crate::options::environment;
use crate::session::Session;
use crate::terminal;

pub(crate) const SPEC: Spec = Spec {
    group: "container",
    names: &["exec"],
    top: &["exec"],
    usage: "[OPTIONS] CONTAINER COMMAND [ARG...]",
    about: "Run a command in a running container",
    flags,
    operands: Operands::EndFlags,
    arity: Arity::AtLeast(2),
    run,
};

fn flags() -> Vec<Flag> {
    vec![
        Flag::switch("detach", "Leave the command in the background").short('d'),
        Flag::text("detach-keys", "Keys that leave the command running"),
        Flag::many(
            "env",
            "list",
            environment::check_variable,
            "Set an environment variable",
        )
        .short('e'),
        Flag::list("env-file", "Read environment variables from a file"),
        Flag::switch("interactive", "Keep standard input open").short('i'),
        Flag::switch("privileged", "Give the command all rights of the host"),
        Flag::switch("tty", "Give the command a terminal").short('t'),
        Flag::text("user", "User (and group) to run as: name|uid[:group|gid]").short('u'),
        Flag::text("workdir", "Directory to start in").short('w'),
    ]
}

fn run(session: &Session, parsed: &Parsed) -> Result<(), Failure> {
    let (container, config) = request(session, parsed)?;
    let detach = parsed.switch("detach");
    let joined = Joined {
        stdin: config.attach_stdin,
        stdout: config.attach_stdout,
        stderr: config.attach_stderr,
        tty: config.tty,
        detach_keys: detach_keys::parse(&config.detach_keys)?,
    };
    session.block_on(async {
        let client = session.client()?;
        if !detach && joined.stdin && joined.tty && !terminal::input_is_terminal() {
            // A container that does not exist is the more important news.
            client
                .container_inspect(&container, false)
                .await
                .map_err(|error| session.failure(error))?;
            terminal::check_input(true, true)?;
        }
        let created = client
            .exec_create(&container, &config)
            .await
            .map_err(|error| session.failure(error))?;
        let start = ExecStartConfig {
            detach,
            tty: config.tty,
            console_size: config.console_size,
        };
        let failed = |error| {
            let text = session.explain(&error);
            let status = match status_of_start_error(&text) {
                STATUS_REFUSED => 1,
                status => status,
            };
            Failure {
                status,
                message: text,
            }
        };
        if detach {
            return client
                .exec_start_detached(&created.id, &start)
                .await
                .map_err(failed);
        }
        let stream = client
            .exec_start(&created.id, &start)
            .await
            .map_err(failed)?;
        let target = Target::Exec(created.id.clone());
        let resize = async {
            if joined.tty && terminal::input_is_terminal() {
                interactive::follow_size(&client, &target).await
            } else {
                interactive::never().await
            }
        };
        let ended = tokio::select! {
            ended = interactive::join(stream, &joined, |error| session.explain(error)) => ended?,
            never = resize => match never {},
        };
        if ended == Ended::Detached {
            return Err(Failure::new("read escape sequence"));
        }
        let found = client
            .exec_inspect(&created.id)
            .await
            .map_err(|error| session.failure(error))?;
        match found.exit_code {
            None | Some(0) => Ok(()),
            // A status of a process has eight bits.
            Some(code) => Err(Failure::status((code & 0xff) as u8)),
        }
    })
}

fn request(session: &Session, parsed: &Parsed) -> Result<(String, ExecConfig), Failure> {
    let (container, command) = parsed
        .operands
        .split_first()
        .ok_or_else(|| Failure::new("exec needs a container and a command"))?;
    let look_up = |name: &str| std::env::var(name).ok();
    let mut env = Vec::new();
    for file in parsed.list("env-file") {
        env.extend(environment::read_file(&file, Some(&look_up))?);
    }
    env.extend(
        parsed
            .list("env")
            .iter()
            .map(|text| environment::variable(text, &look_up)),
    );
    let attached = !parsed.switch("detach");
    let tty = parsed.switch("tty");
    let config = ExecConfig {
        user: parsed.text("user").to_owned(),
        privileged: parsed.switch("privileged"),
        tty,
        console_size: tty
            .then(terminal::output_size)
            .filter(|size| *size != (0, 0))
            .map(|(height, width)| [height, width]),
        attach_stdin: attached && parsed.switch("interactive"),
        attach_stdout: attached,
        attach_stderr: attached,
        detach_keys: match parsed.text("detach-keys") {
            "" => session.config()?.detach_keys.clone(),
            keys => keys.to_owned(),
        },
        env: (!env.is_empty()).then_some(env),
        working_dir: parsed.text("workdir").to_owned(),
        cmd: Some(StrSlice(command.to_vec())),
        detach: false,
    };
    Ok((container.clone(), config))
}
