//! What the end-to-end tests and `cargo xtask lab` stand on.
//!
//! [`lab`] raises two Kubernetes nodes out of network namespaces, [`server`] is what runs in their
//! pods, [`load`] what benchmarks send, [`ruleset`] compares rule dumps. Everything needs root and lives in namespaces of its own: the machine's network is never
//! touched.

pub mod lab;
pub mod load;
pub mod ruleset;
pub mod server;
pub mod trace;
