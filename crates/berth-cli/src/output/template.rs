//! `--format`: Go templates with docker's functions.
//!
//! The template language is gotmpl's. On top of it this module looks fields up the way Go does on
//! docker's types (see [`super::document`]), calls fields that take arguments (`{{.Label "x"}}`),
//! adds docker's functions, and words errors as users know them:
//! `template: :1:8: executing "" at <.State.Health.Status>: map has no entry for key "Health"`.

use std::sync::Arc;

use gotmpl::parse::{CommandNode, Expr, ListNode, Node, Parser, PipeNode, Pos, SmolStr};
use gotmpl::{TemplateError, Value};

use super::document::{Notes, to_json, to_text};

/// Name of the inner function that looks fields up; no user can type it.
const FIELD: &str = "\u{b7}field";
/// The same, for a value that is printed as it is: no value of an optional field is `<nil>` there.
const SHOWN_FIELD: &str = "\u{b7}shown";
const MAIN: &str = "\u{b7}main";

/// Functions a template may call.
const FUNCTIONS: &[&str] = &[
    "and", "call", "html", "index", "slice", "js", "len", "not", "or", "print", "printf",
    "println", "urlquery", "eq", "ge", "gt", "le", "lt", "ne", "json", "split", "join", "title",
    "lower", "upper", "pad", "truncate",
];

/// Which meaning docker's functions have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Functions {
    /// They work on values.
    Values,
    /// They hand column headers through, so that headers stay readable.
    Headers,
}

/// A parsed template.
#[derive(Debug)]
pub(crate) struct Template {
    main: ListNode,
    named: Vec<(String, ListNode)>,
    fields: Vec<String>,
}

impl Template {
    /// Parses a template.
    ///
    /// # Errors
    /// The sentence that tells what is wrong with it.
    pub(crate) fn parse(source: &str) -> Result<Self, String> {
        let parsed = Parser::new(source, "{{", "}}").and_then(Parser::parse);
        let (mut main, defines) = parsed.map_err(|error| match error {
            TemplateError::Parse { line, message, .. }
            | TemplateError::Lex { line, message, .. } => {
                format!("template: :{line}: {message}")
            }
            other => format!("template: :1: {other}"),
        })?;
        let mut rewriter = Rewriter {
            source,
            fields: Vec::new(),
            unknown: None,
        };
        rewriter.list(&mut main);
        let mut named = Vec::new();
        for mut define in defines {
            rewriter.list(&mut define.body);
            named.push((define.name.to_string(), define.body));
        }
        if let Some((line, name)) = rewriter.unknown {
            return Err(format!(
                "template: :{line}: function \"{name}\" not defined"
            ));
        }
        Ok(Self {
            main,
            named,
            fields: rewriter.fields,
        })
    }

    /// Whether the template looks at a field of this name.
    pub(crate) fn mentions(&self, field: &str) -> bool {
        self.fields.iter().any(|found| found == field)
    }

    /// Executes the template.
    ///
    /// # Errors
    /// The sentence that tells where and why it failed.
    pub(crate) fn render(
        &self,
        data: &Value,
        notes: &Arc<Notes>,
        functions: Functions,
    ) -> Result<String, String> {
        let mut template = gotmpl::Template::new("");
        let known = Arc::clone(notes);
        template = template
            .func(FIELD, move |arguments| field(arguments, &known))
            .func(SHOWN_FIELD, {
                let known = Arc::clone(notes);
                move |arguments| shown_field(arguments, &known)
            })
            .func("index", index);
        template = match functions {
            Functions::Values => with_value_functions(template, notes),
            Functions::Headers => with_header_functions(template),
        };
        template = template.add_parse_tree(MAIN, self.main.clone());
        for (name, body) in &self.named {
            template = template.add_parse_tree(name, body.clone());
        }
        template
            .execute_template_to_string(MAIN, data)
            .map_err(|error| match error {
                TemplateError::Exec(text) if text.starts_with("template: ") => text,
                TemplateError::Exec(text) => format!("template: :1: executing \"\": {text}"),
                other => format!("template: :1: executing \"\": {other}"),
            })
    }
}

