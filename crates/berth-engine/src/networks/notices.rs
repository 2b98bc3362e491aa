//! What other programs change of the host's network: followed by threads that wait for the kernel's notices.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use berth_net::firewall::{self, Firewall, Watch};

use super::ground::{lock, of_firewall};
use crate::error::{EngineError, chain};

/// Time between two looks at rules that others change.
const HEAL_PAUSE: Duration = Duration::from_millis(100);
/// Time between two looks at rules of iptables-legacy, of whose changes the kernel tells nobody.
const LEGACY_PAUSE: Duration = Duration::from_secs(5);

/// What came of waiting for the kernel's notices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Notice {
    /// There may be something to read.
    There,
    /// The time is over.
    None,
    /// They cannot be waited for, which was told.
    Over,
}

/// Waits until there may be something to read, at most for a time.
pub(super) fn wait_for_notice(watch: &impl std::os::fd::AsFd, at_most: Option<Duration>) -> Notice {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let at_most = at_most.and_then(|time| Timespec::try_from(time).ok());
    match poll(&mut [PollFd::new(watch, PollFlags::IN)], at_most.as_ref()) {
        Ok(0) => Notice::None,
        Ok(_) | Err(rustix::io::Errno::INTR) => Notice::There,
        Err(error) => {
            tracing::error!(%error, "what others change of the network cannot be followed any more");
            Notice::Over
        }
    }
}

/// Tells what the operator has to do, each thing once.
pub(super) fn tell(warnings: Vec<firewall::Warning>, told: &mut Vec<firewall::Warning>) {
    for warning in &warnings {
        if !told.contains(warning) {
            tracing::warn!(command = warning.command, "{}", warning.text);
        }
    }
    *told = warnings;
}

/// Puts back what other programs take away. Ends with the process.
pub(super) fn watch(table: &str, firewall: &Arc<Mutex<Firewall>>) -> Result<(), EngineError> {
    let mut watch =
        Watch::open(table).map_err(|e| of_firewall("watch the filtering of networks", e))?;
    let firewall = Arc::downgrade(firewall);
    std::thread::Builder::new()
        .name("firewall".to_owned())
        .spawn(move || {
            let mut told = Vec::new();
            loop {
                let notice = wait_for_notice(&watch, Some(LEGACY_PAUSE));
                let Some(firewall) = firewall.upgrade().filter(|_| notice != Notice::Over) else {
                    return;
                };
                let mut firewall = lock(&firewall);
                if notice == Notice::None {
                    tell(firewall.heal_legacy(), &mut told);
                    continue;
                }
                let seen = match watch.read(firewall.port()) {
                    Ok(seen) => seen,
                    Err(error) => {
                        tracing::error!(%error, "changes of the host's filtering cannot be followed any more");
                        return;
                    }
                };
                if !seen.ours && !seen.others {
                    continue;
                }
                match firewall.heal() {
                    Ok(healed) => tell(healed.warnings, &mut told),
                    Err(error) => {
                        tracing::error!(error = chain(&error), "filtering that another program changed cannot be put back");
                    }
                }
                drop(firewall);
                // Other programs change many rules at a time.
                std::thread::sleep(HEAL_PAUSE);
            }
        })
        .map_err(|e| EngineError::io("watch the filtering of networks", e))?;
    Ok(())
}
