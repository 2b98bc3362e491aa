//! Talking to registries (OCI distribution specification): who to ask, with which credentials, over what.
//!
//! Owns: endpoints and mirrors ([`endpoint`]), connections ([`connect`], [`proxy`]) and the certificates for them
//! ([`certificates`]), authentication ([`challenge`], [`authentication`]) for a purpose ([`purpose`]), the requests
//! themselves ([`reach`], [`session`], [`lists`], [`upload`], [`sending`]) and what their answers mean ([`answer`]),
//! also when they only drip ([`drip`]); files
//! that are fetched from elsewhere over the same connections ([`address`]).
//! Does not own what is done with the answers. Every answer is hostile until its digest is verified by the caller;
//! sizes, waits, retries and redirects are bounded here.

mod address;
mod answer;
mod authentication;
mod certificates;
mod challenge;
mod connect;
mod drip;
mod endpoint;
mod failure;
mod lists;
mod proxy;
mod purpose;
mod reach;
mod sending;
mod session;
mod socks;
mod tunnel;
mod upload;
mod upstream;

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use berth_types::Reference;

pub(crate) use answer::backoff;
pub use challenge::Credentials;
pub(crate) use challenge::percent_encode;
pub(crate) use drip::Drip;
pub(crate) use endpoint::Endpoint;
pub(crate) use lists::in_time;
pub use lists::{Referrer, Referrers};
pub(crate) use purpose::Purpose;
pub(crate) use reach::Reached;
pub(crate) use sending::{Outgoing, Watch};
pub(crate) use session::{Fetched, Opened, Session};
pub(crate) use upload::Arrived;
pub use upstream::{UpstreamBlob, UpstreamManifest, UpstreamRegistry, UpstreamSettings};

use crate::error::Result;
use crate::settings::RegistrySettings;
use connect::Clients;
pub(crate) use endpoint::registry_of;
use endpoint::{Insecure, endpoints, parse_mirror, registry_itself};

const USER_AGENT: &str = concat!("berth/", env!("CARGO_PKG_VERSION"));

/// What all transfers of a store share.
#[derive(Debug)]
pub(crate) struct RegistryClient {
    settings: RegistrySettings,
    insecure: Insecure,
    clients: Clients,
    user_agent: String,
    /// Insecure registries that were found to speak plain HTTP.
    plain: Mutex<HashSet<String>>,
}

impl RegistryClient {
    /// Checks the settings; nothing is connected or loaded yet.
    pub(crate) fn new(settings: &RegistrySettings) -> Result<Self> {
        let insecure = Insecure::parse(&settings.insecure)?;
        proxy::check(settings)?;
        for mirror in settings
            .mirrors
            .iter()
            .chain(settings.mirrors_of.iter().flat_map(|(_, mirrors)| mirrors))
        {
            parse_mirror(mirror, &insecure)?;
        }
        let user_agent = if settings.user_agent.is_empty() {
            USER_AGENT.to_owned()
        } else {
            settings.user_agent.clone()
        };
        if http::HeaderValue::from_str(&user_agent).is_err() {
            return Err(crate::error::ImageError::Setting {
                setting: "user agent".into(),
                reason: "it contains characters that no header may have".into(),
            });
        }
        Ok(Self {
            settings: settings.clone(),
            insecure,
            clients: Clients::new(settings),
            user_agent,
            plain: Mutex::default(),
        })
    }

    /// The places where a reference may be found, mirrors first.
    pub(crate) fn endpoints(&self, reference: &Reference) -> Result<Vec<Endpoint>> {
        endpoints(reference, &self.settings, &self.insecure)
    }

    /// The registry itself, without its mirrors: where images are pushed to. `insecure` lets it do without
    /// TLS and a certificate that verifies, for this once.
    pub(crate) fn registry(&self, registry: &str, repository: &str, insecure: bool) -> Endpoint {
        let mut endpoint = registry_itself(registry, repository, &self.insecure);
        if insecure {
            endpoint.security = endpoint::Security::Any;
        }
        endpoint
    }

    fn speaks_plain(&self, authority: &str) -> bool {
        self.plain
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .contains(authority)
    }

    fn remember_plain(&self, authority: &str) {
        self.plain
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(authority.to_owned());
    }
}

/// For [`crate::fuzzing`].
#[cfg(feature = "fuzzing")]
pub(crate) fn fuzz_challenge(text: &str) {
    let _ = challenge::parse(text);
}

/// For [`crate::fuzzing`].
#[cfg(feature = "fuzzing")]
pub(crate) fn fuzz_answer(text: &str) {
    answer::fuzz(text);
    lists::fuzz(text);
}

/// For [`crate::fuzzing`].
#[cfg(feature = "fuzzing")]
pub(crate) fn fuzz_token(bytes: &[u8]) {
    let _ = challenge::parse_token(bytes, "an answer");
}
