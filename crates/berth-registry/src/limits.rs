//! Every bound that the registry puts on what clients and the upstream send.

use std::time::Duration;

/// Connections open at once; further ones wait in the socket's backlog.
pub const CONNECTIONS_MAX: usize = 1024;
/// Longest head of a request (request line and headers), in bytes; what is read at once may exceed it.
pub const HEAD_BYTES_MAX: usize = 64 << 10;
/// How long a client may take to send a request's head, and stay idle between two requests.
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a TLS handshake may take.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(15);
/// Longest silence of a client within the body of a request.
pub const BODY_STALL: Duration = Duration::from_secs(60);
/// How long a client may take nothing of an answer that waits for it.
pub const WRITE_STALL: Duration = Duration::from_secs(60);
/// How long open requests may go on when the registry ends.
pub const SHUTDOWN_GRACE: Duration = Duration::from_secs(10);
/// How long what a client still sends after its last answer is read and thrown away.
pub const LINGER: Duration = Duration::from_secs(2);
/// How much of that.
pub const LINGER_BYTES: usize = 8 << 20;
/// How much of that at once.
pub const LINGER_CHUNK: usize = 16 << 10;
/// Pause before the next accept when the process is out of descriptors or memory.
pub const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Largest manifest, in bytes (distribution specification, "Pushing Manifests": at least 4 MiB).
pub const MANIFEST_BYTES_MAX: usize = 4 << 20;
/// How long the body of a manifest may take altogether.
pub const MANIFEST_TIMEOUT: Duration = Duration::from_secs(120);
/// Manifests read or answered whole at once; each holds up to [`MANIFEST_BYTES_MAX`] and its parsed form.
pub const MANIFESTS_AT_ONCE: usize = 32;
/// Most descriptors of one manifest.
pub const DESCRIPTORS_MAX: usize = 16_384;
/// Most tags that one request may give by `tag=` parameters.
pub const TAG_PARAMETERS_MAX: usize = 64;
/// Most annotations of one manifest that the list of referrers repeats, in bytes.
pub const ANNOTATION_BYTES_MAX: usize = 256 << 10;

/// Largest blob, in bytes.
pub const BLOB_BYTES_MAX: u64 = 512 << 30;
/// Bytes gathered before they are hashed and written, and read at once for an answer. A connection holds twice as
/// many at most.
pub const CHUNK_BYTES: usize = 128 << 10;
/// How long a client may take for that many bytes: what is slower only holds a connection.
pub const CHUNK_TIMEOUT: Duration = Duration::from_secs(300);
/// Uploads that may be open (begun and not ended) at once.
pub const UPLOADS_OPEN_MAX: usize = 8192;
/// How long a request waits for another one on the same upload.
pub const UPLOAD_TURN: Duration = Duration::from_secs(10);

/// Entries of a list when the client asks for no number, and the most it may ask for.
pub const LIST_ENTRIES: usize = 1000;
/// Largest answer of one page of referrers, in bytes.
pub const REFERRERS_BYTES: usize = 4 << 20;
/// Longest query of a request, in bytes.
pub const QUERY_BYTES_MAX: usize = 16 << 10;

/// Largest file of passwords, in bytes.
pub const AUTH_FILE_BYTES_MAX: u64 = 4 << 20;
/// Largest file of certificates or of a key, in bytes.
pub const PEM_BYTES_MAX: u64 = 4 << 20;
/// Longest name and password together, in bytes. bcrypt looks at 72 bytes of a password.
pub const CREDENTIAL_BYTES_MAX: usize = 1024;
/// Passwords verified at once: bcrypt is slow on purpose.
pub const VERIFICATIONS_AT_ONCE: usize = 2;
/// Logins remembered, so that not every request costs a bcrypt.
pub const LOGINS_MAX: usize = 1024;
/// Costliest bcrypt hash that is accepted in the file (2^n rounds).
pub const BCRYPT_COST_MAX: u32 = 16;

/// How often the registry collects what nobody refers to.
pub const COLLECT_INTERVAL: Duration = Duration::from_secs(600);
/// Records looked at in one transaction of a collection.
pub const COLLECT_BATCH: usize = 512;

/// Contents fetched from the upstream at once; further ones wait.
pub const FETCHES_AT_ONCE: usize = 8;
/// Attempts without any progress before a fetch is given up.
pub const FETCH_ATTEMPTS: u32 = 5;
/// Pause before a fetch is taken up again.
pub const FETCH_PAUSE: Duration = Duration::from_millis(500);
/// How long an upstream that was found away is not asked for what is here.
pub const AWAY_PAUSE: Duration = Duration::from_secs(30);
/// How often a use of a cached manifest is noted, in seconds.
pub const USE_NOTED_SECONDS: i64 = 3600;
