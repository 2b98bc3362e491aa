//! Runs that are over and have not left their networks yet.
//!
//! Who asked for a container's end is told of it while what the run had is still being put away. To everybody else it
//! is free from then on: who wants a port, an address or a network that only such a run still has waits until it has
//! left, and tries once more.

use std::collections::HashSet;

use berth_types::ContainerId;
use tokio::sync::watch;

use super::Networks;
use crate::error::EngineError;
use crate::limits;

/// Containers whose runs are leaving.
#[derive(Debug, Default)]
pub(super) struct Leaving {
    runs: watch::Sender<HashSet<ContainerId>>,
}

impl Leaving {
    /// Its run is over.
    pub(super) fn begin(&self, container: &ContainerId) {
        self.runs.send_modify(|runs| {
            runs.insert(container.clone());
        });
    }

    /// It is in no network any more.
    pub(super) fn end(&self, container: &ContainerId) {
        self.runs.send_if_modified(|runs| runs.remove(container));
    }

    /// Who is leaving now: to be asked before an attempt, since they may have left when it has failed.
    pub(super) fn now(&self) -> HashSet<ContainerId> {
        self.runs.borrow().clone()
    }

    /// Waits until these have left, a while at most. Tells whether there were any, so that another attempt makes sense.
    pub(super) async fn left(&self, who: &HashSet<ContainerId>) -> bool {
        if who.is_empty() {
            return false;
        }
        let mut runs = self.runs.subscribe();
        let gone = runs.wait_for(|runs| runs.is_disjoint(who));
        let _ = tokio::time::timeout(limits::NETWORKS_LEFT, gone).await;
        true
    }
}

impl Networks {
    /// A container's run is over, and it is about to [`leave`](Self::leave): what it has is as good as free.
    pub fn run_is_over(&self, container: &ContainerId) {
        if self.shared.book().run(container).is_some() {
            self.shared.leaving.begin(container);
        }
    }

    /// Takes a container out of all networks: its run is over, or never came to be. Nothing there is fine.
    ///
    /// # Errors
    /// What the kernel refuses; the places are given back all the same.
    pub async fn leave(&self, container: &ContainerId) -> Result<(), EngineError> {
        let known = {
            let book = self.shared.book();
            book.run(container).is_some()
        };
        if !known {
            self.shared.leaving.end(container);
            return Ok(());
        }
        let container = container.clone();
        let left = self
            .shared
            .block({
                let container = container.clone();
                move |shared| Ok(shared.leave_all(&container))
            })
            .await;
        self.shared.leaving.end(&container);
        let left = left?;
        for record in left.0 {
            self.shared
                .announce("disconnect", &record, Some(&container));
        }
        left.1
    }
}
