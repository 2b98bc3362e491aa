//! A client and an engine a scenario is run on.

use berth_testkit::{Client, Command, Daemon, Engine, Output, Settings, needs};

/// Whether the stock client is at least of this major version; says so when it is not. Berth's own client is tested anyway.
pub(crate) fn stock_client_is(version: u32) -> bool {
    let name = format!("docker command of version {version}");
    needs::feature(&name, needs::docker_client() >= version)
}

/// A private daemon and the command line that talks to it.
pub(crate) struct Subject {
    /// The daemon.
    pub(crate) daemon: Daemon,
    client: Client,
}

impl Subject {
    /// The reference.
    pub(crate) fn docker_on_docker() -> Self {
        Self::new(Engine::Docker, Client::Docker)
    }

    /// Berth's API as the stock client sees it.
    pub(crate) fn docker_on_berth() -> Self {
        Self::new(Engine::Berth, Client::Docker)
    }

    /// Berth alone.
    pub(crate) fn berth_on_berth() -> Self {
        Self::new(Engine::Berth, Client::Berth)
    }

    /// The same pair of client and engine, the engine with a network of its own.
    pub(crate) fn with_network(&self) -> Self {
        let settings = Settings {
            network: true,
            ..Settings::default()
        };
        Self {
            daemon: Daemon::with(self.daemon.engine(), settings),
            client: self.client,
        }
    }

    fn new(engine: Engine, client: Client) -> Self {
        if client == Client::Docker {
            needs::program("docker", "docker-cli or docker.io");
        }
        Self {
            daemon: Daemon::with(engine, Settings::default()),
            client,
        }
    }

    /// Runs the client with the words of `line`.
    #[track_caller]
    pub(crate) fn cli(&self, line: &str) -> Output {
        self.command(line).run()
    }

    /// `run --network none` with the words of `line`: the reference has no bridge here.
    #[track_caller]
    pub(crate) fn run(&self, line: &str) -> Output {
        self.cli(&format!("run --network none {line}"))
    }

    /// Starts a container called `name` that sleeps, and waits until it runs.
    #[track_caller]
    pub(crate) fn sleeper(&self, name: &str, flags: &str) {
        self.run(&format!("-d --name {name} {flags} busybox sleep 1000"))
            .ok();
        self.daemon.wait_for(name, "running");
    }

    /// The client's command, not yet started.
    #[track_caller]
    pub(crate) fn command(&self, line: &str) -> Command {
        self.daemon.command(self.client, line)
    }

    /// Whether the client has Berth's own commands.
    pub(crate) fn has_own_commands(&self) -> bool {
        self.client == Client::Berth
    }

    /// Whether this is the reference, for the few places where the version Debian packages
    /// differs from the API description Berth follows.
    pub(crate) fn is_reference(&self) -> bool {
        self.daemon.engine() == Engine::Docker
    }
}
