//! Flags as data, and their parsing.
//!
//! A command's flags are a table of [`Flag`]; clap does the parsing and this module gives it the
//! grammar users of docker know: a bool may be `--rm`, `--rm=false` or part of `-it`, a flag may be
//! given again (the last one counts, lists collect), any value may start with a dash, and for
//! commands that take a command line of their own (`run`, `exec`) flags end at the first operand.
//! Errors come out in the words and with the exit status (125) that docker uses.

use std::fmt;

use clap::builder::ValueParser;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, ArgMatches};

use crate::quote::go_quote;

/// A function that judges a value at the moment the flag is read; the text tells what is wrong.
pub(crate) type Check = fn(&str) -> Result<(), String>;

/// What a flag takes.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    /// On or off, and what it is when not given.
    Bool(bool),
    /// One value; the last one given counts.
    One {
        /// The word for the value in help texts.
        value: &'static str,
        /// Judges a value; `None` takes everything.
        check: Option<Check>,
        /// What counts when the flag is not given.
        default: &'static str,
    },
    /// Any number of values, collected in order.
    Many {
        /// The word for the value in help texts.
        value: &'static str,
        /// Judges each value; `None` takes everything.
        check: Option<Check>,
    },
}

/// One flag of a command.
#[derive(Clone, Copy)]
pub(crate) struct Flag {
    /// Name after the two dashes.
    pub(crate) long: &'static str,
    /// Letter after one dash.
    pub(crate) short: Option<char>,
    /// What it takes.
    pub(crate) kind: Kind,
    /// One line for the help text.
    pub(crate) help: &'static str,
    /// Understood, but not in the help text.
    pub(crate) hidden: bool,
    /// Name of the flag that this one is another spelling of.
    pub(crate) same_as: Option<&'static str>,
    /// Sentence to print when it is used, for flags on their way out.
    pub(crate) deprecated: Option<&'static str>,
}

impl Flag {
    const fn base(long: &'static str, short: Option<char>, kind: Kind, help: &'static str) -> Self {
        Self {
            long,
            short,
            kind,
            help,
            hidden: false,
            same_as: None,
            deprecated: None,
        }
    }

    /// A switch that is off unless given.
    pub(crate) const fn switch(long: &'static str, help: &'static str) -> Self {
        Self::base(long, None, Kind::Bool(false), help)
    }

    /// A text value.
    pub(crate) const fn text(long: &'static str, help: &'static str) -> Self {
        Self::base(
            long,
            None,
            Kind::One {
                value: "string",
                check: None,
                default: "",
            },
            help,
        )
    }

    /// One value with its own word for help texts and a check.
    pub(crate) const fn one(
        long: &'static str,
        value: &'static str,
        check: Check,
        help: &'static str,
    ) -> Self {
        Self::base(
            long,
            None,
            Kind::One {
                value,
                check: Some(check),
                default: "",
            },
            help,
        )
    }

    /// A list of texts.
    pub(crate) const fn list(long: &'static str, help: &'static str) -> Self {
        Self::base(
            long,
            None,
            Kind::Many {
                value: "list",
                check: None,
            },
            help,
        )
    }

    /// Names with values; a word alone is a name with an empty one.
    pub(crate) const fn map(long: &'static str, help: &'static str) -> Self {
        Self::base(
            long,
            None,
            Kind::Many {
                value: "map",
                check: None,
            },
            help,
        )
    }

    /// A list of checked values.
    pub(crate) const fn many(
        long: &'static str,
        value: &'static str,
        check: Check,
        help: &'static str,
    ) -> Self {
        Self::base(
            long,
            None,
            Kind::Many {
                value,
                check: Some(check),
            },
            help,
        )
    }

    /// The same flag with a letter.
    pub(crate) const fn short(mut self, short: char) -> Self {
        self.short = Some(short);
        self
    }

    /// The same flag with a value that counts when it is not given.
    pub(crate) const fn or(mut self, default: &'static str) -> Self {
        if let Kind::One { value, check, .. } = self.kind {
            self.kind = Kind::One {
                value,
                check,
                default,
            };
        }
        self
    }

    /// The same switch, on unless turned off.
    pub(crate) const fn on(mut self) -> Self {
        self.kind = Kind::Bool(true);
        self
    }

    /// Another spelling of the flag `name`.
    pub(crate) const fn spelling_of(mut self, name: &'static str) -> Self {
        self.same_as = Some(name);
        self.hidden = true;
        self
    }

    /// The same flag, told to be on its way out when used.
    pub(crate) const fn deprecated(mut self, note: &'static str) -> Self {
        self.deprecated = Some(note);
        self.hidden = true;
        self
    }

    /// `-m, --memory` or `--rm`, as messages and help texts write it.
    pub(crate) fn written(&self) -> String {
        match self.short {
            Some(short) => format!("-{short}, --{}", self.long),
            None => format!("--{}", self.long),
        }
    }

