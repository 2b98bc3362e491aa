//! Wire types of the Engine API, stream framing, and the typed client.
