//! `--ulimit`: `name=soft[:hard]`.

use berth_api::Ulimit;

use crate::quote::go_quote;

/// Names of the kernel's resource limits, without `RLIMIT_`.
const NAMES: &[&str] = &[
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

/// Reads one limit; -1 is unlimited.
pub(crate) fn parse(text: &str) -> Result<Ulimit, String> {
    let (name, limits) = text
        .split_once('=')
        .ok_or_else(|| format!("invalid ulimit argument: {text}"))?;
    if !NAMES.contains(&name) {
        return Err(format!("invalid ulimit type: {name}"));
    }
    let parts: Vec<&str> = limits.split(':').collect();
    if parts.len() > 2 {
        return Err(format!(
            "too many limit value arguments - {limits}, can only have up to two, `soft[:hard]`"
        ));
    }
    let number = |part: &str| {
        part.parse::<i64>().map_err(|_| {
            format!(
                "strconv.ParseInt: parsing {}: invalid syntax",
                go_quote(part)
            )
        })
    };
    let soft = number(parts[0])?;
    let hard = parts.get(1).map_or(Ok(soft), |part| number(part))?;
    if hard != -1 {
        if soft == -1 {
            return Err(format!(
                "ulimit soft limit must be less than or equal to hard limit: soft: -1 (unlimited), hard: {hard}"
            ));
        }
        if soft > hard {
            return Err(format!(
                "ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}"
            ));
        }
    }
    Ok(Ulimit {
        name: name.to_owned(),
        hard,
        soft,
    })
}

/// Whether the text is a limit.
pub(crate) fn check(text: &str) -> Result<(), String> {
    parse(text).map(|_| ())
}

/// All limits by name; the last one given for a name counts.
pub(crate) fn all(texts: &[String]) -> Result<Vec<Ulimit>, String> {
    let mut limits: Vec<Ulimit> = Vec::new();
    for text in texts {
        let limit = parse(text)?;
        limits.retain(|other| other.name != limit.name);
        limits.push(limit);
    }
    limits.sort_by(|left, right| left.name.cmp(&right.name));
    Ok(limits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read() {
        for (text, wanted) in [
            ("nofile=1024", Ok((1024, 1024))),
            ("nofile=1024:2048", Ok((1024, 2048))),
            ("core=0:-1", Ok((0, -1))),
            ("memlock=-1", Ok((-1, -1))),
            ("1k", Err("invalid ulimit argument: 1k")),
            ("foo=1", Err("invalid ulimit type: foo")),
            (
                "nofile=x",
                Err("strconv.ParseInt: parsing \"x\": invalid syntax"),
            ),
            (
                "nofile=1:0",
                Err("ulimit soft limit must be less than or equal to hard limit: 1 > 0"),
            ),
            (
                "nofile=-1:5",
                Err(
                    "ulimit soft limit must be less than or equal to hard limit: soft: -1 (unlimited), hard: 5",
                ),
            ),
            (
                "nofile=1:2:3",
                Err(
                    "too many limit value arguments - 1:2:3, can only have up to two, `soft[:hard]`",
                ),
            ),
        ] {
            assert_eq!(
                parse(text).map(|limit| (limit.soft, limit.hard)),
                wanted.map_err(str::to_owned)
            );
        }
    }
}
