//! Finding out whether a registry takes credentials.
//!
//! Owns nothing: what a user is called and knows is kept by the client that asks.

use berth_types::ErrorKind;

use crate::error::{ImageError, Result};
use crate::registry::{Credentials, Purpose, Reached, Session, registry_of};
use crate::store::ImageStore;

/// Credentials to try.
#[derive(Debug, Clone)]
pub struct LogInRequest {
    /// The registry, as people and configuration files write it; Docker Hub when empty.
    pub server: String,
    /// User and password, or an identity token.
    pub credentials: Credentials,
}

/// The registry takes the credentials.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct LoggedIn {
    /// A token that stands for user and password from now on, when the registry gives such tokens.
    pub identity_token: String,
}

impl std::fmt::Debug for LoggedIn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LoggedIn").finish_non_exhaustive()
    }
}

impl ImageStore {
    /// Asks a registry whether it takes credentials.
    ///
    /// # Errors
    /// When it does not, or cannot be reached.
    pub async fn log_in(&self, request: &LogInRequest) -> Result<LoggedIn> {
        let registry = registry_of(&request.server)?;
        let endpoint = self.inner.registry.registry(&registry, "", false);
        let session = Session::with_purpose(
            &self.inner.registry,
            endpoint,
            Some(&request.credentials),
            Purpose::LogIn,
        );
        match session.reach().await? {
            Reached::In => Ok(LoggedIn {
                identity_token: session.identity().unwrap_or_default(),
            }),
            Reached::NotIn(status) => Err(ImageError::Registry {
                attempt: format!("login attempt to {} failed with status", session.root()),
                reason: format!(
                    "{} {}",
                    status.as_u16(),
                    status.canonical_reason().unwrap_or_default()
                ),
                kind: ErrorKind::Unauthorized,
            }),
        }
    }
}
