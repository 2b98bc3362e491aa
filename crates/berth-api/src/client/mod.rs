//! The typed client.
//!
//! Owns connections to one engine and the API version spoken with it. Requests go out at once in the
//! newest version; an engine that is older says so in its refusal, and the request is repeated in its
//! version, so that agreeing costs nothing when both sides are of one age.

mod archives;
mod connection;
mod containers;
mod error;
mod exec;
mod hijack;
mod host;
mod images;
mod networks;
mod registries;
mod stream;
mod system;
mod volumes;

pub use archives::{CommitOptions, CopyOptions, ImportOptions};
pub use containers::{
    AttachOptions, ContainerListOptions, ContainerRemoveOptions, ContainerWaiting, LogsOptions,
    StatsOptions, StopOptions, WaitCondition,
};
pub use error::ClientError;
pub use hijack::{Hijacked, HijackedReader};
pub use host::{Host, HostError};
pub use images::{ImageListOptions, ImageRemoveOptions, LoadOptions, PullOptions};
pub use registries::{PushOptions, ReferrersOptions};
pub use stream::{ByteStream, JsonStream, LogStream};
pub use system::{CheckOptions, EventsOptions};
pub use volumes::VolumeImportOptions;

use crate::error_response::ErrorResponse;
use crate::limits::{MAX_ANSWER_BODY, MAX_ERROR_BODY, MAX_IDLE_CONNECTIONS};
use crate::query::Query;
use crate::version::ApiVersion;
use bytes::{Bytes, BytesMut};
use connection::Body;
use http::header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST, UPGRADE, USER_AGENT};
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt;
use std::os::unix::net::UnixStream;
use std::sync::Mutex;

/// A client of one engine. Methods need a tokio runtime; nothing happens before the first call.
pub struct Client {
    host: Host,
    user_agent: String,
    /// Sent with every request that does not set them itself.
    headers: Vec<(HeaderName, HeaderValue)>,
    state: Mutex<State>,
}

struct State {
    version: ApiVersion,
    agreed: bool,
    idle: Vec<SendRequest<Body>>,
    /// A connected socket nothing has been sent over yet.
    socket: Option<UnixStream>,
}

impl fmt::Debug for Client {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Client")
            .field("host", &self.host)
            .field("version", &self.api_version())
            .finish()
    }
}

/// Body of a request that can be sent again.
#[derive(Clone)]
enum Payload {
    None,
    Json(Bytes),
}

/// One request before it is tied to a version.
struct Call {
    method: Method,
    /// Without version prefix.
    path: String,
    payload: Payload,
    headers: Vec<(HeaderName, HeaderValue)>,
    hijack: bool,
}

impl Call {
    fn new(method: Method, path: impl Into<String>, query: &Query) -> Call {
        let mut path = path.into();
        path.push_str(&query.to_suffix());
        Call {
            method,
            path,
            payload: Payload::None,
            headers: Vec::new(),
            hijack: false,
        }
    }

    fn get(path: impl Into<String>, query: &Query) -> Call {
        Call::new(Method::GET, path, query)
    }

    fn post(path: impl Into<String>, query: &Query) -> Call {
        Call::new(Method::POST, path, query)
    }

    fn put(path: impl Into<String>, query: &Query) -> Call {
        Call::new(Method::PUT, path, query)
    }

    fn delete(path: impl Into<String>, query: &Query) -> Call {
        Call::new(Method::DELETE, path, query)
    }

    fn json(mut self, body: &impl Serialize) -> Call {
        let bytes = serde_json::to_vec(body).expect("wire types always serialise");
        self.payload = Payload::Json(bytes.into());
        self
    }

    fn header(mut self, name: &'static str, value: &str) -> Call {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.push((HeaderName::from_static(name), value));
        }
        self
    }

    fn hijack(mut self) -> Call {
        self.hijack = true;
        self
    }
}

/// An answer that is a success, with the connection it came over.
struct Answer {
    response: Response<Incoming>,
    sender: SendRequest<Body>,
    path: String,
}

impl Client {
    /// A client of the engine at `host`.
    pub fn new(host: Host) -> Client {
        Client {
            host,
            user_agent: concat!("Berth-Client/", env!("CARGO_PKG_VERSION"), " (linux)").to_owned(),
            headers: Vec::new(),
            state: Mutex::new(State {
                version: ApiVersion::MAX,
                agreed: false,
                idle: Vec::new(),
                socket: None,
            }),
        }
    }

