//! Curves as text: readable in a terminal, in the page, and in a diff of it.

use super::super::table::{Unit, number};

/// Columns of the longest bar.
const WIDTH: f64 = 50.0;

/// A block with one curve for each name, each on a scale of its own that begins at zero.
pub(super) fn bars(names: &[String], at: &[usize], curves: &[Vec<f64>], unit: Unit) -> String {
    let mut text = String::from("```text\n");
    for (name, curve) in names.iter().zip(curves) {
        let highest = curve.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
        text.push_str(&format!("{name}\n"));
        for (at, value) in at.iter().zip(curve) {
            let columns = (value / highest * WIDTH).round() as usize;
            text.push_str(&format!(
                "{at:>6} {} {}\n",
                "█".repeat(columns),
                number(*value, unit)
            ));
        }
    }
    text.push_str("```\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_begin_at_zero() {
        let names = ["A".to_owned()];
        let text = bars(&names, &[0, 100], &[vec![20.0, 10.0]], Unit::Milliseconds);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[2], format!("     0 {} 20.0 ms", "█".repeat(50)));
        assert_eq!(lines[3], format!("   100 {} 10.0 ms", "█".repeat(25)));
    }
}
