//! `completion`: scripts that let shells complete commands and flags.

use clap_complete::Shell;

use super::{Arity, COMMANDS, GROUPS, Spec};
use crate::failure::Failure;
use crate::flags::{self, Operands, Parsed};
use crate::session::{self, Session};

pub(crate) const SPEC: Spec = Spec {
    group: "",
    names: &["completion"],
    top: &[],
    usage: "bash|zsh|fish",
    about: "Print the completion script for a shell",
    flags: Vec::new,
    operands: Operands::Mixed,
    arity: Arity::Exactly(1),
    run,
};

/// The whole tree of commands, as clap sees it.
fn tree(name: &'static str) -> clap::Command {
    let leaf = |spec: &Spec, name: &'static str| {
        flags::clap_command(name, &(spec.flags)(), Operands::Mixed).about(spec.about)
    };
    let mut root = flags::clap_command(name, &crate::global_flags(), Operands::Mixed);
    for spec in COMMANDS {
        let names = if spec.group.is_empty() {
            spec.names
        } else {
            spec.top
        };
        for name in names {
            root = root.subcommand(leaf(spec, name));
        }
    }
    for group in GROUPS {
        let mut node = clap::Command::new(group.name)
            .about(group.about)
            .disable_help_subcommand(true);
        for spec in COMMANDS.iter().filter(|spec| spec.group == group.name) {
            for name in spec.names {
                node = node.subcommand(leaf(spec, name));
            }
        }
        root = root.subcommand(node);
    }
    root
}

fn run(session: &Session, parsed: &Parsed) -> Result<(), Failure> {
    let shell = match parsed.operands[0].as_str() {
        "bash" => Shell::Bash,
        "zsh" => Shell::Zsh,
        "fish" => Shell::Fish,
        other => {
            return Err(Failure::new(format!(
                "no completion for the shell \"{other}\": use bash, zsh or fish"
            )));
        }
    };
    let name = session.program.name();
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut tree(name), name, &mut script);
    session::print(&String::from_utf8_lossy(&script))
}
