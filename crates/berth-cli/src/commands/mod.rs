//! The commands, as a table: names, arguments, flags, and the function that carries each out.

use crate::failure::Failure;
use crate::flags::{Flag, Operands, Parsed};
use crate::session::Session;

mod attach;
mod commit;
mod completion;
mod container_flags;
mod container_request;
mod cp;
mod create;
mod diff;
mod events;
mod exec;
mod export;
mod history;
mod image_why;
mod images;
mod images_tree;
mod import;
mod info;
mod inspect;
mod kill;
mod load;
mod login;
mod logout;
mod logs;
mod manifest;
mod manifest_referrers;
mod manifest_store;
mod many;
mod network_connect;
mod network_create;
mod network_ls;
mod network_rm;
mod pause;
mod port;
mod ports;
mod prune;
mod ps;
mod pull;
mod push;
mod rename;
mod restart;
mod rm;
mod rmi;
mod run;
mod save;
mod search;
mod start;
mod stats;
mod stop;
mod system_check;
mod system_df;
mod tag;
mod top;
mod update;
mod version;
mod volume_archive;
mod volume_copy;
mod volume_create;
mod volume_ls;
mod volume_rm;
mod volume_update;
mod wait;

/// How many operands a command takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arity {
    /// None at all.
    None,
    /// Exactly so many.
    Exactly(usize),
    /// So many or more.
    AtLeast(usize),
    /// So many or fewer.
    AtMost(usize),
    /// From one number to the other.
    Between(usize, usize),
}

/// A command.
pub(crate) struct Spec {
    /// The group it belongs to (`container`, `image`, `network`, `volume`, `system`); empty for none.
    pub(crate) group: &'static str,
    /// Its name in the group, then its other names there.
    pub(crate) names: &'static [&'static str],
    /// Its names without a group.
    pub(crate) top: &'static [&'static str],
    /// What follows the name.
    pub(crate) usage: &'static str,
    /// One sentence on what it does.
    pub(crate) about: &'static str,
    /// Its flags.
    pub(crate) flags: fn() -> Vec<Flag>,
    /// Where operands may stand.
    pub(crate) operands: Operands,
    /// How many operands it takes.
    pub(crate) arity: Arity,
    /// Carries it out.
    pub(crate) run: fn(&Session, &Parsed) -> Result<(), Failure>,
}

/// A group of commands.
pub(crate) struct Group {
    /// Its name.
    pub(crate) name: &'static str,
    /// One sentence on what its commands do.
    pub(crate) about: &'static str,
}

/// The groups, in the order of the help text.
pub(crate) const GROUPS: &[Group] = &[
    Group {
        name: "container",
        about: "Make, run and look after containers",
    },
    Group {
        name: "image",
        about: "Fetch, send, list and remove images",
    },
    Group {
        name: "manifest",
        about: "Make and look at lists of images for several platforms",
    },
    Group {
        name: "network",
        about: "Make, join and look after networks",
    },
    Group {
        name: "volume",
        about: "Make, look after and copy volumes",
    },
    Group {
        name: "system",
        about: "Look at the engine and what it uses",
    },
];

/// All commands, in the order of the help text.
pub(crate) const COMMANDS: &[&Spec] = &[
    &run::SPEC,
    &exec::SPEC,
    &ps::SPEC,
    &pull::SPEC,
    &push::SPEC,
    &images::SPEC,
    &login::SPEC,
    &logout::SPEC,
    &search::SPEC,
    &attach::SPEC,
    &commit::SPEC,
    &cp::SPEC,
    &create::SPEC,
    &diff::SPEC,
    &export::SPEC,
    &inspect::CONTAINER,
    &kill::SPEC,
    &logs::SPEC,
    &pause::PAUSE,
    &port::SPEC,
    &ports::SPEC,
    &prune::CONTAINER,
    &rename::SPEC,
    &restart::SPEC,
    &rm::SPEC,
    &start::SPEC,
    &stats::SPEC,
    &stop::SPEC,
    &top::SPEC,
    &pause::UNPAUSE,
    &update::SPEC,
    &wait::SPEC,
    &history::SPEC,
    &import::SPEC,
    &inspect::IMAGE,
    &load::SPEC,
    &prune::IMAGE,
    &rmi::SPEC,
    &save::SPEC,
    &tag::SPEC,
    &image_why::SPEC,
    &manifest::ANNOTATE,
    &manifest::CREATE,
    &manifest::INSPECT,
    &manifest::PUSH,
    &manifest_referrers::SPEC,
    &manifest::RM,
    &network_connect::CONNECT,
    &network_create::SPEC,
    &network_connect::DISCONNECT,
    &inspect::NETWORK,
    &network_ls::SPEC,
    &prune::NETWORK,
    &network_rm::SPEC,
    &volume_copy::CLONE,
    &volume_create::SPEC,
    &volume_archive::EXPORT,
    &volume_archive::IMPORT,
    &inspect::VOLUME,
    &volume_ls::SPEC,
    &prune::VOLUME,
    &volume_copy::RENAME,
    &volume_rm::SPEC,
    &volume_copy::SNAPSHOT,
    &volume_update::SPEC,
    &inspect::ANY,
    &events::SPEC,
    &info::SPEC,
    &system_check::SPEC,
    &system_df::SPEC,
    &prune::SYSTEM,
    &version::SPEC,
    &completion::SPEC,
];

/// A command as it was called.
#[derive(Clone, Copy)]
pub(crate) struct Called {
    /// The command.
    pub(crate) spec: &'static Spec,
    /// The words it was called by, in their full form.
    pub(crate) group: &'static str,
    /// Its name in that place.
    pub(crate) name: &'static str,
}

impl Called {
    /// `container ls` or `ps`.
    pub(crate) fn path(&self) -> String {
        if self.group.is_empty() {
            self.name.to_owned()
        } else {
            format!("{} {}", self.group, self.name)
        }
    }
}

/// Finds a command without its group.
pub(crate) fn find_top(word: &str) -> Option<Called> {
    COMMANDS.iter().find_map(|spec| {
        let names = if spec.group.is_empty() {
            spec.names
        } else {
            spec.top
        };
        let name = names.iter().find(|name| **name == word)?;
        Some(Called {
            spec,
            group: "",
            name,
        })
    })
}

/// Finds a command in a group.
pub(crate) fn find_in_group(group: &str, word: &str) -> Option<Called> {
    COMMANDS
        .iter()
        .find(|spec| spec.group == group && spec.names.contains(&word))
        .map(|spec| Called {
            spec,
            group: spec.group,
            name: spec.names[0],
        })
}

/// Why a number of operands does not fit; `None` when it does.
pub(crate) fn misfit(arity: Arity, count: usize) -> Option<String> {
    let arguments = |number: usize| {
        if number == 1 {
            "1 argument".to_owned()
        } else {
            format!("{number} arguments")
        }
    };
    match arity {
        Arity::None if count > 0 => Some("accepts no arguments".to_owned()),
        Arity::Exactly(wanted) if count != wanted => {
            Some(format!("requires {}", arguments(wanted)))
        }
        Arity::AtLeast(wanted) if count < wanted => {
            Some(format!("requires at least {}", arguments(wanted)))
        }
        Arity::AtMost(wanted) if count > wanted => {
            Some(format!("requires at most {}", arguments(wanted)))
        }
        Arity::Between(least, most) if count < least || count > most => Some(format!(
            "requires at least {least} and at most {}",
            arguments(most)
        )),
        _ => None,
    }
}