fn with_value_functions(template: gotmpl::Template, notes: &Arc<Notes>) -> gotmpl::Template {
    let known = Arc::clone(notes);
    template
        .func("json", move |arguments| {
            let value = argument(arguments, 0)?;
            let json = to_json(value, &known).to_string();
            // A line of a list is written the way Go writes JSON for web pages.
            Ok(text(&match (value, known.of(value)) {
                (Value::Map(_), None) => json
                    .replace('<', "\\u003c")
                    .replace('>', "\\u003e")
                    .replace('&', "\\u0026"),
                _ => json,
            }))
        })
        .func("split", |arguments| {
            let (whole, separator) = (word(arguments, 0)?, word(arguments, 1)?);
            Ok(if separator.is_empty() {
                whole
                    .chars()
                    .map(|character| text(&character.to_string()))
                    .collect()
            } else {
                whole
                    .split(separator.as_str())
                    .map(text)
                    .collect::<Vec<_>>()
            })
            .map(|parts| Value::List(Arc::from(parts)))
        })
        .func("join", |arguments| {
            let separator = word(arguments, 1)?;
            let parts: Vec<String> = match argument(arguments, 0)? {
                Value::List(items) => items.iter().map(ToString::to_string).collect(),
                Value::Map(map) => {
                    let mut values: Vec<String> = map.values().map(ToString::to_string).collect();
                    values.sort();
                    values
                }
                Value::Nil => Vec::new(),
                other => {
                    return Err(TemplateError::Exec(format!(
                        "expected slice, got {}",
                        other.type_name()
                    )));
                }
            };
            Ok(text(&parts.join(&separator)))
        })
        .func("title", |arguments| {
            let mut start = true;
            let titled: String = word(arguments, 0)?
                .chars()
                .map(|character| {
                    let upper = if start {
                        character.to_ascii_uppercase()
                    } else {
                        character
                    };
                    start = !(character.is_alphanumeric() || character == '_' || character == '\'');
                    upper
                })
                .collect();
            Ok(text(&titled))
        })
        .func("lower", |arguments| {
            Ok(text(&word(arguments, 0)?.to_lowercase()))
        })
        .func("upper", |arguments| {
            Ok(text(&word(arguments, 0)?.to_uppercase()))
        })
        .func("pad", pad)
        .func("truncate", |arguments| {
            let (whole, length) = (word(arguments, 0)?, number(arguments, 1)?);
            if whole.len() < length {
                return Ok(text(&whole));
            }
            let end = (0..=length)
                .rev()
                .find(|end| whole.is_char_boundary(*end))
                .unwrap_or(0);
            Ok(text(&whole[..end]))
        })
}

fn with_header_functions(mut template: gotmpl::Template) -> gotmpl::Template {
    for name in [
        "json", "split", "join", "title", "lower", "upper", "truncate",
    ] {
        template = template.func(name, |arguments| Ok(argument(arguments, 0)?.clone()));
    }
    template.func("pad", pad)
}

fn pad(arguments: &[Value]) -> gotmpl::Result<Value> {
    let whole = word(arguments, 0)?;
    if whole.is_empty() {
        return Ok(text(""));
    }
    let (before, after) = (number(arguments, 1)?, number(arguments, 2)?);
    Ok(text(&format!("{:before$}{whole}{:after$}", "", "")))
}

