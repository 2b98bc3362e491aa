//! What monitors tell, in the engine's words.

use berth_monitor::{MonitorEvent, MonitorHandle};
use tokio::sync::mpsc;

use crate::containers::launcher::RunFact;
use crate::containers::lifecycle::{ExitFact, Fact};
use crate::limits;

pub(super) fn exit_fact(record: &berth_monitor::ExitRecord) -> ExitFact {
    ExitFact {
        code: record.exit_code,
        out_of_memory: record.oom_killed,
        at: record.finished_at,
    }
}

/// The events of a monitor in the engine's words. Ends with the monitor; a monitor that ends without telling
/// of the exit is looked for in the exit record.
pub(super) fn translate(handle: &MonitorHandle) -> mpsc::Receiver<RunFact> {
    let (sender, receiver) = mpsc::channel(limits::OWNER_SIGNALS);
    let directory = handle.directory().to_path_buf();
    let events = handle.events();
    let handle = handle.clone();
    tokio::spawn(async move {
        let mut exited = false;
        if let Some(mut events) = events {
            while let Some(event) = events.recv().await {
                let fact = match event {
                    MonitorEvent::Exited(record) => {
                        exited = true;
                        RunFact::Life(Fact::Exited(exit_fact(&record)))
                    }
                    MonitorEvent::ExecExited {
                        exec, exit_code, ..
                    } => RunFact::ExecExited {
                        exec,
                        code: exit_code,
                    },
                    MonitorEvent::Oom { .. } => RunFact::Life(Fact::OutOfMemory),
                    MonitorEvent::LeftBehind { message } => {
                        // The release of the run, or the removal, tries again and tells whoever asked.
                        tracing::debug!(directory = %directory.display(), message, "a run left something behind");
                        continue;
                    }
                };
                if sender.send(fact).await.is_err() {
                    return;
                }
            }
        }
        if exited {
            return;
        }
        handle.gone().await;
        let found = tokio::task::spawn_blocking(move || berth_monitor::salvage(&directory)).await;
        let fact = match found {
            Ok(Ok(Some(record))) => Fact::Exited(exit_fact(&record)),
            _ => Fact::MonitorLost,
        };
        let _ = sender.send(RunFact::Life(fact)).await;
    });
    receiver
}
