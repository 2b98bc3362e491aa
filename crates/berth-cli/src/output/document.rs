//! JSON answers as template data.
//!
//! Go's templates look at typed structs, and three things follow that JSON alone does not tell: a
//! field left out by `omitempty` still exists, a name that is missing from a map is `<no value>`
//! while a name that is missing from a struct is an error, and `{{json .}}` keeps the order of the
//! fields. A [`Document`] carries what is needed for all three beside the value: which objects are
//! maps ([`MAPS`]), which optional fields belong to which object ([`OPTIONAL`]), and the original
//! order of keys. Objects are told apart by the address of their (shared, immutable) contents.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use gotmpl::Value;

/// Names of fields that hold a map from names of the user's choice.
const MAPS: &[&str] = &[
    "Annotations",
    "Attributes",
    "AuxiliaryAddresses",
    "Containers",
    "Data",
    "Details",
    "DriverOpts",
    "EndpointsConfig",
    "ExposedPorts",
    "IndexConfigs",
    "Labels",
    "Networks",
    "Options",
    "PortBindings",
    "Ports",
    "Runtimes",
    "StorageOpt",
    "Sysctls",
    "Tmpfs",
    "Volumes",
    "networks",
    "options",
    "stats",
    "status",
];

/// Names of fields that hold a single optional value, so that `null` means no value rather than an
/// empty list.
const SINGLES: &[&str] = &[
    "BridgeNfIp6tables",
    "BridgeNfIptables",
    "Descriptor",
    "ExitCode",
    "Health",
    "Healthcheck",
    "IPAMConfig",
    "ImageManifestDescriptor",
    "Init",
    "MemorySwappiness",
    "OomKillDisable",
    "PidsLimit",
    "RegistryConfig",
    "SizeRootFs",
    "SizeRw",
    "StopTimeout",
];

/// What an optional field is when it was left out.
#[derive(Clone, Copy)]
enum Absent {
    Nothing,
    Map,
    List,
    Text,
    Number,
    False,
}

/// Optional fields of the objects found under a name; the empty name is the whole document.
const OPTIONAL: &[(&str, &[(&str, Absent)])] = &[
    (
        "",
        &[
            ("SizeRw", Absent::Nothing),
            ("SizeRootFs", Absent::Nothing),
            ("ImageManifestDescriptor", Absent::Nothing),
        ],
    ),
    ("State", &[("Health", Absent::Nothing)]),
    (
        "Config",
        &[
            ("ExposedPorts", Absent::Map),
            ("Healthcheck", Absent::Nothing),
            ("ArgsEscaped", Absent::False),
            ("NetworkDisabled", Absent::False),
            ("StopSignal", Absent::Text),
            ("StopTimeout", Absent::Nothing),
            ("Shell", Absent::List),
        ],
    ),
    (
        "HostConfig",
        &[
            ("Annotations", Absent::Map),
            ("StorageOpt", Absent::Map),
            ("Tmpfs", Absent::Map),
            ("Sysctls", Absent::Map),
            ("Runtime", Absent::Text),
            ("Mounts", Absent::List),
            ("Init", Absent::Nothing),
        ],
    ),
    (
        "Mounts",
        &[
            ("Type", Absent::Text),
            ("Name", Absent::Text),
            ("Driver", Absent::Text),
        ],
    ),
    (
        "Healthcheck",
        &[
            ("Test", Absent::List),
            ("Interval", Absent::Number),
            ("Timeout", Absent::Number),
            ("StartPeriod", Absent::Number),
            ("StartInterval", Absent::Number),
            ("Retries", Absent::Number),
        ],
    ),
];

/// What is known of one object beside its values.
#[derive(Debug, Clone)]
pub(crate) struct ObjectNote {
    /// Names in their original order, then the optional fields that were left out.
    order: Vec<Arc<str>>,
    /// How many of the names were written.
    written: usize,
    /// Whether the object is a map from names of the user's choice.
    pub(crate) is_map: bool,
}

/// Notes on the objects of a document.
#[derive(Debug, Clone, Default)]
pub(crate) struct Notes {
    objects: HashMap<usize, ObjectNote>,
    /// Empty lists and maps that were `null`.
    nulls: HashSet<usize>,
}

/// What tells a list or an object from every other: the address of its contents.
fn address(value: &Value) -> Option<usize> {
    match value {
        Value::Map(map) => Some(Arc::as_ptr(map) as usize),
        Value::List(items) => Some(Arc::as_ptr(items).cast::<Value>() as usize),
        _ => None,
    }
}

impl Notes {
    /// The note on a map value, if it came from a document.
    pub(crate) fn of(&self, value: &Value) -> Option<&ObjectNote> {
        self.objects.get(&address(value)?)
    }

    fn was_null(&self, value: &Value) -> bool {
        address(value).is_some_and(|address| self.nulls.contains(&address))
    }

    fn null(&mut self, value: Value) -> Value {
        self.nulls.extend(address(&value));
        value
    }

    /// A copy of an object with further names for its fields, which `{{json .}}` does not show.
    pub(crate) fn alias(
        self: &Arc<Self>,
        original: &Value,
        fields: BTreeMap<Arc<str>, Value>,
    ) -> (Value, Arc<Self>) {
        let mut notes = (**self).clone();
        let note = self.of(original).cloned();
        let value = Value::Map(Arc::new(fields));
        if let (Some(note), Some(address)) = (note, address(&value)) {
            notes.objects.insert(address, note);
        }
        (value, Arc::new(notes))
    }
}

/// A JSON document ready for templates.
#[derive(Debug, Clone)]
pub(crate) struct Document {
    /// The data.
    pub(crate) value: Value,
    /// Notes on its objects; valid as long as `value` (or a copy of it) lives.
    pub(crate) notes: Arc<Notes>,
}

