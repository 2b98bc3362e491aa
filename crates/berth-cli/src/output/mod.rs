//! What commands show: templates, tables, progress, units.

pub(crate) mod archive;
pub(crate) mod document;
pub(crate) mod list;
pub(crate) mod object;
pub(crate) mod progress;
pub(crate) mod template;
pub(crate) mod text;
