//! What the names in a filter mean on this node, or in a recording of it.
//!
//! While tracing, names are looked up again whenever what is known of the node changes ([`Followed`]): a
//! pod that was made anew has another network namespace, a Service another address.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use tracer_common::filter::Program;

use super::Usage;
use crate::{
    filter::{
        Filter, Front, Meanings, Namespaces, ResolveError, ResolvedFilter, ServicePort, ServiceTest,
    },
    node::{
        cluster::Cluster,
        pods::{self, PodName, PodNetwork},
        services::Service,
        snapshot::Snapshot,
        watch::Watch,
    },
    report::services_of,
};

/// How long the rules are waited for that tell of a Service.
const RULES: Duration = Duration::from_secs(10);
/// How long the Kubernetes API is waited for when a name may be known by it only.
const KUBERNETES: Duration = Duration::from_secs(5);

/// The filter with a node's names.
///
/// # Errors
/// [`Usage`], with the names that are like the one that is not there.
pub(super) fn resolve(filter: &Filter, node: &Snapshot) -> anyhow::Result<ResolvedFilter> {
    named(names_of_filter(filter, node))
}

/// The same, for a filter that is typed in the live view.
///
/// # Errors
/// A name that is not there.
pub(super) fn names_of_filter(
    filter: &Filter,
    node: &Snapshot,
) -> Result<ResolvedFilter, ResolveError> {
    filter.resolve(&Names { node, past: true })
}

/// The same, where a name that is not there any more means what it meant in what was looked at before.
///
/// # Errors
/// As [`resolve`].
pub(super) fn resolve_later(
    filter: &Filter,
    node: &Snapshot,
    before: &mut Meanings,
) -> anyhow::Result<ResolvedFilter> {
    let names = Names { node, past: true };
    before.note(filter, &names);
    named(filter.resolve(&before.or(&names)))
}

/// The filter with the names of the node that is watched. Where the filter asks for Services, its rules are
/// waited for.
///
/// # Errors
/// As [`resolve`].
pub(super) fn resolve_live(filter: &Filter, node: &Watch) -> anyhow::Result<ResolvedFilter> {
    if filter.names_services() {
        node.wait_for_rules(RULES);
    }
    if filter.names_services() || filter.names_pods() {
        node.wait_for_kubernetes(KUBERNETES);
    }
    resolve(filter, &node.snapshot())
}

fn named(resolved: Result<ResolvedFilter, ResolveError>) -> anyhow::Result<ResolvedFilter> {
    resolved
        .map_err(|error| Usage(error.into()))
        .context("in the filter")
}

/// A filter that the kernel works by, with the names of the moment.
#[derive(Debug)]
pub(super) struct Followed {
    filter: Filter,
    program: Program,
    meanings: Meanings,
    /// What the names were last looked up in.
    node: Arc<Snapshot>,
}

impl Followed {
    pub(super) fn new(filter: &ResolvedFilter, program: &Program) -> Self {
        Self {
            filter: filter.filter().clone(),
            program: *program,
            meanings: Meanings::default(),
            node: Arc::default(),
        }
    }

    /// The filter and its program, if the names mean something else by now. A name that is not there any
    /// more goes on to mean what it meant.
    pub(super) fn again(&mut self, node: &Arc<Snapshot>) -> Option<(ResolvedFilter, &Program)> {
        if Arc::ptr_eq(&self.node, node) {
            return None;
        }
        self.node = Arc::clone(node);
        let names = Names { node, past: false };
        self.meanings.note(&self.filter, &names);
        let resolved = self.filter.resolve(&self.meanings.or(&names)).ok()?;
        let program = resolved.compile().program;
        if program == self.program {
            return None;
        }
        self.program = program;
        Some((resolved, &self.program))
    }
}

struct Names<'a> {
    node: &'a Snapshot,
    /// Whether pods that have ended are known.
    past: bool,
}

impl Names<'_> {
    /// The Services with that namespace and name, by their ports' names.
    fn services(&self) -> impl Iterator<Item = &Service> {
        let namespaces = self.node.namespaces().iter();
        let by_rules =
            namespaces.flat_map(|namespace| services_of(namespace).into_iter().flatten());
        let cluster = self.node.cluster().into_iter();
        by_rules.chain(cluster.flat_map(Cluster::all_services))
    }

    /// The ports of a Service, as `NAMESPACE/NAME:PORT`.
    fn ports_of(&self, name: &str) -> BTreeSet<String> {
        let mut ports = BTreeSet::new();
        for service in self.services() {
            let Some(known) = &service.name else { continue };
            if format!("{}/{}", known.namespace, known.name) != name {
                continue;
            }
            if known.port.is_empty() {
                let numbers = service.frontends.iter().map(|frontend| frontend.port());
                ports.extend(numbers.map(|number| format!("{name}:{number}")));
            } else {
                ports.insert(known.to_string());
            }
        }
        ports
    }
}

