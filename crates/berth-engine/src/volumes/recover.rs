//! What the volumes of an engine that died need: steps that a crash cut in two are finished, or taken back.

use std::sync::Arc;

use super::book::{Entry, Stage};
use super::record::VolumeRecord;
use super::{Shared, fill};
use crate::error::EngineError;

pub(super) async fn run(shared: &Arc<Shared>) -> Result<(), EngineError> {
    let (found, damaged) = shared.records.volumes()?;
    for (key, error) in damaged {
        // Kept in the file: a newer version may read it. Its directory stays, too.
        tracing::error!(volume = key, %error, "a volume's record cannot be read and is left out");
    }
    let records: Vec<Arc<VolumeRecord>> = found.into_iter().map(Arc::new).collect();
    let of_driver = records.clone();
    let concealed = shared
        .block(move |shared| Ok(shared.look_at_files(&of_driver)))
        .await?;
    for name in &concealed {
        // Its removal had begun: it is finished.
        if records.iter().any(|r| r.name == *name) {
            let ticket = shared.records.remove_volume(name).await?;
            ticket.durable().await?;
        }
    }
    let of_driver = concealed.clone();
    shared
        .block(move |shared| {
            for name in of_driver {
                for driver in shared.drivers.values() {
                    driver.discard(&name)?;
                }
            }
            Ok(())
        })
        .await?;
    let mut book = shared.book();
    for record in records {
        if !concealed.contains(&record.name) {
            book.entries
                .insert(record.name.clone(), Entry::new(record, Stage::Ready));
        }
    }
    Ok(())
}

impl Shared {
    /// Brings directories to what the records say; gives the names whose removal had begun. Blocks.
    fn look_at_files(&self, records: &[Arc<VolumeRecord>]) -> Vec<String> {
        let mut concealed = Vec::new();
        for driver in self.drivers.values() {
            let leftovers = match driver.leftovers() {
                Ok(leftovers) => leftovers,
                Err(error) => {
                    tracing::error!(driver = driver.name(), error = %error.full_text(), "the volumes of a driver cannot be listed");
                    continue;
                }
            };
            let recorded = |name: &str| {
                records
                    .iter()
                    .any(|r| r.name == name && r.driver == driver.name())
            };
            for name in leftovers.prepared {
                let done = if recorded(&name) && !driver.exists(&name) {
                    driver.publish(&name)
                } else {
                    driver.discard(&name)
                };
                if let Err(error) = done {
                    tracing::error!(volume = name, error = %error.full_text(), "what a crash left of a volume stays");
                }
            }
            for name in leftovers.concealed {
                if driver.exists(&name) {
                    // Another volume has the name by now; only what is left of the removed one goes.
                    if let Err(error) = driver.discard(&name) {
                        tracing::error!(volume = name, error = %error.full_text(), "what is left of a volume stays");
                    }
                } else {
                    concealed.push(name);
                }
            }
        }
        for record in records {
            if let Err(error) = self.complete(record, concealed.contains(&record.name)) {
                tracing::error!(volume = record.name, error = %error.full_text(), "a volume is not as it should be");
            }
        }
        concealed
    }

    /// A volume whose record is there has its directory, and all of what the image had for it.
    fn complete(&self, record: &VolumeRecord, concealed: bool) -> Result<(), EngineError> {
        let driver = self.driver(record)?;
        if concealed {
            return Ok(());
        }
        if !driver.exists(&record.name) {
            match &record.former_name {
                Some(former) if driver.exists(former) => driver.rename(former, &record.name)?,
                // Somebody removed it by hand. A volume that holds nothing is better than one that cannot be used.
                _ => {
                    driver.prepare(&record.name)?;
                    driver.publish(&record.name)?;
                    tracing::error!(
                        volume = record.name,
                        "the directory of a volume was not there; it is empty now"
                    );
                }
            }
        }
        // One that has to be mounted is looked at when it is.
        if driver.is_plain(record) {
            fill::finish(&driver.open(record)?)?;
        }
        Ok(())
    }
}
