//! `ContainerConfig`: what a container runs, independent of the host.

use crate::health::HealthConfig;
use serde::de::{self, Deserialize, Deserializer};
use serde::ser::{Serialize, SerializeMap, Serializer};
use std::collections::BTreeMap;
use std::fmt;

/// A command line. Read from a list of strings or from a single string (one word, never split).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StrSlice(pub Vec<String>);

impl From<Vec<String>> for StrSlice {
    fn from(words: Vec<String>) -> Self {
        StrSlice(words)
    }
}

impl Serialize for StrSlice {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for StrSlice {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Words;
        impl<'de> de::Visitor<'de> for Words {
            type Value = StrSlice;
            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a string or a list of strings")
            }
            fn visit_str<E: de::Error>(self, word: &str) -> Result<StrSlice, E> {
                Ok(StrSlice(vec![word.to_owned()]))
            }
            fn visit_seq<A: de::SeqAccess<'de>>(self, mut list: A) -> Result<StrSlice, A::Error> {
                let mut words = Vec::new();
                while let Some(word) = list.next_element()? {
                    words.push(word);
                }
                Ok(StrSlice(words))
            }
        }
        deserializer.deserialize_any(Words)
    }
}

impl crate::wire::Empty for StrSlice {
    fn is_empty_value(&self) -> bool {
        self.0.is_empty()
    }
}

/// `{}`: the value of a Go set. Any object is accepted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EmptyObject;

impl Serialize for EmptyObject {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_map(Some(0))?.end()
    }
}

impl<'de> Deserialize<'de> for EmptyObject {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> de::Visitor<'de> for Object {
            type Value = EmptyObject;
            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an empty object")
            }
            fn visit_unit<E: de::Error>(self) -> Result<EmptyObject, E> {
                Ok(EmptyObject)
            }
            fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<EmptyObject, A::Error> {
                while map
                    .next_entry::<de::IgnoredAny, de::IgnoredAny>()?
                    .is_some()
                {}
                Ok(EmptyObject)
            }
        }
        deserializer.deserialize_any(Object)
    }
}

wire! {
    /// Configuration of a container that is portable between hosts.
    pub struct ContainerConfig {
        hostname: String = "Hostname";
        domainname: String = "Domainname";
        user: String = "User";
        attach_stdin: bool = "AttachStdin";
        attach_stdout: bool = "AttachStdout";
        attach_stderr: bool = "AttachStderr";
        /// Keys are `<port>/<protocol>`.
        exposed_ports: BTreeMap<String, EmptyObject> = "ExposedPorts" omitempty;
        tty: bool = "Tty";
        open_stdin: bool = "OpenStdin";
        stdin_once: bool = "StdinOnce";
        /// `NAME=value`, or `NAME` alone to take the name out of the image's environment.
        env: Option<Vec<String>> = "Env";
        cmd: Option<StrSlice> = "Cmd";
        healthcheck: Option<HealthConfig> = "Healthcheck" omitempty;
        args_escaped: bool = "ArgsEscaped" omitempty;
        image: String = "Image";
        /// Keys are paths inside the container.
        volumes: Option<BTreeMap<String, EmptyObject>> = "Volumes";
        working_dir: String = "WorkingDir";
        entrypoint: Option<StrSlice> = "Entrypoint";
        network_disabled: bool = "NetworkDisabled" omitempty;
        /// Before API 1.44; later it is part of the endpoint.
        mac_address: String = "MacAddress" omitempty;
        on_build: Option<Vec<String>> = "OnBuild";
        labels: Option<BTreeMap<String, String>> = "Labels";
        stop_signal: String = "StopSignal" omitempty;
        /// Seconds; negative waits for ever.
        stop_timeout: Option<i64> = "StopTimeout" omitempty;
        shell: StrSlice = "Shell" omitempty;
    }
}
