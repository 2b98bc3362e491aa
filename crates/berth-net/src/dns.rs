//! Answers to names inside a container: the responder that the monitor runs.
