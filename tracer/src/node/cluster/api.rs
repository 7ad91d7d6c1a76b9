//! Asking the Kubernetes API, in a thread of its own that needs no privilege.
//!
//! It is told of whenever it changes, the more rarely the more there is of it: each time becomes a snapshot of the
//! node, which a recording writes down.

use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    thread::JoinHandle,
};

use tokio::sync::Notify;
use tracer_kubernetes::{
    Objects, Pace, Pod, Protocol, Service, ServicePort, Slice,
    objects::{Kind, Name},
};

use super::{Access, Cluster, ClusterPod, Contents};
use crate::{
    node::{
        pods::PodName,
        rules::path::Source,
        services::{self, Endpoint, Frontend, ServiceName, TrafficPolicy},
    },
    privilege::{self, Role},
};

/// Asks until it is dropped.
#[derive(Debug)]
pub struct Asking {
    over: Arc<Notify>,
    thread: Option<JoinHandle<()>>,
}

impl Asking {
    /// Begins to ask; `tell` is called by a thread whenever something has changed.
    ///
    /// # Errors
    /// When no thread can be had.
    pub fn start(
        access: &Access,
        mut tell: impl FnMut(Cluster) + Send + 'static,
    ) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let access = access_of(access);
        let over = Arc::new(Notify::new());
        let ended = Arc::clone(&over);
        let thread = privilege::spawn("kubernetes", Role::Kubernetes, move || {
            runtime.block_on(async {
                let asking = tracer_kubernetes::watch(&access, Pace::default(), |objects| {
                    tell(cluster(objects));
                });
                tokio::select! {
                    never = asking => match never {},
                    () = ended.notified() => {}
                }
            });
            // A name that is just looked up may take longer than anybody waits.
            runtime.shutdown_background();
        })?;
        Ok(Self {
            over,
            thread: Some(thread),
        })
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        self.over.notify_one();
        if let Some(thread) = self.thread.take() {
            // It panicked: there is nothing to stop, and the panic was printed.
            let _ = thread.join();
        }
    }
}

/// Whether the file that was named can be read.
///
/// # Errors
/// Why not.
pub fn check(access: &Access) -> Result<(), tracer_kubernetes::AccessError> {
    access_of(access).check()
}

fn access_of(access: &Access) -> tracer_kubernetes::Access {
    match access {
        Access::Found => tracer_kubernetes::Access::Found,
        Access::Kubeconfig(path) => tracer_kubernetes::Access::Kubeconfig(path.clone()),
    }
}

/// What the API's objects say.
#[must_use]
pub fn cluster(objects: &Objects) -> Cluster {
    let slices = by_service(objects);
    let none = Vec::new();
    let services = objects.services.iter().flat_map(|(name, service)| {
        let slices = slices.get(name).unwrap_or(&none);
        let ports = service.ports.iter();
        ports.filter_map(move |port| service_port(name, service, port, slices))
    });
    let pods = objects
        .pods
        .iter()
        .filter_map(|(name, pod)| cluster_pod(name, pod));
    Cluster::from(Contents {
        services: services.collect::<Vec<_>>().into(),
        pods: pods.collect(),
        notes: notes(objects),
        settled: objects.is_settled(),
    })
}

fn by_service(objects: &Objects) -> BTreeMap<Name, Vec<&Slice>> {
    let mut slices: BTreeMap<Name, Vec<&Slice>> = BTreeMap::new();
    for ((namespace, _), slice) in objects.slices.iter() {
        let name = (namespace.clone(), slice.service.clone());
        slices.entry(name).or_default().push(slice);
    }
    slices
}

/// A port of a Service, if it can be called.
fn service_port(
    (namespace, name): &Name,
    service: &Service,
    port: &ServicePort,
    slices: &[&Slice],
) -> Option<services::Service> {
    let at = |frontend: fn(SocketAddr) -> Frontend| {
        move |ip: &IpAddr| frontend(SocketAddr::new(*ip, port.port))
    };
    let cluster = service.cluster_ips.iter().map(at(Frontend::ClusterIp));
    let external = service.external_ips.iter().map(at(Frontend::ExternalIp));
    let balancers = service.load_balancer_ips.iter();
    let balancers = balancers.map(at(Frontend::LoadBalancerIp));
    let node_port = port
        .node_port
        .map(|number| Frontend::NodePort(None, number));
    let frontends = cluster.chain(external).chain(balancers).chain(node_port);
    let frontends: Vec<Frontend> = frontends.collect();
    let policy = |local| match local {
        true => TrafficPolicy::Local,
        false => TrafficPolicy::Cluster,
    };
    (!frontends.is_empty()).then(|| services::Service {
        name: Some(ServiceName {
            namespace: namespace.clone(),
            name: name.clone(),
            port: port.name.clone(),
        }),
        protocol: number(port.protocol),
        frontends,
        endpoints: endpoints(port, slices),
        local_endpoints: None,
        affinity: service.affinity,
        external_policy: Some(policy(service.external_local)),
        internal_policy: Some(policy(service.internal_local)),
        refusals: Vec::new(),
        source: Source::KubernetesApi,
    })
}

fn endpoints(port: &ServicePort, slices: &[&Slice]) -> Vec<Endpoint> {
    let each = slices.iter().flat_map(|slice| {
        let ports = slice.ports.iter();
        let ports = ports.filter(|it| it.name == port.name && it.protocol == port.protocol);
        ports.flat_map(|it| {
            slice
                .addresses
                .iter()
                .map(|ip| SocketAddr::new(*ip, it.port))
        })
    });
    let endpoint = |address| Endpoint {
        address,
        local: None,
    };
    each.map(endpoint).collect()
}

