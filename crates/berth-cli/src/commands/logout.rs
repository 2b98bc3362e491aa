//! `logout`: credentials of a registry, forgotten.

use super::{Arity, Spec};
use crate::config::ConfigFile;
use crate::credentials::{DOCKER_HUB, key_of};
use crate::failure::Failure;
use crate::flags::{Operands, Parsed};
use crate::session::{self, Session};

pub(crate) const SPEC: Spec = Spec {
    group: "",
    names: &["logout"],
    top: &[],
    usage: "[SERVER]",
    about: "Log out of a registry",
    flags: Vec::new,
    operands: Operands::Mixed,
    arity: Arity::AtMost(1),
    run,
};

fn run(session: &Session, parsed: &Parsed) -> Result<(), Failure> {
    let given = parsed.operands.first().map_or("", String::as_str);
    let key = key_of(given);
    if ConfigFile::variable_decides() {
        session
            .warning("DOCKER_AUTH_CONFIG is set, and decides about credentials as long as it is.");
    }
    session::print(&format!("Removing login credentials for {key}\n"))?;
    let directory = session.config_directory();
    // Helpers know a registry by the key that it was stored under, which other clients may have written otherwise.
    let mut keys = vec![key.clone()];
    if key != DOCKER_HUB {
        keys.extend([format!("http://{key}"), format!("https://{key}")]);
        if !keys.iter().any(|known| known == given) {
            keys.push(given.to_owned());
        }
    }
    let config = session.config()?;
    let failures: Vec<(String, Failure)> = keys
        .iter()
        .filter_map(|key| Some((key.clone(), config.erase(&directory, key).err()?)))
        .collect();
    // One that succeeded is enough.
    if failures.len() == keys.len() {
        session.warning("could not erase credentials:");
        for (key, failure) in failures {
            session.warn(&format!("{key}: {}", failure.message));
        }
    }
    Ok(())
}
