//! Doing the same to every operand: side by side, told in their order.

use futures_util::StreamExt;

use crate::failure::Failure;
use crate::limits::PARALLEL_REQUESTS;
use crate::session;

/// Does `act` for every name and prints what it gives; the failures come together at the end.
pub(crate) async fn each<'a, F>(
    names: &'a [String],
    act: impl Fn(&'a str) -> F,
) -> Result<(), Failure>
where
    F: Future<Output = Result<Option<String>, Failure>>,
{
    let mut results =
        futures_util::stream::iter(names.iter().map(|name| act(name))).buffered(PARALLEL_REQUESTS);
    let mut failures = Vec::new();
    while let Some(result) = results.next().await {
        match result {
            Ok(Some(line)) => session::print(&format!("{line}\n"))?,
            Ok(None) => {}
            Err(failure) => failures.push(failure.message),
        }
    }
    if failures.is_empty() {
        Ok(())
    } else {
        Err(Failure::new(failures.join("\n")))
    }
}