/// Go's `index`: a name that a map lacks gives the zero value of the map's values.
fn index(arguments: &[Value]) -> gotmpl::Result<Value> {
    let mut value = argument(arguments, 0)?.clone();
    for key in arguments.get(1..).unwrap_or_default() {
        value = match (&value, key) {
            (Value::Map(map), Value::String(name)) => match map.get(name) {
                Some(found) => found.clone(),
                None if map.values().all(|other| matches!(other, Value::String(_))) => text(""),
                None => Value::Nil,
            },
            (Value::List(items), Value::Int(at)) => {
                let found = usize::try_from(*at).ok().and_then(|at| items.get(at));
                found.cloned().ok_or_else(|| {
                    TemplateError::Exec(format!(
                        "template: :1: error calling index: reflect: slice index out of range: {at}"
                    ))
                })?
            }
            (other, key) => other.index(key)?,
        };
    }
    Ok(value)
}

/// Looks a chain of fields up for printing.
fn shown_field(arguments: &[Value], notes: &Notes) -> gotmpl::Result<Value> {
    let found = field(arguments, notes)?;
    if matches!(found, Value::Map(_) | Value::List(_)) {
        return Ok(text(&to_text(&found, notes)));
    }
    let (Value::Nil, Some((Value::String(last), chain))) = (&found, arguments.split_last()) else {
        return Ok(found);
    };
    // Only what is there and has no value; a name that a map lacks is `<no value>`.
    let parent = field(chain, notes)?;
    Ok(match &parent {
        Value::Map(map) if map.contains_key(last) => text("<nil>"),
        _ => found,
    })
}

/// Looks a chain of fields up. Arguments: where (for errors), the start, the names.
fn field(arguments: &[Value], notes: &Notes) -> gotmpl::Result<Value> {
    let place = word(arguments, 0)?;
    let mut value = argument(arguments, 1)?.clone();
    let names = arguments.get(2..).unwrap_or_default();
    let mut previous: Option<String> = None;
    for name in names {
        let Value::String(name) = name else { continue };
        let failed = |reason: String| Err(TemplateError::Exec(format!("{place}: {reason}")));
        let found = match &value {
            Value::Map(map) => map.get(name).cloned(),
            Value::Nil => {
                let missing = previous.unwrap_or_else(|| name.to_string());
                return failed(format!("map has no entry for key \"{missing}\""));
            }
            other => {
                return failed(format!(
                    "can't evaluate field {name} in type {}",
                    other.type_name()
                ));
            }
        };
        value = match found {
            Some(found) => found,
            // What a map lacks has no fields that could be missed.
            None if notes.of(&value).is_some_and(|note| note.is_map) => return Ok(Value::Nil),
            None => return failed(format!("map has no entry for key \"{name}\"")),
        };
        previous = Some(name.to_string());
    }
    Ok(value)
}

fn argument(arguments: &[Value], at: usize) -> gotmpl::Result<&Value> {
    arguments.get(at).ok_or_else(|| {
        TemplateError::Exec(format!("wrong number of args: want at least {}", at + 1))
    })
}

fn word(arguments: &[Value], at: usize) -> gotmpl::Result<String> {
    Ok(argument(arguments, at)?.to_string())
}

fn number(arguments: &[Value], at: usize) -> gotmpl::Result<usize> {
    let value = argument(arguments, at)?;
    value
        .as_int()
        .and_then(|number| usize::try_from(number).ok())
        .filter(|number| *number <= crate::limits::MAX_PADDING)
        .ok_or_else(|| TemplateError::Exec(format!("{value} is not a usable length")))
}

/// A template text.
pub(crate) fn text(text: &str) -> Value {
    Value::String(Arc::from(text))
}

/// Replaces field look-ups by calls of [`field`], and calls of fields by `call`.
struct Rewriter<'a> {
    source: &'a str,
    fields: Vec<String>,
    unknown: Option<(usize, String)>,
}

