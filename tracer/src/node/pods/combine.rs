//! What the several places say, joined to pods. Pure.
//!
//! A sandbox is one pod's life: its id stands in libcni's cache, in the runtime's state and in
//! host-local's allocations, and is the container id of the sandbox's process. So facts are
//! gathered by sandbox first. Processes find theirs by container id, else by the pod's UID; a UID
//! that nobody else names gets its name from the log directories. What is known already is not
//! overwritten, so the order of the calls is the order of trust.
//!
//! A pod whose network namespace is not there and that has no process does not run, and is left
//! out.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::IpAddr,
};

use super::{
    Container, Evidence, Fact, Pod, PodName, PodNetwork, Source, Uid,
    cgroup::Place,
    cni::CniResult,
    ipam::Allocation,
    logs::LogDirectory,
    oci::{Network, OciContainer},
};

/// Containers of one pod that are kept: no real pod comes near.
const CONTAINERS: usize = 256;
/// Pieces of evidence that are kept for one pod.
const EVIDENCE: usize = 64;
/// Addresses and cgroups that are kept for one pod.
const ADDRESSES: usize = 64;

/// Something that was read, and from where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found<T> {
    /// The path on the node.
    pub place: String,
    /// When it was written, in nanoseconds since 1970: of two that contradict, the newer holds.
    pub written: i128,
    /// What it says.
    pub value: T,
}

/// What the files say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Files {
    /// libcni's cache.
    pub results: Vec<Found<CniResult>>,
    /// The runtime's containers, with their ids.
    pub containers: Vec<Found<(String, OciContainer)>>,
    /// Kubelet's log directories.
    pub logs: Vec<Found<LogDirectory>>,
    /// host-local's allocations.
    pub allocations: Vec<Found<Allocation>>,
}

/// A process of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodProcess {
    /// Its id.
    pub pid: u32,
    /// The inode number of its network namespace.
    pub netns: u32,
    /// What its cgroup says.
    pub place: Place,
    /// The id of its cgroup of version 2.
    pub cgroup: Option<u64>,
}

/// What is known of namespaces and processes.
#[derive(Clone, Copy)]
pub struct Surroundings<'a> {
    /// The network namespace that is mounted at a path of the node.
    pub netns_at: &'a dyn Fn(&str) -> Option<u32>,
    /// The node's own network namespace.
    pub initial: u32,
    /// The processes of pods, by id.
    pub processes: &'a [PodProcess],
}

/// The pods, and what is to be said of the rest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Combined {
    /// The pods that run, by name.
    pub pods: Vec<Pod>,
    /// How many run, by their processes, without anything giving them a name.
    pub nameless: usize,
    /// How many attachments libcni's cache has whose namespace is not there.
    pub absent: usize,
}

/// A pod while facts are gathered.
#[derive(Debug, Default)]
struct Draft {
    name: Option<PodName>,
    uid: Option<Uid>,
    sandbox: Option<String>,
    netns: Option<u32>,
    /// Its sandbox has no network namespace.
    host: bool,
    addresses: BTreeSet<IpAddr>,
    containers: BTreeMap<String, Container>,
    cgroups: BTreeSet<u64>,
    evidence: Vec<Evidence>,
    /// Where its processes are: the sandbox's own, and the first of the others.
    process_netns: [Option<u32>; 2],
    processes: usize,
    written: i128,
}

impl Draft {
    fn note(&mut self, source: Source, place: &str, facts: Vec<Fact>) {
        if self.evidence.len() < EVIDENCE {
            self.evidence.push(Evidence {
                source,
                place: place.to_owned(),
                facts,
            });
        }
    }

    /// Takes names where none are known yet.
    fn identify(&mut self, name: Option<&PodName>, uid: Option<&Uid>, facts: &mut Vec<Fact>) {
        if self.name.is_none() && name.is_some() {
            self.name = name.cloned();
            facts.push(Fact::Name);
        }
        if self.uid.is_none() && uid.is_some() {
            self.uid = uid.cloned();
            facts.push(Fact::Uid);
        }
    }

    fn lie_at(&mut self, netns: Option<u32>, facts: &mut Vec<Fact>) {
        if self.netns.is_none() && !self.host && netns.is_some() {
            self.netns = netns;
            facts.push(Fact::Network);
        }
    }

    fn address(&mut self, addresses: &[IpAddr], facts: &mut Vec<Fact>) {
        let before = self.addresses.len();
        let room = ADDRESSES.saturating_sub(before);
        self.addresses.extend(addresses.iter().take(room));
        if self.addresses.len() > before {
            facts.push(Fact::Address);
        }
    }
}

