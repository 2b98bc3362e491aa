//! The body of every answer that is not a success.

wire! {
    /// An error.
    pub struct ErrorResponse {
        message: String = "message";
    }
}
