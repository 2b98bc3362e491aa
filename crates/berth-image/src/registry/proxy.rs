//! The way through a proxy.
//!
//! Owns: which proxy a request goes through, if any, and how a connection through it is opened: a plain request is
//! handed to an HTTP proxy as it is, TLS goes through a [`tunnel`] of such a proxy, and everything through [`socks`].
//! Each failure names the proxy, never the user and password for it.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use http::{HeaderValue, Uri};
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tower_service::Service;

use super::connect::Failure;
use super::endpoint::host_of;
use super::failure::first_telling;
use super::socks::{self, Target};
use super::tunnel;
use crate::error::{ImageError, Result};
use crate::limits;
use crate::settings::RegistrySettings;

/// A connection to a server or a proxy: TCP, or TLS to a proxy that is reached by `https://`.
pub(super) type Link = MaybeHttpsStream<TokioIo<TcpStream>>;

/// Which proxy, if any, a request goes through.
#[derive(Debug)]
pub(super) struct Proxies {
    matcher: Matcher,
    has_tls: bool,
}

/// What makes connections to proxies.
#[derive(Debug, Clone)]
pub(super) struct Dials {
    pub(super) tcp: HttpConnector,
    /// Only where a proxy is reached by `https://`.
    pub(super) tls: Option<HttpsConnector<HttpConnector>>,
}

/// The proxy of one request.
pub(super) struct Proxy(Intercept);

/// What went wrong at a proxy.
#[derive(Debug)]
pub(super) struct ProxyFailure {
    /// As `http://proxy.lan:3128`.
    proxy: String,
    cause: Failure,
}

impl fmt::Display for ProxyFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "proxy {}", self.proxy)
    }
}

impl std::error::Error for ProxyFailure {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        first_telling(Some(&*self.cause))
    }
}

