//! What a client is told when it does not get what it asked for: the specification's codes, one place.

use http::StatusCode;
use serde_json::{Value, json};

use crate::digest::DigestError;
use crate::error::RegistryError;

/// The identifiers of the specification ("Error Codes"), and one for failures that are not the client's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Code {
    /// blob unknown to registry
    BlobUnknown,
    /// blob upload invalid
    BlobUploadInvalid,
    /// blob upload unknown to registry
    BlobUploadUnknown,
    /// provided digest did not match uploaded content
    DigestInvalid,
    /// manifest references a manifest or blob unknown to registry
    ManifestBlobUnknown,
    /// manifest invalid
    ManifestInvalid,
    /// manifest unknown to registry
    ManifestUnknown,
    /// invalid repository name
    NameInvalid,
    /// repository name not known to registry
    NameUnknown,
    /// provided length did not match content length
    SizeInvalid,
    /// authentication required
    Unauthorized,
    /// requested access to the resource is denied
    Denied,
    /// the operation is unsupported
    Unsupported,
    /// too many requests
    TooManyRequests,
    /// not the client's fault; the specification has no code for it
    Unknown,
}

impl Code {
    fn as_str(self) -> &'static str {
        match self {
            Self::BlobUnknown => "BLOB_UNKNOWN",
            Self::BlobUploadInvalid => "BLOB_UPLOAD_INVALID",
            Self::BlobUploadUnknown => "BLOB_UPLOAD_UNKNOWN",
            Self::DigestInvalid => "DIGEST_INVALID",
            Self::ManifestBlobUnknown => "MANIFEST_BLOB_UNKNOWN",
            Self::ManifestInvalid => "MANIFEST_INVALID",
            Self::ManifestUnknown => "MANIFEST_UNKNOWN",
            Self::NameInvalid => "NAME_INVALID",
            Self::NameUnknown => "NAME_UNKNOWN",
            Self::SizeInvalid => "SIZE_INVALID",
            Self::Unauthorized => "UNAUTHORIZED",
            Self::Denied => "DENIED",
            Self::Unsupported => "UNSUPPORTED",
            Self::TooManyRequests => "TOOMANYREQUESTS",
            Self::Unknown => "UNKNOWN",
        }
    }

    fn status(self) -> StatusCode {
        match self {
            Self::BlobUnknown
            | Self::BlobUploadUnknown
            | Self::ManifestUnknown
            | Self::ManifestBlobUnknown
            | Self::NameUnknown => StatusCode::NOT_FOUND,
            Self::BlobUploadInvalid
            | Self::DigestInvalid
            | Self::ManifestInvalid
            | Self::NameInvalid
            | Self::SizeInvalid => StatusCode::BAD_REQUEST,
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::Denied => StatusCode::FORBIDDEN,
            Self::Unsupported => StatusCode::METHOD_NOT_ALLOWED,
            Self::TooManyRequests => StatusCode::TOO_MANY_REQUESTS,
            Self::Unknown => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

/// An answer that is not a success.
#[derive(Debug)]
pub(crate) struct Refusal {
    /// Its status.
    pub(crate) status: StatusCode,
    /// Headers beside the usual ones.
    pub(crate) headers: Vec<(&'static str, String)>,
    errors: Vec<(Code, String, Value)>,
    /// The failure behind it, reported once where the answer is made.
    pub(crate) cause: Option<Box<RegistryError>>,
}

impl Refusal {
    /// A refusal with the usual status of its code.
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            status: code.status(),
            headers: Vec::new(),
            errors: vec![(code, message.into(), Value::Null)],
            cause: None,
        }
    }

    /// The same with another status.
    #[must_use]
    pub(crate) fn status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    /// The same with a detail of the first error.
    #[must_use]
    pub(crate) fn detail(mut self, detail: Value) -> Self {
        if let Some((_, _, slot)) = self.errors.first_mut() {
            *slot = detail;
        }
        self
    }

    /// The same with a further header.
    #[must_use]
    pub(crate) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// Several errors of one code, each with a detail.
    pub(crate) fn each(
        code: Code,
        message: &str,
        details: impl IntoIterator<Item = Value>,
    ) -> Self {
        let errors: Vec<_> = details
            .into_iter()
            .map(|detail| (code, message.to_owned(), detail))
            .collect();
        Self {
            status: code.status(),
            headers: Vec::new(),
            errors,
            cause: None,
        }
    }

    /// The same for who asks for a manifest: what can be no tag is one that is not here (distribution specification, "Pulling
    /// manifests").
    pub(crate) fn of_reading(mut self) -> Self {
        if let [(code @ Code::ManifestInvalid, ..)] = self.errors.as_mut_slice() {
            *code = Code::ManifestUnknown;
            self.status = code.status();
        }
        self
    }

    /// No such path or method.
    pub(crate) fn no_route() -> Self {
        Self::new(Code::Unsupported, "there is nothing at this path").status(StatusCode::NOT_FOUND)
    }

    /// The path is there, the method is not.
    pub(crate) fn method(allowed: &'static str) -> Self {
        Self::new(Code::Unsupported, "the operation is unsupported").header("allow", allowed)
    }

    /// The body, in the specification's form.
    pub(crate) fn body(&self) -> Vec<u8> {
        let errors: Vec<Value> = self
            .errors
            .iter()
            .map(|(code, message, detail)| {
                let mut error = json!({"code": code.as_str(), "message": message});
                if !detail.is_null() {
                    error["detail"] = detail.clone();
                }
                error
            })
            .collect();
        let mut bytes = json!({ "errors": errors }).to_string().into_bytes();
        bytes.push(b'\n');
        bytes
    }
}

impl From<DigestError> for Refusal {
    fn from(error: DigestError) -> Self {
        Self::new(Code::DigestInvalid, error.to_string())
    }
}

impl From<RegistryError> for Refusal {
    fn from(error: RegistryError) -> Self {
        let mut refusal = if error.is_disk_full() {
            Self::new(Code::Unknown, "the registry's disk is full")
                .status(StatusCode::INSUFFICIENT_STORAGE)
        } else {
            Self::new(Code::Unknown, "the registry failed; its log says why")
        };
        refusal.cause = Some(Box::new(error));
        refusal
    }
}
