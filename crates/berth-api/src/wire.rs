//! How a wire type is declared.
//!
//! [`wire!`] turns a list of `field: Type = "JsonName" mode;` lines into a struct that is read and
//! written as Docker's Go structs are: fields in the order given, names matched without regard to case
//! on input, `null` and absence both leaving the default, unknown names ignored, a repeated name refused.
//! Modes: none (always written), `omitempty` (left out when zero, empty or none), `embed` (the fields
//! of the inner type stand in this object, as an embedded Go struct's do).

use serde::de::{Error as _, IgnoredAny, MapAccess};
use serde::ser::SerializeMap;
use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::marker::PhantomData;

/// What Go's `omitempty` asks of a value.
pub(crate) trait Empty {
    fn is_empty_value(&self) -> bool;
}

macro_rules! empty_number {
    ($($ty:ty)*) => { $(impl Empty for $ty { fn is_empty_value(&self) -> bool { *self == 0 } })* };
}
empty_number!(i32 i64 u16 u32 u64);

impl Empty for bool {
    fn is_empty_value(&self) -> bool {
        !*self
    }
}
impl Empty for String {
    fn is_empty_value(&self) -> bool {
        self.is_empty()
    }
}
impl<T> Empty for Option<T> {
    fn is_empty_value(&self) -> bool {
        self.is_none()
    }
}
impl<T> Empty for Vec<T> {
    fn is_empty_value(&self) -> bool {
        self.is_empty()
    }
}
impl<K, V> Empty for BTreeMap<K, V> {
    fn is_empty_value(&self) -> bool {
        self.is_empty()
    }
}

/// The fields of one JSON object; implemented by [`wire!`].
pub(crate) trait Fields: Default {
    /// Takes the value of `key` out of `map` if the key belongs here, and tells its declared name.
    fn set<'de, A: MapAccess<'de>>(
        &mut self,
        key: &str,
        map: &mut A,
    ) -> Result<Option<&'static str>, A::Error>;
    /// Writes every field.
    fn put<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error>;
}

pub(crate) struct FieldsVisitor<T>(pub(crate) PhantomData<T>);

impl<'de, T: Fields> serde::de::Visitor<'de> for FieldsVisitor<T> {
    type Value = T;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<T, A::Error> {
        let mut value = T::default();
        let mut seen: HashSet<&'static str> = HashSet::new();
        while let Some(key) = map.next_key::<std::borrow::Cow<'de, str>>()? {
            match value.set(&key, &mut map)? {
                Some(name) => {
                    if !seen.insert(name) {
                        return Err(A::Error::custom(format_args!("duplicate key {name:?}")));
                    }
                }
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(value)
    }
}

macro_rules! wire {
    ($(
        $(#[$meta:meta])*
        pub struct $name:ident {
            $( $(#[$field_meta:meta])* $field:ident : $ty:ty = $json:literal $($mode:ident)? ; )*
        }
    )*) => { $(
        $(#[$meta])*
        // The fields are named and defined by the published API description.
        #[allow(missing_docs)]
        #[derive(Debug, Clone, Default, PartialEq)]
        pub struct $name {
            $( $(#[$field_meta])* pub $field: $ty, )*
        }

        impl $crate::wire::Fields for $name {
            #[allow(unused_variables)]
            fn set<'de, A: serde::de::MapAccess<'de>>(
                &mut self,
                key: &str,
                map: &mut A,
            ) -> Result<Option<&'static str>, A::Error> {
                $( wire!(@set self, key, map, $field, $ty, $json, $($mode)?); )*
                Ok(None)
            }

            #[allow(unused_variables)]
            fn put<M: serde::ser::SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
                $( wire!(@put self, map, $field, $json, $($mode)?); )*
                Ok(())
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_map($crate::wire::FieldsVisitor::<Self>(std::marker::PhantomData))
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let mut map = serializer.serialize_map(None)?;
                $crate::wire::Fields::put(self, &mut map)?;
                serde::ser::SerializeMap::end(map)
            }
        }
    )* };

    (@set $self:ident, $key:ident, $map:ident, $field:ident, $ty:ty, $json:literal, embed) => {
        if let Some(name) = $crate::wire::Fields::set(&mut $self.$field, $key, $map)? {
            return Ok(Some(name));
        }
    };
    (@set $self:ident, $key:ident, $map:ident, $field:ident, $ty:ty, $json:literal, $($mode:ident)?) => {
        if $key.eq_ignore_ascii_case($json) {
            match $map.next_value::<Option<$ty>>() {
                Ok(Some(value)) => $self.$field = value,
                Ok(None) => {}
                Err(error) => {
                    return Err(serde::de::Error::custom(format_args!(concat!($json, ": {}"), error)));
                }
            }
            return Ok(Some($json));
        }
    };

    (@put $self:ident, $map:ident, $field:ident, $json:literal, embed) => {
        $crate::wire::Fields::put(&$self.$field, $map)?;
    };
    (@put $self:ident, $map:ident, $field:ident, $json:literal, omitempty) => {
        if !$crate::wire::Empty::is_empty_value(&$self.$field) {
            $map.serialize_entry($json, &$self.$field)?;
        }
    };
    (@put $self:ident, $map:ident, $field:ident, $json:literal,) => {
        $map.serialize_entry($json, &$self.$field)?;
    };
}

#[cfg(test)]
#[allow(unreachable_pub)]
mod tests {
    wire! {
        /// Inner.
        pub struct Inner {
            b: i64 = "B";
            c: Option<Vec<String>> = "C";
        }
        /// Outer.
        pub struct Outer {
            a: String = "A";
            inner: Inner = "" embed;
            d: bool = "D" omitempty;
        }
    }

    #[test]
    fn embedded_fields_stand_in_order_and_zero_values_follow_their_mode() {
        let text = serde_json::to_string(&Outer::default()).unwrap();
        assert_eq!(text, r#"{"A":"","B":0,"C":null}"#);
        let read: Outer =
            serde_json::from_str(r#"{"a":"x","b":3,"D":true,"c":null,"unknown":{"b":1}}"#).unwrap();
        assert_eq!(
            serde_json::to_string(&read).unwrap(),
            r#"{"A":"x","B":3,"C":null,"D":true}"#
        );
    }

    #[test]
    fn a_repeated_key_is_refused_in_any_case() {
        for text in [r#"{"A":"x","a":"y"}"#, r#"{"B":1,"B":2}"#] {
            let error = serde_json::from_str::<Outer>(text).unwrap_err().to_string();
            assert!(error.starts_with("duplicate key"), "{error}");
        }
    }

    #[test]
    fn a_wrong_type_names_the_field() {
        let error = serde_json::from_str::<Outer>(r#"{"B":"x"}"#)
            .unwrap_err()
            .to_string();
        assert_eq!(
            error,
            r#"B: invalid type: string "x", expected i64 at line 1 column 8"#
        );
    }
}
