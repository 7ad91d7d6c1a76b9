//! Instead of asking the Kubernetes API, in a program that was built without that.

use std::io;

use super::{Access, Cluster};

/// It was built without the feature.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error(
    "this tracer was built without the Kubernetes API; `cargo install --path tracer --features kubernetes-api` \
     builds one with it"
)]
pub struct Absent;

/// Never.
#[derive(Debug)]
pub struct Asking;

impl Asking {
    /// Refuses.
    ///
    /// # Errors
    /// Always.
    pub fn start(_: &Access, _: impl FnMut(Cluster) + Send + 'static) -> io::Result<Self> {
        Err(io::Error::new(io::ErrorKind::Unsupported, Absent))
    }
}

/// Refuses.
///
/// # Errors
/// Always.
pub fn check(_: &Access) -> Result<(), Absent> {
    Err(Absent)
}
