//! The attributes that each log entry carries: selected labels and environment variables, and a tag.

use std::collections::BTreeMap;

use regex::Regex;
use serde::Serialize;

use super::settings::SettingsError;

/// What is known of a container when its log attributes are computed. Field names in `tag` templates are Docker's.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct LogSubject {
    /// The full identifier.
    pub id: String,
    /// The name, without a leading slash.
    pub name: String,
    /// Entry point and arguments, joined by spaces.
    pub command: String,
    /// The image's identifier with its algorithm, `sha256:…`.
    pub image_id: String,
    /// The image as the user named it.
    pub image_name: String,
    /// The daemon's name.
    pub daemon_name: String,
    /// The host's name.
    pub hostname: String,
    /// All labels.
    pub labels: BTreeMap<String, String>,
    /// The environment, `NAME=value`.
    pub environment: Vec<String>,
}

/// Computes the attributes that the options `labels`, `labels-regex`, `env`, `env-regex` and `tag` ask for.
///
/// # Errors
/// For a bad regular expression or template.
pub fn attributes(
    options: &BTreeMap<String, String>,
    subject: &LogSubject,
) -> Result<BTreeMap<String, String>, SettingsError> {
    let mut found = BTreeMap::new();
    let option = |name: &str| options.get(name).filter(|value| !value.is_empty());
    if let Some(names) = option("labels") {
        select(&mut found, &subject.labels, |key| {
            names.split(',').any(|name| name == key)
        });
    }
    if let Some(pattern) = option("labels-regex") {
        let pattern = expression("labels-regex", pattern)?;
        select(&mut found, &subject.labels, |key| pattern.is_match(key));
    }
    let environment: BTreeMap<String, String> = subject
        .environment
        .iter()
        .filter_map(|entry| entry.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    if let Some(names) = option("env") {
        select(&mut found, &environment, |key| {
            names.split(',').any(|name| name == key)
        });
    }
    if let Some(pattern) = option("env-regex") {
        let pattern = expression("env-regex", pattern)?;
        select(&mut found, &environment, |key| pattern.is_match(key));
    }
    if let Some(template) = option("tag") {
        let tag = render(template, subject)?;
        if !tag.is_empty() {
            found.insert("tag".to_owned(), tag);
        }
    }
    Ok(found)
}

fn select(
    into: &mut BTreeMap<String, String>,
    from: &BTreeMap<String, String>,
    wanted: impl Fn(&str) -> bool,
) {
    for (key, value) in from.iter().filter(|(key, _)| wanted(key)) {
        into.insert(key.clone(), value.clone());
    }
}

fn expression(option: &'static str, pattern: &str) -> Result<Regex, SettingsError> {
    Regex::new(pattern).map_err(|error| SettingsError::InvalidValue {
        option,
        value: pattern.chars().take(80).collect(),
        reason: error.to_string(),
    })
}

/// The names that Docker's tag templates may use.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct TagFields<'a> {
    #[serde(rename = "ID")]
    id: &'a str,
    #[serde(rename = "FullID")]
    full_id: &'a str,
    name: &'a str,
    command: &'a str,
    #[serde(rename = "ImageID")]
    image_id: &'a str,
    #[serde(rename = "ImageFullID")]
    image_full_id: &'a str,
    image_name: &'a str,
    daemon_name: &'a str,
    hostname: &'a str,
}

fn render(template: &str, subject: &LogSubject) -> Result<String, SettingsError> {
    if !template.contains("{{") {
        return Ok(template.to_owned());
    }
    let fields = TagFields {
        id: short(&subject.id),
        full_id: &subject.id,
        name: &subject.name,
        command: &subject.command,
        image_id: short(
            subject
                .image_id
                .split_once(':')
                .map_or(&subject.image_id, |(_, hex)| hex),
        ),
        image_full_id: &subject.image_id,
        image_name: &subject.image_name,
        daemon_name: &subject.daemon_name,
        hostname: &subject.hostname,
    };
    let attempt = || -> gotmpl::Result<String> {
        let value = gotmpl::ser::to_value(&fields)?;
        gotmpl::Template::new("log-tag")
            .missing_key(gotmpl::MissingKey::Error)
            .parse(template)?
            .execute_to_string(&value)
    };
    attempt().map_err(|error| SettingsError::InvalidValue {
        option: "tag",
        value: template.chars().take(80).collect(),
        reason: error.to_string(),
    })
}

fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(list: &[(&str, &str)]) -> BTreeMap<String, String> {
        list.iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect()
    }

    fn subject() -> LogSubject {
        LogSubject {
            id: "ab".repeat(32),
            name: "web".into(),
            image_id: format!("sha256:{}", "cd".repeat(32)),
            image_name: "debian:12".into(),
            labels: options(&[("com.x.a", "1"), ("com.x.b", "2"), ("other", "3")]),
            environment: vec!["PATH=/bin".into(), "STAGE=test".into(), "broken".into()],
            ..LogSubject::default()
        }
    }

    #[test]
    fn labels_environment_and_tag_are_selected() {
        let asked = options(&[
            ("labels", "other,absent"),
            ("labels-regex", "^com\\.x"),
            ("env", "STAGE"),
            ("tag", "{{.Name}}/{{.ID}} {{.ImageName}}"),
        ]);
        let found = attributes(&asked, &subject()).unwrap();
        assert_eq!(
            found,
            options(&[
                ("STAGE", "test"),
                ("com.x.a", "1"),
                ("com.x.b", "2"),
                ("other", "3"),
                ("tag", "web/abababababab debian:12"),
            ])
        );
        assert!(attributes(&options(&[]), &subject()).unwrap().is_empty());
    }

    #[test]
    fn bad_patterns_and_templates_are_refused() {
        for bad in [
            ("labels-regex", "("),
            ("env-regex", "["),
            ("tag", "{{.Nothing}}"),
            ("tag", "{{"),
        ] {
            assert!(
                attributes(&options(&[bad]), &subject()).is_err(),
                "{bad:?} was taken"
            );
        }
    }
}
