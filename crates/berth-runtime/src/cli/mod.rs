//! The command line of runc over this library, so that other engines can use it in its place.
//!
//! Owns flags, exit codes, and where errors are written: standard error, and with `--log` a file in the form that
//! callers parse. A failure ends with exit code 1, `run` and a foreground `exec` with the program's code.

mod documents;
mod flags;
mod foreground;
mod lifecycle;
mod limits;
mod process;

use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use berth_sys::{executable, process as sys_process};
use berth_types::timestamp::Timestamp;

use crate::error::RuntimeError;
use flags::{AfterWords, Flag, Parsed, parse, switch, value};

/// Where containers' states are kept when nothing else is said.
pub const DEFAULT_ROOT: &str = "/run/berth/runtime";

/// Set when this process was started from a sealed view of the executable by itself.
const SEALED: &str = "_BERTH_RUNTIME_SEALED";

/// A failure of the command line: the words, or an error of the library.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The command was not given rightly.
    Usage(String),
    /// It could not be done.
    Runtime(RuntimeError),
}

impl From<RuntimeError> for Failure {
    fn from(error: RuntimeError) -> Self {
        Self::Runtime(error)
    }
}

impl From<berth_sys::Error> for Failure {
    fn from(error: berth_sys::Error) -> Self {
        Self::Runtime(error.into())
    }
}

impl From<String> for Failure {
    fn from(words: String) -> Self {
        Self::Usage(words)
    }
}

impl Failure {
    fn text(&self) -> String {
        match self {
            Self::Usage(words) => words.clone(),
            Self::Runtime(error) => error.chain(),
        }
    }
}

/// Settings before the command's name.
#[derive(Debug)]
pub(crate) struct Global {
    root: PathBuf,
    systemd_cgroup: bool,
    log: Option<PathBuf>,
    log_json: bool,
    debug: bool,
}

const GLOBAL_FLAGS: &[Flag] = &[
    switch(&["debug"], "write more into the log"),
    value(&["log"], "file the log goes to"),
    value(&["log-format"], "text or json"),
    value(&["root"], "directory of containers' states"),
    value(&["rootless"], "ignored; runs with the rights it has"),
    value(&["criu"], "ignored"),
    switch(
        &["systemd-cgroup"],
        "linux.cgroupsPath has the form slice:prefix:name",
    ),
    switch(&["help", "h"], "show this text"),
    switch(&["version", "v"], "show the version"),
];

/// What a command gets.
#[derive(Debug)]
pub(crate) struct Call<'a> {
    global: &'a Global,
    flags: Parsed,
}

impl Call<'_> {
    /// The container id, which is the first word.
    fn id(&self) -> Result<&str, Failure> {
        self.flags
            .words
            .first()
            .map(String::as_str)
            .filter(|id| !id.is_empty())
            .ok_or_else(|| Failure::Usage("container id cannot be empty".to_owned()))
    }

    fn container(&self) -> Result<crate::Container, Failure> {
        Ok(crate::Container::load(&self.global.root, self.id()?)?)
    }

    /// Tells what was not done exactly as asked.
    fn note(&self, notes: &[String]) {
        for note in notes {
            self.global.write_log("warning", note);
        }
    }
}

type Run = fn(&Call<'_>) -> Result<u8, Failure>;

/// One command.
struct Command {
    name: &'static str,
    words: &'static str,
    help: &'static str,
    flags: &'static [&'static [Flag]],
    /// It has a process that enters a container, so it must not run from a file that can be written.
    sealed: bool,
    run: Run,
}

