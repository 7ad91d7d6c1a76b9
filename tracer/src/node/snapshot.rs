//! What is known of the node at one moment: a plain value that can be saved and asked.
//!
//! A recording carries it to other machines, so it holds no handle of this one, and reading one
//! back trusts nothing: the indexes for look-ups are rebuilt. What belongs to a namespace hangs
//! below it; what belongs to the node stands beside them.
//!
//! Numbers are used again: a look-up for a packet goes by its time as well ([`Snapshot::at`]), and
//! finds namespaces that have ended since.
//!
//! Names are as the system has them: strip control characters before printing.

#[cfg(test)]
mod tests;

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    sync::Arc,
};

use serde::{Deserialize, Serialize, Serializer};

use super::{
    cluster::Cluster,
    link::{Link, LinkId},
    network::Network,
    pods::{Pod, PodName},
    rules::history::History,
};

/// The name of the namespace that the node itself runs in.
pub const HOST: &str = "host";

/// What the node knew at one moment.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(from = "Contents")]
pub struct Snapshot {
    contents: Contents,
    by_address: HashMap<IpAddr, Vec<LinkId>>,
    by_name: BTreeMap<String, Vec<u32>>,
    by_pod: BTreeMap<PodName, Vec<usize>>,
    by_cgroup: HashMap<u64, usize>,
    past: HashMap<u32, Vec<usize>>,
}

/// What is saved of a snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contents {
    /// The network namespaces.
    #[serde(default)]
    pub namespaces: Vec<Namespace>,
    /// Namespaces that have ended, the last ones.
    #[serde(default)]
    pub past: Vec<Past>,
    /// The pods that run.
    #[serde(default)]
    pub pods: Vec<Pod>,
    /// What the Kubernetes API says, where it is asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<Arc<Cluster>>,
    /// What could not be read, and why, for people.
    #[serde(default)]
    pub notes: Vec<String>,
}

/// A network namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Namespace {
    /// Its inode number, as events carry it. The kernel gives it to another namespace after this
    /// one's end.
    pub inode: u32,
    /// Its names, the most telling first: `host` for the initial one, then those of its mounts.
    #[serde(default)]
    pub names: Vec<String>,
    /// Where it is mounted.
    #[serde(default)]
    pub mounts: Vec<String>,
    /// Whether it is the node's own (that of pid 1).
    #[serde(default)]
    pub initial: bool,
    /// Whether it is the one that the tracer was started in.
    #[serde(default)]
    pub own: bool,
    /// A process in it.
    #[serde(default)]
    pub process: Option<Process>,
    /// The pod whose it is.
    #[serde(default)]
    pub pod: Option<PodName>,
    /// Since when it is known, in nanoseconds of `CLOCK_MONOTONIC`. It began before that, but after
    /// the end of another with its number.
    #[serde(default)]
    pub since: u64,
    /// Its devices, by index; empty when they could not be read, which a note says.
    #[serde(default)]
    pub links: BTreeMap<u32, Link>,
    /// Its routes, settings and listeners.
    #[serde(default)]
    pub network: Network,
    /// Its rules, as they changed.
    #[serde(default)]
    pub rules: History,
}

/// A network namespace that has ended, as it was. Times are nanoseconds of `CLOCK_MONOTONIC`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Past {
    /// What was known of it.
    pub namespace: Namespace,
    /// When it was there for the last time.
    pub last: u64,
    /// When it was seen to be gone.
    pub until: u64,
}

/// A process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Its id, as this process sees it.
    pub pid: u32,
    /// Its name (`/proc/PID/comm`).
    pub comm: String,
}

impl Namespace {
    /// What to call it: its first name, else `pid:1234(comm)`, else `net:4026532001`.
    #[must_use]
    pub fn display_name(&self) -> Cow<'_, str> {
        match (self.names.first(), &self.process) {
            (Some(name), _) => Cow::Borrowed(name),
            (None, Some(Process { pid, comm })) => Cow::Owned(format!("pid:{pid}({comm})")),
            (None, None) => Cow::Owned(unknown(self.inode)),
        }
    }
}

fn unknown(inode: u32) -> String {
    format!("net:{inode}")
}

impl From<Contents> for Snapshot {
    fn from(mut contents: Contents) -> Self {
        contents.namespaces.sort_by_key(|netns| netns.inode);
        contents.namespaces.dedup_by_key(|netns| netns.inode);
        contents.past.sort_by_key(|past| past.until);
        let mut past: HashMap<u32, Vec<usize>> = HashMap::new();
        for (index, ended) in contents.past.iter().enumerate() {
            past.entry(ended.namespace.inode).or_default().push(index);
        }
        let mut by_pod: BTreeMap<PodName, Vec<usize>> = BTreeMap::new();
        for (index, pod) in contents.pods.iter().enumerate() {
            by_pod.entry(pod.name.clone()).or_default().push(index);
        }
        let cgroups = contents.pods.iter().enumerate();
        let by_cgroup = cgroups
            .flat_map(|(index, pod)| pod.cgroups.iter().map(move |cgroup| (*cgroup, index)))
            .collect();
        let mut by_address: HashMap<IpAddr, Vec<LinkId>> = HashMap::new();
        let mut by_name: BTreeMap<String, Vec<u32>> = BTreeMap::new();
        for netns in &contents.namespaces {
            for name in &netns.names {
                by_name.entry(name.clone()).or_default().push(netns.inode);
            }
            for (&index, link) in &netns.links {
                let id = LinkId {
                    netns: netns.inode,
                    index,
                };
                for prefix in &link.addresses {
                    by_address.entry(prefix.address).or_default().push(id);
                }
            }
        }
        Self {
            contents,
            by_address,
            by_name,
            by_pod,
            by_cgroup,
            past,
        }
    }
}

