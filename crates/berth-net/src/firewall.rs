//! Filtering, translation and published ports: one nftables table of sets and maps.