const COMMANDS: &[Command] = &[
    Command {
        name: "create",
        words: "CONTAINER",
        help: "make a container from the bundle, up to its program",
        flags: &[lifecycle::CREATE_FLAGS],
        sealed: true,
        run: lifecycle::create,
    },
    Command {
        name: "start",
        words: "CONTAINER",
        help: "execute the program of a container that was made",
        flags: &[],
        sealed: false,
        run: lifecycle::start,
    },
    Command {
        name: "run",
        words: "CONTAINER",
        help: "create and start a container",
        flags: &[lifecycle::CREATE_FLAGS, lifecycle::RUN_FLAGS],
        sealed: true,
        run: lifecycle::run,
    },
    Command {
        name: "state",
        words: "CONTAINER",
        help: "show the state of a container",
        flags: &[],
        sealed: false,
        run: lifecycle::state,
    },
    Command {
        name: "kill",
        words: "CONTAINER [SIGNAL]",
        help: "send a signal, by default TERM, to a container's first process",
        flags: &[lifecycle::KILL_FLAGS],
        sealed: false,
        run: lifecycle::kill,
    },
    Command {
        name: "delete",
        words: "CONTAINER",
        help: "remove what is kept of a container",
        flags: &[lifecycle::DELETE_FLAGS],
        sealed: false,
        run: lifecycle::delete,
    },
    Command {
        name: "exec",
        words: "CONTAINER COMMAND [ARGUMENT...]",
        help: "run one more process in a container",
        flags: &[process::EXEC_FLAGS],
        sealed: true,
        run: process::exec,
    },
    Command {
        name: "ps",
        words: "CONTAINER [PS OPTION...]",
        help: "show the processes of a container",
        flags: &[process::FORMAT_FLAGS],
        sealed: false,
        run: process::ps,
    },
    Command {
        name: "pause",
        words: "CONTAINER",
        help: "freeze every process of a container",
        flags: &[],
        sealed: false,
        run: lifecycle::pause,
    },
    Command {
        name: "resume",
        words: "CONTAINER",
        help: "let every process of a container go on",
        flags: &[],
        sealed: false,
        run: lifecycle::resume,
    },
    Command {
        name: "update",
        words: "CONTAINER",
        help: "change the limits of a container",
        flags: &[limits::UPDATE_FLAGS],
        sealed: false,
        run: limits::update,
    },
    Command {
        name: "list",
        words: "",
        help: "list the containers of the state directory",
        flags: &[process::FORMAT_FLAGS, lifecycle::LIST_FLAGS],
        sealed: false,
        run: lifecycle::list,
    },
    Command {
        name: "events",
        words: "CONTAINER",
        help: "show statistics and out-of-memory events",
        flags: &[limits::EVENTS_FLAGS],
        sealed: false,
        run: limits::events,
    },
    Command {
        name: "features",
        words: "",
        help: "show what this runtime can do",
        flags: &[],
        sealed: false,
        run: documents::features,
    },
    Command {
        name: "spec",
        words: "",
        help: "write a configuration to start from",
        flags: &[documents::SPEC_FLAGS],
        sealed: false,
        run: documents::spec,
    },
];

/// Commands of runc that this runtime does not have, and why.
const LEFT_OUT: &[(&str, &str)] = &[
    (
        "checkpoint",
        "this runtime cannot save the state of running programs",
    ),
    (
        "restore",
        "this runtime cannot save the state of running programs, and so has none to restore",
    ),
];

/// Runs the command line; `arguments` are those after the name of the executable.
pub fn main(arguments: Vec<OsString>) -> ExitCode {
    let words: Vec<String> = arguments
        .iter()
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    let parsed = match parse(&[GLOBAL_FLAGS], &words, AfterWords::Words) {
        Ok(parsed) => parsed,
        Err(text) => {
            write_error(&text);
            return ExitCode::FAILURE;
        }
    };
    if let Err(error) = berth_sys::signal::forget_inherited() {
        write_error(&crate::error::chain(&error));
        return ExitCode::FAILURE;
    }
    let global = Global {
        root: PathBuf::from(parsed.get("root").unwrap_or(DEFAULT_ROOT)),
        systemd_cgroup: parsed.has("systemd-cgroup"),
        log: parsed.get("log").map(PathBuf::from),
        log_json: parsed.get("log-format") == Some("json"),
        debug: parsed.has("debug"),
    };
    if parsed.has("version") {
        print(&documents::version());
        return ExitCode::SUCCESS;
    }
    let Some((name, rest)) = parsed.words.split_first() else {
        print(&overview());
        return ExitCode::SUCCESS;
    };
    if parsed.has("help") || name == "help" {
        print(&overview());
        return ExitCode::SUCCESS;
    }
    if let Some((_, why)) = LEFT_OUT.iter().find(|(known, _)| known == name) {
        return global.fail(&format!("{name}: {why}"));
    }
    let Some(command) = COMMANDS.iter().find(|command| command.name == name) else {
        return global.fail(&format!("unknown command {name:?}"));
    };
    if rest
        .iter()
        .take_while(|word| word.starts_with('-'))
        .any(|word| word == "--help" || word == "-h")
    {
        print(&help_of(command));
        return ExitCode::SUCCESS;
    }
    if command.sealed && std::env::var_os(SEALED).is_none() {
        // Comes back only when it cannot be done; then the process goes on as it is, with the reason in the log.
        if let Some(error) = run_sealed() {
            global.write_log("warning", &crate::error::chain(&error));
        }
    }
    let after = if matches!(command.name, "exec" | "ps") {
        AfterWords::Words
    } else {
        AfterWords::Flags
    };
    let outcome = parse(command.flags, rest, after)
        .map_err(Failure::Usage)
        .and_then(|flags| {
            (command.run)(&Call {
                global: &global,
                flags,
            })
        });
    match outcome {
        Ok(code) => ExitCode::from(code),
        Err(failure) => global.fail(&failure.text()),
    }
}

