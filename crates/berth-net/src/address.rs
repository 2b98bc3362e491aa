//! Pools, subnets and addresses: which are free, which clash. Pure; the kernel is asked by `link`.