    /// Sends these headers with every request (`HttpHeaders` of Docker's configuration file).
    ///
    /// # Errors
    /// When a name or a value is none that HTTP can carry.
    pub fn with_headers<'a>(
        mut self,
        headers: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Client, ClientError> {
        for (name, value) in headers {
            let bad = |source| ClientError::Header {
                name: name.to_owned(),
                source,
            };
            let key: HeaderName = name
                .parse()
                .map_err(|error| bad(http::Error::from(error)))?;
            let value: HeaderValue = value
                .parse()
                .map_err(|error| bad(http::Error::from(error)))?;
            self.headers.push((key, value));
        }
        Ok(self)
    }

    /// Sends its first request over this socket, which is connected to the engine already.
    pub fn with_socket(self, socket: UnixStream) -> Client {
        self.lock().socket = Some(socket);
        self
    }

    /// Speaks exactly this version (`DOCKER_API_VERSION`).
    pub fn with_version(self, version: ApiVersion) -> Client {
        {
            let mut state = self.lock();
            state.version = version;
            state.agreed = true;
        }
        self
    }

    /// The engine's address.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The version that is spoken, as far as it is known by now.
    pub fn api_version(&self) -> ApiVersion {
        self.lock().version
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        // The state is whole after every statement, so a panic elsewhere does not spoil it.
        self.state
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Asks the engine for its version with a `_ping` and speaks the older of the two from then on.
    ///
    /// # Errors
    /// When the engine cannot be reached.
    pub async fn negotiate(&self) -> Result<ApiVersion, ClientError> {
        let ping = self.ping().await?;
        let mut state = self.lock();
        if !state.agreed {
            // A server that does not tell is as old as can be.
            state.version = ping
                .api_version
                .unwrap_or(ApiVersion::MIN)
                .min(ApiVersion::MAX);
            state.agreed = true;
        }
        Ok(state.version)
    }

    fn request(
        &self,
        call: &Call,
        version: Option<ApiVersion>,
        body: Body,
    ) -> Result<Request<Body>, ClientError> {
        let path = match version {
            Some(version) => format!("/v{version}{}", call.path),
            None => call.path.clone(),
        };
        let mut request = Request::builder()
            .method(call.method.clone())
            .uri(&path)
            .header(HOST, HeaderValue::from_static("berth"));
        for (name, value) in &self.headers {
            let own = [&HOST, &CONTENT_TYPE, &CONTENT_LENGTH, &CONNECTION, &UPGRADE]
                .contains(&name)
                || call.headers.iter().any(|(set, _)| set == name);
            if !own {
                request = request.header(name, value);
            }
        }
        if !self.headers.iter().any(|(name, _)| name == USER_AGENT) {
            request = request.header(USER_AGENT, &self.user_agent);
        }
        if let Payload::Json(_) = call.payload {
            request = request.header(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        if call.hijack {
            request = request
                .header(CONNECTION, HeaderValue::from_static("Upgrade"))
                .header(UPGRADE, HeaderValue::from_static("tcp"));
        }
        for (name, value) in &call.headers {
            request = request.header(name, value);
        }
        request
            .body(body)
            .map_err(|source| ClientError::Request { path, source })
    }

    fn exchange_error(call: &Call, source: hyper::Error) -> ClientError {
        ClientError::Exchange {
            method: call.method.to_string(),
            path: call.path.clone(),
            source,
        }
    }

    /// Sends over an idle connection if one still works, else over a new one.
    async fn send(&self, call: &Call, mut request: Request<Body>) -> Result<Answer, ClientError> {
        loop {
            let idle = self.lock().idle.pop();
            let Some(mut sender) = idle else { break };
            if sender.ready().await.is_err() {
                continue;
            }
            match sender.try_send_request(request).await {
                Ok(response) => {
                    return Ok(Answer {
                        response,
                        sender,
                        path: call.path.clone(),
                    });
                }
                // The engine closed the idle connection before the request was written: it comes back.
                Err(mut error) => match error.take_message() {
                    Some(unsent) => request = unsent,
                    None => return Err(Self::exchange_error(call, error.into_error())),
                },
            }
        }
        let socket = self.lock().socket.take();
        let mut sender = connection::open(&self.host, socket).await?;
        let response = sender
            .send_request(request)
            .await
            .map_err(|source| Self::exchange_error(call, source))?;
        Ok(Answer {
            response,
            sender,
            path: call.path.clone(),
        })
    }

    /// Sends a request in the agreed version and turns a refusal into an error.
    async fn call(&self, call: Call) -> Result<Answer, ClientError> {
        loop {
            let (version, agreed) = {
                let state = self.lock();
                (state.version, state.agreed)
            };
            let body = match &call.payload {
                Payload::None => Empty::new().map_err(|never| match never {}).boxed_unsync(),
                Payload::Json(bytes) => Full::new(bytes.clone())
                    .map_err(|never| match never {})
                    .boxed_unsync(),
            };
            let request = self.request(&call, Some(version), body)?;
            let answer = self.send(&call, request).await?;
            let theirs = api_version(&answer.response);
            if !agreed
                && answer.response.status() == StatusCode::BAD_REQUEST
                && let Some(theirs) = theirs.filter(|theirs| *theirs < version)
            {
                {
                    let mut state = self.lock();
                    state.version = theirs;
                    state.agreed = true;
                }
                // Read to its end, so that the connection can be used again; what it says is known.
                let _ = self.body(answer, MAX_ERROR_BODY).await;
                continue;
            }
            return self.check(answer).await;
        }
    }

    /// Sends a request whose body cannot be sent twice; the version is agreed on before.
    async fn call_streaming(&self, call: Call, body: Body) -> Result<Answer, ClientError> {
        let agreed = self.lock().agreed;
        if !agreed {
            self.negotiate().await?;
        }
        let version = self.api_version();
        let request = self.request(&call, Some(version), body)?;
        let answer = self.send(&call, request).await?;
        self.check(answer).await
    }

    async fn check(&self, answer: Answer) -> Result<Answer, ClientError> {
        let status = answer.response.status();
        if status.is_success()
            || status == StatusCode::SWITCHING_PROTOCOLS
            || status == StatusCode::NOT_MODIFIED
        {
            return Ok(answer);
        }
        let path = answer.path.clone();
        let bytes = self.body(answer, MAX_ERROR_BODY).await.unwrap_or_default();
        let message = match serde_json::from_slice::<ErrorResponse>(&bytes) {
            Ok(error) if !error.message.is_empty() => error.message,
            _ => {
                let text = String::from_utf8_lossy(&bytes).trim().to_owned();
                if text.is_empty() {
                    format!("{status} (no message) for {path}")
                } else {
                    text
                }
            }
        };
        Err(ClientError::Api {
            status: status.as_u16(),
            message,
        })
    }

    /// Reads the whole body and keeps the connection for the next request.
    async fn body(&self, answer: Answer, limit: usize) -> Result<Bytes, ClientError> {
        let Answer {
            response,
            sender,
            path,
        } = answer;
        let mut body = response.into_body();
        let mut whole = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|source| ClientError::Exchange {
                method: "read".to_owned(),
                path: path.clone(),
                source,
            })?;
            if let Ok(bytes) = frame.into_data() {
                if whole.len() + bytes.len() > limit {
                    return Err(ClientError::TooLong { path, limit });
                }
                whole.extend_from_slice(&bytes);
            }
        }
        let mut state = self.lock();
        if state.idle.len() < MAX_IDLE_CONNECTIONS {
            state.idle.push(sender);
        }
        Ok(whole.freeze())
    }

    /// A request answered by one JSON value.
    async fn json<T: DeserializeOwned>(&self, call: Call) -> Result<T, ClientError> {
        let answer = self.call(call).await?;
        self.decode(answer).await
    }

    async fn decode<T: DeserializeOwned>(&self, answer: Answer) -> Result<T, ClientError> {
        let path = answer.path.clone();
        let bytes = self.body(answer, MAX_ANSWER_BODY).await?;
        serde_json::from_slice(&bytes).map_err(|source| ClientError::Decode { path, source })
    }

    /// A request answered by a status alone. False when it was so already (304).
    async fn done(&self, call: Call) -> Result<bool, ClientError> {
        let answer = self.call(call).await?;
        let changed = answer.response.status() != StatusCode::NOT_MODIFIED;
        self.body(answer, MAX_ERROR_BODY).await?;
        Ok(changed)
    }

    /// A request answered by a stream.
    async fn stream(&self, call: Call) -> Result<ByteStream, ClientError> {
        let answer = self.call(call).await?;
        Ok(ByteStream::new(answer.response.into_body(), answer.path))
    }

    /// A request that turns its connection into a raw stream.
    async fn hijacked(&self, call: Call) -> Result<Hijacked, ClientError> {
        let answer = self.call(call.hijack()).await?;
        if answer.response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err(ClientError::NoStream {
                path: answer.path,
                status: answer.response.status().as_u16(),
            });
        }
        Hijacked::take(answer.response, &answer.path).await
    }
}

fn api_version<B>(response: &Response<B>) -> Option<ApiVersion> {
    response
        .headers()
        .get("api-version")?
        .to_str()
        .ok()?
        .parse()
        .ok()
}