impl Document {
    /// Prepares a JSON answer.
    pub(crate) fn new(json: &serde_json::Value) -> Self {
        let mut notes = Notes::default();
        let value = convert(json, "", "", false, &mut notes);
        Self {
            value,
            notes: Arc::new(notes),
        }
    }
}

/// Name of everything inside a map, where no name means anything.
const ANY: &str = "\0";

/// Whether the field `name` of the object called `parent` holds a map.
fn holds_map(parent: &str, name: &str) -> bool {
    MAPS.contains(&name) || (parent == "LogConfig" && name == "Config")
}

fn convert(
    json: &serde_json::Value,
    parent: &str,
    name: &str,
    inside_map: bool,
    notes: &mut Notes,
) -> Value {
    match json {
        serde_json::Value::Null if !inside_map && holds_map(parent, name) => {
            let empty = object(&serde_json::Map::new(), ANY, true, notes);
            notes.null(empty)
        }
        serde_json::Value::Null if inside_map || SINGLES.contains(&name) || name.is_empty() => {
            Value::Nil
        }
        serde_json::Value::Null => notes.null(Value::List(Arc::from(Vec::new()))),
        serde_json::Value::Bool(value) => Value::Bool(*value),
        serde_json::Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(number), _) => Value::Int(number),
            (None, Some(number)) => Value::Uint(number),
            _ => Value::Float(number.as_f64().unwrap_or_default()),
        },
        serde_json::Value::String(text) => Value::String(Arc::from(text.as_str())),
        serde_json::Value::Array(items) => Value::List(
            items
                .iter()
                .map(|item| convert(item, parent, name, inside_map, notes))
                .collect(),
        ),
        serde_json::Value::Object(map) => {
            let is_map = !inside_map && holds_map(parent, name);
            object(map, if inside_map { ANY } else { name }, is_map, notes)
        }
    }
}

fn object(
    map: &serde_json::Map<String, serde_json::Value>,
    name: &str,
    is_map: bool,
    notes: &mut Notes,
) -> Value {
    let mut order: Vec<Arc<str>> = Vec::with_capacity(map.len());
    let mut values: BTreeMap<Arc<str>, Value> = BTreeMap::new();
    for (key, value) in map {
        let key: Arc<str> = Arc::from(key.as_str());
        let child = if is_map { ANY } else { &*key };
        values.insert(Arc::clone(&key), convert(value, name, child, is_map, notes));
        order.push(key);
    }
    let written = order.len();
    if !is_map && let Some((_, fields)) = OPTIONAL.iter().find(|(object, _)| *object == name) {
        for (field, absent) in *fields {
            if !values.contains_key(*field) {
                let value = match absent {
                    Absent::Nothing => Value::Nil,
                    Absent::Map => object(&serde_json::Map::new(), ANY, true, notes),
                    Absent::List => Value::List(Arc::from(Vec::new())),
                    Absent::Text => Value::String(Arc::from("")),
                    Absent::Number => Value::Int(0),
                    Absent::False => Value::Bool(false),
                };
                let field: Arc<str> = Arc::from(*field);
                values.insert(Arc::clone(&field), value);
                order.push(field);
            }
        }
    }
    let value = Value::Map(Arc::new(values));
    if let Some(address) = address(&value) {
        let note = ObjectNote {
            order,
            written,
            is_map,
        };
        notes.objects.insert(address, note);
    }
    value
}

/// A value as Go prints it: maps with their names, structs as their values in braces.
pub(crate) fn to_text(value: &Value, notes: &Notes) -> String {
    match value {
        Value::Map(map) => {
            let note = notes.of(value).filter(|note| !note.is_map);
            let parts: Vec<String> = match note {
                Some(note) => {
                    let fields = note.order.iter().filter_map(|name| map.get(name));
                    fields.map(|value| to_text(value, notes)).collect()
                }
                None => {
                    let entries = map.iter();
                    entries
                        .map(|(name, value)| format!("{name}:{}", to_text(value, notes)))
                        .collect()
                }
            };
            match note {
                Some(_) => format!("{{{}}}", parts.join(" ")),
                None => format!("map[{}]", parts.join(" ")),
            }
        }
        Value::List(items) => {
            let parts: Vec<String> = items.iter().map(|item| to_text(item, notes)).collect();
            format!("[{}]", parts.join(" "))
        }
        other => other.to_string(),
    }
}

/// A template value as JSON, fields in their original order where it is known.
pub(crate) fn to_json(value: &Value, notes: &Notes) -> serde_json::Value {
    match value {
        null if notes.was_null(null) => serde_json::Value::Null,
        Value::Bool(value) => (*value).into(),
        Value::Int(number) => (*number).into(),
        Value::Uint(number) => (*number).into(),
        Value::Float(number) => (*number).into(),
        Value::String(text) => text.as_ref().into(),
        Value::List(items) => items.iter().map(|item| to_json(item, notes)).collect(),
        Value::Map(map) => {
            let mut object = serde_json::Map::new();
            let mut put = |key: &Arc<str>, value: &Value| {
                if !matches!(value, Value::Function(_)) {
                    object.insert(key.to_string(), to_json(value, notes));
                }
            };
            match notes.of(value) {
                Some(note) => {
                    for key in note.order.iter().take(note.written) {
                        if let Some(value) = map.get(key) {
                            put(key, value);
                        }
                    }
                }
                None => map.iter().for_each(|(key, value)| put(key, value)),
            }
            serde_json::Value::Object(object)
        }
        _ => serde_json::Value::Null,
    }
}
