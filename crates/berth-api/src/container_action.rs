//! Bodies of the short container requests: wait, update, top, prune.

use crate::host_config::{Resources, RestartPolicy};

wire! {
    /// `POST /containers/{id}/update`.
    pub struct ContainerUpdateBody {
        resources: Resources = "" embed;
        restart_policy: RestartPolicy = "RestartPolicy";
    }

    /// Answer of an update.
    pub struct ContainerUpdateResponse {
        warnings: Option<Vec<String>> = "Warnings";
    }

    /// Answer of `POST /containers/{id}/wait`.
    pub struct ContainerWaitResponse {
        error: Option<ContainerWaitExitError> = "Error" omitempty;
        status_code: i64 = "StatusCode";
    }

    /// Why waiting ended without an exit.
    pub struct ContainerWaitExitError {
        message: String = "Message" omitempty;
    }

    /// Answer of `GET /containers/{id}/top`.
    pub struct ContainerTopResponse {
        processes: Vec<Vec<String>> = "Processes";
        titles: Vec<String> = "Titles";
    }

    /// Answer of `POST /containers/prune`.
    pub struct ContainerPruneReport {
        containers_deleted: Option<Vec<String>> = "ContainersDeleted";
        /// Bytes.
        space_reclaimed: u64 = "SpaceReclaimed";
    }
}
