//! How a record is written: a schema number, and the record in that schema.
//!
//! A newer Berth reads every older schema by lifting it step by step; an older Berth refuses a newer one
//! instead of guessing.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::check_size;
use crate::containers::record::ContainerRecord;
use crate::networks::NetworkRecord;
use crate::volumes::VolumeRecord;

/// The schema of containers written today.
pub const SCHEMA: u32 = 2;

/// The schema of networks written today.
const NETWORK_SCHEMA: u32 = 1;

/// The schema of volumes written today.
const VOLUME_SCHEMA: u32 = 1;

/// Why a record cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum SchemaError {
    /// It is not what it should be.
    #[error("the record is damaged")]
    Damaged(#[source] serde_json::Error),
    /// A newer Berth wrote it.
    #[error("the record has schema {found}; this version reads up to {newest}")]
    Newer {
        /// Its schema.
        found: u32,
        /// The newest that is read.
        newest: u32,
    },
    /// It is too large.
    #[error("the record has {bytes} bytes, more than is kept")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
}

#[derive(Serialize)]
struct Outgoing<'a, T> {
    schema: u32,
    record: &'a T,
}

#[derive(Deserialize)]
struct Incoming {
    schema: u32,
    record: Value,
}

pub(super) fn encode(record: &ContainerRecord) -> Result<Vec<u8>, SchemaError> {
    write(SCHEMA, record)
}

pub(super) fn encode_network(record: &NetworkRecord) -> Result<Vec<u8>, SchemaError> {
    write(NETWORK_SCHEMA, record)
}

pub(super) fn encode_volume(record: &VolumeRecord) -> Result<Vec<u8>, SchemaError> {
    write(VOLUME_SCHEMA, record)
}

fn write<T: Serialize>(schema: u32, record: &T) -> Result<Vec<u8>, SchemaError> {
    let bytes = serde_json::to_vec(&Outgoing { schema, record }).map_err(SchemaError::Damaged)?;
    check_size(bytes.len())?;
    Ok(bytes)
}

pub(super) fn decode(bytes: &[u8]) -> Result<ContainerRecord, SchemaError> {
    let (schema, record) = read(bytes, SCHEMA)?;
    let record = (schema..SCHEMA).fold(record, lift);
    serde_json::from_value(record).map_err(SchemaError::Damaged)
}

pub(super) fn decode_network(bytes: &[u8]) -> Result<NetworkRecord, SchemaError> {
    // Schema 1 is the first, so there is nothing to lift yet.
    let (_, record) = read(bytes, NETWORK_SCHEMA)?;
    serde_json::from_value(record).map_err(SchemaError::Damaged)
}

pub(super) fn decode_volume(bytes: &[u8]) -> Result<VolumeRecord, SchemaError> {
    // Schema 1 is the first, so there is nothing to lift yet.
    let (_, record) = read(bytes, VOLUME_SCHEMA)?;
    serde_json::from_value(record).map_err(SchemaError::Damaged)
}

fn read(bytes: &[u8], newest: u32) -> Result<(u32, Value), SchemaError> {
    check_size(bytes.len())?;
    let incoming: Incoming = serde_json::from_slice(bytes).map_err(SchemaError::Damaged)?;
    if incoming.schema > newest {
        return Err(SchemaError::Newer {
            found: incoming.schema,
            newest,
        });
    }
    Ok((incoming.schema, incoming.record))
}

/// Lifts a container's record from `schema` to the next one. A change of the record's form adds its case here, with a
/// saved record of the release before it among the tests.
fn lift(mut record: Value, schema: u32) -> Value {
    if schema == 1 {
        // Schema 1 had no networks but those of the spec.
        let spec = &record["spec"];
        let mode = spec["host"]["network_mode"].as_str().unwrap_or("default");
        let mut networks = serde_json::Map::new();
        if !mode.starts_with("container:") {
            let name = if mode == "default" { "bridge" } else { mode };
            networks.insert(name.to_owned(), serde_json::json!({}));
        }
        if let Some(endpoints) = spec["endpoints"].as_object() {
            for (name, request) in endpoints {
                networks.insert(name.clone(), serde_json::json!({ "request": request }));
            }
        }
        record["networks"] = Value::Object(networks);
    }
    record
}
