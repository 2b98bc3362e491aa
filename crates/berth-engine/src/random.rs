//! Random bytes from the kernel's generator: getrandom(2).

use crate::error::EngineError;

/// `N` of them.
///
/// # Errors
/// When the kernel gives none.
pub(crate) fn bytes<const N: usize>() -> Result<[u8; N], EngineError> {
    let mut bytes = [0_u8; N];
    let mut filled = 0;
    while filled < N {
        let count =
            rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty())
                .map_err(|e| EngineError::io("take random bytes", e.into()))?;
        filled += count;
    }
    Ok(bytes)
}