/// Starts this program once more from a view of its executable that nobody can write through (CVE-2019-5736).
///
/// `None` when it runs from such a view already.
fn run_sealed() -> Option<berth_sys::Error> {
    let open = std::fs::File::open("/proc/self/exe").ok()?;
    if executable::is_sealed(&open) {
        return None;
    }
    drop(open);
    let view = match executable::SealedExecutable::of_self() {
        Ok(view) => view,
        Err(error) => return Some(error),
    };
    let text = |word: OsString| std::ffi::CString::new(word.into_encoded_bytes()).ok();
    let arguments: Vec<_> = std::env::args_os().filter_map(text).collect();
    let environment: Vec<_> = std::env::vars_os()
        .map(|(mut entry, value)| {
            entry.push("=");
            entry.push(value);
            entry
        })
        .chain([OsString::from(format!("{SEALED}=1"))])
        .filter_map(text)
        .collect();
    Some(sys_process::execute_descriptor(
        &view,
        &arguments,
        &environment,
    ))
}

impl Global {
    /// As with runc, whose callers read either: a line of the log, on standard error without a file for it, and the
    /// plain words where the log goes elsewhere. A person at a terminal gets the plain words only.
    fn fail(&self, text: &str) -> ExitCode {
        let at_terminal = rustix::termios::isatty(rustix::stdio::stderr());
        if self.log.is_some() || !at_terminal {
            self.write_log("error", text);
        }
        if self.log.is_some() || at_terminal {
            write_error(text);
        }
        ExitCode::FAILURE
    }

    /// One line of the log; callers of the runtime look for the last error in it.
    fn write_log(&self, level: &str, text: &str) {
        let time = Timestamp::from_unix_nanoseconds(
            std::time::SystemTime::now()
                .duration_since(std::time::UNIX_EPOCH)
                .unwrap_or_default()
                .as_nanos() as i128,
        );
        let line = if self.log_json {
            serde_json::json!({"level": level, "msg": text, "time": time.to_string()}).to_string()
        } else {
            format!("time={:?} level={level} msg={text:?}", time.to_string())
        };
        match &self.log {
            Some(path) => {
                let file = std::fs::OpenOptions::new()
                    .create(true)
                    .append(true)
                    .open(path);
                if let Ok(mut file) = file {
                    // A log that cannot be written has nowhere to be told.
                    let _ = writeln!(file, "{line}");
                }
            }
            None if self.debug || level != "debug" => {
                let _ = writeln!(std::io::stderr(), "{line}");
            }
            None => {}
        }
    }
}

fn write_error(text: &str) {
    // Standard error may be closed; there is no other place.
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Writes to standard output; a reader that has gone away is no failure.
fn print(text: &str) {
    let mut output = std::io::stdout().lock();
    let _ = output.write_all(text.as_bytes());
    let _ = output.flush();
}

fn overview() -> String {
    let mut text = String::from(
        "An OCI runtime.\n\nUsage: berth runtime [OPTIONS] COMMAND [ARGUMENTS]\n\nCommands:\n",
    );
    for command in COMMANDS {
        text.push_str(&format!("  {:<10} {}\n", command.name, command.help));
    }
    text.push_str("\nOptions:\n");
    text.push_str(&flag_lines(&[GLOBAL_FLAGS]));
    text
}

fn help_of(command: &Command) -> String {
    format!(
        "Usage: berth runtime {} [OPTIONS] {}\n\n{}\n\nOptions:\n{}",
        command.name,
        command.words,
        command.help,
        flag_lines(command.flags)
    )
}

fn flag_lines(groups: &[&[Flag]]) -> String {
    groups
        .iter()
        .flat_map(|group| group.iter())
        .map(|flag| {
            let names: Vec<String> = flag
                .names
                .iter()
                .map(|name| {
                    if name.len() == 1 {
                        format!("-{name}")
                    } else {
                        format!("--{name}")
                    }
                })
                .collect();
            let names = names.join(", ") + if flag.takes_value { " VALUE" } else { "" };
            format!("  {names:<34} {}\n", flag.help)
        })
        .collect()
}
