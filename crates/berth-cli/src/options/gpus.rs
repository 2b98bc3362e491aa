//! `--gpus`: `all`, a number, or `driver=…,device=…,count=…,capabilities=…,options=…`.

use std::collections::{BTreeMap, BTreeSet};

use berth_api::DeviceRequest;

use super::csv;

/// Reads one request.
pub(crate) fn parse(text: &str) -> Result<DeviceRequest, String> {
    let mut request = DeviceRequest {
        capabilities: Some(vec![vec!["gpu".to_owned()]]),
        options: Some(BTreeMap::new()),
        ..DeviceRequest::default()
    };
    let mut seen = BTreeSet::new();
    for field in csv::fields(text)? {
        let (key, value) = match field.split_once('=') {
            Some((key, value)) => (key, Some(value)),
            None => (field.as_str(), None),
        };
        if !seen.insert(key.to_owned()) {
            return Err(format!(
                "gpu request key '{key}' can be specified only once"
            ));
        }
        let Some(value) = value else {
            seen.insert("count".to_owned());
            request.count = count(key)?;
            continue;
        };
        let list = || value.split(',').map(str::to_owned).collect::<Vec<_>>();
        match key {
            "driver" => request.driver = value.to_owned(),
            "count" => request.count = count(value)?,
            "device" => request.device_ids = Some(list()),
            "capabilities" => {
                let mut capabilities = list();
                capabilities.push("gpu".to_owned());
                request.capabilities = Some(vec![capabilities]);
            }
            "options" => {
                let options = csv::fields(value)
                    .map_err(|reason| format!("failed to read gpu options: {reason}"))?;
                request.options = Some(
                    options
                        .iter()
                        .map(|option| option.split_once('=').unwrap_or((option, "")))
                        .map(|(name, value)| (name.to_owned(), value.to_owned()))
                        .collect(),
                );
            }
            _ => return Err(format!("unexpected key '{key}' in '{field}'")),
        }
    }
    if !seen.contains("count") && request.device_ids.is_none() {
        request.count = 1;
    }
    Ok(request)
}

fn count(text: &str) -> Result<i64, String> {
    if text == "all" {
        return Ok(-1);
    }
    text.parse().map_err(|_| {
        format!(
            "invalid count ({text}): value must be either \"all\" or an integer: invalid syntax"
        )
    })
}

/// Whether the text is a request.
pub(crate) fn check(text: &str) -> Result<(), String> {
    parse(text).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_read() {
        assert_eq!(parse("all").map(|request| request.count), Ok(-1));
        assert_eq!(parse("2").map(|request| request.count), Ok(2));
        let request =
            parse("driver=nvidia,\"device=0,1\",\"capabilities=utility,compute\",options=a=b")
                .expect("reads");
        assert_eq!(
            (request.count, request.device_ids),
            (0, Some(vec!["0".into(), "1".into()]))
        );
        assert_eq!(
            request.capabilities,
            Some(vec![vec!["utility".into(), "compute".into(), "gpu".into()]])
        );
        for (text, wanted) in [
            ("x=y", "unexpected key 'x' in 'x=y'"),
            (
                "x",
                "invalid count (x): value must be either \"all\" or an integer: invalid syntax",
            ),
            (
                "count=1,count=2",
                "gpu request key 'count' can be specified only once",
            ),
        ] {
            assert_eq!(parse(text).expect_err(text), wanted);
        }
    }
}
