//! How a record is written: a schema number, and the record in that schema.
//!
//! A newer Berth reads every older schema by lifting it step by step; an older Berth refuses a newer one
//! instead of guessing.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::check_size;
use crate::containers::record::ContainerRecord;

/// The schema written today.
pub const SCHEMA: u32 = 1;

/// Why a record cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum SchemaError {
    /// It is not what it should be.
    #[error("the record is damaged")]
    Damaged(#[source] serde_json::Error),
    /// A newer Berth wrote it.
    #[error("the record has schema {found}; this version reads up to {SCHEMA}")]
    Newer {
        /// Its schema.
        found: u32,
    },
    /// It is too large.
    #[error("the record has {bytes} bytes, more than is kept")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
}

#[derive(Serialize)]
struct Outgoing<'a> {
    schema: u32,
    record: &'a ContainerRecord,
}

#[derive(Deserialize)]
struct Incoming {
    schema: u32,
    record: Value,
}

pub(super) fn encode(record: &ContainerRecord) -> Result<Vec<u8>, SchemaError> {
    let bytes = serde_json::to_vec(&Outgoing {
        schema: SCHEMA,
        record,
    })
    .map_err(SchemaError::Damaged)?;
    check_size(bytes.len())?;
    Ok(bytes)
}

pub(super) fn decode(bytes: &[u8]) -> Result<ContainerRecord, SchemaError> {
    check_size(bytes.len())?;
    let incoming: Incoming = serde_json::from_slice(bytes).map_err(SchemaError::Damaged)?;
    if incoming.schema > SCHEMA {
        return Err(SchemaError::Newer {
            found: incoming.schema,
        });
    }
    let record = (incoming.schema..SCHEMA).fold(incoming.record, lift);
    serde_json::from_value(record).map_err(SchemaError::Damaged)
}

/// Lifts a record from `schema` to the next one.
///
/// Schema 1 is the first, so there is nothing to lift yet. A change of the record's form adds its case here,
/// with a saved record of the release before it among the tests.
fn lift(record: Value, schema: u32) -> Value {
    debug_assert!(schema < SCHEMA, "only older records are lifted");
    record
}