#[derive(Debug, Default)]
struct Drafts {
    all: Vec<Draft>,
    by_sandbox: HashMap<String, usize>,
    by_container: HashMap<String, usize>,
    by_uid: HashMap<Uid, Vec<usize>>,
}

impl Drafts {
    fn of_sandbox(&mut self, sandbox: &str) -> &mut Draft {
        let next = self.all.len();
        let index = *self.by_sandbox.entry(sandbox.to_owned()).or_insert(next);
        if index == next {
            self.all.push(Draft {
                sandbox: Some(sandbox.to_owned()),
                ..Draft::default()
            });
        }
        &mut self.all[index]
    }

    fn result(&mut self, found: &Found<CniResult>, around: &Surroundings<'_>) {
        let result = &found.value;
        let draft = self.of_sandbox(&result.sandbox);
        let mut facts = Vec::new();
        draft.identify(result.pod.as_ref(), result.uid.as_ref(), &mut facts);
        let netns = result.netns.as_deref().and_then(around.netns_at);
        draft.lie_at(netns, &mut facts);
        draft.address(&result.addresses, &mut facts);
        draft.written = draft.written.max(found.written);
        // Of the loopback network's file there is one for each pod, and it says nothing more.
        if !facts.is_empty() {
            draft.note(Source::CniResult, &found.place, facts);
        }
    }

    fn container(&mut self, found: &Found<(String, OciContainer)>, around: &Surroundings<'_>) {
        let (id, container) = &found.value;
        let draft = self.of_sandbox(&container.sandbox);
        let mut facts = Vec::new();
        draft.identify(container.pod.as_ref(), container.uid.as_ref(), &mut facts);
        match &container.network {
            Some(Network::Own(path)) => draft.lie_at((around.netns_at)(path), &mut facts),
            Some(Network::Host) if draft.netns.is_none() => {
                draft.host = true;
                facts.push(Fact::Network);
            }
            _ => {}
        }
        draft.address(&container.addresses, &mut facts);
        draft.written = draft.written.max(found.written);
        if !container.is_sandbox && draft.containers.len() < CONTAINERS {
            draft.containers.insert(
                id.clone(),
                Container {
                    id: id.clone(),
                    name: container.name.clone(),
                    pid: None,
                },
            );
            facts.push(Fact::Container);
        }
        draft.note(container.runtime, &found.place, facts);
        let index = self.by_sandbox.get(&container.sandbox).copied();
        self.by_container.extend(index.map(|at| (id.clone(), at)));
    }

    fn index_uids(&mut self) {
        for (index, draft) in self.all.iter().enumerate() {
            if let Some(uid) = &draft.uid {
                self.by_uid.entry(uid.clone()).or_default().push(index);
            }
        }
    }

    /// The pod of a process: by its container, else by UID; then, of several sandboxes, the one
    /// whose namespace it is in.
    fn of_process(&mut self, process: &PodProcess) -> usize {
        let place = &process.place;
        let by_id = place.container.as_ref().and_then(|id| {
            let known = self.by_container.get(id).or(self.by_sandbox.get(id));
            known.copied()
        });
        if let Some(index) = by_id {
            return index;
        }
        let of_uid = self.by_uid.entry(place.uid.clone()).or_default();
        let here = |index: &&usize| self.all[**index].netns == Some(process.netns);
        if let Some(index) = of_uid.iter().find(here).or(of_uid.last()) {
            return *index;
        }
        self.all.push(Draft::default());
        of_uid.push(self.all.len() - 1);
        self.all.len() - 1
    }

    fn process(&mut self, process: &PodProcess, initial: u32) {
        let index = self.of_process(process);
        let draft = &mut self.all[index];
        let mut facts = Vec::new();
        draft.identify(None, Some(&process.place.uid), &mut facts);
        draft.processes += 1;
        if draft.cgroups.len() < ADDRESSES {
            draft.cgroups.extend(process.cgroup);
        }
        let id = process.place.container.as_ref();
        let of_sandbox = id.is_some() && id == draft.sandbox.as_ref();
        // A runtime's helper may be in the pod's cgroup, but is not in its network.
        let slot = &mut draft.process_netns[usize::from(!of_sandbox)];
        if slot.is_none() || *slot == Some(initial) {
            *slot = Some(process.netns);
        }
        let known = draft.netns.is_some() || draft.host;
        if draft.processes == 1 && !known {
            facts.push(Fact::Network);
        }
        if let Some(id) = id.filter(|_| !of_sandbox)
            && draft.containers.len() < CONTAINERS
        {
            let container = draft.containers.entry(id.clone()).or_insert(Container {
                id: id.clone(),
                name: None,
                pid: None,
            });
            if container.pid.is_none() {
                container.pid = Some(process.pid);
                facts.push(Fact::Process);
            }
        }
        if !facts.is_empty() {
            let place = format!("/proc/{}/cgroup", process.pid);
            draft.note(Source::Cgroup, &place, facts);
        }
    }

