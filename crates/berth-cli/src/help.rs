//! Help texts and the sentences that point to them.

use std::fmt::Write;

use crate::commands::{COMMANDS, Called, GROUPS, Spec};
use crate::flags::{Flag, Kind};
use crate::program::Program;

/// Width of the column of flags before wide ones push their text right, in characters.
const NAME_COLUMN: usize = 12;

/// `Usage:  berth run [OPTIONS] IMAGE …`
pub(crate) fn usage_line(program: Program, called: &Called) -> String {
    let usage = called.spec.usage;
    let separator = if usage.is_empty() { "" } else { " " };
    format!(
        "Usage:  {} {}{separator}{usage}",
        program.name(),
        called.path()
    )
}

/// The help text of a command.
pub(crate) fn of_command(program: Program, called: &Called) -> String {
    let mut text = format!("{}\n\n{}\n", usage_line(program, called), called.spec.about);
    let aliases = aliases(program, called.spec);
    if aliases.len() > 1 {
        let _ = write!(text, "\nAliases:\n  {}\n", aliases.join(", "));
    }
    let flags: Vec<Flag> = (called.spec.flags)()
        .into_iter()
        .filter(|flag| !flag.hidden)
        .collect();
    if !flags.is_empty() {
        text.push_str("\nOptions:\n");
        text.push_str(&flag_lines(flags));
    }
    text
}

fn aliases(program: Program, spec: &Spec) -> Vec<String> {
    let grouped = spec.names.iter().map(|name| match spec.group {
        "" => format!("{} {name}", program.name()),
        group => format!("{} {group} {name}", program.name()),
    });
    grouped
        .chain(
            spec.top
                .iter()
                .map(|name| format!("{} {name}", program.name())),
        )
        .collect()
}

/// Flags by name, one per line, texts in one column.
fn flag_lines(mut flags: Vec<Flag>) -> String {
    flags.sort_by_key(|flag| flag.long);
    let lines: Vec<(String, String)> = flags
        .iter()
        .map(|flag| {
            let short = flag
                .short
                .map_or("    ".to_owned(), |short| format!("-{short}, "));
            let (value, default) = match flag.kind {
                Kind::Bool(false) => (String::new(), String::new()),
                Kind::Bool(true) => (String::new(), " (default true)".to_owned()),
                Kind::One {
                    value, default: "", ..
                } => (format!(" {value}"), String::new()),
                Kind::One { value, default, .. } => {
                    (format!(" {value}"), format!(" (default \"{default}\")"))
                }
                Kind::Many { value, .. } => (format!(" {value}"), String::new()),
            };
            (
                format!("  {short}--{}{value}", flag.long),
                format!("{}{default}", flag.help),
            )
        })
        .collect();
    let width = lines.iter().map(|(name, _)| name.len()).max().unwrap_or(0) + 3;
    lines.iter().fold(String::new(), |mut text, (name, help)| {
        let _ = writeln!(text, "{name:width$}{help}");
        text
    })
}

fn command_lines<'a>(commands: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    commands.fold(String::new(), |mut text, (name, about)| {
        let _ = writeln!(text, "  {name:width$}{about}", width = NAME_COLUMN);
        text
    })
}

/// The help text of a group.
pub(crate) fn of_group(program: Program, group: &crate::commands::Group) -> String {
    let mut commands: Vec<(&str, &str)> = COMMANDS
        .iter()
        .filter(|spec| spec.group == group.name)
        .map(|spec| (spec.names[0], spec.about))
        .collect();
    commands.sort_unstable();
    format!(
        "Usage:  {name} {group} COMMAND\n\n{about}\n\nCommands:\n{lines}\nRun '{name} {group} COMMAND --help' for more information on a command.\n",
        name = program.name(),
        group = group.name,
        about = group.about,
        lines = command_lines(commands.into_iter()),
    )
}

/// The help text of the program.
pub(crate) fn of_program(program: Program, global: &[Flag]) -> String {
    /// Commands that come first because they are wanted first.
    const COMMON: &[&str] = &["run", "exec", "ps", "pull", "images"];
    let name = program.name();
    let common = COMMON.iter().filter_map(|word| {
        crate::commands::find_top(word).map(|called| (*word, called.spec.about))
    });
    let groups = GROUPS.iter().map(|group| (group.name, group.about));
    let mut others: Vec<(&str, &str)> = COMMANDS
        .iter()
        .flat_map(|spec| {
            let names = if spec.group.is_empty() {
                spec.names
            } else {
                spec.top
            };
            names.iter().map(move |name| (*name, spec.about))
        })
        .filter(|(word, _)| !COMMON.contains(word))
        .collect();
    others.sort_unstable();
    format!(
        "Usage:  {name} [OPTIONS] COMMAND\n\nRun containers from images\n\nCommon Commands:\n{}\nManagement Commands:\n{}\nCommands:\n{}\nGlobal Options:\n{}\nRun '{name} COMMAND --help' for more information on a command.\n",
        command_lines(common),
        command_lines(groups),
        command_lines(others.into_iter()),
        flag_lines(global.iter().filter(|flag| !flag.hidden).copied().collect()),
    )
}
