//! `--restart`: `no`, `always`, `unless-stopped`, `on-failure[:max]`.

use berth_api::RestartPolicy;

/// Reads a restart policy. Whether the name is one the engine knows is the engine's matter.
pub(crate) fn parse(text: &str) -> Result<RestartPolicy, String> {
    if text.is_empty() {
        return Ok(RestartPolicy::default());
    }
    let (name, count) = match text.split_once(':') {
        Some(("", _)) => {
            return Err(
                "invalid restart policy format: no policy provided before colon".to_owned(),
            );
        }
        Some((name, count)) => (name, count),
        None => (text, ""),
    };
    let maximum_retry_count = if count.is_empty() {
        0
    } else {
        count.parse().map_err(|_| {
            "invalid restart policy format: maximum retry count must be an integer".to_owned()
        })?
    };
    Ok(RestartPolicy {
        name: name.to_owned(),
        maximum_retry_count,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_are_read() {
        for (text, wanted) in [
            ("", Ok(("", 0))),
            ("always", Ok(("always", 0))),
            ("on-failure:3", Ok(("on-failure", 3))),
            ("on-failure:", Ok(("on-failure", 0))),
            (
                ":1",
                Err("invalid restart policy format: no policy provided before colon"),
            ),
            (
                "on-failure:x",
                Err("invalid restart policy format: maximum retry count must be an integer"),
            ),
        ] {
            let found = parse(text).map(|policy| (policy.name, policy.maximum_retry_count));
            assert_eq!(
                found,
                wanted
                    .map(|(name, count)| (name.to_owned(), count))
                    .map_err(str::to_owned)
            );
        }
    }
}