impl Namespaces for Names<'_> {
    fn inodes(&self, name: &str) -> Vec<u32> {
        self.node.named(name).to_vec()
    }

    fn names(&self) -> Vec<String> {
        self.node.names().keys().cloned().collect()
    }

    fn pod(&self, name: &str) -> Option<Vec<u32>> {
        let name = PodName::parse(name).ok()?;
        let mut pods = self.node.pods_named(&name).peekable();
        if pods.peek().is_none() {
            // Of another node: where it is seen here cannot be told.
            if self
                .node
                .cluster()
                .is_some_and(|cluster| cluster.pod(&name).is_some())
            {
                return Some(Vec::new());
            }
            // One that has ended: its flows may not have.
            let mut past = self.node.past().iter().filter(|_| self.past);
            return past
                .any(|past| past.namespace.pod.as_ref() == Some(&name))
                .then(Vec::new);
        }
        let initial = || self.node.namespaces().iter().find(|netns| netns.initial);
        let inodes = pods.map(|pod| match pod.network {
            PodNetwork::Own(inode) => Some(inode),
            PodNetwork::Host => initial().map(|netns| netns.inode),
        });
        // Where one of them is cannot be told: anywhere.
        Some(inodes.collect::<Option<_>>().unwrap_or_default())
    }

    fn similar_pods(&self, name: &str) -> Vec<String> {
        let elsewhere = self.node.cluster().into_iter().flat_map(Cluster::pods);
        let known = self.node.pods().iter().map(|pod| &pod.name);
        let known = known.chain(elsewhere.map(|pod| &pod.name));
        let similar = PodName::parse(name).map(|name| pods::similar(&name, known));
        let names = similar.into_iter().flatten();
        names.map(PodName::to_string).collect()
    }

    fn service(&self, wanted: &ServiceTest) -> Option<Vec<Front>> {
        // Of each port of that name: whether it is the one that is asked for, and where it is called.
        let mut ports: BTreeMap<&str, (bool, BTreeSet<Front>)> = BTreeMap::new();
        for service in self.services() {
            let Some(name) = &service.name else { continue };
            let same = wanted.name.split_once('/') == Some((&name.namespace, &name.name));
            if !same {
                continue;
            }
            let (asked, fronts) = ports.entry(&name.port).or_default();
            *asked |= match &wanted.port {
                None => true,
                Some(ServicePort::Name(port)) => *port == name.port,
                Some(ServicePort::Number(number)) => {
                    let mut frontends = service.frontends.iter();
                    frontends.any(|frontend| frontend.port() == *number)
                }
            };
            fronts.extend(service.frontends.iter().map(|frontend| Front {
                address: frontend.address(),
                protocol: service.protocol,
                port: frontend.port(),
            }));
        }
        let asked = ports.into_values().filter(|(asked, _)| *asked);
        let fronts = asked.map(|(_, fronts)| fronts);
        let fronts = fronts.reduce(|mut all, more| {
            all.extend(more);
            all
        });
        fronts.map(Vec::from_iter)
    }

    fn similar_services(&self, wanted: &ServiceTest) -> Vec<String> {
        let ports = self.ports_of(&wanted.name);
        if !ports.is_empty() {
            return ports.into_iter().take(8).collect();
        }
        // They have names of the same form.
        let known = self.services().filter_map(|service| service.name.as_ref());
        let known = known.filter_map(|name| PodName::new(&name.namespace, &name.name).ok());
        let known: BTreeSet<PodName> = known.collect();
        let similar = PodName::parse(&wanted.name).map(|name| pods::similar(&name, &known));
        let names = similar.into_iter().flatten();
        names.map(PodName::to_string).collect()
    }

    fn has_nameless_services(&self) -> bool {
        self.node.cluster().is_none() && self.services().any(|service| service.name.is_none())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::cluster;

    /// The node itself knows nothing.
    fn node() -> Snapshot {
        let contents = serde_json::json!({
            "services": [{
                "name": {"namespace": "app", "name": "website", "port": "http"}, "protocol": 6,
                "frontends": [{"cluster-ip": "10.96.0.80:80"}, {"node-port": [null, 30080]}],
                "endpoints": [], "source": "kubernetes-api",
            }],
            "pods": [{"name": "app/backend-2", "addresses": ["10.244.2.3"]}],
        });
        let contents: cluster::Contents = serde_json::from_value(contents).unwrap();
        Snapshot::default().with_cluster(Arc::new(contents.into()))
    }

    #[test]
    fn what_only_the_kubernetes_api_knows_can_be_asked_for() {
        let resolve = |text: &str, node: &Snapshot| {
            let filter = Filter::parse(text).unwrap();
            names_of_filter(&filter, node).map_err(|error| error.to_string())
        };
        let node = node();
        for text in [
            "service app/website",
            "service app/website:http",
            "service app/website:30080",
            "pod app/backend-2",
        ] {
            assert!(resolve(text, &node).is_ok(), "{text}");
            assert!(resolve(text, &Snapshot::default()).is_err(), "{text}");
        }
        let error = resolve("service app/websitr", &node).unwrap_err();
        assert!(error.contains("app/website"), "{error}");
        let error = resolve("service app/website:https", &node).unwrap_err();
        assert!(error.contains("app/website:http"), "{error}");
        let error = resolve("pod app/backend-3", &node).unwrap_err();
        assert!(error.contains("app/backend-2"), "{error}");
    }
}
