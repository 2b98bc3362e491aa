//! `registry`: serves the test images from a real registry on loopback, in the foreground.

use anyhow::{Context, Result, bail};
use berth_testkit::process;
use berth_testkit::registry::Registry;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

/// Default port; not 5000, which a registry of the user's own would have.
const PORT: u16 = 5005;

/// Serves until it is interrupted.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let port = match arguments {
        [] => PORT,
        [flag, port] if flag == "--port" => port.parse().context("--port")?,
        _ => bail!("registry takes --port N"),
    };
    let registry = Registry::serve_test_images(Some(port))?;
    println!(
        "serving busybox:latest and debian:bookworm-slim at {}",
        registry.mirror()
    );
    println!("  berth daemon --registry-mirror {}", registry.mirror());
    println!("  berth run --rm -it debian:bookworm-slim bash");
    // An interrupt from the terminal ends the registry and this process alike.
    let pid = Pid::from_raw(registry.pid()).context("process id of the registry")?;
    let descriptor = pidfd_open(pid, PidfdFlags::empty()).context("watch the registry")?;
    while !process::wait_for_end(&descriptor, std::time::Duration::from_secs(3600)) {}
    bail!("the registry ended by itself")
}
