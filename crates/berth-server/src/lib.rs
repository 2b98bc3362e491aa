//! HTTP: routes, version gates, connection upgrades.
