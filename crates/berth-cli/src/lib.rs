//! The client: commands, configuration, output, prompts.
//!
//! Owns the words of the command line, the requests they become, and what is shown of the answers.
//! Does not own any decision about containers; everything goes through the API, so that this client
//! has no more power than any other.
//!
//! One run: the program's options → the command's flags ([`flags`]) → a request (pure functions in
//! [`options`] and the commands) → [`berth_api::Client`] → text ([`output`]).

mod autostart;
mod commands;
mod config;
mod credentials;
mod detach_keys;
mod failure;
mod flags;
mod help;
mod interactive;
mod limits;
mod options;
mod output;
mod program;
mod prompt;
mod quote;
mod session;
mod terminal;

use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::process::ExitCode;

use commands::{Called, GROUPS};
use failure::Failure;
use flags::{Flag, FlagError, Operands};
use program::Program;
use session::{GlobalOptions, Session};

/// Options before the command.
pub(crate) fn global_flags() -> Vec<Flag> {
    vec![
        Flag::text("config", "Directory of the user's configuration files").or(""),
        Flag::text(
            "context",
            "Name of the context to use; only \"default\" exists",
        )
        .short('c'),
        Flag::switch("debug", "Tell more about errors").short('D'),
        Flag::text(
            "host",
            "Engine to talk to, as unix://PATH or tcp://NAME:PORT",
        )
        .short('H'),
        Flag::one(
            "log-level",
            "string",
            check_log_level,
            "Least serious messages to show: debug, info, warn, error or fatal",
        )
        .short('l')
        .or("info"),
        Flag::switch("tls", "Talk to the engine over TLS"),
        Flag::text(
            "tlscacert",
            "Trust certificates signed by this authority only",
        ),
        Flag::text("tlscert", "TLS certificate of the client"),
        Flag::text("tlskey", "TLS key of the client"),
        Flag::switch("tlsverify", "Talk over TLS and verify the engine"),
        Flag::switch("version", "Print the version and quit").short('v'),
    ]
}

fn check_log_level(level: &str) -> Result<(), String> {
    match level {
        "debug" | "info" | "warn" | "error" | "fatal" => Ok(()),
        _ => Err(format!("unable to parse logging level: {level}")),
    }
}

/// Runs the client. `args` is the whole command line; its first word is what the program was called.
#[must_use]
pub fn main(args: Vec<OsString>) -> ExitCode {
    let mut words = args.into_iter();
    let program = Program::called(&words.next().unwrap_or_default());
    let words: Vec<String> = words.map(|word: OsString| as_text(&word)).collect();
    match dispatch(program, &words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if !failure.message.is_empty() {
                // When standard error is closed, the status still tells.
                let _ = writeln!(std::io::stderr(), "{}", failure.message);
            }
            ExitCode::from(failure.status)
        }
    }
}

/// The word as text; requests are JSON and cannot carry other bytes.
fn as_text(word: &OsStr) -> String {
    word.to_string_lossy().into_owned()
}