impl Serialize for Snapshot {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.contents.serialize(serializer)
    }
}

impl PartialEq for Snapshot {
    fn eq(&self, other: &Self) -> bool {
        self.contents == other.contents
    }
}

impl Snapshot {
    /// The namespaces, by inode number.
    #[must_use]
    pub fn namespaces(&self) -> &[Namespace] {
        &self.contents.namespaces
    }

    /// What is saved of it.
    #[must_use]
    pub fn contents(&self) -> &Contents {
        &self.contents
    }

    /// What could not be read, and why.
    #[must_use]
    pub fn notes(&self) -> &[String] {
        &self.contents.notes
    }

    /// The namespace with this inode number.
    #[must_use]
    pub fn namespace(&self, inode: u32) -> Option<&Namespace> {
        let namespaces = &self.contents.namespaces;
        let place = namespaces.binary_search_by_key(&inode, |netns| netns.inode);
        namespaces.get(place.ok()?)
    }

    /// The namespace that had this inode number at a time (nanoseconds of `CLOCK_MONOTONIC`).
    ///
    /// `None` also where that cannot be told: one ended and another with its number began between
    /// two looks, and the time lies between these.
    #[must_use]
    pub fn at(&self, inode: u32, time: u64) -> Option<&Namespace> {
        let mut next = self.namespace(inode);
        if next.is_some_and(|netns| netns.since <= time) {
            return next;
        }
        let ended = self.past.get(&inode).map_or(&[][..], Vec::as_slice);
        for past in ended.iter().rev().map(|&index| &self.contents.past[index]) {
            let Past {
                namespace,
                last,
                until,
            } = past;
            if namespace.since > time {
                next = Some(namespace);
                continue;
            }
            return match next {
                // Before it was seen first, the next one was there already.
                Some(_) if time > *until => next,
                Some(next) if time > *last && next.since <= *until => None,
                _ => Some(namespace),
            };
        }
        next
    }

    /// Takes over what an earlier snapshot of the same node knew of rules before: saved is only what
    /// held at the time.
    pub fn follows(&mut self, earlier: &Self) {
        for netns in &mut self.contents.namespaces {
            let same = earlier.namespace(netns.inode);
            if let Some(before) = same.filter(|before| before.since == netns.since) {
                netns.rules.follows(&before.rules);
            }
        }
    }

    /// The pods that run.
    #[must_use]
    pub fn pods(&self) -> &[Pod] {
        &self.contents.pods
    }

    /// The pods of a name: usually one, several while one replaces another.
    pub fn pods_named(&self, name: &PodName) -> impl Iterator<Item = &Pod> {
        let indexes = self.by_pod.get(name).map_or(&[][..], Vec::as_slice);
        indexes
            .iter()
            .filter_map(|&index| self.contents.pods.get(index))
    }

    /// The pod of the processes in a cgroup (version 2), by its id.
    #[must_use]
    pub fn pod_of_cgroup(&self, id: u64) -> Option<&Pod> {
        self.contents.pods.get(*self.by_cgroup.get(&id)?)
    }

    /// What the Kubernetes API says, where it is asked.
    #[must_use]
    pub fn cluster(&self) -> Option<&Cluster> {
        self.contents.cluster.as_deref()
    }

    /// The same with what the Kubernetes API says.
    #[must_use]
    pub fn with_cluster(self, cluster: Arc<Cluster>) -> Self {
        Self::from(Contents {
            cluster: Some(cluster),
            ..self.contents
        })
    }

    /// The pod that has an address for itself: one of this node, else what the Kubernetes API says.
    #[must_use]
    pub fn pod_at(&self, address: IpAddr) -> Option<&PodName> {
        let mut own = self.contents.pods.iter();
        let own = own.find(|pod| pod.addresses.contains(&address));
        let elsewhere = || Some(&self.cluster()?.pod_at(address)?.name);
        own.map(|pod| &pod.name).or_else(elsewhere)
    }

    /// Namespaces that have ended, the last ones, in order of their end.
    #[must_use]
    pub fn past(&self) -> &[Past] {
        &self.contents.past
    }

    /// What to call a namespace that is not known: `net:4026532001`.
    #[must_use]
    pub fn unknown_name(inode: u32) -> String {
        unknown(inode)
    }

    /// What to call a namespace, also one that is not known: `net:4026532001`.
    #[must_use]
    pub fn display_name(&self, inode: u32) -> Cow<'_, str> {
        match self.namespace(inode) {
            Some(netns) => netns.display_name(),
            None => Cow::Owned(unknown(inode)),
        }
    }

    /// The device with this index in a namespace.
    #[must_use]
    pub fn link(&self, netns: u32, index: u32) -> Option<&Link> {
        self.namespace(netns)?.links.get(&index)
    }

    /// The devices that have an address: several, since namespaces may use the same ones.
    #[must_use]
    pub fn with_address(&self, address: IpAddr) -> &[LinkId] {
        self.by_address.get(&address).map_or(&[], Vec::as_slice)
    }

    /// The namespaces with a name: usually one, none where the name is not known.
    #[must_use]
    pub fn named(&self, name: &str) -> &[u32] {
        self.by_name.get(name).map_or(&[], Vec::as_slice)
    }

    /// All names, with the namespaces that have them.
    #[must_use]
    pub fn names(&self) -> &BTreeMap<String, Vec<u32>> {
        &self.by_name
    }
}
