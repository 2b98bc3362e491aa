//! Links, sandboxes and routes.

use crate::namespace::{Namespace, alone};

#[test]
fn a_fresh_namespace_has_loopback_only() {
    let namespace = Namespace::new();
    let links = namespace.command("ip -o link");
    assert_eq!(
        links.lines().count(),
        links.matches(" lo: ").count() + 2,
        "{links}"
    );
    alone(|| {});
}
