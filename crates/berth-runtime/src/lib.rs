//! OCI runtime: check, plan, carry out.
