//! Lists of things: a table, a template per line, JSON per line, or ids only.

use std::collections::BTreeMap;
use std::sync::Arc;

use gotmpl::Value;

use super::document::Notes;
use super::template::{Functions, Template, text};
use super::text::align;
use crate::failure::Failure;

/// What a list can show.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Columns {
    /// Field names and their headers.
    pub(crate) headers: &'static [(&'static str, &'static str)],
    /// Docker's name for the type of a line, which its messages show.
    pub(crate) type_name: &'static str,
    /// Whether `{{.Label "name"}}` is a field.
    pub(crate) labels: bool,
}

/// One line's fields.
#[derive(Debug, Clone, Default)]
pub(crate) struct Row(BTreeMap<Arc<str>, Value>);

impl Row {
    /// An empty line.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Adds a text field.
    pub(crate) fn with(mut self, name: &str, value: impl AsRef<str>) -> Self {
        self.0.insert(Arc::from(name), text(value.as_ref()));
        self
    }

    /// Adds a field.
    pub(crate) fn with_value(mut self, name: &str, value: Value) -> Self {
        self.0.insert(Arc::from(name), value);
        self
    }

    /// Adds `Label`, which looks a label up by its name.
    pub(crate) fn with_labels(self, labels: BTreeMap<String, String>) -> Self {
        let look_up = move |arguments: &[Value]| {
            let name = arguments
                .first()
                .map(ToString::to_string)
                .unwrap_or_default();
            Ok(text(labels.get(&name).map_or("", String::as_str)))
        };
        self.with_value("Label", Value::Function(Arc::new(look_up)))
    }
}

/// A format as asked for, ready to use.
#[derive(Debug)]
pub(crate) struct Format {
    template: Template,
    table: bool,
}

impl Format {
    /// Understands `table`, `table TEMPLATE`, `json`, `raw` and plain templates.
    ///
    /// # Errors
    /// The sentence on what is wrong with the template.
    pub(crate) fn parse(
        format: &str,
        default_table: &str,
        raw: Option<&str>,
    ) -> Result<Self, Failure> {
        let (template, table) = match format {
            "table" => (default_table, true),
            "json" => ("{{json .}}", false),
            "raw" if raw.is_some() => (raw.unwrap_or_default(), false),
            _ => match format.strip_prefix("table") {
                Some(template) => (template, true),
                None => (format, false),
            },
        };
        let template = template
            .trim_matches(' ')
            .replace("\\t", "\t")
            .replace("\\n", "\n");
        let template = Template::parse(&template)
            .map_err(|reason| Failure::new(format!("failed to parse template: {reason}")))?;
        Ok(Self { template, table })
    }

    /// Whether the template looks at a field of this name.
    pub(crate) fn mentions(&self, field: &str) -> bool {
        self.template.mentions(field)
    }

    /// All lines, with their headers for tables.
    ///
    /// # Errors
    /// The sentence on the field or function that failed.
    pub(crate) fn render(&self, columns: &Columns, rows: Vec<Row>) -> Result<String, Failure> {
        let notes = Arc::new(Notes::default());
        let mut lines = String::new();
        if self.table {
            // A template that has no sense for headers still lists its lines.
            let headers = header_row(columns);
            lines.push_str(
                &self
                    .template
                    .render(&headers, &notes, Functions::Headers)
                    .unwrap_or_default(),
            );
            lines.push('\n');
        }
        for row in rows {
            lines.push_str(&self.line(columns, row)?);
            lines.push('\n');
        }
        Ok(if self.table { align(&lines) } else { lines })
    }

    /// One line without its end.
    fn line(&self, columns: &Columns, row: Row) -> Result<String, Failure> {
        let notes = Arc::new(Notes::default());
        self.template
            .render(&Value::Map(Arc::new(row.0)), &notes, Functions::Values)
            .map_err(|reason| {
                let reason = match reason.split_once("map has no entry for key ") {
                    Some((place, field)) => format!(
                        "{place}can't evaluate field {} in type {}",
                        field.trim_matches('"'),
                        columns.type_name
                    ),
                    None => reason,
                };
                Failure::new(format!("failed to execute template: {reason}"))
            })
    }
}

fn header_row(columns: &Columns) -> Value {
    let mut row = Row::new();
    for (field, header) in columns.headers {
        row = row.with(field, header);
    }
    if columns.labels {
        // The header of a label is the last part of its name.
        let header = |arguments: &[Value]| {
            let name = arguments
                .first()
                .map(ToString::to_string)
                .unwrap_or_default();
            let last = name.rsplit('.').next().unwrap_or_default();
            Ok(text(&last.replace(['-', '_'], " ")))
        };
        row = row.with_value("Label", Value::Function(Arc::new(header)));
    }
    Value::Map(Arc::new(row.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: Columns = Columns {
        headers: &[("ID", "CONTAINER ID"), ("Names", "NAMES")],
        type_name: "*formatter.ContainerContext",
        labels: true,
    };

    fn rows() -> Vec<Row> {
        let labels = BTreeMap::from([("com.example.my-role".to_owned(), "web".to_owned())]);
        vec![
            Row::new()
                .with("ID", "0123456789ab")
                .with("Names", "one")
                .with_labels(labels.clone()),
            Row::new()
                .with("ID", "ba9876543210")
                .with("Names", "another")
                .with_labels(BTreeMap::new()),
        ]
    }

    fn render(format: &str) -> String {
        Format::parse(
            format,
            "table {{.ID}}\t{{.Names}}".trim_start_matches("table "),
            None,
        )
        .and_then(|format| format.render(&COLUMNS, rows()))
        .unwrap_or_else(|failure| failure.message)
    }

    #[test]
    fn formats_are_understood_as_docker_does() {
        for (format, wanted) in [
            (
                "table",
                "CONTAINER ID   NAMES\n0123456789ab   one\nba9876543210   another\n",
            ),
            (
                "table {{.Names}}\\t{{.Label \"com.example.my-role\"}}",
                "NAMES     my role\none       web\nanother   \n",
            ),
            ("table {{upper .Names}}", "NAMES\nONE\nANOTHER\n"),
            ("{{.Names}}", "one\nanother\n"),
            (
                "{{.ID}}\\n{{.Names}}",
                "0123456789ab\none\nba9876543210\nanother\n",
            ),
            (
                "json",
                "{\"ID\":\"0123456789ab\",\"Names\":\"one\"}\n{\"ID\":\"ba9876543210\",\"Names\":\"another\"}\n",
            ),
            ("{{json .Names}}", "\"one\"\n\"another\"\n"),
        ] {
            assert_eq!(render(format), wanted, "{format}");
        }
        assert_eq!(
            render("{{.Nope}}"),
            "failed to execute template: template: :1:2: executing \"\" at <.Nope>: can't evaluate field Nope in type *formatter.ContainerContext"
        );
    }
}
