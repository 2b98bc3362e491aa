//! Registry credentials and the header that carries them.

use crate::limits::MAX_AUTH_HEADER;
use base64::Engine as _;
use base64::alphabet::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use std::collections::BTreeMap;

/// Docker writes padded URL-safe base64; some clients leave the padding out.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

wire! {
    /// Credentials of one registry.
    pub struct AuthConfig {
        username: String = "username" omitempty;
        password: String = "password" omitempty;
        /// Base64 of `username:password`, as configuration files hold it.
        auth: String = "auth" omitempty;
        email: String = "email" omitempty;
        server_address: String = "serveraddress" omitempty;
        /// A token that stands for username and password at the registry's token server.
        identity_token: String = "identitytoken" omitempty;
        /// A bearer token that is sent to the registry as it is.
        registry_token: String = "registrytoken" omitempty;
    }

    /// Answer of `POST /auth`.
    pub struct AuthResponse {
        identity_token: String = "IdentityToken";
        status: String = "Status";
    }
}

/// An `X-Registry-Auth` header that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// Longer than the limit.
    #[error("invalid X-Registry-Auth header: longer than {MAX_AUTH_HEADER} bytes")]
    TooLong,
    /// Not base64.
    #[error("invalid X-Registry-Auth header")]
    Base64(#[source] base64::DecodeError),
    /// Not the expected JSON.
    #[error("invalid X-Registry-Auth header")]
    Json(#[source] serde_json::Error),
}

impl AuthConfig {
    /// The header's value.
    pub fn to_header(&self) -> String {
        let json = serde_json::to_vec(self).expect("strings always serialise");
        BASE64.encode(json)
    }

    /// Reads the header's value; an empty one means no credentials.
    ///
    /// # Errors
    /// When it is too long, not base64 or not JSON.
    pub fn from_header(value: &str) -> Result<AuthConfig, AuthError> {
        if value.is_empty() {
            return Ok(AuthConfig::default());
        }
        if value.len() > MAX_AUTH_HEADER {
            return Err(AuthError::TooLong);
        }
        // Some clients send the standard alphabet.
        let value = value.replace('+', "-").replace('/', "_");
        let json = BASE64.decode(value).map_err(AuthError::Base64)?;
        serde_json::from_slice(&json).map_err(AuthError::Json)
    }
}

/// Credentials of several registries, by registry: the header `X-Registry-Config`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct AuthConfigs(pub BTreeMap<String, AuthConfig>);

impl AuthConfigs {
    /// The header's value.
    pub fn to_header(&self) -> String {
        let json = serde_json::to_vec(&self.0).expect("strings always serialise");
        BASE64.encode(json)
    }

    /// Reads the header's value; an empty one means no credentials.
    ///
    /// # Errors
    /// When it is too long, not base64 or not JSON.
    pub fn from_header(value: &str) -> Result<AuthConfigs, AuthError> {
        if value.is_empty() {
            return Ok(AuthConfigs::default());
        }
        if value.len() > MAX_AUTH_HEADER {
            return Err(AuthError::TooLong);
        }
        let value = value.replace('+', "-").replace('/', "_");
        let json = BASE64.decode(value).map_err(AuthError::Base64)?;
        serde_json::from_slice(&json)
            .map(AuthConfigs)
            .map_err(AuthError::Json)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_round_trips_and_padding_is_optional() {
        let auth = AuthConfig {
            username: "me".into(),
            password: "???>>>".into(),
            ..AuthConfig::default()
        };
        let header = auth.to_header();
        assert_eq!(AuthConfig::from_header(&header).unwrap(), auth);
        assert_eq!(
            AuthConfig::from_header(header.trim_end_matches('=')).unwrap(),
            auth
        );
        assert_eq!(AuthConfig::from_header("").unwrap(), AuthConfig::default());
        assert!(AuthConfig::from_header("*").is_err());
        assert!(
            AuthConfig::from_header("bnVsbA==").is_err(),
            "null is not an object"
        );
    }
}
