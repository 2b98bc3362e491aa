//! Network namespaces of containers, prepared ahead.
