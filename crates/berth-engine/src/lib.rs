//! Containers, images, events, records: all policy of Berth.
