//! Linux, typed: mounts, namespaces, cgroups, process handles, terminals, seccomp, atomic files. The only crate with unsafe code.
