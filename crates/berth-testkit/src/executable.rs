//! Where the executable under test is.

use std::path::PathBuf;

use anyhow::{Context, Result};

/// The executable under test: `BERTH_BINARY`, else the one cargo built beside the test.
pub fn executable() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("BERTH_BINARY") {
        return Ok(PathBuf::from(path));
    }
    let test = std::env::current_exe().context("path of this test")?;
    test.ancestors()
        .skip(1)
        .take(2)
        .map(|directory| directory.join("berth"))
        .find(|path| path.is_file())
        .with_context(|| {
            format!(
                "no berth beside {} (cargo build, or BERTH_BINARY)",
                test.display()
            )
        })
}
