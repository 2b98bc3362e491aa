//! `test-images`: makes the test images as files anybody can load.

use std::fs;

use anyhow::{Context, Result, bail};
use berth_testkit::images;

/// Makes each as `docker save` archives and OCI layouts and prints where they are.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    if !arguments.is_empty() {
        bail!("test-images takes no arguments");
    }
    for image in [images::busybox()?, images::debian()?, images::traffic()?] {
        let archive = images::archive_file(&image)?;
        let layout = archive.with_extension("").with_extension("oci.tar");
        if !layout.exists() {
            fs::write(&layout, image.oci_layout()?)
                .with_context(|| format!("write {}", layout.display()))?;
        }
        println!(
            "{}\n  {}\n  {}\n  {}",
            image.name,
            image.id(),
            archive.display(),
            layout.display()
        );
    }
    Ok(())
}
