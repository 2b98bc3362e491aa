//! `events`: what happens, as it happens.

use berth_api::{EventMessage, EventsOptions};
use gotmpl::Value;

use super::{Arity, Spec, logs};
use crate::failure::Failure;
use crate::flags::{Flag, Operands, Parsed};
use crate::options::filter;
use crate::output::document::Document;
use crate::output::object::ObjectFormat;
use crate::session::{self, Session};

pub(crate) const SPEC: Spec = Spec {
    group: "system",
    names: &["events"],
    top: &["events"],
    usage: "[OPTIONS]",
    about: "Show what happens in the engine, as it happens",
    flags: || {
        vec![
            filter::flag("Show only what matches (\"name=value\")").short('f'),
            Flag::text("format", "Format with 'json' or a Go template"),
            Flag::text(
                "since",
                "Show what happened since a time or for so long too",
            ),
            Flag::text("until", "Stop at this time"),
        ]
    },
    operands: Operands::Mixed,
    arity: Arity::None,
    run,
};

fn run(session: &Session, parsed: &Parsed) -> Result<(), Failure> {
    let template = match parsed.text("format") {
        "" => None,
        "json" => Some(None),
        template => Some(Some(ObjectFormat::parse(template)?)),
    };
    let options = EventsOptions {
        since: logs::moment(parsed.text("since"))?,
        until: logs::moment(parsed.text("until"))?,
        filters: filter::all(&parsed.list("filter")),
    };
    session.block_on(async {
        let client = session.client()?;
        let mut events = client
            .events(&options)
            .await
            .map_err(|error| session.failure(error))?;
        while let Some(event) = events
            .next()
            .await
            .map_err(|error| session.failure(error))?
        {
            let line = match &template {
                None => line(&event),
                Some(None) => serde_json::to_string(&event).unwrap_or_default(),
                Some(Some(template)) => formatted(&event, template)?,
            };
            session::print(&format!("{line}\n"))?;
        }
        Ok(())
    })
}

/// `2026-01-02T15:04:05.000000000+01:00 container start <id> (image=busybox, name=web)`
fn line(event: &EventMessage) -> String {
    let mut text = String::new();
    if let Ok(moment) = match event.time_nano {
        0 => jiff::Timestamp::from_second(event.time),
        nanoseconds => jiff::Timestamp::from_nanosecond(nanoseconds.into()),
    } {
        let zone = jiff::tz::TimeZone::try_system().unwrap_or(jiff::tz::TimeZone::UTC);
        let zoned = moment.to_zoned(zone);
        let offset = match zoned.offset().seconds() {
            0 => "Z".to_owned(),
            _ => zoned.strftime("%:z").to_string(),
        };
        text = format!("{}{offset} ", zoned.strftime("%Y-%m-%dT%H:%M:%S.%9f"));
    }
    text.push_str(&format!(
        "{} {} {}",
        event.kind, event.action, event.actor.id
    ));
    let attributes: Vec<String> = event
        .actor
        .attributes
        .iter()
        .flatten()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    if !attributes.is_empty() {
        text.push_str(&format!(" ({})", attributes.join(", ")));
    }
    text
}

fn formatted(event: &EventMessage, template: &ObjectFormat) -> Result<String, Failure> {
    let json = serde_json::to_value(event).unwrap_or_default();
    let document = Document::new(&json);
    let value = match &document.value {
        // Templates name the fields as Go does, which JSON writes in lower case.
        Value::Map(fields) => {
            let mut fields = (**fields).clone();
            for (name, value) in [
                ("Status", Value::String(event.status.as_str().into())),
                ("ID", Value::String(event.id.as_str().into())),
                ("From", Value::String(event.from.as_str().into())),
                ("Scope", Value::String(event.scope.as_str().into())),
                ("Time", Value::Int(event.time)),
                ("TimeNano", Value::Int(event.time_nano)),
            ] {
                fields.insert(name.into(), value);
            }
            document.notes.alias(&document.value, fields)
        }
        _ => (document.value.clone(), document.notes.clone()),
    };
    template.show_value(&value.0, &value.1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn event() -> EventMessage {
        EventMessage {
            status: "start".into(),
            id: "abc".into(),
            from: "busybox".into(),
            kind: "container".into(),
            action: "start".into(),
            actor: berth_api::EventActor {
                id: "abc".into(),
                attributes: Some(BTreeMap::from([
                    ("name".into(), "web".into()),
                    ("image".into(), "busybox".into()),
                ])),
            },
            scope: "local".into(),
            time: 1_700_000_000,
            time_nano: 1_700_000_000_000_000_001,
        }
    }

    #[test]
    fn events_are_one_line_each() {
        let line = line(&event());
        assert!(line.starts_with("2023-11-1"), "{line}");
        assert!(line.contains(".000000001"), "{line}");
        assert!(
            line.ends_with(" container start abc (image=busybox, name=web)"),
            "{line}"
        );
    }

    #[test]
    fn templates_name_fields_as_go_does() {
        let show = |source: &str| {
            formatted(&event(), &ObjectFormat::parse(source).expect("parses")).expect(source)
        };
        assert_eq!(
            show("{{.Status}} {{.ID}} {{.Actor.Attributes.name}} {{.TimeNano}}"),
            "start abc web 1700000000000000001"
        );
        assert_eq!(
            show("{{json .}}"),
            r#"{"status":"start","id":"abc","from":"busybox","Type":"container","Action":"start","Actor":{"ID":"abc","Attributes":{"image":"busybox","name":"web"}},"scope":"local","time":1700000000,"timeNano":1700000000000000001}"#
        );
        assert_eq!(show("{{json .Actor.ID}}"), "\"abc\"");
    }
}