    fn to_arg(self) -> Arg {
        let mut arg = Arg::new(self.long)
            .long(self.long)
            .hide(self.hidden)
            .help(self.help);
        if let Some(short) = self.short {
            arg = arg.short(short);
        }
        match self.kind {
            Kind::Bool(_) => arg
                .num_args(0..=1)
                .require_equals(true)
                .default_missing_value("true")
                .action(ArgAction::Set)
                .value_parser(self.parser(Some(check_bool))),
            Kind::One { value, check, .. } => arg
                .value_name(value)
                .num_args(1)
                .allow_hyphen_values(true)
                .action(ArgAction::Set)
                .value_parser(self.parser(check)),
            Kind::Many { value, check } => arg
                .value_name(value)
                .num_args(1)
                .allow_hyphen_values(true)
                .action(ArgAction::Append)
                .value_parser(self.parser(check)),
        }
    }

    fn parser(self, check: Option<Check>) -> ValueParser {
        ValueParser::from(move |value: &str| -> Result<String, BadValue> {
            if let Some(check) = check {
                check(value).map_err(|reason| {
                    BadValue(format!(
                        "invalid argument {} for \"{}\" flag: {reason}",
                        go_quote(value),
                        self.written()
                    ))
                })?;
            }
            Ok(value.to_owned())
        })
    }
}

/// A whole sentence about a value that a flag does not take.
#[derive(Debug, Clone)]
struct BadValue(String);

impl fmt::Display for BadValue {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for BadValue {}

/// The texts Go's `strconv.ParseBool` takes, as a bool.
pub(crate) fn parse_bool(value: &str) -> Option<bool> {
    match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

fn check_bool(value: &str) -> Result<(), String> {
    match parse_bool(value) {
        Some(_) => Ok(()),
        None => Err(format!(
            "strconv.ParseBool: parsing {}: invalid syntax",
            go_quote(value)
        )),
    }
}

/// Where operands may stand among flags.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Operands {
    /// Flags and operands in any order.
    Mixed,
    /// The first operand ends the flags: what follows belongs to it.
    EndFlags,
}

/// What a command line said.
#[derive(Debug)]
pub(crate) struct Parsed {
    matches: ArgMatches,
    flags: Vec<(&'static str, Option<&'static str>, DefaultValue)>,
    /// Operands in order.
    pub(crate) operands: Vec<String>,
}

#[derive(Debug, Clone, Copy)]
enum DefaultValue {
    Bool(bool),
    Text(&'static str),
    Nothing,
}

impl Parsed {
    fn spellings<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'static str> + 'a {
        debug_assert!(
            self.flags.iter().any(|(long, ..)| *long == name),
            "no flag named {name}"
        );
        self.flags
            .iter()
            .filter(move |(long, same_as, _)| *long == name || *same_as == Some(name))
            .map(|(long, ..)| *long)
    }

    /// Whether the flag was on the command line.
    pub(crate) fn given(&self, name: &str) -> bool {
        self.spellings(name)
            .any(|long| self.matches.contains_id(long))
    }

    /// A switch.
    pub(crate) fn switch(&self, name: &str) -> bool {
        let default = self
            .flags
            .iter()
            .any(|(long, _, default)| *long == name && matches!(default, DefaultValue::Bool(true)));
        self.last(name).and_then(parse_bool).unwrap_or(default)
    }

    /// One value: the last given, else the default, else nothing.
    pub(crate) fn text(&self, name: &str) -> &str {
        self.last(name).unwrap_or_else(|| {
            self.flags
                .iter()
                .find_map(|(long, _, default)| match default {
                    DefaultValue::Text(text) if *long == name => Some(*text),
                    _ => None,
                })
                .unwrap_or("")
        })
    }

    /// All values in order of the command line.
    pub(crate) fn list(&self, name: &str) -> Vec<String> {
        let mut found: Vec<(usize, &String)> = Vec::new();
        for long in self.spellings(name) {
            if let (Some(values), Some(indices)) = (
                self.matches.get_many::<String>(long),
                self.matches.indices_of(long),
            ) {
                found.extend(indices.zip(values));
            }
        }
        found.sort_by_key(|(index, _)| *index);
        found.into_iter().map(|(_, value)| value.clone()).collect()
    }

