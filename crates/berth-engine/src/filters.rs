//! Filters of lists, prunes and events: names with values, matched as Docker matches them.

use indexmap::{IndexMap, IndexSet};

use crate::error::EngineError;

/// `name → values`; values of one name are alternatives, names all have to hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filters {
    values: IndexMap<String, IndexSet<String>>,
}

impl Filters {
    /// No filter.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a value.
    pub fn add(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.values
            .entry(name.into())
            .or_default()
            .insert(value.into());
    }

    /// Whether there is no filter at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Whether `name` is filtered on.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        self.values.contains_key(name)
    }

    /// The values of `name`.
    pub fn get<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> + use<'a> {
        self.values
            .get(name)
            .into_iter()
            .flatten()
            .map(String::as_str)
    }

    /// Refuses names that are not in `accepted`.
    ///
    /// # Errors
    /// With Docker's sentence.
    pub fn validate(&self, accepted: &[&str]) -> Result<(), EngineError> {
        match self.values.keys().find(|k| !accepted.contains(&k.as_str())) {
            None => Ok(()),
            Some(name) => Err(EngineError::Invalid(format!(
                "invalid filter '{}'",
                name.chars().take(64).collect::<String>()
            ))),
        }
    }

    /// Whether `name` is not filtered on, or one of its values is exactly `value`.
    #[must_use]
    pub fn exact(&self, name: &str, value: &str) -> bool {
        match self.values.get(name) {
            None => true,
            Some(set) => set.is_empty() || set.contains(value),
        }
    }

    /// As [`exact`](Self::exact), or a value is the beginning of `value`.
    #[must_use]
    pub fn prefix(&self, name: &str, value: &str) -> bool {
        match self.values.get(name) {
            None => true,
            Some(set) => set.is_empty() || set.iter().any(|v| value.starts_with(v.as_str())),
        }
    }

    /// Whether `name` is not filtered on, or `test` holds for one of its values.
    pub fn any(&self, name: &str, mut test: impl FnMut(&str) -> bool) -> bool {
        match self.values.get(name) {
            None => true,
            Some(set) => set.is_empty() || set.iter().any(|v| test(v)),
        }
    }

    /// Whether every `key` or `key=value` of `name` is among `labels`.
    #[must_use]
    pub fn labels(&self, name: &str, labels: &IndexMap<String, String>) -> bool {
        match self.values.get(name) {
            None => true,
            Some(set) => set.iter().all(|wanted| match wanted.split_once('=') {
                Some((key, value)) => labels.get(key).is_some_and(|v| v == value),
                None => labels.contains_key(wanted),
            }),
        }
    }

    /// Reads the one truth value of `name`.
    ///
    /// # Errors
    /// When it is neither true nor false.
    pub fn truth(&self, name: &str) -> Result<Option<bool>, EngineError> {
        let mut found = None;
        for value in self.get(name) {
            let truth = match value {
                "1" | "true" | "True" | "t" | "T" | "TRUE" => true,
                "0" | "false" | "False" | "f" | "F" | "FALSE" => false,
                other => {
                    return Err(EngineError::Invalid(format!(
                        "invalid filter '{name}={}'",
                        other.chars().take(64).collect::<String>()
                    )));
                }
            };
            if found.is_some_and(|f| f != truth) {
                return Err(EngineError::Invalid(format!(
                    "invalid filter '{name}': both true and false"
                )));
            }
            found = Some(truth);
        }
        Ok(found)
    }
}

impl<K: Into<String>, V: Into<String>> FromIterator<(K, V)> for Filters {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        let mut filters = Self::new();
        for (name, value) in pairs {
            filters.add(name, value);
        }
        filters
    }
}

/// `name` is a part of the container's name; `^` and `$` bind it to the ends, as in the expressions Docker
/// takes here.
pub(crate) fn name_matches(name: &str, pattern: &str) -> bool {
    let pattern = pattern.strip_prefix('/').unwrap_or(pattern);
    let (start, pattern) = match pattern.strip_prefix("^/").or(pattern.strip_prefix('^')) {
        Some(rest) => (true, rest),
        None => (false, pattern),
    };
    let (end, pattern) = match pattern.strip_suffix('$') {
        Some(rest) => (true, rest),
        None => (false, pattern),
    };
    match (start, end) {
        (true, true) => name == pattern,
        (true, false) => name.starts_with(pattern),
        (false, true) => name.ends_with(pattern),
        (false, false) => name.contains(pattern),
    }
}
