//! Answering a registry's challenge: tokens and passwords (distribution's token specification).
//!
//! Credentials go to the registry and to the token server that it names, the latter only when the connection is
//! no less secure than the registry's own.

use std::time::Instant;

use base64::Engine as _;
use berth_types::ErrorKind;
use http::header::{AUTHORIZATION, CONTENT_TYPE, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, Method, Request, Uri};
use http_body_util::{BodyExt, LengthLimitError, Limited};

use super::answer::refusal;
use super::challenge::{Challenge, Credentials, Token, parse, parse_token, percent_encode};
use super::endpoint::Security;
use super::purpose::Purpose;
use super::session::{Asked, Session, empty, stalled, whole};
use crate::error::{ImageError, Result};
use crate::limits;

impl Session<'_> {
    /// Answers a challenge. False when there is nothing to answer with.
    pub(super) async fn authenticate(
        &self,
        headers: &HeaderMap,
        asked: &Asked<'_>,
    ) -> Result<bool> {
        let challenges: Vec<Challenge> = headers
            .get_all(WWW_AUTHENTICATE)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(parse)
            .collect();
        let bearer_challenge = challenges
            .iter()
            .find(|challenge| matches!(challenge, Challenge::Bearer { .. }));
        if let Some(Challenge::Bearer {
            realm,
            service,
            scope,
        }) = bearer_challenge
        {
            let service = service.as_deref().unwrap_or_default();
            let challenged = scope.as_deref();
            let scopes = self.purpose.scopes(&self.endpoint.repository, challenged);
            let token = match self.token(realm, service, &scopes).await {
                // Some servers refuse all when one scope is not granted, instead of granting the others.
                Err(error)
                    if error.kind() == ErrorKind::Unauthorized
                        || error.kind() == ErrorKind::Forbidden =>
                {
                    let fewer = self
                        .purpose
                        .own_scopes(&self.endpoint.repository, challenged);
                    if fewer == scopes {
                        return Err(error);
                    }
                    self.token(realm, service, &fewer).await?
                }
                other => other?,
            };
            let value = bearer(&token.token).ok_or_else(|| ImageError::Registry {
                attempt: asked.words.clone(),
                reason: "the token server gave a token that no header can carry".into(),
                kind: ErrorKind::DataCorrupt,
            })?;
            self.authorize(value, Some(Instant::now() + token.lifetime));
            if let Some(refresh) = token.refresh {
                self.keep_identity(refresh);
            }
            return Ok(true);
        }
        if challenges.contains(&Challenge::Basic)
            && let Some(credentials) = &self.credentials
            && credentials.has_password()
            && let Some(value) = basic(credentials)
        {
            self.authorize(value, None);
            return Ok(true);
        }
        Ok(false)
    }

    async fn token(&self, realm: &str, service: &str, scopes: &[String]) -> Result<Token> {
        let words = format!("get a token for {} from {realm}", self.endpoint.authority);
        let bad = |reason: &str| ImageError::Registry {
            attempt: words.clone(),
            reason: reason.to_owned(),
            kind: ErrorKind::Unauthorized,
        };
        let base: Uri = realm.parse().map_err(|_| bad("the realm is not a URL"))?;
        let authority = base
            .authority()
            .ok_or_else(|| bad("the realm has no host"))?
            .as_str();
        let secure = match base.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(bad("the realm is not a http(s) URL")),
        };
        // Who asks for TLS must not be made to show a password without it.
        let insecure_registry = self.scheme() == "http" || self.endpoint.security == Security::Any;
        if !secure && !insecure_registry {
            return Err(bad("the registry uses TLS and its token server does not"));
        }
        if authority.contains('@') {
            return Err(bad("the realm carries credentials"));
        }
        let refresh = self
            .credentials
            .as_ref()
            .map(|credentials| credentials.identity_token.as_str())
            .filter(|token| !token.is_empty());
        let (request, body, uri) = if let Some(refresh) = refresh {
            let body = format!(
                "grant_type=refresh_token&client_id=berth&service={}&scope={}&refresh_token={}",
                percent_encode(service),
                percent_encode(&scopes.join(" ")),
                percent_encode(refresh)
            );
            let request = Request::builder()
                .method(Method::POST)
                .uri(&base)
                .header(CONTENT_TYPE, "application/x-www-form-urlencoded");
            (request, whole(body.into()), base)
        } else {
            let mut parameters: Vec<(&str, &str)> = Vec::new();
            if !service.is_empty() {
                parameters.push(("service", service));
            }
            parameters.extend(scopes.iter().map(|scope| ("scope", scope.as_str())));
            if self.purpose == Purpose::LogIn {
                parameters.extend([("offline_token", "true"), ("client_id", "berth")]);
            }
            if let Some(credentials) = &self.credentials
                && !credentials.username.is_empty()
            {
                parameters.push(("account", &credentials.username));
            }
            let mut separator = if base.query().is_some() { '&' } else { '?' };
            let mut text = realm.to_owned();
            for (name, value) in parameters {
                text.push_str(&format!("{separator}{name}={}", percent_encode(value)));
                separator = '&';
            }
            let uri: Uri = text.parse().map_err(|_| bad("the realm is not a URL"))?;
            let mut request = Request::builder().method(Method::GET).uri(&uri);
            if let Some(credentials) = &self.credentials
                && credentials.has_password()
                && let Some(value) = basic(credentials)
            {
                request = request.header(AUTHORIZATION, value);
            }
            (request, empty(), uri)
        };
        // Not retried: the request that needed the token is.
        let response = self.roundtrip(request, body, &uri, &words).await?;
        let asked = Asked {
            words: words.clone(),
            accept: &[],
            range: None,
        };
        if !response.status().is_success() {
            return Err(refusal(response, &asked).await);
        }
        let size = usize::try_from(limits::TOKEN_BYTES_MAX).unwrap_or(usize::MAX);
        let body = tokio::time::timeout(
            limits::RESPONSE_TIMEOUT,
            Limited::new(response.into_body(), size).collect(),
        )
        .await
        .map_err(|_| stalled(&asked, limits::RESPONSE_TIMEOUT))?
        .map_err(|source| match source.is::<LengthLimitError>() {
            true => ImageError::Limit {
                object: format!("the answer to: {words}"),
                limit: limits::TOKEN_BYTES_MAX,
                unit: "bytes",
            },
            false => ImageError::Transport {
                attempt: words.clone(),
                source,
            },
        })?;
        parse_token(&body.to_bytes(), "the answer of the token server")
    }
}

pub(super) fn bearer(token: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(&format!("Bearer {token}")).ok()?;
    value.set_sensitive(true);
    Some(value)
}

fn basic(credentials: &Credentials) -> Option<HeaderValue> {
    let pair = format!("{}:{}", credentials.username, credentials.password);
    let encoded = base64::engine::general_purpose::STANDARD.encode(pair);
    let mut value = HeaderValue::from_str(&format!("Basic {encoded}")).ok()?;
    value.set_sensitive(true);
    Some(value)
}
