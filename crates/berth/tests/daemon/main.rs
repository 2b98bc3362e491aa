//! The real executable with private directories: what is Berth's own and has no counterpart on the
//! reference. What both have to do stands in `../conformance`.

mod anytime;
mod api;
mod bad_input;
mod copies;
mod disk;
mod first_run;
mod hostile;
mod idle;
mod isolation;
mod lies;
mod networks;
mod platforms;
mod proxies;
mod pull;
mod push;
mod registries;
mod registry;
mod shares;
mod store;
mod survival;
mod travels;
mod volumes;
mod why;
