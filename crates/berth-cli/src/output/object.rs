//! `--format` of commands that show one object: a template over an answer of the engine.

use std::sync::Arc;

use gotmpl::Value;

use super::document::{Document, Notes};
use super::template::{Functions, Template};
use crate::failure::Failure;

/// Exit status for a template that cannot be parsed (EX_USAGE of sysexits).
const STATUS_BAD_FORMAT: u8 = 64;

/// A template for objects.
#[derive(Debug)]
pub(crate) struct ObjectFormat(Template);

impl ObjectFormat {
    /// Understands a template in which `\t` and `\n` may be written out.
    ///
    /// # Errors
    /// The sentence on what is wrong with it.
    pub(crate) fn parse(source: &str) -> Result<Self, Failure> {
        let source = source.replace("\\t", "\t").replace("\\n", "\n");
        Template::parse(&source)
            .map(Self)
            .map_err(|reason| Failure {
                status: STATUS_BAD_FORMAT,
                ..failure(reason)
            })
    }

    /// The text for a JSON answer.
    ///
    /// # Errors
    /// The sentence on the field or function that failed.
    pub(crate) fn show(&self, json: &serde_json::Value) -> Result<String, Failure> {
        let document = Document::new(json);
        self.show_value(&document.value, &document.notes)
    }

    /// The text for a value that was prepared already.
    ///
    /// # Errors
    /// The sentence on the field or function that failed.
    pub(crate) fn show_value(&self, value: &Value, notes: &Arc<Notes>) -> Result<String, Failure> {
        self.0
            .render(value, notes, Functions::Values)
            .map_err(failure)
    }
}

fn failure(reason: String) -> Failure {
    Failure::new(format!("template parsing error: {reason}"))
}
