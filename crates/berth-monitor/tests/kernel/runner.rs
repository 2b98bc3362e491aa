//! Runs tests one after the other, each in a runtime of its own; understands what cargo and nextest say.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::process::ExitCode;
use std::time::Duration;

pub(crate) type Body = fn() -> Pin<Box<dyn Future<Output = ()>>>;

pub(crate) struct Test {
    pub(crate) name: &'static str,
    pub(crate) body: Body,
}

/// Makes the table of a module's tests.
#[macro_export]
macro_rules! tests {
    ($module:literal: $($name:ident),+ $(,)?) => {
        pub(crate) const TESTS: &[$crate::runner::Test] = &[$($crate::runner::Test {
            name: concat!($module, "::", stringify!($name)),
            body: || Box::pin($name()),
        }),+];
    };
}

/// Longest run of one test.
const LIMIT: Duration = Duration::from_secs(300);

#[allow(clippy::print_stdout)]
pub(crate) fn main(tables: &[&[Test]]) -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let has = |flag: &str| arguments.iter().any(|argument| argument == flag);
    let filters: Vec<&String> = arguments
        .iter()
        .filter(|argument| !argument.starts_with('-'))
        .collect();
    let filters: Vec<&&String> = filters
        .iter()
        .filter(|word| !matches!(word.as_str(), "terse" | "pretty"))
        .collect();
    let wanted = |name: &str| {
        filters.is_empty()
            || filters.iter().any(|filter| {
                if has("--exact") {
                    name == **filter
                } else {
                    name.contains(filter.as_str())
                }
            })
    };
    let tests: Vec<&Test> = tables
        .iter()
        .flat_map(|table| table.iter())
        .filter(|test| wanted(test.name))
        .collect();
    if has("--list") {
        for test in tests.iter().filter(|_| !has("--ignored")) {
            println!("{}: test", test.name);
        }
        return ExitCode::SUCCESS;
    }
    if has("--ignored") {
        return ExitCode::SUCCESS;
    }
    let mut failed = Vec::new();
    for test in &tests {
        let passed = catch_unwind(AssertUnwindSafe(|| {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                tokio::time::timeout(LIMIT, (test.body)())
                    .await
                    .expect("the test took too long")
            });
        }))
        .is_ok();
        println!(
            "test {} ... {}",
            test.name,
            if passed { "ok" } else { "FAILED" }
        );
        if !passed {
            failed.push(test.name);
        }
    }
    println!(
        "\ntest result: {} of {} passed",
        tests.len() - failed.len(),
        tests.len()
    );
    if failed.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
