//! The result as a table for people.

use std::fs;

/// What the numbers of a row are.
#[derive(Debug, Clone, Copy)]
pub(super) enum Unit {
    /// Seconds.
    Seconds,
    /// Thousandths of a second.
    Milliseconds,
    /// Millionths of a second.
    Microseconds,
    /// 2^20 bytes.
    Mebibytes,
    /// 10^9 bits per second.
    Gigabits,
    /// Requests per second.
    Requests,
}

/// One measurement, one value per contender; none where the contender has nothing like it.
pub(super) struct Row {
    /// What was measured.
    pub(super) title: String,
    /// Unit of the values.
    pub(super) unit: Unit,
    /// In the order of the contenders.
    pub(super) values: Vec<Option<f64>>,
}

/// A table whose first contender is the one the others are compared with.
pub(super) fn render(names: &[String], rows: &[Row]) -> String {
    let mut text = String::from("| |");
    for (at, name) in names.iter().enumerate() {
        text.push_str(&format!(" {name} |"));
        if at > 0 {
            text.push_str(" ratio |");
        }
    }
    text.push_str("\n| --- |");
    text.push_str(&" ---: |".repeat(names.len() * 2 - 1));
    text.push('\n');
    for row in rows {
        text.push_str(&format!("| {} |", row.title));
        let first = row.values.first().copied().flatten();
        for (at, value) in row.values.iter().enumerate() {
            text.push_str(&format!(
                " {} |",
                value.map_or("—".into(), |value| number(value, row.unit))
            ));
            if at > 0 {
                let ratio = match (first, value) {
                    (Some(first), Some(value)) if first > 0.0 => format!("{:.1}×", value / first),
                    _ => "—".into(),
                };
                text.push_str(&format!(" {ratio} |"));
            }
        }
        text.push('\n');
    }
    text
}

/// The runtimes alone, one row each.
pub(super) fn render_runtimes(results: &[(String, f64)]) -> String {
    let mut text = String::from(
        "| OCI runtime alone, `run` of one bundle | median | ratio |\n| --- | ---: | ---: |\n",
    );
    let first = results.first().map_or(0.0, |(_, value)| *value);
    for (name, value) in results {
        let ratio = if first > 0.0 { value / first } else { 0.0 };
        text.push_str(&format!(
            "| {name} | {} | {ratio:.1}× |\n",
            number(*value, Unit::Milliseconds)
        ));
    }
    text
}

/// Processors and kernel of this machine.
pub(super) fn machine() -> String {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let numbers: String = release
        .trim()
        .chars()
        .take_while(|letter| letter.is_ascii_digit() || *letter == '.')
        .collect();
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let unified = fs::metadata("/sys/fs/cgroup/cgroup.controllers").is_ok();
    format!(
        "{processors} processors, Linux {}, cgroup {}",
        numbers.trim_end_matches('.'),
        if unified { "v2" } else { "v1" }
    )
}

/// A value with its unit.
pub(super) fn number(value: f64, unit: Unit) -> String {
    let digits = match unit {
        Unit::Requests => 0,
        _ if value < 10.0 => 2,
        _ => 1,
    };
    let unit = match unit {
        Unit::Seconds => "s",
        Unit::Milliseconds => "ms",
        Unit::Microseconds => "µs",
        Unit::Mebibytes => "MiB",
        Unit::Gigabits => "Gbit/s",
        Unit::Requests => "/s",
    };
    format!("{value:.digits$} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_compare_with_the_first() {
        let names = ["A".to_owned(), "B".to_owned(), "C".to_owned()];
        let row = Row {
            title: "t".into(),
            unit: Unit::Milliseconds,
            values: vec![Some(2.0), Some(31.0), None],
        };
        let text = render(&names, &[row]);
        assert!(
            text.ends_with("| t | 2.00 ms | 31.0 ms | 15.5× | — | — |\n"),
            "{text}"
        );
    }
}