    fn name_by_logs(&mut self, logs: &[Found<LogDirectory>]) {
        let by_uid: HashMap<&Uid, &Found<LogDirectory>> =
            logs.iter().map(|found| (&found.value.uid, found)).collect();
        for draft in &mut self.all {
            let found = draft.uid.as_ref().and_then(|uid| by_uid.get(uid));
            if let Some(found) = found.filter(|_| draft.name.is_none()) {
                draft.name = Some(found.value.pod.clone());
                draft.note(Source::PodLogs, &found.place, vec![Fact::Name]);
            }
        }
    }

    fn allocation(&mut self, found: &Found<Allocation>) {
        let Some(&index) = self.by_sandbox.get(&found.value.sandbox) else {
            return;
        };
        let draft = &mut self.all[index];
        if !draft.addresses.contains(&found.value.address) {
            let mut facts = Vec::new();
            draft.address(&[found.value.address], &mut facts);
            draft.note(Source::HostLocal, &found.place, facts);
        }
    }
}

/// The pods that run.
#[must_use]
pub fn combine(files: &Files, around: &Surroundings<'_>) -> Combined {
    let mut drafts = Drafts::default();
    let mut results = newest_first(&files.results);
    // The loopback network's, which a runtime writes first, say the least.
    results.sort_by_key(|found| found.value.addresses.is_empty());
    for found in results {
        drafts.result(found, around);
    }
    for found in newest_first(&files.containers) {
        drafts.container(found, around);
    }
    drafts.index_uids();
    for process in around.processes {
        drafts.process(process, around.initial);
    }
    drafts.name_by_logs(&files.logs);
    for found in &files.allocations {
        drafts.allocation(found);
    }
    finish(drafts.all, around.initial)
}

fn newest_first<T>(found: &[Found<T>]) -> Vec<&Found<T>> {
    let mut sorted: Vec<&Found<T>> = found.iter().collect();
    sorted.sort_by(|a, b| (b.written, &a.place).cmp(&(a.written, &b.place)));
    sorted
}

fn finish(drafts: Vec<Draft>, initial: u32) -> Combined {
    let mut combined = Combined::default();
    let mut running: Vec<(PodNetwork, Draft)> = Vec::new();
    for draft in drafts {
        match network_of(&draft, initial) {
            Some(network) => running.push((network, draft)),
            None if draft.name.is_some() => combined.absent += 1,
            None => {}
        }
    }
    // Of several that claim one namespace, the one with processes in it, then the newest.
    running.sort_by_key(|(_, draft)| std::cmp::Reverse((draft.processes > 0, draft.written)));
    let mut taken = BTreeSet::new();
    for (network, draft) in running {
        if network.own().is_some_and(|inode| !taken.insert(inode)) {
            combined.absent += 1;
            continue;
        }
        match draft.name.clone() {
            Some(name) => combined.pods.push(pod(name, network, draft)),
            None => combined.nameless += usize::from(draft.processes > 0),
        }
    }
    combined
        .pods
        .sort_by(|a, b| (&a.name, &a.uid, &a.sandbox).cmp(&(&b.name, &b.uid, &b.sandbox)));
    combined
}

/// `None` when it does not run.
fn network_of(draft: &Draft, initial: u32) -> Option<PodNetwork> {
    if let Some(netns) = draft.netns {
        // A claim on the node's own namespace is a mistake, or a lie.
        return (netns != initial).then_some(PodNetwork::Own(netns));
    }
    let seen = || draft.process_netns.into_iter().flatten();
    if draft.host {
        return (draft.processes > 0).then_some(PodNetwork::Host);
    }
    match seen().find(|netns| *netns != initial) {
        Some(netns) => Some(PodNetwork::Own(netns)),
        None => seen().next().map(|_| PodNetwork::Host),
    }
}

fn pod(name: PodName, network: PodNetwork, mut draft: Draft) -> Pod {
    draft.evidence.sort_by(|a, b| {
        (a.facts.is_empty(), a.source, &a.place).cmp(&(b.facts.is_empty(), b.source, &b.place))
    });
    Pod {
        name,
        uid: draft.uid,
        sandbox: draft.sandbox,
        network,
        addresses: match network {
            PodNetwork::Own(_) => draft.addresses.into_iter().collect(),
            PodNetwork::Host => Vec::new(),
        },
        containers: draft.containers.into_values().collect(),
        cgroups: draft.cgroups.into_iter().collect(),
        evidence: draft.evidence,
    }
}
