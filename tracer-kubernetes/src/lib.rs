//! What the Kubernetes API says of Services, their endpoints and pods, as far as a tracer needs it for names.
//!
//! A crate of its own because of what comes with it: some eighty crates for HTTP, TLS and the API's types, which
//! the tracer does without unless it is built with its feature `kubernetes-api`.
//!
//! [`objects`] is what is kept, plain and bounded; [`convert`] takes it from the API's objects (pure); [`watch`]
//! lists and watches. Nothing here is ever fatal: what cannot be had is a [`objects::Objects::problem`], and is
//! tried again. Only `list` and `watch` of three kinds are asked for, nothing is changed.
//!
//! The API server is trusted as far as its objects' size goes: one object is read whole (etcd takes none above
//! 1.5 MB). Texts are its users' and go to no terminal as they are.

mod access;
pub mod convert;
pub mod objects;
#[cfg(test)]
mod tests;
pub mod watch;

pub use access::{Access, AccessError};
pub use objects::{Objects, Pod, Protocol, Service, ServicePort, Slice, SlicePort};
pub use watch::{Pace, watch};