    fn last(&self, name: &str) -> Option<&str> {
        self.spellings(name)
            .filter_map(|long| {
                let index = self.matches.indices_of(long)?.next_back()?;
                let value = self.matches.get_many::<String>(long)?.next_back()?;
                Some((index, value.as_str()))
            })
            .max_by_key(|(index, _)| *index)
            .map(|(_, value)| value)
    }
}

/// Why a command line was not understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum FlagError {
    /// `--help` (or `-h`) was asked for; the bool tells whether by the letter.
    Help(bool),
    /// The sentence to show.
    Bad(String),
}

/// The clap command for a flag table.
pub(crate) fn clap_command(
    name: &'static str,
    flags: &[Flag],
    operands: Operands,
) -> clap::Command {
    let mut command = clap::Command::new(name)
        .no_binary_name(true)
        .disable_help_flag(true)
        .disable_help_subcommand(true)
        .disable_version_flag(true)
        .args_override_self(true);
    for flag in flags {
        command = command.arg(flag.to_arg());
    }
    let mut help = Arg::new("help")
        .long("help")
        .action(ArgAction::SetTrue)
        .help("Show this text");
    if flags.iter().any(|flag| flag.long == "help") {
        return with_operands(command, operands);
    }
    if !flags.iter().any(|flag| flag.short == Some('h')) {
        help = help.short('h');
    }
    with_operands(command.arg(help), operands)
}

fn with_operands(command: clap::Command, operands: Operands) -> clap::Command {
    match operands {
        Operands::Mixed => command.arg(Arg::new(OPERANDS).num_args(0..).action(ArgAction::Append)),
        Operands::EndFlags => command.allow_external_subcommands(true),
    }
}

const OPERANDS: &str = "OPERANDS";

/// Reads a command line.
pub(crate) fn parse(
    flags: &[Flag],
    operands: Operands,
    words: &[String],
) -> Result<Parsed, FlagError> {
    let command = clap_command("command", flags, operands);
    let mut matches = command
        .try_get_matches_from(words)
        .map_err(|error| explain(&error, words))?;
    if matches
        .try_get_one::<bool>("help")
        .ok()
        .flatten()
        .copied()
        .unwrap_or(false)
    {
        let by_letter = !words.iter().any(|word| word == "--help");
        return Err(FlagError::Help(by_letter));
    }
    let operands = match operands {
        Operands::Mixed => matches
            .remove_many::<String>(OPERANDS)
            .map(Iterator::collect)
            .unwrap_or_default(),
        Operands::EndFlags => match matches.remove_subcommand() {
            None => Vec::new(),
            Some((first, mut rest)) => {
                let mut all = vec![first];
                if let Some(values) = rest.remove_many::<std::ffi::OsString>("") {
                    all.extend(values.map(|value| value.to_string_lossy().into_owned()));
                }
                all
            }
        },
    };
    let flags = flags
        .iter()
        .map(|flag| {
            let default = match flag.kind {
                Kind::Bool(value) => DefaultValue::Bool(value),
                Kind::One { default, .. } => DefaultValue::Text(default),
                Kind::Many { .. } => DefaultValue::Nothing,
            };
            (flag.long, flag.same_as, default)
        })
        .collect();
    Ok(Parsed {
        matches,
        flags,
        operands,
    })
}

/// Turns clap's error into docker's words.
fn explain(error: &clap::Error, words: &[String]) -> FlagError {
    let context = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => text.clone(),
        _ => String::new(),
    };
    let text = match error.kind() {
        ErrorKind::ValueValidation => std::error::Error::source(error)
            .map(ToString::to_string)
            .unwrap_or_else(|| error.to_string()),
        ErrorKind::UnknownArgument | ErrorKind::InvalidSubcommand => {
            let argument = context(ContextKind::InvalidArg);
            unknown_flag(&argument, words)
        }
        ErrorKind::InvalidValue
        | ErrorKind::NoEquals
        | ErrorKind::WrongNumberOfValues
        | ErrorKind::TooFewValues => missing_value(words),
        _ => error
            .to_string()
            .lines()
            .next()
            .unwrap_or_default()
            .to_owned(),
    };
    FlagError::Bad(text)
}

fn unknown_flag(argument: &str, words: &[String]) -> String {
    if let Some(long) = argument.strip_prefix("--") {
        let name = long.split('=').next().unwrap_or_default();
        return format!("unknown flag: --{name}");
    }
    let letter = argument
        .trim_start_matches('-')
        .chars()
        .next()
        .unwrap_or('-');
    let rest = words
        .iter()
        .filter(|word| word.starts_with('-') && !word.starts_with("--"))
        .find_map(|word| word.find(letter).map(|at| word[at..].to_owned()))
        .unwrap_or_else(|| letter.to_string());
    format!("unknown shorthand flag: '{letter}' in -{rest}")
}

/// Only the last word of a command line can lack its value.
fn missing_value(words: &[String]) -> String {
    match words.last() {
        Some(word) if word.starts_with("--") => format!("flag needs an argument: {word}"),
        Some(word) => {
            let letter = word.chars().last().unwrap_or('-');
            format!("flag needs an argument: '{letter}' in -{letter}")
        }
        None => "flag needs an argument".to_owned(),
    }
}

#[cfg(test)]
mod tests;
