# What people type; the logic is in `cargo xtask`, and CI calls the same.

_default:
    @just --list --unsorted

# The main job: build, start the engine, run a container
hello:
    cargo run --release -- run --rm berth/hello

# A minute, no privileges: rules, formatting, lints, tests beside the code
check:
    cargo xtask check

# Everything CI runs (needs root)
test:
    cargo xtask test

# Stock clients and engines against Berth and against Docker
conformance *WORD:
    cargo xtask conformance {{WORD}}

# Fuzz one parser: a target of fuzz/fuzz_targets, for five minutes or the seconds given
fuzz *ARGS:
    cargo xtask fuzz {{ARGS}}

# Berth beside Docker and Podman; --write keeps the table in docs/performance.md
bench *ARGS:
    cargo xtask bench {{ARGS}}

# cgroup v2, a bare Debian and power cuts, in a virtual machine
test-vm *PARTS:
    cargo xtask test-vm {{PARTS}}

# Make the test images, and serve them on loopback
registry *ARGS:
    cargo xtask registry {{ARGS}}
