//! Which pods run on this node, from what the node itself keeps: no API server is asked.
//!
//! Several places know of a pod, none of them everything, and any may be missing: the CNI result
//! cache, the allocations of host-local, the state of containerd and CRI-O, `/var/log/pods`, and
//! the cgroups of the processes. Each has a parser of its own, which is pure and refuses what it
//! does not understand; `files` reads them below a root directory that may be another one than
//! this process's; [`combine`] joins what they say, in the order in which they are to be believed.
//! A [`Pod`] carries what was learnt from where ([`Evidence`]).
//!
//! A pod is listed when it runs: when its network namespace exists, or a process of it. What the
//! files say of others is left over from earlier and means nothing.
//!
//! The files are the runtime's and readable by root only, but what stands in them comes from users
//! in part. So names are checked against the form that Kubernetes gives them, and everything is
//! bounded.

pub mod cgroup;
pub mod cni;
pub mod combine;
mod files;
mod identity;
pub mod ipam;
pub mod logs;
pub mod oci;
mod processes;
mod reader;
mod suggest;
#[cfg(test)]
mod tests;

use std::{fmt, net::IpAddr};

use serde::{Deserialize, Serialize};

pub use self::{
    files::HostRoot,
    identity::{PodName, PodNameError, Uid},
    suggest::similar,
};
pub(super) use self::{
    processes::{CgroupTree, Processes},
    reader::PodReader,
};

/// Why a text is not what a parser reads.
#[derive(Debug, thiserror::Error)]
pub enum ParseError {
    /// Not JSON, or not of the form that is read.
    #[error("not understood: {0}")]
    Json(#[from] serde_json::Error),
    /// JSON of another kind.
    #[error("not what is read here: {0}")]
    Kind(&'static str),
    /// A name that Kubernetes or a runtime would not have written.
    #[error("{0} is not of the form that it has")]
    Name(&'static str),
}

/// A pod that runs on this node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pod {
    /// Its namespace and name.
    pub name: PodName,
    /// What tells it from an earlier or later pod of the same name.
    #[serde(default)]
    pub uid: Option<Uid>,
    /// The id that the runtime gave its sandbox.
    #[serde(default)]
    pub sandbox: Option<String>,
    /// The network that it uses.
    pub network: PodNetwork,
    /// The addresses that it was given; none where it uses the node's.
    #[serde(default)]
    pub addresses: Vec<IpAddr>,
    /// Its containers, without the sandbox's own.
    #[serde(default)]
    pub containers: Vec<Container>,
    /// The ids of the cgroups (version 2) that its processes are in.
    #[serde(default)]
    pub cgroups: Vec<u64>,
    /// What was learnt from where, the most trusted first.
    #[serde(default)]
    pub evidence: Vec<Evidence>,
}

/// Whose network a pod uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PodNetwork {
    /// Its own: the inode number of its namespace.
    Own(u32),
    /// The node's (`hostNetwork`): it is known by its processes only, not by an address.
    Host,
}

impl PodNetwork {
    /// The inode number of its own namespace.
    #[must_use]
    pub const fn own(self) -> Option<u32> {
        match self {
            Self::Own(inode) => Some(inode),
            Self::Host => None,
        }
    }
}

/// A container of a pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Container {
    /// The id that the runtime gave it.
    pub id: String,
    /// Its name in the pod.
    #[serde(default)]
    pub name: Option<String>,
    /// Its first process; `None` when none is seen.
    #[serde(default)]
    pub pid: Option<u32>,
}

/// What one place says of a pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// What kind of place it is.
    pub source: Source,
    /// Where: a path on the node.
    pub place: String,
    /// What was taken from there; nothing where it only repeats what was known.
    pub facts: Vec<Fact>,
}

/// Where something of a pod is known from, in the order in which they are believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// libcni's cache, `/var/lib/cni/results`.
    CniResult,
    /// containerd's task state.
    Containerd,
    /// CRI-O's container state.
    Crio,
    /// The cgroup of a process.
    Cgroup,
    /// The directory of its logs, `/var/log/pods`.
    PodLogs,
    /// The IPAM plugin host-local, `/var/lib/cni/networks`.
    HostLocal,
}

impl Source {
    /// The name in text and JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::CniResult => "cni-result",
            Self::Containerd => "containerd",
            Self::Crio => "crio",
            Self::Cgroup => "cgroup",
            Self::PodLogs => "pod-logs",
            Self::HostLocal => "host-local",
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What can be learnt of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fact {
    /// Its namespace and name.
    Name,
    /// Its UID.
    Uid,
    /// Whose network it uses.
    Network,
    /// An address.
    Address,
    /// A container's name.
    Container,
    /// A process.
    Process,
}

impl Fact {
    /// The name in text and JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::Uid => "uid",
            Self::Network => "network",
            Self::Address => "address",
            Self::Container => "container",
            Self::Process => "process",
        }
    }
}
