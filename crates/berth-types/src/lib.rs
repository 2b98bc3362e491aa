//! Pure vocabulary of Berth: ids, digests, references, platforms, error kinds. Parses, never performs I/O.
