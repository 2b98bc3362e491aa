//! `POST /containers/create`.

use crate::container_config::ContainerConfig;
use crate::host_config::HostConfig;
use crate::network::NetworkingConfig;

wire! {
    /// A new container as asked for.
    pub struct ContainerCreateBody {
        config: ContainerConfig = "" embed;
        host_config: Option<HostConfig> = "HostConfig" omitempty;
        networking_config: Option<NetworkingConfig> = "NetworkingConfig" omitempty;
    }

    /// The container that was created.
    pub struct ContainerCreateResponse {
        id: String = "Id";
        warnings: Vec<String> = "Warnings";
    }
}
