//! After a start of the engine: what the kernel has is brought to what the records and the running containers say,
//! by the same calls that make networks. What is there already stays untouched, connections included.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::book::Stage;
use super::options::DriverOptions;
use super::{Driver, Networks, Shared};
use crate::error::EngineError;

impl Networks {
    /// Brings the host in line, once every running container was taken up. A network that cannot be made is told of
    /// and tried again when somebody joins it.
    pub(crate) async fn settle(&self) {
        let result = self
            .shared
            .block(|shared| {
                shared.settle();
                Ok(())
            })
            .await;
        if let Err(error) = result {
            tracing::error!(error = %error.full_text(), "networks could not be brought in line");
        }
    }

    /// Makes ready what a container of these networks would otherwise wait for, when it is the first on a bridge:
    /// an engine whose containers have no bridge touches nothing of the host.
    pub(crate) fn expect<'a>(&self, networks: impl IntoIterator<Item = &'a String>) {
        if self.shared.warm.load(Ordering::Relaxed) {
            return;
        }
        let on_bridge = {
            let book = self.shared.book();
            networks.into_iter().any(|name| {
                book.find(name)
                    .is_ok_and(|e| e.record.driver == Driver::Bridge)
            })
        };
        if !on_bridge {
            return;
        }
        self.shared.warm.store(true, Ordering::Relaxed);
        let shared = Arc::clone(&self.shared);
        tokio::spawn(async move {
            // A host that cannot tells so when a container needs it.
            let _ = shared
                .block(|shared| shared.ground()?.pool().map(drop))
                .await;
        });
    }
}

impl Shared {
    /// Brings bridges to the MTU that the host's default route has now. Endpoints keep theirs until they are made anew.
    pub(super) fn follow_mtu(&self) {
        let entries: Vec<_> = {
            let book = self.book();
            book.entries()
                .filter(|e| !e.record.config_only && !e.lazy && e.stage == Stage::Ready)
                .filter(
                    |e| matches!(&*e.options, DriverOptions::Bridge(options) if options.mtu == 0),
                )
                .map(|e| (Arc::clone(&e.record), Arc::clone(&e.options)))
                .collect()
        };
        let Some(ground) = self.opened_ground() else {
            return;
        };
        for (record, options) in entries {
            if let Err(error) = ground.ensure_network(&record, &options) {
                tracing::error!(network = record.name, error = %error.full_text(), "a bridge does not follow the host's MTU");
            }
        }
    }

    fn settle(&self) {
        let (entries, known) = {
            let book = self.book();
            let entries: Vec<_> = book
                .entries()
                .filter(|e| !e.record.config_only && (!e.lazy || e.members().next().is_some()))
                .map(|e| (Arc::clone(&e.record), Arc::clone(&e.options)))
                .collect();
            let known: HashSet<String> = book
                .entries()
                .map(|e| e.record.id.as_str().to_owned())
                .collect();
            (entries, known)
        };
        self.names.sweep(|name| known.contains(name));
        let real = entries
            .iter()
            .any(|(r, _)| !matches!(r.driver, super::Driver::Host | super::Driver::Null));
        if !real {
            return;
        }
        let ground = match self.ground() {
            Ok(ground) => ground,
            Err(error) => {
                tracing::error!(error = %error.full_text(), "networks are out of order");
                return;
            }
        };
        for (record, options) in &entries {
            let made: Result<(), EngineError> = ground.ensure_network(record, options);
            match made {
                Ok(()) => {
                    if let Some(entry) = self.book().get_mut(&record.id) {
                        entry.lazy = false;
                    }
                }
                Err(error) => {
                    tracing::error!(network = record.name, error = %error.full_text(), "a network is out of order");
                }
            }
            if !record.is_predefined()
                && let Err(error) = self.write_names(&record.id)
            {
                tracing::error!(network = record.name, error = %error.full_text(), "names of a network are out of order");
            }
        }
        let book = self.book();
        let used: HashSet<String> = book
            .runs()
            .flat_map(|(_, run)| run.endpoints.iter().map(|e| e.id.as_str().to_owned()))
            .collect();
        let parents: HashSet<String> = entries
            .iter()
            .filter_map(|(r, o)| super::ground::parent_of(r, o))
            .collect();
        drop(book);
        ground.remove_strays(&|owner| {
            let mut words = owner.split(' ');
            match (words.next(), words.next(), words.next()) {
                (Some("network"), Some(id), _) => known.contains(id),
                (Some("endpoint"), _, Some(id)) => used.contains(id),
                (Some("parent"), Some(name), _) => parents.contains(name),
                _ => true,
            }
        });
    }
}