impl Rewriter<'_> {
    fn list(&mut self, list: &mut ListNode) {
        for node in &mut list.nodes {
            match node {
                Node::List(list) => self.list(list),
                Node::Action(action) => {
                    self.pipe(&mut action.pipe);
                    show_nothing_as_nil(&mut action.pipe);
                }
                Node::If(branch) | Node::Range(branch) | Node::With(branch) => {
                    self.pipe(&mut branch.pipe);
                    self.list(&mut branch.body);
                    if let Some(otherwise) = &mut branch.else_body {
                        self.list(otherwise);
                    }
                }
                Node::Template(template) => {
                    if let Some(pipe) = &mut template.pipe {
                        self.pipe(pipe);
                    }
                }
                Node::Define(define) => self.list(&mut define.body),
                Node::Text(_) | Node::Break(_) | Node::Continue(_) => {}
            }
        }
    }

    fn pipe(&mut self, pipe: &mut PipeNode) {
        for (at, command) in pipe.commands.iter_mut().enumerate() {
            let called = (at > 0 || command.args.len() > 1) && is_chain(&command.args[0]);
            for expression in &mut command.args {
                self.expression(expression);
            }
            if called {
                command
                    .args
                    .insert(0, Expr::Identifier(command.pos, SmolStr::new("call")));
            }
        }
    }

    fn expression(&mut self, expression: &mut Expr) {
        match expression {
            Expr::Field(pos, names) => {
                *expression = self.lookup(*pos, Expr::Dot(*pos), "", names);
            }
            Expr::Variable(pos, variable, names) if !names.is_empty() => {
                let start = Expr::Variable(*pos, variable.clone(), Vec::new());
                *expression = self.lookup(*pos, start, variable.as_str(), names);
            }
            Expr::Chain(pos, inner, names) => {
                self.expression(inner);
                *expression = self.lookup(*pos, (**inner).clone(), "", names);
            }
            Expr::Pipe(_, pipe) => self.pipe(pipe),
            Expr::Identifier(pos, name)
                if !FUNCTIONS.contains(&name.as_str())
                    && !matches!(name.as_str(), FIELD | SHOWN_FIELD)
                    && self.unknown.is_none() =>
            {
                self.unknown = Some((pos.line, name.to_string()));
            }
            _ => {}
        }
    }

    fn lookup(&mut self, pos: Pos, start: Expr, shown_start: &str, names: &[SmolStr]) -> Expr {
        self.fields.extend(names.first().map(ToString::to_string));
        let shown = format!("{shown_start}.{}", names.join("."));
        // Go gives the place of the second name of a chain, and of the only one otherwise.
        let offset = match names {
            [first, _, ..] => pos.offset + shown_start.len() + first.len() + 1,
            _ => pos.offset,
        };
        let line_start = self
            .source
            .get(..offset.min(self.source.len()))
            .and_then(|before| before.rfind('\n'))
            .map_or(0, |at| at + 1);
        let column = offset.saturating_sub(line_start);
        let place = format!(
            "template: :{}:{column}: executing \"\" at <{shown}>",
            pos.line
        );
        let mut args = vec![
            Expr::Identifier(pos, SmolStr::new(FIELD)),
            Expr::String(pos, Arc::from(place)),
            start,
        ];
        args.extend(
            names
                .iter()
                .map(|name| Expr::String(pos, Arc::from(name.as_str()))),
        );
        Expr::Pipe(
            pos,
            PipeNode {
                pos,
                decl: Vec::new(),
                commands: vec![CommandNode { pos, args }],
                is_assign: false,
            },
        )
    }
}

/// Marks a field that is the whole of an action.
fn show_nothing_as_nil(pipe: &mut PipeNode) {
    if !pipe.decl.is_empty() {
        return;
    }
    let [command] = pipe.commands.as_mut_slice() else {
        return;
    };
    let [Expr::Pipe(_, lookup)] = command.args.as_mut_slice() else {
        return;
    };
    let call = lookup
        .commands
        .first_mut()
        .and_then(|command| command.args.first_mut());
    if let Some(Expr::Identifier(_, name)) = call
        && name.as_str() == FIELD
    {
        *name = SmolStr::new(SHOWN_FIELD);
    }
}

fn is_chain(expression: &Expr) -> bool {
    match expression {
        Expr::Field(..) => true,
        Expr::Variable(_, _, names) | Expr::Chain(_, _, names) => !names.is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests;
