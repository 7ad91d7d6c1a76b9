//! What the node knows: the names behind the numbers that events carry.
//!
//! [`snapshot::Snapshot`] is the value; [`read::read`] makes one, [`watch::Watch`] keeps one fresh
//! while tracing. Below them: which namespaces there are ([`inventory`]), what each says of its
//! devices (`links`), how the two ends of a veth find each other (`tables`), which pods they belong
//! to ([`pods`]), and who had a number before (`lives`). What handles packets there: routes and
//! settings ([`network`]), [`rules`] and IPVS's table ([`ipvs`]), and the [`services`] that they make.
//! What the Kubernetes API adds, where it is asked: [`cluster`]. Whose a socket is: [`sockets`].
//!
//! It is asked over [`netlink`], of files, or of the system's own programs ([`program`]), inside the
//! namespace that it is about ([`netns`]).

pub mod cluster;
pub mod find;
pub mod hierarchy;
pub mod inventory;
pub mod ipvs;
pub mod link;
mod links;
mod lives;
pub mod netlink;
pub mod netns;
pub mod network;
pub mod nf_tables;
pub mod pods;
pub mod program;
pub mod read;
pub mod reasons;
pub mod rules;
pub mod services;
pub mod snapshot;
pub mod sockets;
mod tables;
#[cfg(test)]
pub(crate) mod testing;
pub mod traffic;
pub mod watch;