fn dispatch(program: Program, words: &[String]) -> Result<(), Failure> {
    let flags = global_flags();
    let name = program.name();
    // The most common case needs no parser: the command comes first.
    let (options, words) = if words.first().is_some_and(|word| !word.starts_with('-')) {
        (GlobalOptions::default(), words.to_vec())
    } else {
        match flags::parse(&flags, Operands::EndFlags, words) {
            Ok(parsed) if parsed.switch("version") => return commands_version(program),
            Ok(parsed) => {
                let tls = ["tls", "tlsverify"].iter().any(|flag| parsed.switch(flag))
                    || ["tlscacert", "tlscert", "tlskey"]
                        .iter()
                        .any(|flag| parsed.given(flag));
                let options = GlobalOptions {
                    config: parsed.text("config").to_owned(),
                    host: parsed.given("host").then(|| parsed.text("host").to_owned()),
                    context: parsed.text("context").to_owned(),
                    debug: parsed.switch("debug"),
                    errors_only: matches!(parsed.text("log-level"), "error" | "fatal"),
                    tls,
                };
                (options, parsed.operands)
            }
            Err(FlagError::Help(_)) => return session::print(&help::of_program(program, &flags)),
            Err(FlagError::Bad(reason)) => {
                return Err(Failure::refused(format!(
                    "{reason}\n\nUsage:  {name} [OPTIONS] COMMAND [ARG...]\n\nRun '{name} --help' for more information"
                )));
            }
        }
    };
    let Some(first) = words.first() else {
        return session::print(&help::of_program(program, &flags));
    };
    if first == "help" {
        return help_for(program, &words[1..], &flags);
    }
    if let Some(group) = GROUPS.iter().find(|group| group.name == first) {
        return match words.get(1).map(String::as_str) {
            None => {
                // Asked for nothing in particular: the overview goes where hints go.
                let _ = std::io::stderr().write_all(help::of_group(program, group).as_bytes());
                Ok(())
            }
            Some("--help" | "-h" | "help") => session::print(&help::of_group(program, group)),
            Some(word) if word.starts_with('-') => Err(Failure::refused(format!(
                "unknown flag: {word}\n\nUsage:  {name} {first} COMMAND\n\nRun '{name} {first} --help' for more information"
            ))),
            Some(word) => match commands::find_in_group(group.name, word) {
                Some(called) => run(program, options, called, &words[2..]),
                None => Err(Failure::new(format!(
                    "{name}: unknown command: {name} {first} {word}\n\nUsage:  {name} {first}\n\nRun '{name} {first} --help' for more information"
                ))),
            },
        };
    }
    match commands::find_top(first) {
        Some(called) => run(program, options, called, &words[1..]),
        None => Err(unknown(program, first)),
    }
}

fn unknown(program: Program, word: &str) -> Failure {
    let name = program.name();
    Failure::new(format!(
        "{name}: unknown command: {name} {word}\n\nRun '{name} --help' for more information"
    ))
}

fn commands_version(program: Program) -> Result<(), Failure> {
    session::print(&format!(
        "{} version {}\n",
        program.product(),
        env!("CARGO_PKG_VERSION")
    ))
}

fn no_topic(word: &str) -> Failure {
    Failure::new(format!("unknown help topic: {word}"))
}

fn help_for(program: Program, words: &[String], flags: &[Flag]) -> Result<(), Failure> {
    let text = match words {
        [] => help::of_program(program, flags),
        [word] => match GROUPS.iter().find(|group| group.name == word) {
            Some(group) => help::of_group(program, group),
            None => help::of_command(
                program,
                &commands::find_top(word).ok_or_else(|| no_topic(word))?,
            ),
        },
        [group, word, ..] => {
            let called =
                commands::find_in_group(group, word).ok_or_else(|| no_topic(&words.join(" ")))?;
            help::of_command(program, &called)
        }
    };
    session::print(&text)
}

fn run(
    program: Program,
    options: GlobalOptions,
    called: Called,
    words: &[String],
) -> Result<(), Failure> {
    let flags = (called.spec.flags)();
    let (name, path) = (program.name(), called.path());
    let usage = help::usage_line(program, &called);
    let parsed = match flags::parse(&flags, called.spec.operands, words) {
        Ok(parsed) => parsed,
        Err(FlagError::Help(by_letter)) => {
            if by_letter {
                session::print("Flag shorthand -h has been deprecated, use --help\n")?;
            }
            return session::print(&help::of_command(program, &called));
        }
        Err(FlagError::Bad(reason)) => {
            return Err(Failure::refused(format!(
                "{reason}\n\n{usage}\n\nRun '{name} {path} --help' for more information"
            )));
        }
    };
    if let Some(reason) = commands::misfit(called.spec.arity, parsed.operands.len()) {
        let pointer = if matches!(called.spec.arity, commands::Arity::AtLeast(_)) {
            "See"
        } else {
            "Run"
        };
        return Err(Failure::new(format!(
            "{name}: '{name} {path}' {reason}\n\n{usage}\n\n{pointer} '{name} {path} --help' for more information"
        )));
    }
    let session = Session::new(program, options);
    for flag in &flags {
        if let Some(note) = flag.deprecated.filter(|_| parsed.given(flag.long)) {
            session.warn(&format!("Flag --{} has been deprecated, {note}", flag.long));
        }
    }
    let result = (called.spec.run)(&session, &parsed);
    session.close();
    result
}
