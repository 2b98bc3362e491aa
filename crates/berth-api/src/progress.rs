//! Progress streams of pull and load: one JSON object per line.

use std::fmt;

wire! {
    /// One line of a progress stream. An error can follow a status of 200.
    pub struct JsonMessage {
        stream: String = "stream" omitempty;
        status: String = "status" omitempty;
        progress_detail: Option<ProgressDetail> = "progressDetail" omitempty;
        /// The progress bar drawn by the engine, for clients that do not draw one.
        progress: String = "progress" omitempty;
        id: String = "id" omitempty;
        error_detail: Option<ErrorDetail> = "errorDetail" omitempty;
        error: String = "error" omitempty;
        /// What the work gave, in a form of its own.
        aux: Option<serde_json::Value> = "aux" omitempty;
    }

    /// How far one step is.
    pub struct ProgressDetail {
        current: i64 = "current" omitempty;
        total: i64 = "total" omitempty;
        units: String = "units" omitempty;
    }

    /// The error that ended a progress stream.
    pub struct ErrorDetail {
        code: i64 = "code" omitempty;
        message: String = "message";
    }
}

impl JsonMessage {
    /// The line that ends a stream with an error.
    pub fn failure(message: impl fmt::Display) -> JsonMessage {
        let message = message.to_string();
        JsonMessage {
            error_detail: Some(ErrorDetail {
                code: 0,
                message: message.clone(),
            }),
            error: message,
            ..JsonMessage::default()
        }
    }
}
