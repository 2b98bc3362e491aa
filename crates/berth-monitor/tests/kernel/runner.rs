//! What a test's body runs in: an asynchronous runtime of its own.

use std::future::Future;

/// Makes the table of a module's tests.
#[macro_export]
macro_rules! tests {
    ($module:literal: $($name:ident),+ $(,)?) => {
        pub(crate) const TESTS: &[berth_testkit::harness::Test] = &[$(berth_testkit::harness::Test {
            name: concat!($module, "::", stringify!($name)),
            body: || $crate::runner::run($name()),
        }),+];
    };
}

/// Runs a test to its end.
pub(crate) fn run(body: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
        .block_on(body);
}
