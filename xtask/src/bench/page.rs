//! The page that keeps the results.

use std::fs;

use anyhow::{Context, Result, bail};
use berth_testkit::images;

/// Beneath the top directory of the source tree.
const PAGE: &str = "docs/performance.md";

/// Puts `text` into the place called `name`; the empty name is that of the main table.
pub(super) fn replace(name: &str, text: &str) -> Result<()> {
    let path = images::workspace().join(PAGE);
    let page = fs::read_to_string(&path).with_context(|| format!("read {PAGE}"))?;
    let page = replaced(&page, name, text)?;
    fs::write(&path, page).with_context(|| format!("write {PAGE}"))
}

fn replaced(page: &str, name: &str, text: &str) -> Result<String> {
    let name = format!("bench {name}");
    let name = name.trim();
    let (begin, end) = (
        format!("<!-- {name}: begin -->\n"),
        format!("<!-- {name}: end -->"),
    );
    let (Some(first), Some(last)) = (page.find(&begin), page.find(&end)) else {
        bail!("{PAGE} has no place for this (between {begin:?} and {end:?})");
    };
    Ok(format!("{}{begin}{text}{}", &page[..first], &page[last..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_named_place_is_replaced() {
        let page = "<!-- bench: begin -->\na\n<!-- bench: end -->\n\
                    <!-- bench network ports: begin -->\nb\n<!-- bench network ports: end -->\n";
        let main = replaced(page, "", "new\n").unwrap();
        assert_eq!(main, page.replacen("a\n", "new\n", 1));
        let ports = replaced(page, "network ports", "").unwrap();
        assert_eq!(ports, page.replacen("b\n", "", 1));
        assert!(replaced(page, "other", "").is_err());
    }
}