/// Why a proxy did not lead to where we wanted to go.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    /// It says so.
    #[error("it does not lead to {target}: {answer}")]
    Target {
        /// Host and port.
        target: String,
        /// Its words.
        answer: String,
        /// It may be otherwise a moment later.
        passing: bool,
    },
    /// It does not know who we are.
    #[error("it asks for a user and a password")]
    Nobody,
    /// It does not take the user and password of the settings.
    #[error("it does not take the user and password")]
    Unknown,
    /// It ended the connection.
    #[error("it hung up without an answer")]
    HungUp,
    /// It does not answer.
    #[error("it did not answer within {} s", .0.as_secs())]
    Silent(Duration),
    /// It says something else.
    #[error("its answer is none of {0}")]
    Protocol(&'static str),
    /// The connection to it broke.
    #[error("talk to it")]
    Io(#[from] io::Error),
}

impl Refusal {
    /// Whether another attempt cannot change it.
    pub(super) fn is_final(&self) -> bool {
        match self {
            Self::Target { passing, .. } => !passing,
            Self::Nobody | Self::Unknown | Self::Protocol(_) => true,
            Self::HungUp | Self::Silent(_) | Self::Io(_) => false,
        }
    }
}

/// Refuses what is no proxy's address, since a request would quietly go without it.
pub(super) fn check(settings: &RegistrySettings) -> Result<()> {
    for (setting, value) in [
        ("http-proxy", &settings.http_proxy),
        ("https-proxy", &settings.https_proxy),
    ] {
        let text = value.as_deref().unwrap_or_default();
        if !text.is_empty() && !is_proxy(text) {
            return Err(ImageError::Setting {
                setting: setting.to_owned(),
                // The value may hold a password.
                reason: "it is no address such as http://user:password@host:port (or https://, socks5://, socks5h://); \
                         what is special in user and password is written as %XX"
                    .to_owned(),
            });
        }
    }
    Ok(())
}

fn is_proxy(text: &str) -> bool {
    // A bare host is one that is reached by http, as in Go.
    let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
    let known = ["http", "https", "socks5", "socks5h"].contains(&scheme);
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    // What stands in a password without its escape would make another host of it.
    let named =
        authority.matches('@').count() <= 1 && !path.contains('@') && !rest.contains(['?', '#']);
    let host = authority.rsplit('@').next().unwrap_or_default();
    known && named && !host_of(host).is_empty() && text.parse::<Uri>().is_ok()
}

impl Proxies {
    pub(super) fn new(settings: &RegistrySettings) -> Self {
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        let (http, https) = (text(&settings.http_proxy), text(&settings.https_proxy));
        let has_tls = [&http, &https]
            .iter()
            .any(|text| text.starts_with("https://"));
        let matcher = Matcher::builder()
            .http(http)
            .https(https)
            .no(text(&settings.no_proxy))
            .build();
        Self { matcher, has_tls }
    }

    /// Whether a proxy is reached by `https://`.
    pub(super) fn has_tls(&self) -> bool {
        self.has_tls
    }

    /// The proxy for a request. As in Go, what runs on this machine is never behind one.
    pub(super) fn choose(&self, destination: &Uri) -> Option<Proxy> {
        let host = host_of(destination.authority()?.as_str());
        let loopback = host
            .parse::<IpAddr>()
            .map_or(host == "localhost", |address| address.is_loopback());
        if loopback {
            return None;
        }
        self.matcher.intercept(destination).map(Proxy)
    }
}

impl Proxy {
    /// The value of `Proxy-Authorization`, of an HTTP proxy whose settings have user and password.
    pub(super) fn credentials(&self) -> Option<&HeaderValue> {
        self.0.basic_auth()
    }

    /// It answered a request that was handed to it with 407.
    pub(super) fn wants_credentials(&self) -> ProxyFailure {
        let refusal = if self.credentials().is_some() {
            Refusal::Unknown
        } else {
            Refusal::Nobody
        };
        self.failure(refusal.into())
    }

    /// Opens a connection for requests to `destination`; tells as well whether the requests are to be handed to the
    /// proxy itself.
    pub(super) async fn open(
        &self,
        destination: &Uri,
        dials: Dials,
    ) -> Result<(Link, bool), ProxyFailure> {
        let limit = limits::CONNECT_TIMEOUT;
        tokio::time::timeout(limit, self.open_slowly(destination, dials))
            .await
            .unwrap_or_else(|_| Err(Refusal::Silent(limit).into()))
            .map_err(|source| self.failure(source))
    }

    async fn open_slowly(
        &self,
        destination: &Uri,
        mut dials: Dials,
    ) -> Result<(Link, bool), Failure> {
        let is_tls = destination.scheme_str() == Some("https");
        let host = host_of(destination.authority().map_or("", |all| all.as_str()));
        let port = destination
            .port_u16()
            .unwrap_or(if is_tls { 443 } else { 80 });
        let by_us = match self.0.uri().scheme_str() {
            Some("socks5") => true,
            Some("socks5h") => false,
            _ => {
                let link = self.dial(&mut dials).await?;
                if !is_tls {
                    return Ok((link, true));
                }
                let mut link = TokioIo::new(link);
                let target = tunnel::target(host, port);
                tunnel::open(&mut link, &target, self.credentials()).await?;
                return Ok((link.into_inner(), false));
            }
        };
        let addresses: Vec<SocketAddr> = if let Ok(address) = host.parse::<IpAddr>() {
            vec![(address, port).into()]
        } else if by_us {
            // Names that only the other side knows are left to the proxy: Docker leaves all of them.
            let found = tokio::net::lookup_host((host, port)).await;
            found.map_or_else(|_| Vec::new(), Iterator::collect)
        } else {
            Vec::new()
        };
        let mut targets = addresses.into_iter().map(Target::Address);
        let mut target = targets
            .next()
            .unwrap_or_else(|| Target::Name(host.to_owned(), port));
        loop {
            let mut link = TokioIo::new(self.dial(&mut dials).await?);
            match socks::open(&mut link, &target, self.0.raw_auth()).await {
                Ok(()) => return Ok((link.into_inner(), false)),
                // One of the next addresses may be reachable.
                Err(refusal @ Refusal::Target { .. }) => match targets.next() {
                    Some(next) => target = next,
                    None => return Err(refusal.into()),
                },
                Err(other) => return Err(other.into()),
            }
        }
    }

    async fn dial(&self, dials: &mut Dials) -> Result<Link, Failure> {
        let uri = self.0.uri().clone();
        match &mut dials.tls {
            Some(tls) if uri.scheme_str() == Some("https") => tls.call(uri).await,
            _ => Ok(MaybeHttpsStream::Http(dials.tcp.call(uri).await?)),
        }
    }

    fn failure(&self, cause: Failure) -> ProxyFailure {
        // The address has lost its user and password when it was parsed.
        let uri = self.0.uri();
        ProxyFailure {
            proxy: format!(
                "{}://{}",
                uri.scheme_str().unwrap_or("http"),
                uri.authority().map_or("", |authority| authority.as_str())
            ),
            cause,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(http: &str, no: &str) -> RegistrySettings {
        RegistrySettings {
            http_proxy: Some(http.to_owned()),
            no_proxy: Some(no.to_owned()),
            ..RegistrySettings::default()
        }
    }

    #[test]
    fn what_is_no_address_is_refused_without_its_password() {
        for good in [
            "proxy.lan:3128",
            "http://proxy.lan:3128/",
            "https://me:p%40ss@proxy.lan",
            "socks5://[2001:db8::1]:1080",
            "socks5h://me@proxy.lan",
            "",
        ] {
            check(&with(good, "")).unwrap_or_else(|error| panic!("{good}: {error}"));
        }
        for bad in [
            "socks4://proxy.lan",
            "ftp://proxy.lan",
            "http://",
            "http://me:secret@",
            "http://me:sec@ret@proxy.lan",
            "http://me:sec/ret@proxy.lan",
            "http://me:sec?ret@proxy.lan",
            "http://me:sec#ret@proxy.lan",
            "http://me:sec ret@proxy.lan",
        ] {
            let error = check(&with(bad, "")).unwrap_err().to_string();
            assert!(error.contains("http-proxy"), "{error}");
            assert!(!error.contains("ret@"), "{error}");
        }
    }

    #[test]
    fn a_proxy_is_chosen_by_the_destination() {
        let proxies = Proxies::new(&with(
            "me:secret@proxy.lan:3128",
            ".inside.lan,10.0.0.0/8,exact.example",
        ));
        let chosen = |text: &str| proxies.choose(&text.parse().unwrap()).is_some();
        assert!(chosen("http://registry.example/v2/"));
        for direct in [
            "http://a.inside.lan:5000/",
            "http://10.1.2.3/",
            "http://exact.example/",
            "http://localhost:5000/",
            "http://127.0.0.2/",
            "http://[::1]:5000/",
            "https://registry.example/",
        ] {
            assert!(!chosen(direct), "{direct}");
        }
        let proxy = proxies.choose(&"http://x.example/".parse().unwrap());
        let failure = proxy.unwrap().wants_credentials();
        assert_eq!(
            crate::error::chain(&failure),
            "proxy http://proxy.lan:3128: it does not take the user and password"
        );
    }
}
