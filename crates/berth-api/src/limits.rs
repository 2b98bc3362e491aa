//! Every bound of this crate.

/// Largest error body a client reads, in bytes.
pub const MAX_ERROR_BODY: usize = 64 * 1024;
/// Largest ordinary (not streamed) answer a client reads, in bytes. Lists of thousands of containers fit.
pub const MAX_ANSWER_BODY: usize = 256 * 1024 * 1024;
/// Largest single JSON object inside a stream (events, progress, stats), in bytes.
pub const MAX_STREAM_OBJECT: usize = 4 * 1024 * 1024;
/// Largest frame payload a decoder accepts, in bytes. Docker writes at most 16 KiB per frame, other
/// engines up to a pipe's size; a larger header is a sign of a stream that is not framed at all.
pub const MAX_FRAME: usize = 1024 * 1024;
/// Longest `X-Registry-Auth` value that is decoded, in bytes.
pub const MAX_AUTH_HEADER: usize = 32 * 1024;
/// Most filter keys, and most values per key, that are read from one `filters` parameter.
pub const MAX_FILTER_VALUES: usize = 1024;
/// Most query parameters of one request.
pub const MAX_QUERY_PARAMETERS: usize = 1024;
/// Idle connections a client keeps for reuse.
pub const MAX_IDLE_CONNECTIONS: usize = 4;
