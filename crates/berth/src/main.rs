//! Picks the role (client, daemon, monitor, runtime) and sets up reporting; decides nothing else.

fn main() {}
