//! The `filters` query parameter: a JSON object of name to list of values, or (older clients) of name
//! to an object whose keys are the values.

use crate::limits::MAX_FILTER_VALUES;
use serde::Deserialize;
use std::collections::BTreeMap;

/// Filter values by name. A name may have several values.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filters(BTreeMap<String, Vec<String>>);

/// A `filters` parameter that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid filter")]
pub struct FiltersError;

#[derive(Deserialize)]
#[serde(untagged)]
enum Values {
    List(Vec<String>),
    Set(BTreeMap<String, bool>),
    None(()),
}

impl Filters {
    /// No filter.
    pub fn new() -> Filters {
        Filters::default()
    }

    /// Adds a value.
    pub fn add(&mut self, name: impl Into<String>, value: impl Into<String>) {
        let values = self.0.entry(name.into()).or_default();
        let value = value.into();
        if !values.contains(&value) {
            values.push(value);
        }
    }

    /// The values of a name; empty when there are none.
    pub fn values(&self, name: &str) -> &[String] {
        self.0.get(name).map_or(&[], Vec::as_slice)
    }

    /// Every name with its values.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[String])> {
        self.0
            .iter()
            .map(|(name, values)| (name.as_str(), values.as_slice()))
    }

    /// Whether nothing is filtered.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Reads the parameter; an empty one means no filter.
    ///
    /// # Errors
    /// When it is neither of the two forms, or holds too much.
    pub fn from_json(text: &str) -> Result<Filters, FiltersError> {
        if text.is_empty() {
            return Ok(Filters::default());
        }
        let read: BTreeMap<String, Values> =
            serde_json::from_str(text).map_err(|_| FiltersError)?;
        if read.len() > MAX_FILTER_VALUES {
            return Err(FiltersError);
        }
        let mut filters = Filters::default();
        for (name, values) in read {
            let values: Vec<String> = match values {
                Values::List(list) => list,
                Values::Set(set) => set.into_keys().collect(),
                Values::None(()) => Vec::new(),
            };
            if values.len() > MAX_FILTER_VALUES {
                return Err(FiltersError);
            }
            filters.0.insert(name, values);
        }
        Ok(filters)
    }

    /// The parameter in the form every engine since API 1.22 reads.
    pub fn to_json(&self) -> String {
        let sets: BTreeMap<&str, BTreeMap<&str, bool>> = self
            .iter()
            .map(|(name, values)| {
                (
                    name,
                    values.iter().map(|value| (value.as_str(), true)).collect(),
                )
            })
            .collect();
        serde_json::to_string(&sets).expect("strings always serialise")
    }
}

impl<N: Into<String>, V: Into<String>> FromIterator<(N, V)> for Filters {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(pairs: I) -> Self {
        let mut filters = Filters::new();
        for (name, value) in pairs {
            filters.add(name, value);
        }
        filters
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_read() {
        let list = Filters::from_json(r#"{"status":["exited","dead"]}"#).unwrap();
        let set = Filters::from_json(r#"{"status":{"exited":true,"dead":true}}"#).unwrap();
        assert_eq!(list.values("status"), ["exited", "dead"]);
        assert_eq!(set.values("status"), ["dead", "exited"]);
        assert_eq!(Filters::from_json(&list.to_json()).unwrap(), set);
        assert!(Filters::from_json("").unwrap().is_empty());
    }

    #[test]
    fn anything_else_is_refused() {
        for bad in [
            "x",
            "[]",
            r#"{"a":1}"#,
            r#"{"a":[1]}"#,
            r#"{"a":{"b":"c"}}"#,
        ] {
            assert_eq!(Filters::from_json(bad), Err(FiltersError), "{bad}");
        }
    }
}
