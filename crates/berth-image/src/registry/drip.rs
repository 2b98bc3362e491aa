//! Telling a slow network from a server that sends just enough not to be silent.

use std::time::Duration;

use crate::limits;

/// What has come of a body lately, and how long it was waited for.
pub(crate) struct Drip {
    /// Time after which enough has to have come.
    limit: Duration,
    /// Waited for the network, not for whoever unpacks.
    waited: Duration,
    came: u64,
}

impl Drip {
    /// For a body that may be silent for no longer than `stall` at a time.
    pub(crate) fn new(stall: Duration) -> Self {
        Self {
            limit: stall * limits::DRIP_STALLS,
            waited: Duration::ZERO,
            came: 0,
        }
    }

    /// Counts bytes and how long they were waited for; an error when these are too few.
    pub(crate) fn came(&mut self, bytes: usize, waited: Duration) -> Result<(), String> {
        self.came += bytes as u64;
        self.waited += waited;
        if self.came >= limits::DOWNLOAD_STEP_BYTES {
            (self.came, self.waited) = (0, Duration::ZERO);
        } else if self.waited >= self.limit {
            return Err(format!(
                "no more than {} bytes came in {} s",
                self.came,
                self.waited.as_secs()
            ));
        }
        Ok(())
    }
}
