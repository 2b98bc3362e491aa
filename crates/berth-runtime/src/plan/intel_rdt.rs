//! Which class of service of resctrl a container is in: config-linux.md, "IntelRdt". Pure.

use oci_spec::runtime::Linux;

use crate::error::RuntimeError;

/// The class, and what is asked of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IntelRdtPlan {
    /// The class.
    pub class: Class,
    /// Lines of its schemata that must be so where the class exists already, and are written where it is made.
    pub fixed: Vec<String>,
    /// Lines of its schemata that are written after those, whether it exists or not.
    pub written: Vec<String>,
    /// A group of its own to be watched by.
    pub monitored: bool,
}

/// A class of service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Class {
    /// The one that everybody is in at first.
    Default,
    /// One with this name, which others may be in too.
    Named(String),
    /// One of the container's own, named like it.
    Own,
}

/// Plans the class, if one is asked for.
pub(super) fn plan(linux: &Linux) -> Result<Option<IntelRdtPlan>, RuntimeError> {
    let Some(asked) = linux.intel_rdt() else {
        return Ok(None);
    };
    let class = match asked.clos_id().as_deref().filter(|name| !name.is_empty()) {
        None => Class::Own,
        Some("/") => Class::Default,
        // A directory beside the kernel's own ones, and none of those.
        Some(name)
            if name.contains('/')
                || name.starts_with('.')
                || ["info", "mon_groups", "mon_data"].contains(&name) =>
        {
            return Err(RuntimeError::invalid(
                "linux.intelRdt.closID",
                format!("{name:?} cannot be the name of a class"),
            ));
        }
        Some(name) => Class::Named(name.to_owned()),
    };
    let mut fixed = Vec::new();
    for (field, prefix, text) in [
        ("l3CacheSchema", None, asked.l3_cache_schema()),
        ("memBwSchema", Some("MB:"), asked.mem_bw_schema()),
    ] {
        if let Some(text) = text.as_deref().filter(|text| !text.is_empty()) {
            fixed.push(line(field, text)?);
            if prefix.is_some_and(|prefix| !text.starts_with(prefix)) {
                return Err(RuntimeError::invalid(
                    format!("linux.intelRdt.{field}"),
                    format!("{text:?} does not start with MB:"),
                ));
            }
        }
    }
    let written = asked
        .schemata()
        .iter()
        .flatten()
        .map(|text| line("schemata", text))
        .collect::<Result<_, _>>()?;
    Ok(Some(IntelRdtPlan {
        class,
        fixed,
        written,
        monitored: asked.enable_monitoring().unwrap_or(false),
    }))
}

fn line(field: &str, text: &str) -> Result<String, RuntimeError> {
    if text.contains('\n') {
        return Err(RuntimeError::invalid(
            format!("linux.intelRdt.{field}"),
            "a schema is one line",
        ));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(json: &str) -> Result<Option<IntelRdtPlan>, RuntimeError> {
        plan(&serde_json::from_str(&format!("{{\"intelRdt\": {json}}}")).unwrap())
    }

    #[test]
    fn every_field_arrives() {
        let full = of(
            r#"{"closID": "gold", "l3CacheSchema": "L3:0=7f0;1=1f", "memBwSchema": "MB:0=20",
                          "schemata": ["L2:0=f"], "enableMonitoring": true}"#,
        );
        assert_eq!(
            full.unwrap().unwrap(),
            IntelRdtPlan {
                class: Class::Named("gold".into()),
                fixed: vec!["L3:0=7f0;1=1f".into(), "MB:0=20".into()],
                written: vec!["L2:0=f".into()],
                monitored: true,
            }
        );
        assert_eq!(of("{}").unwrap().unwrap().class, Class::Own);
        let default = of(r#"{"closID": "/"}"#).unwrap().unwrap();
        assert_eq!(default.class, Class::Default);
        assert_eq!(plan(&serde_json::from_str("{}").unwrap()).unwrap(), None);
    }

    #[test]
    fn what_is_no_name_and_no_line_is_refused() {
        for (json, field) in [
            (r#"{"closID": "../x"}"#, "closID"),
            (r#"{"closID": "a/b"}"#, "closID"),
            (r#"{"closID": "info"}"#, "closID"),
            (r#"{"l3CacheSchema": "L3:0=1\nMB:0=1"}"#, "l3CacheSchema"),
            (r#"{"memBwSchema": "L3:0=1"}"#, "memBwSchema"),
            (r#"{"schemata": ["a\n"]}"#, "schemata"),
        ] {
            let error = of(json).unwrap_err().to_string();
            assert!(
                error.starts_with(&format!("linux.intelRdt.{field}: ")),
                "{error}"
            );
        }
    }
}