fn cluster_pod((namespace, name): &Name, pod: &Pod) -> Option<ClusterPod> {
    Some(ClusterPod {
        // What is no name is of no use.
        name: PodName::new(namespace, name).ok()?,
        addresses: pod.addresses.clone(),
        host_network: pod.host_network,
        node: pod.node.clone(),
    })
}

const fn number(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Tcp => 6,
        Protocol::Udp => 17,
        Protocol::Sctp => 132,
    }
}

fn notes(objects: &Objects) -> Vec<String> {
    let problems = Kind::ALL.into_iter().filter_map(|kind| {
        let problem = objects.problem(kind)?;
        let what = kind.as_str();
        Some(match objects.is_listed(kind) {
            true => format!("kubernetes-api: {what} may be out of date: {problem}"),
            false => format!("kubernetes-api: {what} are not known: {problem}"),
        })
    });
    let left_out = [
        (
            objects.services.left_out(),
            Kind::Services,
            objects.services.len(),
        ),
        (
            objects.slices.left_out(),
            Kind::EndpointSlices,
            objects.slices.len(),
        ),
        (objects.pods.left_out(), Kind::Pods, objects.pods.len()),
    ];
    let left_out = left_out.into_iter().filter(|(left_out, ..)| *left_out);
    let left_out = left_out.map(|(_, kind, most)| {
        format!(
            "kubernetes-api: only {most} {} are kept, there are more",
            kind.as_str()
        )
    });
    problems.chain(left_out).collect()
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, time::Duration};

    use tracer_kubernetes::SlicePort;

    use super::*;

    fn key(name: &str) -> Name {
        ("default".to_owned(), name.to_owned())
    }

    fn objects() -> Objects {
        let mut objects = Objects::default();
        let port = |name: &str, protocol, number, node_port| ServicePort {
            name: name.to_owned(),
            protocol,
            port: number,
            node_port,
        };
        let service = Service {
            cluster_ips: vec!["10.96.0.80".parse().unwrap()],
            external_ips: vec!["198.51.100.7".parse().unwrap()],
            load_balancer_ips: Vec::new(),
            ports: vec![
                port("http", Protocol::Tcp, 80, Some(30080)),
                port("dns", Protocol::Udp, 53, None),
            ],
            affinity: None,
            external_local: true,
            internal_local: false,
        };
        let headless = Service {
            cluster_ips: Vec::new(),
            external_ips: Vec::new(),
            ports: vec![port("", Protocol::Tcp, 80, None)],
            ..service.clone()
        };
        objects.services.put(key("web"), Some(service));
        objects.services.put(key("headless"), Some(headless));
        let slice = Slice {
            service: "web".to_owned(),
            addresses: vec!["10.244.1.3".parse().unwrap(), "10.244.2.3".parse().unwrap()],
            ports: vec![SlicePort {
                name: "http".to_owned(),
                protocol: Protocol::Tcp,
                port: 8080,
            }],
        };
        objects.slices.put(key("web-1"), Some(slice));
        let pod = |address: &str| Pod {
            addresses: vec![address.parse().unwrap()],
            host_network: false,
            node: Some("node2".to_owned()),
        };
        objects.pods.put(key("b2"), Some(pod("10.244.2.3")));
        objects.pods.put(key("No Name"), Some(pod("10.244.2.4")));
        objects
    }

    #[test]
    fn services_are_named_port_by_port_with_their_endpoints() {
        let cluster = cluster(&objects());
        let all = cluster.services().all();
        let names: Vec<_> = all
            .iter()
            .map(|it| it.name.as_ref().unwrap().to_string())
            .collect();
        assert_eq!(names, ["default/web:http", "default/web:dns"]);
        let called = |protocol, at: &str, own| {
            let found = cluster
                .services()
                .called_at(protocol, at.parse().unwrap(), own)?;
            Some(found.name.as_ref()?.port.clone())
        };
        assert_eq!(called(6, "10.96.0.80:80", false).as_deref(), Some("http"));
        assert_eq!(called(17, "10.96.0.80:53", false).as_deref(), Some("dns"));
        assert_eq!(
            called(6, "192.168.77.11:30080", true).as_deref(),
            Some("http")
        );
        assert_eq!(called(6, "192.168.77.11:30080", false), None);
        let [http, dns] = all else { panic!() };
        assert_eq!((http.endpoints.len(), dns.endpoints.len()), (2, 0));
        assert_eq!(
            http.endpoints[1].address,
            "10.244.2.3:8080".parse().unwrap()
        );
        assert_eq!(http.source.as_str(), "kubernetes-api");
    }

    #[test]
    fn pods_are_known_by_address_and_what_is_no_name_is_left_out() {
        let cluster = cluster(&objects());
        let pod = cluster.pod_at("10.244.2.3".parse().unwrap()).unwrap();
        assert_eq!(
            (pod.name.to_string().as_str(), pod.node.as_deref()),
            ("default/b2", Some("node2"))
        );
        assert!(cluster.pod_at("10.244.2.4".parse().unwrap()).is_none());
        assert!(!cluster.is_settled());
    }

    #[test]
    fn what_cannot_be_asked_is_told_and_the_thread_ends() {
        let (sender, told) = mpsc::channel();
        let access = Access::Kubeconfig("/nonexistent/config".into());
        assert!(check(&access).is_err());
        let asking = Asking::start(&access, move |cluster| drop(sender.send(cluster))).unwrap();
        let cluster = told.recv_timeout(Duration::from_secs(60)).unwrap();
        drop(asking);
        assert!(cluster.is_settled());
        assert_eq!(cluster.notes().len(), 3);
        assert!(cluster.notes()[0].contains("services are not known: /nonexistent/config"));
    }
}
